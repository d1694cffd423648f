// Whatever single bit of an image's structures is wrong, the image is refused, reported or read
// inside its file.
#include "tests/support/bit_flips.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/check.h"
#include "vhdx/log.h"
#include "vhdx/test_log.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using testing::sector_of;
using tests::await;
using tests::flip_each_byte;
using tests::FlipRange;
using tests::VhdxImage;

uint64_t finding_count(MemoryFile& file) { return tests::finding_count(file, check); }

void require_inside_file(MemoryFile file) {
  tests::require_inside_file(await(open_layer(std::make_unique<MemoryFile>(std::move(file)), {})));
}

// Block 0 partially present, block 1 whole, the bitmap block behind them.
VhdxImage differencing_image() {
  VhdxImage image;
  image.make_differencing();
  const uint64_t bitmap_index = 4096;  // a chunk has 2^23 sectors: 4096 blocks of 1 MiB
  image.entries = {{0, make_bat_entry(BlockState::partially_present, 4 * MiB)},
                   {1, make_bat_entry(BlockState::fully_present, 5 * MiB)},
                   {bitmap_index, make_bat_entry(BlockState::fully_present, 6 * MiB)}};
  image.file_bytes = 7 * MiB;
  return image;
}

void flip_quietly(const MemoryFile& whole, const FlipRange& range) {
  CAPTURE(range.structure);
  flip_each_byte(whole, range, [](MemoryFile damaged, uint64_t at) {
    CAPTURE(at);
    finding_count(damaged);
    require_inside_file(std::move(damaged));
  });
}

TEST_CASE("a flipped bit of what a checksum covers is reported") {
  VhdxImage image;
  image.entries = {{0, make_bat_entry(BlockState::fully_present, 4 * MiB)}};
  image.file_bytes = 5 * MiB;
  const auto whole = image.build();
  REQUIRE(finding_count(*whole) == 0);
  const FlipRange ranges[] = {
      {.structure = "signature", .file_offset = 0, .length = 8},
      {.structure = "header 1", .file_offset = header_offsets[0], .length = 80},
      {.structure = "header 2", .file_offset = header_offsets[1], .length = 80},
      {.structure = "header 1's reserved bytes",
       .file_offset = header_offsets[0],
       .length = 4 * KiB,
       .step = 13},
      {.structure = "header 2's reserved bytes",
       .file_offset = header_offsets[1],
       .length = 4 * KiB,
       .step = 13},
      {.structure = "region table 1", .file_offset = region_table_offsets[0], .length = 96},
      {.structure = "region table 2", .file_offset = region_table_offsets[1], .length = 96},
      {.structure = "region table 1's reserved bytes",
       .file_offset = region_table_offsets[0],
       .length = 64 * KiB,
       .step = 61},
      {.structure = "region table 2's reserved bytes",
       .file_offset = region_table_offsets[1],
       .length = 64 * KiB,
       .step = 61},
  };
  for (const FlipRange& range : ranges) {
    CAPTURE(range.structure);
    flip_each_byte(*whole, range, [](MemoryFile damaged, uint64_t at) {
      CAPTURE(at);
      CHECK(finding_count(damaged) > 0);
      require_inside_file(std::move(damaged));
    });
  }
}

TEST_CASE("a flipped bit of metadata, BAT or sector bitmap leads nowhere outside the file") {
  const auto whole = differencing_image().build();
  const uint64_t items = VhdxImage::metadata_offset + metadata_table_bytes;
  flip_quietly(*whole, {"creator", 8, 512});
  flip_quietly(*whole, {"metadata table", VhdxImage::metadata_offset, 32 * 8});
  flip_quietly(*whole, {"metadata items", items, 512});
  flip_quietly(*whole, {"BAT, payload blocks", VhdxImage::bat_offset, 10 * 8});
  flip_quietly(*whole, {"BAT, bitmap block", VhdxImage::bat_offset + 4096 * 8, 8});
  flip_quietly(*whole, {"sector bitmap", 6 * MiB, 2 * KiB});
}

TEST_CASE("a flipped bit of the log makes an entry void, never another entry") {
  VhdxImage image = differencing_image();
  image.header.log_guid = testing::log_guid;
  auto whole = image.build();
  testing::TestEntry first{
      .sequence_number = 11, .flushed_file_offset = 7 * MiB, .last_file_offset = 7 * MiB};
  first.data(6 * MiB, sector_of(1)).zero(6 * MiB + 4 * KiB, 8 * KiB);
  testing::TestEntry head = first;
  head.sequence_number = 12;
  head.data(6 * MiB + 16 * KiB, sector_of(2));
  const auto first_bytes = first.bytes();
  const auto head_bytes = head.bytes();
  whole->store(1 * MiB, first_bytes);
  whole->store(1 * MiB + first_bytes.size(), head_bytes);

  const auto head_of = [](MemoryFile damaged) -> uint64_t {
    const auto headers = await(read_headers(damaged));
    REQUIRE_OK(headers);
    const auto log = await(read_log(damaged, headers->current));
    REQUIRE_OK(log);
    if (!log->has_active_sequence()) return 0;
    return log->head().sequence_number;
  };
  REQUIRE(head_of(*whole) == 12);
  // A checksum covers an entry whole, so of its many bytes some are enough.
  const FlipRange first_range{"first entry", 1 * MiB, first_bytes.size(), 17};
  flip_quietly(*whole, {"header and descriptors", 1 * MiB, 64 + 2 * 32});
  flip_each_byte(*whole, first_range, [&](MemoryFile damaged, uint64_t at) {
    CAPTURE(at);
    CHECK(head_of(damaged) == 0);  // the head's tail is the first entry
    finding_count(damaged);
    require_inside_file(std::move(damaged));
  });
  const FlipRange head_range{"head", 1 * MiB + first_bytes.size(), head_bytes.size(), 17};
  flip_each_byte(*whole, head_range, [&](MemoryFile damaged, uint64_t at) {
    CAPTURE(at);
    CHECK(head_of(damaged) == 11);
    finding_count(damaged);
    require_inside_file(std::move(damaged));
  });
}

}  // namespace
}  // namespace vhdkit::vhdx
