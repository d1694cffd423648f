#include "hypervisor/boot/elf_file.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "hypervisor/boot/pvh_format.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

// Kernels have a handful of segments and some hundred bytes of notes. Without a limit, many headers
// that name the same long notes would have them read again and again.
constexpr size_t max_program_headers = 64;
constexpr uint64_t max_note_bytes = 1 * MiB;

std::unexpected<Error> corrupt(const std::string& what) {
  return fail(Errc::corrupt, "ELF: " + what);
}

// ELF's structs are the machine's own: x86-64 files are little-endian, and so is the host.
template <class T>
std::optional<T> read(std::span<const std::byte> bytes, uint64_t offset) {
  if (!range_fits(offset, sizeof(T), bytes.size())) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

Result<Elf64_Ehdr> read_header(std::span<const std::byte> kernel) {
  const auto header = read<Elf64_Ehdr>(kernel, 0);
  if (!header) return corrupt(fmt::format("{} bytes are less than a header", kernel.size()));
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_machine != EM_X86_64)
    return fail(
        Errc::unsupported,
        fmt::format("ELF: class {}, data {}, machine {}: kernels have to be of 64 bits, "
                    "little-endian, for x86-64",
                    header->e_ident[EI_CLASS], header->e_ident[EI_DATA], header->e_machine));
  if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
    return fail(Errc::unsupported,
                fmt::format("ELF: type {} is no program that can be run", header->e_type));
  return *header;
}

Result<std::vector<Elf64_Phdr>> read_program_headers(std::span<const std::byte> kernel,
                                                     const Elf64_Ehdr& header) {
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > max_program_headers)
    return corrupt(
        fmt::format("{} program headers of {} bytes; they have 56 bytes, and there are at most {}",
                    header.e_phnum, header.e_phentsize, max_program_headers));
  const uint64_t byte_count = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (!range_fits(header.e_phoff, byte_count, kernel.size()))
    return corrupt(fmt::format("{} program headers at {:#x} are past the file's end at {:#x}",
                               header.e_phnum, header.e_phoff, kernel.size()));
  std::vector<Elf64_Phdr> headers(header.e_phnum);
  std::ranges::copy(kernel.subspan(header.e_phoff, byte_count),
                    std::as_writable_bytes(std::span(headers)).begin());
  for (const Elf64_Phdr& found : headers)
    if ((found.p_type == PT_LOAD || found.p_type == PT_NOTE) &&
        !range_fits(found.p_offset, found.p_filesz, kernel.size()))
      return corrupt(fmt::format("a segment of {} bytes at {:#x} is past the file's end at {:#x}",
                                 found.p_filesz, found.p_offset, kernel.size()));
  return headers;
}

Result<ElfSegment> segment_of(const Elf64_Phdr& header) {
  if (header.p_filesz > header.p_memsz)
    return corrupt(fmt::format("the segment at {:#x} has {} bytes in the file and {} in memory",
                               header.p_paddr, header.p_filesz, header.p_memsz));
  const auto end = checked_add(header.p_paddr, header.p_memsz);
  if (!end || header.p_paddr < extended_memory_begin || *end > mmio_gap_begin)
    return corrupt(
        fmt::format("the segment of {} bytes at {:#x} does not lie between 1 MiB and "
                    "{:#x}, where a guest has RAM for it",
                    header.p_memsz, header.p_paddr, mmio_gap_begin));
  return ElfSegment{.place = {.begin = header.p_paddr, .end = *end},
                    .file_offset = header.p_offset,
                    .file_bytes = header.p_filesz};
}

Result<std::vector<ElfSegment>> segments_of(std::span<const Elf64_Phdr> headers) {
  std::vector<ElfSegment> segments;
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_LOAD || (header.p_memsz == 0 && header.p_filesz == 0)) continue;
    TRY_LET(const ElfSegment segment, segment_of(header));
    segments.push_back(segment);
  }
  if (segments.empty()) return corrupt("no segment is to be loaded");
  std::ranges::sort(segments, {}, [](const ElfSegment& segment) { return segment.place.begin; });
  for (size_t i = 1; i < segments.size(); ++i)
    if (segments[i].place.begin < segments[i - 1].place.end)
      return corrupt(fmt::format("the segments at {:#x} and {:#x} overlap",
                                 segments[i - 1].place.begin, segments[i].place.begin));
  return segments;
}

struct Note {
  uint32_t type = 0;
  std::string_view name;  // with its zero
  std::span<const std::byte> description;
};

// Takes the note at the front of what is left. System V ABI, "Note Section": name and description
// are each padded; in segments that are aligned so, to 8 bytes.
Result<Note> take_note(std::span<const std::byte>& rest, uint64_t alignment) {
  const auto header = read<Elf64_Nhdr>(rest, 0);
  if (!header) return corrupt(fmt::format("{} bytes of notes are less than one", rest.size()));
  const uint64_t description_offset = align_up(sizeof *header + header->n_namesz, alignment);
  if (!range_fits(sizeof *header, header->n_namesz, rest.size()) ||
      !range_fits(description_offset, header->n_descsz, rest.size()))
    return corrupt(fmt::format("a note with a name of {} and a description of {} bytes has only {}",
                               header->n_namesz, header->n_descsz, rest.size()));
  const auto name = rest.subspan(sizeof *header, header->n_namesz);
  const Note note{.type = header->n_type,
                  .name = {reinterpret_cast<const char*>(name.data()), name.size()},
                  .description = rest.subspan(description_offset, header->n_descsz)};
  // The last one may come without its padding.
  const uint64_t taken = align_up(description_offset + header->n_descsz, alignment);
  rest = rest.subspan(std::min<uint64_t>(taken, rest.size()));
  return note;
}

Result<uint64_t> pvh_entry_of(const Note& note) {
  const size_t byte_count = note.description.size();
  if (byte_count == sizeof(uint32_t)) return uint64_t{*read<uint32_t>(note.description, 0)};
  if (byte_count == sizeof(uint64_t)) return *read<uint64_t>(note.description, 0);
  return corrupt(fmt::format("the note with the PVH entry has {} bytes, not 4 or 8", byte_count));
}

// Nothing where the kernel has no such entry.
Result<std::optional<uint64_t>> find_pvh_entry(std::span<const std::byte> kernel,
                                               std::span<const Elf64_Phdr> headers) {
  constexpr std::string_view wanted_name(pvh::entry_note_name, sizeof pvh::entry_note_name);
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_NOTE) continue;
    if (header.p_filesz > max_note_bytes)
      return corrupt(fmt::format("{} bytes of notes; a kernel has less than {}", header.p_filesz,
                                 max_note_bytes));
    auto rest = kernel.subspan(header.p_offset, header.p_filesz);
    while (!rest.empty()) {
      TRY_LET(const Note note, take_note(rest, header.p_align == 8 ? 8 : 4));
      if (note.type != pvh::entry_note_type || note.name != wanted_name) continue;
      TRY_LET(const uint64_t entry, pvh_entry_of(note));
      return entry;
    }
  }
  return std::nullopt;
}

// Behind the last of what the headers speak of there may be more: what a kernel is packed with.
uint64_t byte_count_of(const Elf64_Ehdr& header, std::span<const Elf64_Phdr> program_headers,
                       uint64_t file_bytes) {
  uint64_t end = header.e_phoff + uint64_t{header.e_phnum} * header.e_phentsize;
  for (const Elf64_Phdr& found : program_headers)
    if (found.p_type == PT_LOAD || found.p_type == PT_NOTE)
      end = std::max(end, found.p_offset + found.p_filesz);
  const uint64_t sections_bytes = uint64_t{header.e_shnum} * header.e_shentsize;
  if (header.e_shnum > 0 && range_fits(header.e_shoff, sections_bytes, file_bytes))
    end = std::max(end, header.e_shoff + sections_bytes);
  return end;
}

// Without the zeroes at its end: memory that nobody has touched has them already, and takes no
// room.
std::span<const std::byte> without_zeroes(std::span<const std::byte> bytes) {
  const auto last = std::find_if(bytes.rbegin(), bytes.rend(),
                                 [](std::byte value) { return value != std::byte{0}; });
  return bytes.first(size_t(bytes.rend() - last));
}

}  // namespace

bool is_elf_file(std::span<const std::byte> file) {
  return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfFile> read_elf_file(std::span<const std::byte> file) {
  TRY_LET(const Elf64_Ehdr header, read_header(file));
  TRY_LET(const auto program_headers, read_program_headers(file, header));
  ElfFile elf{.segments = {}, .entry = header.e_entry, .pvh_entry = std::nullopt, .byte_count = 0};
  TRY_LET(elf.segments, segments_of(program_headers));
  TRY_LET(elf.pvh_entry, find_pvh_entry(file, program_headers));
  elf.byte_count = byte_count_of(header, program_headers, file.size());
  return elf;
}

Result<void> write_segments(GuestRam& ram, const ElfFile& elf, std::span<const std::byte> file,
                            uint64_t shift) {
  for (const ElfSegment& segment : elf.segments) {
    const auto bytes = file.subspan(segment.file_offset, segment.file_bytes);
    TRY(ram.write(segment.place.begin + shift, without_zeroes(bytes)));
  }
  return {};
}

bool move_segments(GuestRam& ram, const ElfFile& elf, std::span<std::byte> file, uint64_t shift) {
  for (const ElfSegment& segment : elf.segments) {
    const auto place =
        ram.range(segment.place.begin + shift, segment.place.end - segment.place.begin);
    const auto bytes = file.subspan(segment.file_offset, segment.file_bytes);
    // In the order of their addresses, and none of them upwards: what is overwritten has been
    // moved.
    if (place.empty() || bytes.data() < place.data()) return false;
    if (bytes.data() != place.data()) std::memmove(place.data(), bytes.data(), bytes.size());
    const std::byte* const dirty_end = file.data() + file.size();
    const auto zeroes = place.subspan(bytes.size());
    if (zeroes.data() < dirty_end)
      std::memset(zeroes.data(), 0, std::min(zeroes.size(), size_t(dirty_end - zeroes.data())));
  }
  return true;
}

Result<void> check_entry(const ElfFile& elf, uint64_t entry) {
  for (const ElfSegment& segment : elf.segments)
    if (segment.place.contains(entry)) return {};
  return corrupt(fmt::format("the entry point {:#x} is in no segment", entry));
}

}  // namespace vhdkit::hypervisor
