#include "hypervisor/runner/escapes.h"

namespace vhdkit::hypervisor {
namespace {

constexpr std::byte control_a{0x01};

}  // namespace

Escapes::Typed Escapes::take(std::span<const std::byte> bytes) {
  Typed typed;
  for (const std::byte byte : bytes) {
    if (!is_escaped_ && byte == control_a) {
      is_escaped_ = true;
    } else if (!is_escaped_) {
      typed.for_guest.push_back(byte);
    } else {
      is_escaped_ = false;
      typed.wants_to_leave |= byte == std::byte{'x'};
      typed.wants_power_off |= byte == std::byte{'p'};
      typed.wants_help |= byte == std::byte{'h'};
      if (byte == control_a || byte == std::byte{'a'}) typed.for_guest.push_back(control_a);
    }
  }
  return typed;
}

}  // namespace vhdkit::hypervisor
