// The guest's I/O ports: serial port, clock, and the switches, ACPI's among them. The input:
// records of an access, of keys that are typed, or of time that passes.
#include "fuzz/input.h"
#include "hypervisor/boot/platform.h"
#include "hypervisor/devices/power.h"
#include "hypervisor/devices/rtc.h"
#include "hypervisor/devices/uart.h"

namespace vhdkit {
namespace {

using namespace hypervisor;

// Where devices are; others are reached by the access itself.
constexpr uint16_t places[] = {platform::com1_port,           platform::rtc_index_port,
                               platform::rtc_data_port,       platform::sleep_control_port,
                               platform::reset_port,          platform::keyboard_command_port,
                               platform::system_control_port, 0x5fd};

struct Record {
  uint8_t step;
  uint8_t place;
  le16 port;
  le32 value;
};
static_assert(OnDisk<Record>);

struct Line final : SerialHost, InterruptLine {
  void write(std::span<const std::byte> bytes) override { sent_bytes += bytes.size(); }
  void has_room() override {}
  void edge() override {}

  size_t sent_bytes = 0;
};

// What the guest wrote: the machine is switched by nothing else.
class CheckedPower final : public PowerControl {
 public:
  void power_off() override {
    fuzz::require(
        byte_at(platform::sleep_control_port) ==
            (platform::sleep_enable | platform::sleep_type_soft_off << platform::sleep_type_shift),
        "sleeping is asked for at its port");
  }
  void reset() override {
    const bool is_asked =
        byte_at(platform::reset_port) == platform::reset_value ||
        byte_at(platform::keyboard_command_port) == platform::keyboard_pulse_reset ||
        (byte_at(platform::system_control_port).value_or(0) & platform::system_control_reset) != 0;
    fuzz::require(is_asked, "a reset is asked for at its ports");
  }
  void begin(uint16_t port, unsigned size, uint32_t value) {
    port_ = port;
    size_ = size;
    value_ = value;
  }

 private:
  // Bits that no register has are the guest's own.
  std::optional<unsigned> byte_at(uint16_t port) const {
    const unsigned offset = unsigned(port) - port_;
    if (port < port_ || offset >= size_) return std::nullopt;
    const unsigned byte = value_ >> offset * 8 & 0xff;
    const unsigned mask = port == platform::sleep_control_port
                              ? platform::sleep_enable | platform::sleep_type_mask
                              : 0xff;
    return byte & mask;
  }

  uint16_t port_ = 0;
  unsigned size_ = 0;
  uint32_t value_ = 0;
};

class Scenario {
 public:
  Scenario() {
    ports_.add(platform::com1_port, platform::com1_port_count, uart_);
    ports_.add(platform::rtc_index_port, 2, rtc_);
    power_ports_.add_to(ports_);
  }

  void run(fuzz::Input& input) {
    while (!input.empty()) step(input.take_value<Record>(), input);
  }

 private:
  void step(const Record& record, fuzz::Input& input) {
    constexpr unsigned sizes[] = {1, 2, 4};
    const unsigned size = sizes[record.step >> 4 & 3 ? (record.step >> 4 & 3) - 1 : 0];
    const bool is_near = record.place < 128;
    const auto port =
        is_near ? uint16_t(places[record.place % std::size(places)] + uint16_t(record.port) % 8)
                : uint16_t(record.port);
    switch (record.step % 8) {
      case 0:
      case 1:
      case 2:
        return write(port, size, record.value);
      case 3:
      case 4:
        return read(port, size);
      case 5: {
        const auto typed = input.take(record.place);
        return fuzz::require(uart_.receive(typed) <= typed.size(), "no more is taken than came");
      }
      case 6:
        now_ += std::chrono::seconds(uint32_t(record.value));
        return;
      default:
        return read_clock();
    }
  }

  void write(uint16_t port, unsigned size, uint32_t value) {
    power_.begin(port, size, value);
    const size_t before = line_.sent_bytes;
    ports_.write(port, size, value);
    fuzz::require(line_.sent_bytes - before <= 1, "an access sends a byte at most");
    power_.begin(0, 0, 0);
  }

  void read(uint16_t port, unsigned size) {
    const uint32_t value = ports_.read(port, size);
    fuzz::require(size == 4 || value >> size * 8 == 0, "as many bytes as were asked for");
  }

  // Two digits for each part of the date, whatever the guest has set.
  void read_clock() {
    for (const unsigned index : {0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32}) {
      ports_.write(platform::rtc_index_port, 1, index);
      const uint32_t value = ports_.read(platform::rtc_data_port, 1);
      fuzz::require((value & 0xf) <= 9 && value >> 4 <= 9, "a date is in BCD");
    }
  }

  Line line_;
  CheckedPower power_;
  Rtc::Time now_{std::chrono::seconds(1'800'000'000)};
  Uart uart_{line_, line_};
  Rtc rtc_{[this] { return now_; }};
  PowerPorts power_ports_{power_};
  Ports ports_;
};

}  // namespace
}  // namespace vhdkit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vhdkit::fuzz::Input input(data, size);
  vhdkit::Scenario scenario;
  scenario.run(input);
  return 0;
}
