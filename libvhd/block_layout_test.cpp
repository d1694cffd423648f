#include "libvhd/block_layout.h"

#include <doctest/doctest.h>

#include "libvhd/used_space.h"

namespace vhdkit::libvhd {
namespace {

constexpr uint64_t content_end = 64 * MiB;

// 7 blocks of 2 MiB, the last of them one sector long; BAT at 0x600, a locator's data at 0x800.
BlockLayout layout(uint32_t max_entries = 7) {
  LocatedParent located;
  located.locator = {.index = 3, .data_space = 4, .data_length_bytes = 100, .data_offset = 0x800};
  located.path.emplace();
  return layout_of(12 * MiB + 512, 512, {.table_offset = 0x600, .max_table_entries = max_entries},
                   {located}, content_end);
}

TEST_CASE("a block's bitmap is padded to sectors") {
  struct {
    uint64_t block_bytes;
    uint64_t bitmap_bytes;
  } const cases[] = {{512 * KiB, 512}, {MiB, 512},         {2 * MiB, 512},
                     {4 * MiB, 1024},  {256 * MiB, 65536}, {2 * GiB, 512 * KiB}};
  for (const auto& test : cases) {
    CAPTURE(test.block_bytes);
    BlockLayout made;
    made.block_bytes = test.block_bytes;
    CHECK(made.bitmap_bytes() == test.bitmap_bytes);
  }
}

TEST_CASE("the last block holds what is left of the disk") {
  CHECK(layout().block_count() == 7);
  CHECK(layout().data_bytes(0) == 2 * MiB);
  CHECK(layout().data_bytes(5) == 2 * MiB);
  CHECK(layout().data_bytes(6) == 512);
}

TEST_CASE("a BAT that the file cuts off counts what is there") {
  const BlockLayout cut =
      layout_of(2040 * GiB, 512, {.table_offset = 0x600, .max_table_entries = 0xffffffff}, {},
                0x600 + 4 * 10 + 3);
  CHECK(cut.table_entries == 10);
  const BlockLayout none =
      layout_of(GiB, 512, {.table_offset = 0x600, .max_table_entries = 9}, {}, 0x600);
  CHECK(none.table_entries == 0);
}

TEST_CASE("bug class 7: a block may lie on nothing but itself and inside the content") {
  using Kind = EntryFault::Kind;
  constexpr uint32_t sectors = content_end / 512;
  struct {
    uint64_t block_index;
    uint32_t entry;
    std::optional<Kind> kind;
    std::string message;
  } const cases[] = {
      {0, 0, Kind::in_metadata,
       "sector 0x0 puts the block upon the copy of the footer (0x0 to 0x200)"},
      {0, 1, Kind::in_metadata,
       "sector 0x1 puts the block upon the dynamic disk header (0x200 to 0x600)"},
      {0, 2, Kind::in_metadata, "upon the dynamic disk header"},
      {0, 3, Kind::in_metadata, "sector 0x3 puts the block upon the BAT (0x600 to 0x61c)"},
      {0, 4, Kind::in_metadata, "upon the data of parent locator 3 (0x800 to 0x864)"},
      {0, 5, std::nullopt, ""},  // its padding may be used
      {0, sectors - 4097, std::nullopt, ""},
      {0, sectors - 4096, Kind::past_end,
       "sector 0x1f000 puts the block's end (0x4000200) past the end of the content (0x4000000)"},
      // Old QEMU ended the file with the disk's last sector.
      {6, sectors - 2, std::nullopt, ""},
      {6, sectors - 1, Kind::past_end, "past the end of the content"},
      {0, 0xfffffffe, Kind::past_end, "sector 0xfffffffe puts the block's end (0x200001ffe00)"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.entry);
    const auto fault = entry_fault(layout(), test.block_index, test.entry);
    REQUIRE(fault.has_value() == test.kind.has_value());
    if (!fault) continue;
    CHECK(fault->kind == *test.kind);
    CHECK(fault_text(layout(), test.block_index, test.entry, *fault).find(test.message) !=
          std::string::npos);
  }
}

TEST_CASE("what a BAT has beyond the disk's blocks is free for blocks") {
  // Table room 0x600 to 0x1000, of which 0x600 to 0x61c counts.
  BlockLayout long_table = layout(640);
  long_table.structures.pop_back();
  CHECK_FALSE(entry_fault(long_table, 0, 4).has_value());
  CHECK(entry_fault(long_table, 0, 3).has_value());
}

TEST_CASE("an entry's name says where it lies") {
  CHECK(entry_name(layout(), 5) == "BAT entry 5 at offset 0x614");
}

TEST_CASE("no more places are kept than fit into the file") {
  BlockPlaces places(layout());
  // 32 blocks of 2 MiB could begin at most; two more, and some overlap.
  for (uint32_t i = 0; i < 34; ++i) REQUIRE(places.add(i, 100 - i));
  CHECK_FALSE(places.add(34, 7));
  const auto& sorted = places.sorted();
  REQUIRE(sorted.size() == 34);
  CHECK(sorted.front().sector == 67);
  CHECK(sorted.front().block_index == 33);
  CHECK(sorted.back().sector == 100);
}

TEST_CASE("gaps up to padding are no unused space") {
  const auto unused = [](std::vector<UsedRange> used) {
    std::string text;
    for (const UsedRange& gap : unused_ranges(std::move(used), 1000000))
      text += std::to_string(gap.begin) + "-" + std::to_string(gap.end) + " ";
    return text;
  };
  CHECK(unused({{0, 1000000}}) == "");
  CHECK(unused({{0, 500000}, {508191, 1000000}}) == "");  // 8 KiB less one
  CHECK(unused({{508192, 1000000}, {0, 500000}}) == "500000-508192 ");
  CHECK(unused({{0, 10}, {0, 900000}, {20, 30}}) == "900000-1000000 ");
  CHECK(unused({}) == "0-1000000 ");
}

}  // namespace
}  // namespace vhdkit::libvhd
