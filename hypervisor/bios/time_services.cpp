#include "hypervisor/bios/time_services.h"

#include <algorithm>

#include "hypervisor/bios/low_memory.h"
#include "hypervisor/boot/platform.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

// RBIL, "INT 1A".
enum Function : uint8_t {
  get_ticks = 0x00,
  set_ticks_function = 0x01,
  get_time = 0x02,
  set_time = 0x03,
  get_date = 0x04,
  set_date = 0x05,
};

// MC146818, "Address Map", and where a PC keeps the century. All in BCD.
enum Register : uint8_t {
  seconds = 0x00,
  minutes = 0x02,
  hours = 0x04,
  day = 0x07,
  month = 0x08,
  year = 0x09,
  status_b = 0x0b,
  century = 0x32,
};
constexpr uint8_t is_being_set = 0x80;  // status B

// The timer's 1,193,182 Hz (Intel 8254 on a PC: 105/88 MHz) by 65536.
constexpr uint64_t timer_hz = 1'193'182;
constexpr uint64_t counts_per_tick = 65'536;

constexpr unsigned from_bcd(uint8_t value) { return (value >> 4) * 10U + (value & 0xf); }

}  // namespace

// Of one second: the clock goes on between two of them.
template <size_t count>
std::array<uint8_t, count> TimeServices::read_together(
    const std::array<uint8_t, count>& indices) const {
  for (;;) {
    const uint8_t before = read_clock(seconds);
    std::array<uint8_t, count> values;
    std::ranges::transform(indices, values.begin(),
                           [this](uint8_t index) { return read_clock(index); });
    if (read_clock(seconds) == before) return values;
  }
}

uint32_t TimeServices::ticks_of_day() const {
  const auto [hour, minute, second] = read_together<3>({hours, minutes, seconds});
  const uint64_t of_day = from_bcd(hour) * 3600 + from_bcd(minute) * 60 + from_bcd(second);
  return uint32_t(of_day * timer_hz / counts_per_tick);
}

void TimeServices::answer(BiosCall& call) {
  switch (call.ah()) {
    case get_ticks:
      tell_ticks(call);
      break;
    case set_ticks_function:
      set_ticks(call);
      break;
    case get_time: {
      const auto [hour, minute, second] = read_together<3>({hours, minutes, seconds});
      set_word(call.ecx, uint16_t(hour << 8 | minute));
      set_word(call.edx, uint16_t(second << 8));  // no daylight saving time
      break;
    }
    case set_time:
      hold_clock(true);
      write_clock(hours, high_byte(call.ecx));
      write_clock(minutes, low_byte(call.ecx));
      write_clock(seconds, call.dh());
      hold_clock(false);
      break;
    case get_date: {
      const auto [first, rest, of_year, of_month] = read_together<4>({century, year, month, day});
      set_word(call.ecx, uint16_t(first << 8 | rest));
      set_word(call.edx, uint16_t(of_year << 8 | of_month));
      break;
    }
    case set_date:
      hold_clock(true);
      write_clock(century, high_byte(call.ecx));
      write_clock(year, low_byte(call.ecx));
      write_clock(month, call.dh());
      write_clock(day, call.dl());
      hold_clock(false);
      break;
    default:
      return call.refuse();
  }
  if (call.ah() != get_ticks && call.ah() != set_ticks_function) set_high_byte(call.eax, 0);
  call.set_carry(false);
}

// CX:DX; AL: whether midnight has passed since the last time that somebody asked.
void TimeServices::tell_ticks(BiosCall& call) {
  const auto ticks = load<le32>(ram_.range(bios_data::ticks, sizeof(le32)));
  const auto midnight = load<uint8_t>(ram_.range(bios_data::midnight, 1));
  set_word(call.ecx, uint16_t((ticks ? uint32_t(*ticks) : 0) >> 16));
  set_word(call.edx, uint16_t(ticks ? uint32_t(*ticks) : 0));
  set_low_byte(call.eax, midnight.value_or(0));
  (void)ram_.write(bios_data::midnight, bytes_of(uint8_t{0}));
}

void TimeServices::set_ticks(const BiosCall& call) {
  (void)ram_.write(bios_data::ticks, bytes_of(le32(uint32_t{call.cx()} << 16 | call.dx())));
  (void)ram_.write(bios_data::midnight, bytes_of(uint8_t{0}));
}

// --- the clock; its index is the guest's, and stays what it was ---

uint8_t TimeServices::read_clock(uint8_t index) const {
  const uint32_t guests = ports_.read(platform::rtc_index_port, 1);
  ports_.write(platform::rtc_index_port, 1, index);
  const auto value = uint8_t(ports_.read(platform::rtc_data_port, 1));
  ports_.write(platform::rtc_index_port, 1, guests);
  return value;
}

void TimeServices::write_clock(uint8_t index, uint8_t value) const {
  const uint32_t guests = ports_.read(platform::rtc_index_port, 1);
  ports_.write(platform::rtc_index_port, 1, index);
  ports_.write(platform::rtc_data_port, 1, value);
  ports_.write(platform::rtc_index_port, 1, guests);
}

// Else the day of one month would meet another one.
void TimeServices::hold_clock(bool is_held) const {
  const uint8_t status = read_clock(status_b);
  write_clock(status_b, uint8_t(is_held ? status | is_being_set : status & ~is_being_set));
}

}  // namespace vhdkit::hypervisor
