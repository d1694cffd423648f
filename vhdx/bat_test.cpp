#include "vhdx/bat.h"

#include <doctest/doctest.h>

namespace vhdkit::vhdx {
namespace {

// [MS-VHDX] 2.5: chunk ratio = 2^23 * logical sector size / block size.
TEST_CASE("bug class 6: the chunk ratio follows the logical sector size") {
  struct Case {
    uint64_t block_bytes;
    uint64_t sector_bytes;
    uint64_t ratio;
  };
  const Case cases[] = {
      {1 * MiB, 512, 4096},   {2 * MiB, 512, 2048},   {32 * MiB, 512, 128},   {256 * MiB, 512, 16},
      {1 * MiB, 4096, 32768}, {32 * MiB, 4096, 1024}, {256 * MiB, 4096, 128},
  };
  for (const Case& test : cases) {
    const BatLayout layout{.disk_bytes = 64 * TiB,
                           .block_bytes = test.block_bytes,
                           .logical_sector_bytes = test.sector_bytes};
    CHECK(layout.chunk_ratio() == test.ratio);
    CHECK(layout.chunk_bytes() == test.ratio * test.block_bytes);
  }
}

// [MS-VHDX] 2.5: a disk without parent needs Ceil(blocks) + Fl((blocks - 1) / ratio) entries, a
// differencing one Ceil(blocks / ratio) * (ratio + 1).
TEST_CASE("bug classes 14 and 15: the BAT has exactly the entries of the disk") {
  struct Case {
    uint64_t disk_bytes;
    uint64_t block_bytes;
    uint64_t blocks;
    uint64_t entries;
    uint64_t child_entries;
  };
  const Case cases[] = {
      {0, 1 * MiB, 0, 0, 0},
      {512, 1 * MiB, 1, 1, 4097},
      {1 * MiB, 1 * MiB, 1, 1, 4097},
      {1 * MiB + 512, 1 * MiB, 2, 2, 4097},
      {4 * GiB - 512, 1 * MiB, 4096, 4096, 4097},
      {4 * GiB, 1 * MiB, 4096, 4096, 4097},
      {4 * GiB + 512, 1 * MiB, 4097, 4098, 8194},
      {10 * GiB, 32 * MiB, 320, 322, 387},
      {64 * TiB, 1 * MiB, 67108864, 67125247, 67125248},
      {64 * TiB, 256 * MiB, 262144, 278527, 278528},
  };
  for (const Case& test : cases) {
    CAPTURE(test.disk_bytes);
    BatLayout layout{.disk_bytes = test.disk_bytes, .block_bytes = test.block_bytes};
    CHECK(layout.payload_block_count() == test.blocks);
    CHECK(layout.entry_count() == test.entries);
    layout.has_parent = true;
    CHECK(layout.entry_count() == test.child_entries);
  }
}

TEST_CASE("a bitmap entry follows each chunk's payload entries") {
  const BatLayout layout{.disk_bytes = 16 * GiB, .block_bytes = 256 * MiB, .has_parent = true};
  CHECK(layout.payload_index(15) == 15);
  CHECK(layout.bitmap_index(0) == 16);
  CHECK(layout.payload_index(16) == 17);
  CHECK(layout.payload_index(63) == 66);
  CHECK(layout.bitmap_index(3) == 67);
  CHECK(layout.entry_count() == 68);
  for (uint64_t block = 0; block < 64; ++block) {
    CHECK_FALSE(layout.is_bitmap_index(layout.payload_index(block)));
    CHECK(layout.block_of(layout.payload_index(block)) == block);
  }
  for (uint64_t chunk = 0; chunk < 4; ++chunk)
    CHECK(layout.is_bitmap_index(layout.bitmap_index(chunk)));
  CHECK(entry_name(layout, 17) == "payload block 16 (BAT entry 17)");
  CHECK(entry_name(layout, 67) == "sector bitmap block 3 (BAT entry 67)");
}

TEST_CASE("the last block has the bytes that lie inside the disk") {
  const BatLayout layout{.disk_bytes = 5 * MiB + 512, .block_bytes = 2 * MiB};
  CHECK(layout.data_bytes(0) == 2 * MiB);
  CHECK(layout.data_bytes(2) == 1 * MiB + 512);
}

}  // namespace
}  // namespace vhdkit::vhdx
