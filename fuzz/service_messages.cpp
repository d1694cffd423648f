// Messages of an open integration service. The input: a byte that says which service and whether
// its versions are agreed on first; then for each step a byte: what people ask of it, an answer
// with bytes that were changed, a whole message, raw bytes in the ring, an index that jumps, time
// that passes, the channel closed and opened.
#include <memory>
#include <nlohmann/json.hpp>

#include "fuzz/input.h"
#include "hypervisor/services/heartbeat.h"
#include "hypervisor/services/key_value_exchange.h"
#include "hypervisor/services/shutdown.h"
#include "hypervisor/services/time_synchronization.h"
#include "hypervisor/services/volume_snapshot.h"
#include "tests/services/guest.h"

namespace vhdkit {
namespace {

using tests::Bytes;
using tests::GuestRing;
using tests::ServiceGuest;
using tests::ServiceMessage;

// One of the services, and who asks something of it.
class Subject {
 public:
  Subject(unsigned which, const services::Service::Host& host) {
    switch (which % 5) {
      case 0:
        service_ = std::make_unique<services::Heartbeat>(host);
        break;
      case 1:
        service_ = std::make_unique<services::TimeSynchronization>(
            host, [] { return services::TimeReading{.host_time = 1, .reference_time = 2}; });
        break;
      case 2: {
        auto shutdown = std::make_unique<services::Shutdown>(host);
        shutdown_ = shutdown.get();
        service_ = std::move(shutdown);
        break;
      }
      case 3:
        service_ = std::make_unique<services::KeyValueExchange>(host);
        break;
      default: {
        auto snapshot = std::make_unique<services::VolumeSnapshot>(host);
        snapshot_ = snapshot.get();
        service_ = std::move(snapshot);
      }
    }
  }
  ~Subject() { fuzz::require(asked_ == answered_, "who asked was answered, once"); }

  services::Service& service() { return *service_; }

  void ask(unsigned what) {
    const auto done = [this](const Result<void>&) { ++answered_; };
    if (shutdown_ != nullptr) {
      ++asked_;
      shutdown_->shut_down(
          what % 2 == 0 ? services::ShutdownKind::power_off : services::ShutdownKind::restart,
          done);
    }
    if (snapshot_ != nullptr) {
      ++asked_;
      what % 2 == 0 ? snapshot_->freeze(done) : snapshot_->thaw(done);
    }
  }

 private:
  std::unique_ptr<services::Service> service_;
  services::Shutdown* shutdown_ = nullptr;
  services::VolumeSnapshot* snapshot_ = nullptr;
  unsigned asked_ = 0;
  unsigned answered_ = 0;
};

class Scenario {
 public:
  explicit Scenario(fuzz::Input& input)
      : begin_(std::to_integer<unsigned>(input.take_value<std::byte>())),
        subject_(begin_, guest_.host()) {
    guest_.attach(subject_.service());
    guest_.open();
    if (begin_ >= 128) return;
    // The best of what is offered: behind the counts and two frameworks.
    if (const auto negotiation = look())
      guest_.send(ServiceGuest::choice(*negotiation, negotiation->body<uint32_t>(8),
                                       negotiation->body<uint32_t>(16)));
  }
  ~Scenario() { guest_.leave(); }

  void run(fuzz::Input& input) {
    while (!input.empty()) step(input);
    // It has no long breath, whatever was asked.
    guest_.pass(std::chrono::minutes(10));
    (void)subject_.service().report().dump();
  }

 private:
  void step(fuzz::Input& input) {
    const auto what = std::to_integer<unsigned>(input.take_value<std::byte>());
    switch (what >> 5) {
      case 0:
        return subject_.ask(what);
      case 1:
      case 2:
        return answer(what, input);
      case 3:
        return send(what, input);
      case 4:
        return put_raw(input);
      case 5:
        ((what & 4) != 0 ? guest_.outgoing : guest_.incoming)
            .set_word(what % 4 * 4, input.take_value<le32>());
        return guest_.signal();
      case 6:
        return guest_.pass(std::chrono::milliseconds(uint64_t{1} << (what & 15)));
      default:
        guest_.close();
        take_messages();
        return guest_.open();
    }
  }

  // Who leaves too many of them is not heard any more.
  void take_messages() {
    while (!guest_.partition.collect().empty()) continue;
  }

  // The host's next message; nothing where the guest has made its own ring unreadable.
  std::optional<ServiceMessage> look() {
    const GuestRing& ring = guest_.incoming;
    const uint32_t begin = ring.word(GuestRing::read_index) % ring.data_bytes();
    if (begin == ring.word(GuestRing::write_index)) return std::nullopt;
    std::array<uint16_t, 8> header{};
    ring.get(begin, std::as_writable_bytes(std::span(header)));
    const size_t offset = size_t{header[1]} * 8;
    const size_t length = size_t{header[2]} * 8;
    if (offset < 16 || length < offset + 40 || length > 4096) return std::nullopt;
    Bytes payload(length - offset);
    ring.get(ring.after(begin, offset), payload);
    ring.set_word(GuestRing::read_index, ring.after(begin, length + 8));
    guest_.partition.collect_flags();
    return ServiceMessage(std::move(payload));
  }

  // As the guest should, but for some bytes.
  void answer(unsigned what, fuzz::Input& input) {
    const auto request = look();
    if (!request) return;
    ServiceMessage answer = request->answer();
    if (begin_ % 5 == 0) answer.set_body(0, answer.body<uint64_t>(0) + 1);
    if (begin_ % 5 == 4) answer.set_body(8, uint32_t{5});
    for (unsigned i = 0; i < what % 8; ++i) {
      const size_t at = uint16_t{input.take_value<le16>()} % answer.bytes().size();
      answer.bytes()[at] = input.take_value<std::byte>();
    }
    guest_.send(answer);
  }

  void send(unsigned what, fuzz::Input& input) {
    ServiceMessage message((what & 15) * 8);
    constexpr uint16_t types[] = {1, 4, 3, 2, 5};
    message.set(12, (what & 16) != 0 ? uint16_t{0} : types[begin_ % 5]).set(25, uint8_t{5});
    const auto bytes = input.take(message.bytes().size() - 12);
    std::ranges::copy(bytes, message.bytes().begin() + 12);
    guest_.send(message);
  }

  void put_raw(fuzz::Input& input) {
    const auto length = std::to_integer<size_t>(input.take_value<std::byte>());
    const auto bytes = input.take(length);
    const GuestRing& ring = guest_.outgoing;
    const uint32_t index = ring.word(GuestRing::write_index) % ring.data_bytes() / 8 * 8;
    ring.put(index, bytes);
    ring.set_word(GuestRing::write_index, ring.after(index, bytes.size() / 8 * 8));
    guest_.signal();
  }

  ServiceGuest guest_;
  unsigned begin_;
  Subject subject_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  Scenario scenario(input);
  scenario.run(input);
  return 0;
}

}  // namespace vhdkit
