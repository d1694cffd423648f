#include "hypervisor/boot/relocations.h"

#include <algorithm>
#include <cstring>

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

// Documentation/arch/x86/x86_64/mm.rst: "kernel text mapping, mapped to physical address 0".
constexpr uint64_t text_mapping = 0xffff'ffff'8000'0000;

// Where the file has the bytes at a virtual address.
class Places {
 public:
  Places(std::span<std::byte> file, const ElfFile& elf) : file_(file), elf_(elf) {}

  std::byte* find(int32_t low_address, size_t byte_count) const {
    const uint64_t address = uint64_t(int64_t{low_address}) - text_mapping;
    for (const ElfSegment& segment : elf_.segments) {
      if (!segment.place.contains(address)) continue;
      const uint64_t offset = address - segment.place.begin;
      if (!range_fits(offset, byte_count, segment.file_bytes)) return nullptr;
      return file_.data() + segment.file_offset + offset;
    }
    return nullptr;
  }

 private:
  std::span<std::byte> file_;
  const ElfFile& elf_;
};

template <class Number>
bool add(const Places& places, std::span<const int32_t> addresses, Number distance) {
  return std::ranges::all_of(addresses, [&](int32_t address) {
    std::byte* const place = places.find(address, sizeof(Number));
    if (place == nullptr) return false;
    Number value;
    std::memcpy(&value, place, sizeof value);
    value += distance;
    std::memcpy(place, &value, sizeof value);
    return true;
  });
}

// Takes the zero and the list behind it. REQUIRES: words begin with zero.
std::vector<int32_t> take_list(std::span<const int32_t>& words) {
  words = words.subspan(1);
  const auto end = std::ranges::find(words, 0);
  std::vector<int32_t> list(words.begin(), end);
  words = words.subspan(list.size());
  return list;
}

}  // namespace

std::optional<Relocations> read_relocations(std::span<const std::byte> table) {
  if (table.empty()) return Relocations{};
  if (table.size() % sizeof(int32_t) != 0) return std::nullopt;
  std::vector<int32_t> words(table.size() / sizeof(int32_t));
  std::memcpy(words.data(), table.data(), table.size());
  const auto list_count = std::ranges::count(words, 0);
  if (words.front() != 0 || list_count < 2 || list_count > 3) return std::nullopt;
  std::span<const int32_t> rest(words);
  Relocations relocations;
  relocations.added_64 = take_list(rest);
  if (list_count == 3) relocations.subtracted_32 = take_list(rest);
  relocations.added_32 = take_list(rest);
  return relocations;
}

bool relocate(std::span<std::byte> file, const ElfFile& elf, const Relocations& relocations,
              uint64_t distance) {
  const Places places(file, elf);
  return add(places, relocations.added_64, distance) &&
         add(places, relocations.subtracted_32, uint32_t(0 - distance)) &&
         add(places, relocations.added_32, uint32_t(distance));
}

}  // namespace vhdkit::hypervisor
