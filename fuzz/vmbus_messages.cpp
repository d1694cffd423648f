// A guest's channel messages, in any order, to a server with two devices. The input: for each step
// a byte that says what happens, and for messages a length and that many bytes behind the header.
#include <array>
#include <list>

#include "fuzz/input.h"
#include "vmbus/server.h"
#include "vmbus/test_memory.h"
#include "vmbus/test_partition.h"

namespace vhdkit {
namespace {

constexpr std::array<uint32_t, 12> message_types = {3, 5, 7, 8, 9, 11, 13, 14, 16, 22, 0, 99};

// Closes when the input says so.
class Device final : public vmbus::ChannelDevice {
 public:
  Result<vmbus::Doorbell*> open(vmbus::OpenedChannel channel) override {
    fuzz::require(!opened_ && !is_released_, "a channel is opened once");
    opened_.emplace(std::move(channel));
    return &bell_;
  }
  void close() override {
    fuzz::require(opened_.has_value() && !is_closing_, "what is closed was open");
    is_closing_ = true;
  }
  void retarget(uint32_t vp) override {
    fuzz::require(opened_ && !is_closing_, "what is retargeted is open");
    opened_->destination.vp = vp;
  }
  void released() override {
    fuzz::require(!opened_, "what is released was closed");
    is_released_ = true;
  }

  void finish_closing(vmbus::Server& server) {
    if (!is_closing_) return;
    is_closing_ = false;
    const vmbus::Relid relid = opened_->relid;
    // Its pages are still its own.
    opened_->to_guest.control(vmbus::write_index_offset).store(8);
    opened_.reset();
    server.channel_closed(relid);
  }
  bool is_released() const { return is_released_; }

 private:
  struct Bell final : vmbus::Doorbell {
    void ring() noexcept override {}
  };
  Bell bell_;
  std::optional<vmbus::OpenedChannel> opened_;
  bool is_closing_ = false;
  bool is_released_ = false;
};

class Scenario {
 public:
  Scenario() : server_(memory_, partition_, [](const std::string&) {}, limits) {
    offer();
    offer();
  }
  ~Scenario() {
    server_.reset();
    for (Device& device : devices_) device.finish_closing(server_);
    fuzz::require(server_.is_quiet(), "all channels can be closed");
  }

  void step(fuzz::Input& input) {
    const auto what = std::to_integer<uint8_t>(input.take_value<std::byte>());
    switch (what >> 4) {
      case 0:
        return collect();
      case 1:
        return finish_one(what & 3);
      case 2:
        return rescind(what & 3);
      case 3:
        if (devices_.size() < 8) offer();
        return;
      case 4:
        server_.signal(input.take_value<le32>());
        return;
      default:
        send(message_types[what % message_types.size()], input);
    }
  }

 private:
  static constexpr vmbus::ServerLimits limits{.gpadls = {.gpadl_count = 8, .page_count = 200},
                                              .waiting_message_count = 20};

  struct Offered {
    vmbus::Relid relid;
    Device* device;
    bool is_rescinded = false;
  };

  void offer() {
    Device& device = devices_.emplace_back();
    const vmbus::Offer offer{.sub_channel_index = uint16_t(devices_.size())};
    const auto relid = server_.offer(offer, device);
    fuzz::require(relid.has_value(), "there is room for another channel");
    offered_.push_back({*relid, &device});
  }
  void rescind(size_t number) {
    if (number >= offered_.size() || offered_[number].is_rescinded) return;
    offered_[number].is_rescinded = true;
    server_.rescind(offered_[number].relid);
  }
  void finish_one(size_t number) {
    if (number < offered_.size()) offered_[number].device->finish_closing(server_);
  }
  void collect() {
    partition_.collect();
    server_.slot_is_free();
  }
  void send(uint32_t type, fuzz::Input& input) {
    const auto length = std::to_integer<size_t>(input.take_value<std::byte>());
    const vmbus::MessageHeader header{.type = type, .padding = 0};
    std::vector<std::byte> message;
    std::ranges::copy(bytes_of(header), std::back_inserter(message));
    std::ranges::copy(input.take(length), std::back_inserter(message));
    server_.receive(message);
  }

  vmbus::TestMemory memory_{64};
  vmbus::TestPartition partition_;
  std::list<Device> devices_;
  std::vector<Offered> offered_;
  vmbus::Server server_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  Scenario scenario;
  while (!input.empty()) scenario.step(input);
  return 0;
}

}  // namespace vhdkit
