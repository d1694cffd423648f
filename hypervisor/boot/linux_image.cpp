#include "hypervisor/boot/linux_image.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "hypervisor/boot/boot_params.h"
#include "hypervisor/boot/packed_kernel.h"
#include "hypervisor/boot/zero_page.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

using linux_boot::SetupHeader;

constexpr size_t sector_bytes = 512;
constexpr uint64_t paragraph_bytes = 16;
constexpr uint8_t default_setup_sectors = 4;

std::unexpected<Error> corrupt(const std::string& what) {
  return fail(Errc::corrupt, "bzImage: " + what);
}

// Whether this is a kernel that is entered in 64-bit mode.
Result<void> check_kind(const SetupHeader& header) {
  if (header.boot_flag != linux_boot::boot_flag)
    return corrupt(
        fmt::format("boot_flag at 0x1fe is {:#06x}, not 0xaa55", uint16_t{header.boot_flag}));
  const uint16_t version = header.version;
  if (version < linux_boot::version_2_12)
    return fail(Errc::unsupported,
                fmt::format("bzImage: boot protocol {}.{:02}; kernels have to have 2.12 at least, "
                            "which is that of Linux 3.8",
                            version >> 8, version & 0xff));
  if ((header.load_flags & linux_boot::loaded_high) == 0)
    return fail(Errc::unsupported, "bzImage: a zImage, as loadflags at 0x211 says");
  if ((header.extended_load_flags & linux_boot::has_64_bit_entry) == 0)
    return fail(Errc::unsupported,
                "bzImage: xloadflags at 0x236 names no 64-bit entry: this is a kernel of 32 bits");
  return {};
}

// The header's bytes: an older kernel's has less than SetupHeader, a newer one's may have more.
Result<std::span<const std::byte>> header_bytes(std::span<const std::byte> kernel,
                                                const SetupHeader& header) {
  const size_t end = linux_boot::magic_offset + header.jump_distance;
  if (header.jump_opcode != linux_boot::jump_opcode || end < linux_boot::header_end_2_12 ||
      end > linux_boot::setup_header_limit)
    return corrupt(fmt::format("the jump at 0x200 is {:#04x} {:#04x}: the header cannot end there",
                               header.jump_opcode, header.jump_distance));
  if (end > kernel.size())
    return corrupt(fmt::format("the file ends at {:#x}, in its header", kernel.size()));
  return kernel.subspan(linux_boot::setup_header_offset, end - linux_boot::setup_header_offset);
}

// All that is put into memory. A signed kernel has its signature behind what syssize counts.
Result<std::span<const std::byte>> protected_mode_part(std::span<const std::byte> kernel,
                                                       const SetupHeader& header) {
  const size_t setup_sectors =
      header.setup_sectors != 0 ? header.setup_sectors : default_setup_sectors;
  const size_t offset = (1 + setup_sectors) * sector_bytes;
  const uint64_t needed =
      std::max<uint64_t>(header.code_paragraphs * paragraph_bytes, linux_boot::entry_64_offset + 1);
  if (!range_fits(offset, needed, kernel.size()))
    return corrupt(
        fmt::format("the kernel has {} bytes from {:#x} on, as setup_sects and syssize "
                    "say; the file ends at {:#x}",
                    needed, offset, kernel.size()));
  return kernel.subspan(offset);
}

struct Place {
  uint64_t load_address = 0;
  uint64_t runtime_address = 0;  // where its own code would move it to
  AddressRange kernel;           // all that it takes until it knows its memory
};

// A kernel that cannot be moved moves itself to where it prefers to be, so that this is the best
// place for every kernel.
Result<Place> place_of(const SetupHeader& header, uint64_t byte_count) {
  const uint64_t preferred = header.preferred_address;
  const uint64_t load_address = preferred != 0 ? preferred : linux_boot::default_load_address;
  if (load_address < extended_memory_begin || load_address >= mmio_gap_begin)
    return corrupt(
        fmt::format("pref_address at 0x258 is {:#x}, where a guest has no RAM", load_address));
  uint64_t runtime_address = load_address;
  if (header.relocatable_kernel != 0) {
    const uint32_t alignment = header.kernel_alignment;
    if (!is_power_of_two(alignment))
      return corrupt(fmt::format("kernel_alignment at 0x230 is {:#x}, no power of two", alignment));
    runtime_address = align_up(load_address, alignment);
  }
  const uint64_t end = std::max(load_address + byte_count, runtime_address + header.init_size);
  return Place{.load_address = load_address,
               .runtime_address = runtime_address,
               .kernel = {.begin = load_address, .end = end}};
}

// What a bzImage has packed, and where it belongs.
struct Packed {
  std::span<const std::byte> code;
  const SetupHeader& header;
  Place place;
};

// --- a kernel that we unpack: as its own code would leave it ---

// Linux's linker puts the first segment that far behind the beginning of its file, and the others
// so that most of them, too, need not be moved where the file lies that far below its kernel.
constexpr uint64_t first_segment_offset = 2 * MiB;

// What a kernel at this address has, and its file before it is one.
AddressRange room_of(const SetupHeader& header, uint64_t address) {
  const uint64_t lowest = extended_memory_begin + first_segment_offset;
  return {.begin = std::max(address, lowest) - first_segment_offset,
          .end = address + header.init_size};
}

std::optional<UnpackedKernel> unpack_payload(const Packed& packed, std::span<std::byte> room) {
  const SetupHeader& header = packed.header;
  if (!range_fits(header.payload_offset, header.payload_length, packed.code.size()))
    return std::nullopt;
  auto kernel =
      unpack_kernel(packed.code.subspan(header.payload_offset, header.payload_length), room);
  if (!kernel) return std::nullopt;
  const AddressRange linked = kernel->elf.place();
  const bool is_as_announced = linked.begin == packed.place.runtime_address &&
                               linked.byte_count() <= header.init_size &&
                               check_entry(kernel->elf, kernel->elf.entry);
  if (!is_as_announced) return std::nullopt;
  return kernel;
}

uint64_t random_below(uint64_t limit) {
  uint64_t number = 0;
  [[maybe_unused]] const ssize_t got = getrandom(&number, sizeof number, 0);
  return number % limit;
}

// Any of the places for `byte_count` bytes between begin and end: how far it is from begin.
uint64_t random_distance(uint64_t begin, uint64_t end, uint64_t byte_count, uint32_t alignment) {
  if (byte_count > end || begin > end - byte_count) return 0;
  return random_below((end - begin - byte_count) / alignment + 1) * alignment;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  const auto is_space = [](char c) { return uint8_t(c) <= ' '; };
  for (auto at = line.begin(); (at = std::find_if_not(at, line.end(), is_space)) != line.end();) {
    const auto end = std::find_if(at, line.end(), is_space);
    words.emplace_back(at, end);
    at = end;
  }
  return words;
}

bool is_without_random_address(std::string_view command_line) {
  const auto words = words_of(command_line);
  return std::ranges::find(words, "nokaslr") != words.end();
}

// Memory that a kernel is told to leave alone, or to keep in huge pages that it needs whole. Its
// own code looks for a place beside them, and finding none it stays where it is.
bool limits_places(std::string_view command_line) {
  const auto limits = [](std::string_view word) {
    if (word.starts_with('"')) word.remove_prefix(1);
    return word.starts_with("mem=") || word.starts_with("memmap=") ||
           word.starts_with("hugepages=");
  };
  const auto words = words_of(command_line);
  return std::ranges::any_of(words, limits);
}

// How much higher than it was linked.
struct Distance {
  uint64_t in_memory = 0;  // modulo 2^64
  uint64_t in_mapping = 0;
  bool is_random = false;
};

// A kernel finds out where it lies, and takes any place that is aligned. Its own code does not move
// it below the one that it prefers, and neither do we while it fits there. init_size keeps it away
// from its mapping's end, where Linux does not look for it.
// Linux, arch/x86/boot/compressed/kaslr.c.
Distance distance_of(const SetupHeader& header, AddressRange preferred, const Handover& handover,
                     const GuestRam& ram, bool has_relocations) {
  if (header.relocatable_kernel == 0) return {};
  const uint32_t alignment = header.kernel_alignment;
  const uint64_t initrd_end = std::min(low_ram_end(ram), uint64_t{header.initrd_address_max} + 1);
  const uint64_t initrd_begin =
      initrd_end - std::min(initrd_end, align_up(handover.initrd.size(), alignment));
  const uint64_t lowest =
      preferred.end <= initrd_begin ? preferred.begin : align_up(extended_memory_begin, alignment);
  Distance distance{.in_memory = lowest - preferred.begin, .in_mapping = 0, .is_random = false};
  if (!has_relocations || is_without_random_address(handover.command_line)) return distance;
  distance.is_random = true;
  if (!limits_places(handover.command_line))
    distance.in_memory += random_distance(lowest, initrd_begin, preferred.byte_count(), alignment);
  distance.in_mapping = random_distance(preferred.begin, linux_boot::kernel_mapping_bytes,
                                        header.init_size, alignment);
  return distance;
}

// --- into memory ---

struct Loaded {
  AddressRange kernel;
  uint64_t address = 0;
  uint64_t instruction = 0;
  bool is_at_random = false;
};

Loaded loaded_at(const UnpackedKernel& kernel, const Distance& distance, uint64_t byte_count) {
  const uint64_t address = kernel.elf.place().begin + distance.in_memory;
  return {.kernel = {.begin = address, .end = address + byte_count},
          .address = address,
          .instruction = kernel.elf.entry + distance.in_memory,
          .is_at_random = distance.is_random};
}

std::optional<Loaded> unpack_in(std::span<std::byte> room, GuestRam& ram, const Packed& packed,
                                Distance distance) {
  const auto kernel = unpack_payload(packed, room);
  if (!kernel) return std::nullopt;
  if (kernel->relocations.empty()) distance = {};
  if (!relocate(kernel->file, kernel->elf, kernel->relocations, distance.in_mapping) ||
      !move_segments(ram, kernel->elf, kernel->file, distance.in_memory))
    return std::nullopt;
  return loaded_at(*kernel, distance, packed.header.init_size);
}

// Its own file is unpacked to where it will be, so that the memory of both is the same. Nothing: it
// has to unpack itself.
Result<std::optional<Loaded>> unpack_in_place(GuestRam& ram, const Packed& packed,
                                              const Handover& handover) {
  const uint64_t preferred = packed.place.runtime_address;
  const Distance distance = distance_of(
      packed.header, {preferred, preferred + packed.header.init_size}, handover, ram, true);
  const AddressRange room = room_of(packed.header, preferred + distance.in_memory);
  auto loaded = unpack_in(ram.range(room.begin, room.byte_count()), ram, packed, distance);
  if (!loaded) TRY(ram.clear(room.begin, room.byte_count()));
  return loaded;
}

// A guest without room for all that init_size says: what runs takes only what its segments say.
Result<std::optional<Loaded>> unpack_beside(GuestRam& ram, const Packed& packed,
                                            const Handover& handover) {
  // What is packed better than that is no kernel.
  constexpr uint64_t max_ratio = 1024;
  const uint64_t room_bytes = std::min<uint64_t>(
      {packed.header.init_size, low_ram_end(ram), max_ratio * packed.code.size()});
  const auto room = std::make_unique_for_overwrite<std::byte[]>(room_bytes);
  const auto kernel = unpack_payload(packed, std::span(room.get(), room_bytes));
  if (!kernel) return std::nullopt;
  const AddressRange linked = kernel->elf.place();
  const Distance distance =
      distance_of(packed.header, linked, handover, ram, !kernel->relocations.empty());
  if (!relocate(kernel->file, kernel->elf, kernel->relocations, distance.in_mapping))
    return std::nullopt;
  const Loaded loaded = loaded_at(*kernel, distance, linked.byte_count());
  TRY(check_kernel_fits(ram, loaded.kernel));
  TRY(write_segments(ram, kernel->elf, kernel->file, distance.in_memory));
  return loaded;
}

Result<Loaded> write_packed(GuestRam& ram, const Packed& packed) {
  TRY(check_kernel_fits(ram, packed.place.kernel));
  TRY(ram.write(packed.place.load_address, packed.code));
  return Loaded{.kernel = packed.place.kernel,
                .address = packed.place.load_address,
                .instruction = packed.place.load_address + linux_boot::entry_64_offset};
}

Result<Loaded> write_kernel(GuestRam& ram, std::span<const std::byte> code,
                            const SetupHeader& header, const Handover& handover) {
  TRY_LET(const Place place, place_of(header, code.size()));
  const Packed packed{.code = code, .header = header, .place = place};
  const bool has_room = check_kernel_fits(ram, place.kernel).has_value();
  TRY_LET(const auto unpacked,
          has_room ? unpack_in_place(ram, packed, handover) : unpack_beside(ram, packed, handover));
  if (unpacked) return *unpacked;
  return write_packed(ram, packed);
}

}  // namespace

bool is_linux_image(std::span<const std::byte> kernel) {
  const auto found = load<le32>(kernel, linux_boot::magic_offset);
  return found && *found == linux_boot::magic;
}

Result<Entry> load_linux_image(GuestRam& ram, std::span<const std::byte> kernel,
                               const Handover& handover) {
  // Behind the header there is always more, so that a kernel with an older one can be read as well.
  const auto header = load<SetupHeader>(kernel, linux_boot::setup_header_offset);
  if (!header) return corrupt(fmt::format("the file ends at {:#x}, in its header", kernel.size()));
  TRY(check_kind(*header));
  TRY_LET(const auto own_header, header_bytes(kernel, *header));
  TRY_LET(const auto code, protected_mode_part(kernel, *header));
  TRY_LET(const Loaded loaded, write_kernel(ram, code, *header, handover));
  TRY(write_command_line(ram, handover.command_line, header->command_line_size));
  const uint64_t highest_initrd_end = uint64_t{header->initrd_address_max} + 1;
  TRY_LET(const uint64_t initrd_address,
          write_initrd(ram, handover.initrd, loaded.kernel, highest_initrd_end));
  linux_boot::BootParams params{};
  std::ranges::copy(own_header,
                    writable_bytes_of(params).subspan(linux_boot::setup_header_offset).begin());
  if (loaded.is_at_random) params.header.load_flags |= linux_boot::is_at_random_address;
  TRY(write_zero_page(ram, params, handover, loaded.address, initrd_address));
  return long_mode_entry(ram, loaded.instruction);
}

}  // namespace vhdkit::hypervisor
