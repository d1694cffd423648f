#include "hypervisor/bios/memory_services.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "hypervisor/bios/low_memory.h"
#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint16_t range_function = 0xe820;  // AX
constexpr uint16_t sizes_function = 0xe801;
constexpr uint8_t move_function = 0x87;  // AH
constexpr uint8_t extended_size_function = 0x88;

constexpr uint32_t map_signature = 0x534d'4150;  // "SMAP"

// ACPI 6.5, table 15.5 "INT 15H Address Range Descriptor Structure".
struct RangeDescriptor {
  le64 address;
  le64 byte_count;
  le32 type;  // MemoryType
};
static_assert(OnDisk<RangeDescriptor> && sizeof(RangeDescriptor) == 20);

constexpr uint64_t first_part_end = 16 * MiB;
// RBIL, "INT 15/AH=88h": more than this is not told there.
constexpr uint64_t most_extended_kib = 0xfc00;

// RBIL, table 00499 "Global Descriptor Table" of AH=87h: the third and the fourth descriptor.
struct Descriptor {
  le16 limit;
  le16 base_low;
  uint8_t base_middle;
  uint8_t access;
  uint8_t limit_high;
  uint8_t base_high;

  uint64_t base() const {
    return base_low | uint64_t{base_middle} << 16 | uint64_t{base_high} << 24;
  }
};
static_assert(OnDisk<Descriptor> && sizeof(Descriptor) == 8);
constexpr uint64_t source_offset = 0x10;
constexpr uint64_t target_offset = 0x18;
constexpr uint16_t most_words = 0x8000;
constexpr uint8_t move_failed = 0x02;  // AH: an exception

}  // namespace

MemoryServices::MemoryServices(GuestRam& ram)
    : ram_(ram), map_(bios_memory_map(ram)), low_end_(ram.regions().front().end()) {}

void MemoryServices::answer_size(BiosCall& call) const {
  const auto kib = load<le16>(ram_.range(bios_data::memory_kib, sizeof(le16)));
  set_word(call.eax, kib ? uint16_t(*kib) : 0);
}

bool MemoryServices::answer(BiosCall& call) {
  if (call.ax() == range_function) {
    tell_range(call);
  } else if (call.ax() == sizes_function) {
    tell_sizes(call);
  } else if (call.ah() == move_function) {
    move_block(call);
  } else if (call.ah() == extended_size_function) {
    tell_extended_size(call);
  } else {
    return false;
  }
  return true;
}

// EBX: which range, answered with the next one's number, or 0 at the last. ES:DI: a buffer of ECX
// bytes. ACPI 6.5, 15.1 "INT 15H, E820H - Query System Address Map".
void MemoryServices::tell_range(BiosCall& call) {
  const bool is_asked_well = call.edx == map_signature && call.ecx >= sizeof(RangeDescriptor);
  if (!is_asked_well || call.ebx >= map_.size()) return call.refuse();
  const MemoryRange& range = map_[call.ebx];
  const RangeDescriptor descriptor{.address = range.address,
                                   .byte_count = range.byte_count,
                                   .type = std::to_underlying(range.type)};
  if (!ram_.write(real_mode_address(call.es, call.di()), bytes_of(descriptor)))
    return call.refuse();
  call.eax = map_signature;
  call.ecx = sizeof descriptor;
  call.ebx = call.ebx + 1 < map_.size() ? call.ebx + 1 : 0;
  call.set_carry(false);
}

// AX, CX: KiB from 1 to 16 MiB; BX, DX: what lies above, in 64 KiB.
void MemoryServices::tell_sizes(BiosCall& call) const {
  const auto kib = uint16_t((std::min(low_end_, first_part_end) - extended_memory_begin) / KiB);
  const auto blocks = uint16_t((std::max(low_end_, first_part_end) - first_part_end) / (64 * KiB));
  set_word(call.eax, kib);
  set_word(call.ecx, kib);
  set_word(call.ebx, blocks);
  set_word(call.edx, blocks);
  call.set_carry(false);
}

void MemoryServices::tell_extended_size(BiosCall& call) const {
  const uint64_t kib = (low_end_ - extended_memory_begin) / KiB;
  set_word(call.eax, uint16_t(std::min(kib, most_extended_kib)));
  call.set_carry(false);
}

// CX words; ES:SI: a table of segments, the source's and the target's among them. Of them only the
// bases count: limits are for the processor, and memory is looked at here.
void MemoryServices::move_block(BiosCall& call) {
  const uint64_t table = real_mode_address(call.es, call.si());
  const auto source = load<Descriptor>(ram_.range(table + source_offset, sizeof(Descriptor)));
  const auto target = load<Descriptor>(ram_.range(table + target_offset, sizeof(Descriptor)));
  const size_t byte_count = size_t{call.cx()} * 2;
  bool is_moved = source && target && call.cx() <= most_words;
  if (is_moved && byte_count > 0) {
    const auto from = ram_.range(source->base(), byte_count);
    const auto to = ram_.range(target->base(), byte_count);
    is_moved = !from.empty() && !to.empty();
    if (is_moved) std::memmove(to.data(), from.data(), byte_count);
  }
  set_high_byte(call.eax, is_moved ? 0 : move_failed);
  call.set_carry(!is_moved);
  call.set_zero(is_moved);
}

}  // namespace vhdkit::hypervisor
