// Hyper-V's registers and calls, by a guest that means no good, while its host sends messages and
// flags. The input: records of a step, each with up to 255 bytes that are put into the guest's
// memory before.
#include <array>

#include "fuzz/input.h"
#include "hypervisor/hyperv/hypercalls.h"
#include "hypervisor/hyperv/registers.h"
#include "vmbus/test_memory.h"

namespace vhdkit {
namespace {

using namespace hypervisor;

constexpr unsigned vp_count = 3;
constexpr size_t page_count = 16;
constexpr size_t page_bytes = vmbus::GuestMemory::page_bytes;

// The registers that somebody answers for, and their neighbours.
constexpr std::array<uint32_t, 40> registers = {
    0x4000'0000, 0x4000'0001, 0x4000'0002, 0x4000'0003, 0x4000'0004, 0x4000'0010, 0x4000'0020,
    0x4000'0021, 0x4000'0022, 0x4000'0023, 0x4000'0024, 0x4000'0072, 0x4000'0073, 0x4000'0074,
    0x4000'007f, 0x4000'0080, 0x4000'0081, 0x4000'0082, 0x4000'0083, 0x4000'0084, 0x4000'0085,
    0x4000'008f, 0x4000'0090, 0x4000'0092, 0x4000'0095, 0x4000'009f, 0x4000'00a0, 0x4000'00b0,
    0x4000'00ff, 0x4000'0100, 0x4000'0101, 0x4000'0102, 0x4000'0103, 0x4000'0104, 0x4000'0105,
    0x4000'0106, 0x4000'0117, 0x4000'0118, 0x4000'0119, 0x4000'01ff};

struct Record {
  uint8_t step;
  uint8_t vp;
  uint8_t which;  // of the registers, or a synthetic interrupt
  uint8_t byte_count;
  le32 address;
  le64 value;
  le64 input;
};
static_assert(OnDisk<Record>);

// Messages and signals that reach the host: what the call's rules let through.
class Heard final : public Connections {
 public:
  HypercallStatus post_message(uint32_t, std::span<const std::byte> message) override {
    fuzz::require(message.size() <= 240, "a message has at most 240 bytes");
    // The guest changes them no more: they are a copy.
    for (const std::byte byte : message) sum_ += std::to_integer<unsigned>(byte);
    return sum_ % 2 == 0 ? HypercallStatus::success : HypercallStatus::insufficient_buffers;
  }
  HypercallStatus signal_event(uint32_t connection_id) override {
    return connection_id % 2 == 0 ? HypercallStatus::success
                                  : HypercallStatus::invalid_connection_id;
  }

 private:
  unsigned sum_ = 0;
};

class CheckedWires final : public Wires {
 public:
  void set_vector(uint32_t vp, uint8_t sint, uint8_t vector) override {
    check(vp, sint);
    fuzz::require(vector >= 16, "vectors below 16 are the processor's own");
    has_vector_[vp][sint] = true;
  }
  void set_auto_eoi(uint32_t vp, uint8_t sint, uint8_t, bool ends_by_itself) override {
    check(vp, sint);
    fuzz::require(ends_by_itself || ends_by_itself_[vp][sint], "what has changed is told");
    fuzz::require(has_vector_[vp][sint] || !ends_by_itself, "a vector without end exists");
    ends_by_itself_[vp][sint] = ends_by_itself;
  }
  void interrupt(uint32_t vp, uint8_t sint) override {
    check(vp, sint);
    fuzz::require(has_vector_[vp][sint], "an interrupt has a vector");
  }
  void connect_signal(uint32_t, int) override {}
  void disconnect_signal(uint32_t, int) override {}

 private:
  static void check(uint32_t vp, uint8_t sint) {
    fuzz::require(vp < vp_count && sint < Synic::sint_count, "a processor's synthetic interrupt");
  }

  std::array<std::array<bool, Synic::sint_count>, vp_count> has_vector_{};
  std::array<std::array<bool, Synic::sint_count>, vp_count> ends_by_itself_{};
};

bool is_status(uint64_t result) {
  switch (HypercallStatus(result)) {
    case HypercallStatus::success:
    case HypercallStatus::invalid_code:
    case HypercallStatus::invalid_input:
    case HypercallStatus::invalid_alignment:
    case HypercallStatus::invalid_parameter:
    case HypercallStatus::insufficient_memory:
    case HypercallStatus::invalid_connection_id:
    case HypercallStatus::insufficient_buffers:
      return result <= 0xffff;
  }
  return false;
}

class Scenario {
 public:
  Scenario() { switch_on(true); }
  ~Scenario() { synic_.reset(nullptr); }

  void run(fuzz::Input& input) {
    while (!input.empty()) {
      const auto record = input.take_value<Record>();
      put(record.address, input.take(record.byte_count));
      step(record);
    }
  }

 private:
  void switch_on(bool has_sound_counters) {
    wires_.emplace();
    synic_.reset(&*wires_);
    Registers::Clock clock{.scale = std::nullopt,
                           .now = [this](uint32_t vp) { return ++ticks_ + vp; },
                           .tsc_hz = 2'000'000'000,
                           .apic_hz = 1'000'000'000};
    if (has_sound_counters) clock.scale = TscScale(clock.tsc_hz, 12345);
    registers_.reset(std::move(clock));
  }

  void put(uint32_t address, std::span<const std::byte> bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      const uint64_t at = (uint64_t{address} + i) % (page_count * page_bytes);
      memory_.page(at / page_bytes)[at % page_bytes] = bytes[i];
    }
  }

  void step(const Record& record) {
    const uint32_t vp = record.vp % vp_count;
    const uint32_t index =
        record.which < registers.size() ? registers[record.which] : uint32_t(record.address);
    const vmbus::Destination destination{.vp = record.vp, .sint = record.which};
    switch (record.step % 8) {
      case 0:
      case 1:
        return write(vp, index, record.value);
      case 2:
        (void)registers_.read(vp, index);
        return;
      case 3:
      case 4: {
        const uint64_t control =
            record.step < 128 ? uint64_t{record.value} & 0x1'ffff : uint64_t{record.value};
        const Hypercall call{.control = control, .input = record.input};
        return fuzz::require(is_status(execute(call, memory_, heard_)), "a status and no more");
      }
      case 5: {
        const std::array<std::byte, 240> message{std::byte{record.step}};
        (void)synic_.post_message(destination, std::span(message).first(record.value % 241));
        return;
      }
      case 6:
        return synic_.set_event_flag(destination, uint32_t(record.value));
      default:
        return switch_on(record.value % 2 == 0);
    }
  }

  void write(uint32_t vp, uint32_t index, uint64_t value) {
    const bool is_done = registers_.write(vp, index, value);
    const auto now = registers_.read(vp, index);
    constexpr uint32_t sint0 = 0x4000'0090;
    constexpr uint32_t sint15 = 0x4000'009f;
    if (is_done && index >= sint0 && index <= sint15)
      fuzz::require(now == value, "a synthetic interrupt is as it was written");
    if (index == 0x4000'0002) fuzz::require(!is_done && now == vp, "a processor keeps its number");
  }

  vmbus::TestMemory memory_{page_count};
  Heard heard_;
  std::optional<CheckedWires> wires_;
  uint64_t ticks_ = 0;
  Synic synic_{memory_, vp_count, [] {}};
  Registers registers_{memory_,
                       synic_,
                       vp_count,
                       {.reset = [] {},
                        .crash =
                            [](const Crash& crash) {
                              fuzz::require(crash.message.size() <= page_bytes,
                                            "a last message lies in a page");
                            }}};
};

}  // namespace
}  // namespace vhdkit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vhdkit::fuzz::Input input(data, size);
  vhdkit::Scenario scenario;
  scenario.run(input);
  return 0;
}
