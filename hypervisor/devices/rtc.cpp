#include "hypervisor/devices/rtc.h"

#include <algorithm>

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
constexpr uint8_t battery_is_good = 0x80;  // status D
constexpr uint8_t index_mask = 0x7f;       // the bit above holds NMIs back

uint8_t bcd(unsigned value) { return uint8_t(value / 10 % 10 << 4 | value % 10); }
unsigned from_bcd(uint8_t value) { return (value >> 4) * 10U + (value & 0xf); }

// A moment, by the registers that show it.
struct Date {
  explicit Date(Rtc::Time time)
      : days(std::chrono::floor<std::chrono::days>(time)), calendar(days), clock(time - days) {}

  std::chrono::sys_days days;
  std::chrono::year_month_day calendar;
  std::chrono::hh_mm_ss<std::chrono::seconds> clock;

  int full_year() const { return int(calendar.year()); }
};

// The date with one of its registers changed; what no calendar has is brought back into it.
Rtc::Time changed(Rtc::Time time, uint8_t index, unsigned value) {
  using namespace std::chrono;
  const Date date(time);
  auto calendar = date.calendar;
  auto of_day = date.clock.to_duration();
  if (index == seconds)
    of_day += std::chrono::seconds(int(value)) - date.clock.seconds();
  else if (index == minutes)
    of_day += std::chrono::minutes(int(value)) - date.clock.minutes();
  else if (index == hours)
    of_day += std::chrono::hours(int(value)) - date.clock.hours();
  else if (index == day)
    calendar = calendar.year() / calendar.month() / std::chrono::day(value);
  else if (index == month)
    calendar = calendar.year() / std::chrono::month(std::clamp(value, 1U, 12U)) / calendar.day();
  else if (index == year)
    calendar = std::chrono::year(date.full_year() / 100 * 100 + int(value)) / calendar.month() /
               calendar.day();
  else if (index == century)
    calendar = std::chrono::year(int(value) * 100 + date.full_year() % 100) / calendar.month() /
               calendar.day();
  // A day that the month does not have counts on into the next one.
  return sys_days(calendar) + of_day;
}

bool is_of_the_date(uint8_t index) {
  constexpr uint8_t all[] = {seconds, minutes, hours, day, month, year, century};
  return std::ranges::find(all, index) != std::end(all);
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
  const Date date(guest_time());
  switch (index_) {
    case seconds:
      return bcd(unsigned(date.clock.seconds().count()));
    case minutes:
      return bcd(unsigned(date.clock.minutes().count()));
    case hours:
      return bcd(unsigned(date.clock.hours().count()));
    case weekday:
      return uint8_t(std::chrono::weekday(date.days).c_encoding() + 1);
    case day:
      return bcd(unsigned(date.calendar.day()));
    case month:
      return bcd(unsigned(date.calendar.month()));
    case year:
      return bcd(unsigned(date.full_year() % 100));
    case century:
      return bcd(unsigned(date.full_year() / 100));
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

void Rtc::write_register(uint8_t value) {
  if (is_of_the_date(index_)) {
    difference_ = changed(guest_time(), index_, from_bcd(value)) - now_();
  } else if (index_ == status_b) {
    // Binary numbers and 12 hours are not to be had.
    registers_[index_] = uint8_t((value & 0xf9) | counts_to_24);
  } else {
    registers_[index_] = value;
  }
}

}  // namespace vhdkit::hypervisor
