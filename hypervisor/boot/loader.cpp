#include "hypervisor/boot/loader.h"

#include <fmt/format.h>

#include "hypervisor/boot/acpi.h"
#include "hypervisor/boot/elf_file.h"
#include "hypervisor/boot/elf_image.h"
#include "hypervisor/boot/linux_image.h"
#include "hypervisor/boot/memory_map.h"
#include "hypervisor/boot/platform.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

Result<Entry> load_image(GuestRam& ram, std::span<const std::byte> kernel,
                         const Handover& handover) {
  if (is_linux_image(kernel)) return load_linux_image(ram, kernel, handover);
  if (is_elf_file(kernel)) return load_elf_image(ram, kernel, handover);
  return fail(Errc::corrupt,
              "no kernel: neither a bzImage (no HdrS at 0x202) nor an ELF file (no 0x7f ELF at 0)");
}

}  // namespace

Result<void> check_machine(const GuestRam& ram, unsigned vp_count) {
  if (vp_count < 1 || vp_count > platform::max_vp_count)
    return fail(Errc::invalid_argument, fmt::format("{} processors: a guest has 1 to {}", vp_count,
                                                    platform::max_vp_count));
  if (ram.regions().back().end() > platform::high_mmio_address)
    return fail(Errc::invalid_argument,
                fmt::format("memory: {} MiB end above {:#x}, where the memory of devices begins",
                            ram.byte_count() / MiB, platform::high_mmio_address));
  return {};
}

Result<Entry> load_kernel(GuestRam& ram, const BootImage& image) {
  TRY(check_machine(ram, image.vp_count));
  const auto map = memory_map(ram);
  const Handover handover{.initrd = image.initrd,
                          .command_line = image.command_line,
                          .rsdp_address = acpi_tables_address,
                          .memory_map = map};
  TRY_LET(const Entry entry, load_image(ram, image.kernel, handover));
  TRY(ram.write(acpi_tables_address, acpi_tables(acpi_tables_address, image.vp_count)));
  TRY(write_reset_code(ram));
  return entry;
}

}  // namespace vhdkit::hypervisor
