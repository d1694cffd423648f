#include "vmbus/gpa_ranges.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "vmbus/test_memory.h"

namespace vhdkit::vmbus {
namespace {

using Bytes = std::vector<std::byte>;

struct Range {
  uint32_t byte_count;
  uint32_t byte_offset;
  std::vector<uint64_t> pages;
};

Bytes descriptor_of(const std::vector<Range>& ranges) {
  Bytes bytes;
  const auto put = [&](uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) bytes.push_back(std::byte(value >> (8 * i)));
  };
  put(0, 4);
  put(ranges.size(), 4);
  for (const Range& range : ranges) {
    put(range.byte_count, 4);
    put(range.byte_offset, 4);
    for (const uint64_t page : range.pages) put(page, 8);
  }
  return bytes;
}

// Pages in one piece, as a partition has them.
class FlatMemory final : public GuestMemory {
 public:
  std::byte* page(uint64_t number) override {
    return number < 16 ? bytes_.data() + number * page_bytes : nullptr;
  }

 private:
  Bytes bytes_ = Bytes(16 * page_bytes);
};

TEST_CASE("a range is cut at its first and last page") {
  TestMemory memory(10);
  std::vector<iovec> parts;
  const auto total = append_gpa_ranges(
      memory, descriptor_of({{.byte_count = 8192, .byte_offset = 512, .pages = {3, 9, 1}}}),
      1 << 20, parts);
  REQUIRE_OK(total);
  CHECK(*total == 8192);
  REQUIRE(parts.size() == 3);
  CHECK(parts[0].iov_base == memory.page(3) + 512);
  CHECK(parts[0].iov_len == 3584);
  CHECK(parts[1].iov_base == memory.page(9));
  CHECK(parts[1].iov_len == 4096);
  CHECK(parts[2].iov_base == memory.page(1));
  CHECK(parts[2].iov_len == 512);
}

TEST_CASE("pages that lie side by side are one part, in several ranges too") {
  FlatMemory memory;
  std::vector<iovec> parts;
  const auto total =
      append_gpa_ranges(memory,
                        descriptor_of({{.byte_count = 8192, .byte_offset = 0, .pages = {3, 4}},
                                       {.byte_count = 100, .byte_offset = 0, .pages = {5}},
                                       {.byte_count = 0, .byte_offset = 0, .pages = {}},
                                       {.byte_count = 8, .byte_offset = 8, .pages = {5}}}),
                        1 << 20, parts);
  REQUIRE_OK(total);
  CHECK(*total == 8300);
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].iov_base == memory.page(3));
  CHECK(parts[0].iov_len == 8292);
  CHECK(parts[1].iov_base == memory.page(5) + 8);
}

TEST_CASE("ranges that contradict themselves or leave the RAM are refused") {
  TestMemory memory(10);
  const std::pair<std::vector<Range>, const char*> lies[] = {
      {{{4096, 4096, {1, 2}}}, "from 4096 on"},
      {{{4096, 1, {1}}}, "from 1 on"},
      {{{4096, 0, {}}}, "0 bytes of page numbers"},
      {{{4096, 0, {10}}}, "page 10 is none"},
      {{{4096, 0, {UINT64_MAX}}}, "is none of its RAM"},
      {{{1048577, 0, {1}}}, "more than 1048576 bytes"},
      {{{1048576, 0, {1}}}, "8 bytes of page numbers"},
      {{{0xffffffff, 0, {1}}}, "more than"},
  };
  for (const auto& [ranges, says] : lies) {
    CAPTURE(says);
    std::vector<iovec> parts;
    REQUIRE_FAILS(Errc::invalid_argument, says,
                  append_gpa_ranges(memory, descriptor_of(ranges), 1 << 20, parts));
  }
  const Bytes whole = descriptor_of({{4096, 0, {1}}, {4096, 0, {2}}});
  for (size_t length = 0; length < whole.size(); ++length) {
    std::vector<iovec> parts;
    CHECK_FALSE(append_gpa_ranges(memory, std::span(whole).first(length), 1 << 20, parts));
  }
}

}  // namespace
}  // namespace vhdkit::vmbus
