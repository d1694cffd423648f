#include "vmbus/gpa_ranges.h"

#include <algorithm>
#include <string>

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::vmbus {
namespace {

// Linux's include/linux/hyperv.h, vmdata_gpa_direct and gpa_range. Little-endian.
struct ListHeader {
  le32 reserved;
  le32 range_count;
};
static_assert(OnDisk<ListHeader> && sizeof(ListHeader) == 8);

struct RangeHeader {
  le32 byte_count;
  le32 byte_offset;  // in the first page
};
static_assert(OnDisk<RangeHeader> && sizeof(RangeHeader) == 8);

std::unexpected<Error> refuse(const std::string& what) {
  return fail(Errc::invalid_argument, "GPA-direct packet: " + what);
}

void append(std::vector<iovec>& parts, std::byte* start, size_t length) {
  if (!parts.empty()) {
    iovec& last = parts.back();
    if (static_cast<std::byte*>(last.iov_base) + last.iov_len == start) {
      last.iov_len += length;
      return;
    }
  }
  parts.push_back({.iov_base = start, .iov_len = length});
}

// The numbers of the pages follow at the beginning of rest, which is moved behind them.
Result<void> append_range(GuestMemory& memory, const RangeHeader& range,
                          std::span<const std::byte>& rest, std::vector<iovec>& parts) {
  uint64_t in_page = range.byte_offset;
  uint64_t length = range.byte_count;
  const uint64_t page_count = ceil_div(in_page + length, GuestMemory::page_bytes);
  if (in_page >= GuestMemory::page_bytes || page_count > rest.size() / sizeof(le64))
    return refuse("a range of " + std::to_string(length) + " bytes from " +
                  std::to_string(in_page) + " on, with " + std::to_string(rest.size()) +
                  " bytes of page numbers behind it");
  for (uint64_t i = 0; i < page_count; ++i) {
    const uint64_t number = *load<le64>(rest, i * sizeof(le64));
    std::byte* const page = memory.page(number);
    if (page == nullptr) return refuse("page " + std::to_string(number) + " is none of its RAM");
    const uint64_t count = std::min(length, GuestMemory::page_bytes - in_page);
    append(parts, page + in_page, count);
    length -= count;
    in_page = 0;
  }
  rest = rest.subspan(page_count * sizeof(le64));
  return {};
}

}  // namespace

Result<uint64_t> append_gpa_ranges(GuestMemory& memory, std::span<const std::byte> descriptor,
                                   uint64_t max_bytes, std::vector<iovec>& parts) {
  const auto header = load<ListHeader>(descriptor);
  if (!header) return refuse("its descriptor is cut off");
  std::span rest = descriptor.subspan(sizeof(ListHeader));
  uint64_t total = 0;
  for (uint32_t i = 0; i < header->range_count; ++i) {
    const auto range = load<RangeHeader>(rest);
    if (!range) return refuse("range " + std::to_string(i) + " is cut off");
    total += range->byte_count;
    if (total > max_bytes)
      return refuse("its ranges have more than " + std::to_string(max_bytes) + " bytes");
    rest = rest.subspan(sizeof(RangeHeader));
    TRY(append_range(memory, *range, rest, parts));
  }
  return total;
}

}  // namespace vhdkit::vmbus
