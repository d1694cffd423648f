#include "hypervisor/boot/memory_map.h"

#include <array>

#include "hypervisor/boot/platform.h"

namespace vhdkit::hypervisor {
namespace {

// mov al, keyboard_pulse_reset; out keyboard_command_port, al; hlt; jmp back to the hlt
constexpr std::array reset_code = {std::byte{0xb0}, std::byte{platform::keyboard_pulse_reset},
                                   std::byte{0xe6}, std::byte{platform::keyboard_command_port},
                                   std::byte{0xf4}, std::byte{0xeb},
                                   std::byte{0xfd}};

MemoryRange between(uint64_t begin, uint64_t end, MemoryType type) {
  return {.address = begin, .byte_count = end - begin, .type = type};
}

}  // namespace

std::vector<MemoryRange> memory_map(const GuestRam& ram) {
  const auto regions = ram.regions();
  std::vector<MemoryRange> map = {
      between(0, conventional_end, MemoryType::usable),
      between(firmware_begin, extended_memory_begin, MemoryType::reserved),
      between(extended_memory_begin, regions.front().end(), MemoryType::usable)};
  for (const GuestRam::Region& region : regions.subspan(1))
    map.push_back(between(region.address, region.end(), MemoryType::usable));
  return map;
}

Result<void> write_reset_code(GuestRam& ram) {
  return ram.write(platform::reset_vector, reset_code);
}

}  // namespace vhdkit::hypervisor
