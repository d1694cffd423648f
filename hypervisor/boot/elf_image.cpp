#include "hypervisor/boot/elf_image.h"

#include <utility>
#include <vector>

#include "hypervisor/boot/boot_params.h"
#include "hypervisor/boot/elf_file.h"
#include "hypervisor/boot/pvh_format.h"
#include "hypervisor/boot/zero_page.h"

namespace vhdkit::hypervisor {
namespace {

// PVH's structures, behind the first at boot_data_address.
Result<void> write_start_info(GuestRam& ram, const Handover& handover, uint64_t initrd_address) {
  constexpr uint64_t module_address = boot_data_address + sizeof(pvh::StartInfo);
  constexpr uint64_t map_address = module_address + sizeof(pvh::Module);
  const pvh::Module initrd{.address = initrd_address,
                           .byte_count = handover.initrd.size(),
                           .command_line = uint64_t{0},
                           .reserved = uint64_t{0}};
  std::vector<pvh::MemoryMapEntry> map;
  for (const MemoryRange& range : handover.memory_map)
    map.push_back({.address = range.address,
                   .byte_count = range.byte_count,
                   .type = std::to_underlying(range.type),
                   .reserved = 0U});
  const bool has_initrd = !handover.initrd.empty();
  const pvh::StartInfo info{.magic = pvh::start_info_magic,
                            .version = pvh::start_info_version,
                            .flags = 0U,
                            .module_count = has_initrd ? 1U : 0U,
                            .modules = has_initrd ? module_address : 0,
                            .command_line = command_line_address,
                            .rsdp = handover.rsdp_address,
                            .memory_map = map_address,
                            .memory_map_entry_count = uint32_t(map.size()),
                            .reserved = 0U};
  TRY(ram.write(boot_data_address, bytes_of(info)));
  TRY(ram.write(module_address, bytes_of(initrd)));
  return ram.write(map_address, std::as_bytes(std::span(map)));
}

// An ELF file has no setup header; this is what a bzImage's kernel would have passed on.
linux_boot::BootParams plain_boot_params() {
  linux_boot::BootParams params{};
  params.header.boot_flag = linux_boot::boot_flag;
  params.header.magic = linux_boot::magic;
  params.header.version = linux_boot::version_2_12;
  params.header.load_flags = linux_boot::loaded_high;
  return params;
}

}  // namespace

Result<Entry> load_elf_image(GuestRam& ram, std::span<const std::byte> kernel,
                             const Handover& handover) {
  TRY_LET(const ElfFile elf, read_elf_file(kernel));
  const uint64_t entry = elf.pvh_entry.value_or(elf.entry);
  TRY(check_entry(elf, entry));
  const AddressRange place = elf.place();
  TRY(check_kernel_fits(ram, place));

  TRY(write_segments(ram, elf, kernel, 0));
  TRY(write_command_line(ram, handover.command_line, linux_boot::usual_command_line_size));
  TRY_LET(const uint64_t initrd_address,
          write_initrd(ram, handover.initrd, place,
                       uint64_t{linux_boot::usual_initrd_address_max} + 1));
  if (elf.pvh_entry) {
    TRY(write_start_info(ram, handover, initrd_address));
    return protected_mode_entry(ram, entry);
  }
  TRY(write_zero_page(ram, plain_boot_params(), handover, place.begin, initrd_address));
  return long_mode_entry(ram, entry);
}

}  // namespace vhdkit::hypervisor
