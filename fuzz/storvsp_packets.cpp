// Packets of an open storage channel after a proper negotiation, on one thread. The input: for each
// step a byte: a whole packet with chosen fields, raw bytes into the ring, an index that jumps, or
// the guest collecting its completions.
#include <array>

#include "disk/ram_disk.h"
#include "fuzz/input.h"
#include "tests/vsp/local_channel.h"
#include "vsp-storage/scsi/disk_unit.h"

namespace vhdkit {
namespace {

using tests::GuestRing;
using tests::LocalChannel;

class Scenario {
 public:
  Scenario(async::Loop& loop, storvsp::Worker& worker)
      : loop_(loop), worker_(worker), local_(worker, options, data_page_count) {
    const scsi::DiskUnitOptions unit_options{.trim_granularity_bytes = 4096};
    const disk::Geometry geometry{.size_bytes = 1 << 20};
    local_.attach(0, std::make_shared<scsi::DiskUnit>(unit_options),
                  std::make_shared<disk::RamDisk>(geometry));
  }

  async::Task<void> run(fuzz::Input& input) {
    while (!input.empty()) {
      worker_.wake();
      co_await loop_.turn();
      co_await loop_.turn();
      worker_.mailbox().look();
      step(input);
    }
    [[maybe_unused]] const auto closed = co_await local_.channel().close();
  }

 private:
  static constexpr uint64_t data_page_count = 16;
  static constexpr storvsp::Channel::Options options{
      .queue_depth = 4, .max_transfer_bytes = 64 << 10, .max_sub_channel_count = 3};

  void step(fuzz::Input& input) {
    const auto what = std::to_integer<uint8_t>(input.take_value<std::byte>());
    switch (what >> 5) {
      case 0:
        return put_raw(input);
      case 1:
        local_.outgoing().set_word(what % 4 * 4, input.take_value<le32>());
        return;
      case 2:
        local_.incoming().set_word(what % 4 * 4, input.take_value<le32>());
        return;
      case 3:
        return collect();
      case 4:
        local_.channel().announce_units();
        local_.channel().doorbell().ring();
        return;
      default:
        return send_packet(what, input);
    }
  }

  // What lies between the header and the payload, then the payload.
  void send_packet(uint8_t what, fuzz::Input& input) {
    const auto descriptor = input.take(what % 8 * 8);
    std::array<std::byte, 64> payload{};
    std::ranges::copy(input.take(payload.size()), payload.begin());
    if ((what & 8) != 0) payload[0] = std::byte{3};
    local_.send((what & 16) != 0 ? 9 : 6, 1, descriptor, payload);
  }

  // With an index that says so.
  void put_raw(fuzz::Input& input) {
    const auto length = std::to_integer<size_t>(input.take_value<std::byte>());
    const auto bytes = input.take(length);
    const GuestRing& ring = local_.outgoing();
    const uint32_t index = ring.word(GuestRing::write_index) % ring.data_bytes() / 8 * 8;
    ring.put(index, bytes);
    ring.set_word(GuestRing::write_index, ring.after(index, bytes.size() / 8 * 8));
  }

  // Without looking: what lies there may be anything.
  void collect() {
    const GuestRing& ring = local_.incoming();
    ring.set_word(GuestRing::read_index, ring.word(GuestRing::write_index));
    local_.partition().collect_flags();
  }

  async::Loop& loop_;
  storvsp::Worker& worker_;
  LocalChannel local_;
};

async::Task<void> run(async::Loop& loop, storvsp::Worker& worker, fuzz::Input& input) {
  async::TaskGroup served;
  served.start(worker.serve());
  {
    Scenario scenario(loop, worker);
    co_await scenario.run(input);
  }
  worker.stop();
  worker.mailbox().look();
  [[maybe_unused]] const auto finished = co_await served.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // One for all inputs: making a ring takes longer than most of them.
  static const auto loop = async::Loop::create();
  fuzz::require(loop.has_value(), "there is a loop");
  fuzz::Input input(data, size);
  storvsp::Worker worker(**loop, {.awake_for = std::chrono::microseconds(0)});
  (*loop)->run(run(**loop, worker, input));
  return 0;
}

}  // namespace vhdkit
