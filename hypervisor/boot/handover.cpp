#include "hypervisor/boot/handover.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t page_bytes = vmbus::GuestMemory::page_bytes;

// Intel SDM volume 3, 3.4.5 "Segment Descriptors": present, base 0, limit 4 GiB, accessed already,
// so that a processor has nothing to write there.
constexpr uint64_t code_64_descriptor = 0x00af'9b00'0000'ffff;
constexpr uint64_t code_32_descriptor = 0x00cf'9b00'0000'ffff;
constexpr uint64_t data_descriptor = 0x00cf'9300'0000'ffff;

// Intel SDM volume 3, 4.5 "4-Level Paging".
constexpr uint64_t present_and_writable = 0x3;
constexpr uint64_t maps_large_page = 0x80;
constexpr uint64_t large_page_bytes = 2 * MiB;
constexpr size_t entries_per_table = page_bytes / sizeof(le64);
constexpr size_t directory_count = 4;  // of 1 GiB each
constexpr uint64_t pointer_table_address = page_table_address + page_bytes;
constexpr uint64_t first_directory_address = pointer_table_address + page_bytes;
static_assert(first_directory_address + directory_count * page_bytes <= command_line_address);

Result<void> write_descriptors(GuestRam& ram, uint64_t code_descriptor, Entry& entry) {
  const std::array<le64, 4> descriptors = {uint64_t{0}, uint64_t{0}, code_descriptor,
                                           data_descriptor};
  entry.gdt = gdt_address;
  entry.gdt_bytes = sizeof descriptors;
  return ram.write(gdt_address, std::as_bytes(std::span(descriptors)));
}

Result<void> write_page_tables(GuestRam& ram) {
  const le64 top = pointer_table_address | present_and_writable;
  TRY(ram.write(page_table_address, bytes_of(top)));
  std::array<le64, directory_count> pointers;
  std::vector<le64> pages(directory_count * entries_per_table);
  for (size_t i = 0; i < pointers.size(); ++i)
    pointers[i] = (first_directory_address + i * page_bytes) | present_and_writable;
  for (size_t i = 0; i < pages.size(); ++i)
    pages[i] = (i * large_page_bytes) | present_and_writable | maps_large_page;
  TRY(ram.write(pointer_table_address, std::as_bytes(std::span(pointers))));
  return ram.write(first_directory_address, std::as_bytes(std::span(pages)));
}

// The highest page where `length` bytes end at or before `end`; nothing where that is below 1 MiB.
std::optional<uint64_t> place_below(uint64_t end, uint64_t length) {
  if (length > end) return std::nullopt;
  const uint64_t begin = align_down(end - length, page_bytes);
  if (begin < extended_memory_begin) return std::nullopt;
  return begin;
}

}  // namespace

uint64_t low_ram_end(const GuestRam& ram) { return ram.regions().front().end(); }

Result<void> check_kernel_fits(const GuestRam& ram, AddressRange kernel) {
  if (kernel.end <= low_ram_end(ram)) return {};
  return fail(Errc::invalid_argument,
              fmt::format("memory: the kernel is loaded at {:#x} and needs RAM up to {} MiB; the "
                          "guest has {} MiB there: give it more",
                          kernel.begin, ceil_div(kernel.end, MiB), low_ram_end(ram) / MiB));
}

Result<void> write_command_line(GuestRam& ram, std::string_view command_line, uint64_t limit) {
  limit = std::min(limit, command_line_limit);
  if (command_line.size() > limit)
    return fail(Errc::invalid_argument,
                fmt::format("the command line has {} bytes; this kernel takes at most {}",
                            command_line.size(), limit));
  TRY(ram.write(command_line_address, std::as_bytes(std::span(command_line))));
  const std::array end = {std::byte{0}};
  return ram.write(command_line_address + command_line.size(), end);
}

Result<uint64_t> write_initrd(GuestRam& ram, std::span<const std::byte> initrd, AddressRange kernel,
                              uint64_t highest_end) {
  if (initrd.empty()) return uint64_t{0};
  const uint64_t end = std::min(highest_end, low_ram_end(ram));
  auto address = place_below(end, initrd.size());
  if (address && *address < kernel.end && *address + initrd.size() > kernel.begin)
    address = place_below(std::min(end, kernel.begin), initrd.size());
  if (!address)
    return fail(Errc::invalid_argument,
                fmt::format("memory: an initrd of {} bytes has no room between 1 MiB and {} MiB, "
                            "beside the kernel at {:#x} to {:#x}: give the guest more memory",
                            initrd.size(), end / MiB, kernel.begin, kernel.end));
  TRY(ram.write(*address, initrd));
  return *address;
}

Result<Entry> long_mode_entry(GuestRam& ram, uint64_t instruction) {
  Entry entry{.mode = Entry::Mode::long_mode,
              .instruction = instruction,
              .boot_data = boot_data_address,
              .stack = stack_end_address,
              .page_table = page_table_address};
  TRY(write_descriptors(ram, code_64_descriptor, entry));
  TRY(write_page_tables(ram));
  return entry;
}

Result<Entry> protected_mode_entry(GuestRam& ram, uint64_t instruction) {
  Entry entry{.mode = Entry::Mode::protected_mode,
              .instruction = instruction,
              .boot_data = boot_data_address,
              .stack = stack_end_address};
  TRY(write_descriptors(ram, code_32_descriptor, entry));
  return entry;
}

}  // namespace vhdkit::hypervisor
