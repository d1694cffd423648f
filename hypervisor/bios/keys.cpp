#include "hypervisor/bios/keys.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <string_view>

namespace vhdkit::hypervisor {
namespace {

constexpr char escape = '\x1b';
constexpr char rubout = '\x7f';

// RBIL, table 00006 "keyboard scan codes", in the order of the keys.
struct Row {
  uint8_t first_scan_code;
  std::string_view plain;
  std::string_view shifted;
};
constexpr std::array rows = {Row{0x02, "1234567890-=", "!@#$%^&*()_+"},
                             Row{0x10, "qwertyuiop[]", "QWERTYUIOP{}"},
                             Row{0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
                             Row{0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"}, Row{0x39, " ", " "}};

constexpr Key escape_key{.scan_code = 0x01, .character = 0x1b};
constexpr Key backspace_key{.scan_code = 0x0e, .character = 0x08};
constexpr Key tab_key{.scan_code = 0x0f, .character = 0x09};
constexpr Key enter_key{.scan_code = 0x1c, .character = 0x0d};

constexpr Key extended(uint8_t scan_code) { return {.scan_code = scan_code, .is_extended = true}; }
constexpr Key function_key(uint8_t scan_code) { return {.scan_code = scan_code}; }

// ECMA-48 and xterm's "PC-Style Function Keys"; the numbers before ~ are the VT220's.
struct Sequence {
  std::string_view text;
  Key key;
};
constexpr std::array sequences = {
    Sequence{"\x1b[A", extended(0x48)},       Sequence{"\x1bOA", extended(0x48)},
    Sequence{"\x1b[B", extended(0x50)},       Sequence{"\x1bOB", extended(0x50)},
    Sequence{"\x1b[C", extended(0x4d)},       Sequence{"\x1bOC", extended(0x4d)},
    Sequence{"\x1b[D", extended(0x4b)},       Sequence{"\x1bOD", extended(0x4b)},
    Sequence{"\x1b[H", extended(0x47)},       Sequence{"\x1bOH", extended(0x47)},
    Sequence{"\x1b[F", extended(0x4f)},       Sequence{"\x1bOF", extended(0x4f)},
    Sequence{"\x1b[1~", extended(0x47)},      Sequence{"\x1b[7~", extended(0x47)},
    Sequence{"\x1b[4~", extended(0x4f)},      Sequence{"\x1b[8~", extended(0x4f)},
    Sequence{"\x1b[2~", extended(0x52)},      Sequence{"\x1b[3~", extended(0x53)},
    Sequence{"\x1b[5~", extended(0x49)},      Sequence{"\x1b[6~", extended(0x51)},
    Sequence{"\x1bOP", function_key(0x3b)},   Sequence{"\x1bOQ", function_key(0x3c)},
    Sequence{"\x1bOR", function_key(0x3d)},   Sequence{"\x1bOS", function_key(0x3e)},
    Sequence{"\x1b[11~", function_key(0x3b)}, Sequence{"\x1b[12~", function_key(0x3c)},
    Sequence{"\x1b[13~", function_key(0x3d)}, Sequence{"\x1b[14~", function_key(0x3e)},
    Sequence{"\x1b[15~", function_key(0x3f)}, Sequence{"\x1b[17~", function_key(0x40)},
    Sequence{"\x1b[18~", function_key(0x41)}, Sequence{"\x1b[19~", function_key(0x42)},
    Sequence{"\x1b[20~", function_key(0x43)}, Sequence{"\x1b[21~", function_key(0x44)},
    Sequence{"\x1b[23~", function_key(0x85)}, Sequence{"\x1b[24~", function_key(0x86)},
};

std::optional<uint8_t> scan_code_of(char character) {
  for (const Row& row : rows)
    for (const std::string_view text : {row.plain, row.shifted})
      if (const size_t at = text.find(character); at != std::string_view::npos)
        return uint8_t(row.first_scan_code + at);
  return std::nullopt;
}

// Control and a letter, or one of the keys behind "Z" in ASCII.
char key_with_control(char character) {
  constexpr std::string_view keys = "2abcdefghijklmnopqrstuvwxyz[\\]6-";
  return keys[size_t(character)];
}

std::optional<Key> key_of(char character) {
  switch (character) {
    case escape:
      return escape_key;
    case rubout:
    case '\b':
      return backspace_key;
    case '\t':
      return tab_key;
    case '\r':
    case '\n':  // what comes from a file has these
      return enter_key;
    default:
      break;
  }
  const bool is_ascii = uint8_t(character) < 0x80;
  if (!is_ascii) return std::nullopt;
  const auto scan_code =
      scan_code_of(uint8_t(character) < ' ' ? key_with_control(character) : character);
  assert(scan_code);
  return Key{.scan_code = *scan_code, .character = uint8_t(character)};
}

}  // namespace

void KeyDecoder::take(std::span<const std::byte> typed, Time now) {
  assert(typed.size() <= room());
  for (const std::byte byte : typed) waiting_ += char(byte);
  if (!typed.empty()) last_typed_ = now;
}

std::optional<Key> KeyDecoder::next(Time now) {
  while (!waiting_.empty()) {
    if (waiting_.front() == escape) {
      const auto whole = std::ranges::find_if(
          sequences, [&](const Sequence& one) { return waiting_.starts_with(one.text); });
      if (whole != sequences.end()) {
        waiting_.erase(0, whole->text.size());
        return whole->key;
      }
      const bool may_become_one = std::ranges::any_of(
          sequences, [&](const Sequence& one) { return one.text.starts_with(waiting_); });
      if (may_become_one && now - last_typed_ < patience) return std::nullopt;
    }
    const auto key = key_of(waiting_.front());
    waiting_.erase(0, 1);
    if (key) return key;
  }
  return std::nullopt;
}

}  // namespace vhdkit::hypervisor
