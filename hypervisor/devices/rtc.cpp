#include "hypervisor/devices/rtc.h"

#include <algorithm>
#include <array>
#include <utility>

namespace vhdkit::hypervisor {
namespace {

enum Register : uint8_t {
  seconds = 0x00,
  minutes = 0x02,
  hours = 0x04,
  weekday = 0x06,  // 1: Sunday
  day = 0x07,
  month = 0x08,
  year = 0x09,
  status_a = 0x0a,
  status_b = 0x0b,
  status_c = 0x0c,
  status_d = 0x0d,
  century = 0x32,  // ACPI 6.5, table 5.9: where a PC keeps it
};

constexpr uint8_t divider_runs = 0x26;     // status A: 32.768 kHz, and no update in progress
constexpr uint8_t counts_to_24 = 0x02;     // status B: BCD
constexpr uint8_t is_being_set = 0x80;     // status B
constexpr uint8_t battery_is_good = 0x80;  // status D
constexpr uint8_t index_mask = 0x7f;       // the bit above holds NMIs back

uint8_t bcd(unsigned value) { return uint8_t(value / 10 % 10 << 4 | value % 10); }
unsigned from_bcd(uint8_t value) { return (value >> 4) * 10U + (value & 0xf); }

// Where a register of the date stands among the fields; nothing for the others.
std::optional<size_t> field_of(uint8_t index) {
  constexpr std::array<uint8_t, 7> fields = {seconds, minutes, hours, day, month, year, century};
  const auto found = std::ranges::find(fields, index);
  if (found == fields.end()) return std::nullopt;
  return size_t(found - fields.begin());
}

Rtc::Fields fields_of(Rtc::Time time) {
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(days);
  const std::chrono::hh_mm_ss clock(time - days);
  const auto full_year = unsigned(int(date.year()));
  return {unsigned(clock.seconds().count()),
          unsigned(clock.minutes().count()),
          unsigned(clock.hours().count()),
          unsigned(date.day()),
          unsigned(date.month()),
          full_year % 100,
          full_year / 100};
}

// What no calendar has is brought to the nearest that it has.
Rtc::Time time_of(const Rtc::Fields& fields) {
  using namespace std::chrono;
  const auto [second, minute, hour, of_month, of_year, in_century, hundreds] = fields;
  const unsigned full_year = std::min(hundreds, 99U) * 100 + std::min(in_century, 99U);
  const auto month_then =
      std::chrono::year(int(full_year)) / std::chrono::month(std::clamp(of_year, 1U, 12U));
  const auto last = unsigned((month_then / std::chrono::last).day());
  return sys_days(month_then / std::chrono::day(std::clamp(of_month, 1U, last))) +
         std::chrono::hours(std::min(hour, 23U)) + std::chrono::minutes(std::min(minute, 59U)) +
         std::chrono::seconds(std::min(second, 59U));
}

}  // namespace

Rtc::Rtc()
    : Rtc([] {
        return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
      }) {}

Rtc::Rtc(Now now) : now_(std::move(now)) { registers_[status_b] = counts_to_24; }

uint8_t Rtc::read_byte(uint16_t offset) {
  const std::lock_guard lock(mutex_);
  return offset == 0 ? index_ : read_register();
}

void Rtc::write_byte(uint16_t offset, uint8_t value) {
  const std::lock_guard lock(mutex_);
  if (offset == 0) {
    index_ = value & index_mask;
  } else {
    write_register(value);
  }
}

uint8_t Rtc::read_register() const {
  if (const auto field = field_of(index_)) return bcd(shown()[*field]);
  switch (index_) {
    case weekday:
      return uint8_t(
          std::chrono::weekday(std::chrono::floor<std::chrono::days>(guest_time())).c_encoding() +
          1);
    case status_a:
      return divider_runs;
    case status_c:
      return 0;  // no interrupt
    case status_d:
      return battery_is_good;
    default:
      return registers_[index_];
  }
}

Rtc::Fields Rtc::shown() const { return being_set_ ? *being_set_ : fields_of(guest_time()); }

void Rtc::write_register(uint8_t value) {
  if (const auto field = field_of(index_)) {
    Fields fields = shown();
    fields[*field] = from_bcd(value);
    take(fields);
  } else if (index_ == status_b) {
    write_status_b(value);
  } else {
    registers_[index_] = value;
  }
}

void Rtc::take(const Fields& fields) {
  if (being_set_) {
    being_set_ = fields;
  } else {
    difference_ = time_of(fields) - now_();
  }
}

// While the guest sets the date, it stands still: else the day of one month would meet another one.
void Rtc::write_status_b(uint8_t value) {
  // Binary numbers and 12 hours are not to be had.
  registers_[status_b] = uint8_t((value & 0xf9) | counts_to_24);
  if ((value & is_being_set) != 0) {
    being_set_ = shown();
  } else if (being_set_) {
    take(*std::exchange(being_set_, std::nullopt));
  }
}

}  // namespace vhdkit::hypervisor
