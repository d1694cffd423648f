// A kernel's file, loaded into a guest of 32 MiB. The input: two bytes, the length of its initrd in
// pages and of its command line, and the file.
#include "fuzz/input.h"
#include "hypervisor/boot/loader.h"

namespace vhdkit {
namespace {

hypervisor::GuestRam& guest_ram() {
  static const auto ram = hypervisor::GuestRam::create(uint64_t{32} << 20);
  fuzz::require(ram.has_value(), "there are 32 MiB");
  return **ram;
}

// Where the first processor would begin is RAM, and so is what it finds there.
void check(hypervisor::GuestRam& ram, const hypervisor::Entry& entry) {
  fuzz::require(!ram.range(entry.instruction, 1).empty(), "the first instruction is in RAM");
  fuzz::require(!ram.range(entry.boot_data, 4096).empty(), "what the kernel is told is in RAM");
  fuzz::require(!ram.range(entry.gdt, entry.gdt_bytes).empty(), "its segments are in RAM");
}

void load_kernel_file(std::span<const std::byte> bytes) {
  fuzz::Input input(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const auto lengths = input.take(2);
  if (lengths.size() < 2) return;
  const std::vector<std::byte> initrd(std::to_integer<size_t>(lengths[0]) * 4096);
  const std::string command_line(std::to_integer<size_t>(lengths[1]) * 16, 'a');
  hypervisor::GuestRam& ram = guest_ram();
  fuzz::require(ram.clear().has_value(), "memory is cleared");
  const auto entry = hypervisor::load_kernel(
      ram, {.kernel = input.rest(), .initrd = initrd, .command_line = command_line, .vp_count = 2});
  if (entry) check(ram, *entry);
}

}  // namespace
}  // namespace vhdkit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vhdkit::load_kernel_file(std::as_bytes(std::span(data, size)));
  return 0;
}
