#include "hypervisor/bios/keyboard_services.h"

#include <array>

#include "hypervisor/bios/low_memory.h"
#include "hypervisor/boot/platform.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

// RBIL, "INT 16".
enum Function : uint8_t {
  take = 0x00,
  look = 0x01,
  flags = 0x02,
  put = 0x05,
  functionality = 0x09,
  take_any = 0x10,
  look_for_any = 0x11,
  all_flags = 0x12,
};
constexpr uint8_t for_all_keys = 0x10;  // the bit that tells the twins apart

constexpr uint8_t has_enhanced_functions = 0x20;  // AL of functionality: 10h to 12h
constexpr uint8_t buffer_is_full = 0x01;          // AL of put
constexpr uint8_t extended_character = 0xe0;

// PC16550D, 8.1, 8.4 and 8.5.
constexpr uint16_t fifo_control = platform::com1_port + 2;
constexpr uint8_t enable_fifo = 0x01;
constexpr uint16_t line_control = platform::com1_port + 3;
constexpr uint16_t line_status = platform::com1_port + 5;
constexpr uint8_t has_divisor_latch = 0x80;
constexpr uint8_t data_ready = 0x01;

uint16_t word_of(const Key& key, bool shows_extended) {
  const uint8_t character = key.is_extended && shows_extended ? extended_character : key.character;
  return uint16_t(key.scan_code << 8 | character);
}

}  // namespace

void KeyboardServices::begin() { ports_.write(fifo_control, 1, enable_fifo); }

KeyboardServices::Answer KeyboardServices::answer(BiosCall& call, KeyDecoder::Time now) {
  switch (call.ah()) {
    case take:
    case take_any:
      read_port(now);
      return take_key(call);
    case look:
    case look_for_any:
      read_port(now);
      return look_for_key(call);
    case flags:
    case all_flags:
      tell_flags(call);
      break;
    case put:
      put_key(call);
      break;
    case functionality:
      set_low_byte(call.eax, has_enhanced_functions);
      break;
    default:
      break;
  }
  return {};
}

void KeyboardServices::read_port(KeyDecoder::Time now) {
  // A program has the port to itself: in place of its data there is something else.
  if ((ports_.read(line_control, 1) & has_divisor_latch) != 0) return;
  while (decoder_.room() > 0 && (ports_.read(line_status, 1) & data_ready) != 0) {
    const std::array typed = {std::byte(ports_.read(platform::com1_port, 1))};
    decoder_.take(typed, now);
  }
  keep_keys(now);
}

void KeyboardServices::keep_keys(KeyDecoder::Time now) {
  while (keys_.size() < max_keys) {
    const auto key = decoder_.next(now);
    if (!key) return;
    keys_.push_back(*key);
  }
}

KeyboardServices::Answer KeyboardServices::take_key(BiosCall& call) {
  if (keys_.empty()) return {.answer = BiosAnswer::again, .is_waiting = true};
  set_word(call.eax, word_of(keys_.front(), (call.ah() & for_all_keys) != 0));
  keys_.pop_front();
  vain_questions_ = 0;
  return {};
}

KeyboardServices::Answer KeyboardServices::look_for_key(BiosCall& call) {
  call.set_zero(keys_.empty());
  if (keys_.empty()) {
    if (vain_questions_ < patient_questions) ++vain_questions_;
    return {.is_waiting = vain_questions_ == patient_questions};
  }
  set_word(call.eax, word_of(keys_.front(), (call.ah() & for_all_keys) != 0));
  return {};
}

// As they stand in the guest's variables: programs set them there.
void KeyboardServices::tell_flags(BiosCall& call) const {
  const auto both = load<le16>(ram_.range(bios_data::keyboard_flags, sizeof(le16)));
  set_low_byte(call.eax, both ? low_byte(*both) : 0);
  if (call.ah() == all_flags) set_high_byte(call.eax, both ? high_byte(*both) : 0);
}

void KeyboardServices::put_key(BiosCall& call) {
  const bool is_full = keys_.size() >= max_keys;
  if (!is_full)
    keys_.push_back({.scan_code = high_byte(call.ecx), .character = low_byte(call.ecx)});
  set_low_byte(call.eax, is_full ? buffer_is_full : 0);
}

}  // namespace vhdkit::hypervisor
