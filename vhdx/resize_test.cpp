#include "vhdx/resize.h"

#include <doctest/doctest.h>

#include "async/forwarding_file.h"
#include "disk/layered_disk.h"
#include "disk/raw_layer.h"
#include "tests/support/await.h"
#include "tests/support/byte_at.h"
#include "tests/support/vhdx_check.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/block_layer.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

using tests::byte_at;
using tests::fill;

Result<void> resize_to(File& file, uint64_t size_bytes, uint64_t parent_bytes = 0) {
  const ResizeOptions options{.size_bytes = size_bytes, .parent_bytes = parent_bytes};
  return tests::await(resize(std::make_unique<async::ForwardingFile>(file), options));
}

std::unique_ptr<disk::LayeredDisk> opened(const async::MemoryFile& file,
                                          const async::MemoryFile* parent = nullptr) {
  auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(file), {}));
  REQUIRE_OK(layer);
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(*layer));
  if (parent != nullptr)
    layers.push_back(
        std::make_unique<disk::RawLayer>(std::make_unique<async::MemoryFile>(*parent)));
  return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

RegionTable regions_of(async::MemoryFile& file) {
  const auto headers = tests::await(read_headers(file));
  REQUIRE_OK(headers);
  const auto regions = tests::await(read_region_table(file, headers->current));
  REQUIRE_OK(regions);
  return *regions;
}

TEST_CASE("a disk grows and its content stays, old bytes behind its end do not come to light") {
  tests::VhdxImage image = tests::clean_image();
  image.metadata.disk_size_bytes = 2 * MiB - 64 * KiB;
  auto file = image.build();
  fill(*file, 4 * MiB, 2 * MiB, 7);  // blocks 0 and 1, with what lies behind the disk's end
  // An entry that nobody looks at yet, upon block 0.
  file->store(3 * MiB + 2 * sizeof(le64), bytes_of(le64(4 * MiB | 6)));
  REQUIRE_OK(resize_to(*file, 8 * MiB));
  const auto disk = opened(*file);
  CHECK(disk->geometry().size_bytes == 8 * MiB);
  CHECK(byte_at(*disk, 2 * MiB - 64 * KiB - 1) == 7);
  CHECK(byte_at(*disk, 2 * MiB - 64 * KiB) == 0);
  CHECK(byte_at(*disk, 2 * MiB) == 0);
  CHECK(tests::checked(*file).text() == "");
}

TEST_CASE("a BAT that gets too long moves behind the content, in both region tables") {
  auto file = tests::clean_image().build();
  fill(*file, 5 * MiB, 1 * MiB, 9);
  REQUIRE_OK(resize_to(*file, 256 * GiB));  // 2^18 blocks of 1 MiB: 2 MiB of entries and more
  const RegionTable regions = regions_of(*file);
  CHECK(regions.bat.file_offset == 6 * MiB);
  CHECK(regions.bat.length == 3 * MiB);
  CHECK(regions.metadata.file_offset == 2 * MiB);
  tests::Damaged copies(std::make_unique<async::MemoryFile>(*file));
  CHECK(copies.fetch(192 * KiB, 64 * KiB) == copies.fetch(256 * KiB, 64 * KiB));
  const auto disk = opened(*file);
  CHECK(disk->geometry().size_bytes == 256 * GiB);
  CHECK(byte_at(*disk, 1 * MiB) == 9);
  CHECK(byte_at(*disk, 200 * GiB) == 0);
  CHECK(tests::checked(*file).findings.count(disk::Severity::leak) == 0);
  CHECK(tests::checked(*file).findings.count(disk::Severity::corruption) == 0);
}

TEST_CASE("a smaller disk gives its blocks back and gets another identity") {
  auto file = tests::clean_image().build();
  fill(*file, 4 * MiB, 2 * MiB, 7);
  const auto identity = opened(*file)->layer(0).identity();
  REQUIRE_OK(resize_to(*file, 512 * KiB));
  CHECK(file->size_bytes() == 5 * MiB);
  CHECK(opened(*file)->layer(0).identity() != identity);
  CHECK(tests::checked(*file).text() == "");
  REQUIRE_OK(resize_to(*file, 8 * MiB));
  const auto disk = opened(*file);
  CHECK(byte_at(*disk, 512 * KiB - 1) == 7);
  CHECK(byte_at(*disk, 512 * KiB) == 0);
  CHECK(byte_at(*disk, 1 * MiB) == 0);
}

TEST_CASE("a smaller child gives back the sector bitmap blocks of chunks behind its end") {
  tests::VhdxImage image;
  image.make_differencing();
  image.metadata.disk_size_bytes = 8 * GiB;  // two chunks of 4096 blocks
  image.entries = {{0, 4 * MiB | 7}, {4096, 5 * MiB | 6}, {4097, 7 * MiB | 7}, {8193, 6 * MiB | 6}};
  image.file_bytes = 8 * MiB;
  auto file = image.build();
  for (const uint64_t bitmap : {5 * MiB, 6 * MiB}) fill(*file, bitmap, 1, 1);
  REQUIRE_OK(resize_to(*file, 1 * GiB));
  CHECK(file->size_bytes() == 6 * MiB);
  CHECK(tests::checked(*file).text() == "");
}

TEST_CASE("a smaller disk's file is not cut off under a place that a block keeps") {
  tests::VhdxImage image = tests::clean_image();
  image.metadata.disk_size_bytes = 8 * MiB;
  auto file = image.build();
  file->store(3 * MiB + 1 * sizeof(le64), bytes_of(le64(7 * MiB | 3)));  // unmapped
  REQUIRE_OK(file->resize(8 * MiB));
  REQUIRE_OK(resize_to(*file, 4 * MiB));
  CHECK(file->size_bytes() == 8 * MiB);
  CHECK(tests::checked(*file).text().find("kept-place") == std::string::npos);
}

TEST_CASE("growing keeps the identity: no child sees it") {
  auto file = tests::clean_image().build();
  const auto identity = opened(*file)->layer(0).identity();
  REQUIRE_OK(resize_to(*file, 9 * MiB));
  CHECK(opened(*file)->layer(0).identity() == identity);
}

TEST_CASE("whoever cuts off what no child sees keeps the identity") {
  auto file = tests::clean_image().build();
  fill(*file, 4 * MiB, 2 * MiB, 7);
  const auto identity = opened(*file)->layer(0).identity();
  const ResizeOptions options{.size_bytes = 512 * KiB, .keep_identity = true};
  REQUIRE_OK(tests::await(resize(std::make_unique<async::ForwardingFile>(*file), options)));
  const auto disk = opened(*file);
  CHECK(disk->geometry().size_bytes == 512 * KiB);
  CHECK(disk->layer(0).identity() == identity);
  CHECK(byte_at(*disk, 512 * KiB - 1) == 7);
  CHECK(tests::checked(*file).text() == "");
}

TEST_CASE("a child that grows shows zeroes where its parent has something") {
  tests::VhdxImage image;
  image.make_differencing();
  image.metadata.disk_size_bytes = 2 * MiB + 512 * KiB;
  image.file_bytes = 4 * MiB;
  auto file = image.build();
  async::MemoryFile parent("base.raw");
  fill(parent, 0, 8 * MiB - 4 * KiB, 3);
  REQUIRE_OK(resize_to(*file, 10 * MiB, parent.size_bytes()));
  const auto disk = opened(*file, &parent);
  CHECK(byte_at(*disk, 2 * MiB + 512 * KiB - 1) == 3);
  for (const uint64_t at : {2 * MiB + 512 * KiB, 3 * MiB, 7 * MiB, 8 * MiB - 8 * KiB, 9 * MiB})
    CHECK(byte_at(*disk, at) == 0);
  CHECK(tests::checked(*file).findings.count(disk::Severity::corruption) == 0);
}

TEST_CASE("a fixed disk has all its blocks afterwards") {
  tests::VhdxImage image;
  image.metadata.leave_blocks_allocated = true;
  image.metadata.disk_size_bytes = 2 * MiB - 512;
  image.entries = {{0, 4 * MiB | 6}, {1, 5 * MiB | 6}};
  image.file_bytes = 6 * MiB - 512;  // as QEMU makes them
  auto file = image.build();
  fill(*file, 4 * MiB, 2 * MiB - 512, 7);
  REQUIRE_OK(resize_to(*file, 5 * MiB));
  const auto disk = opened(*file);
  disk::ExtentList extents;
  REQUIRE_OK(tests::await(disk->extents(0, 5 * MiB, extents)));
  for (const disk::Extent& extent : extents) CHECK(extent.kind == disk::ExtentKind::data);
  CHECK(byte_at(*disk, 2 * MiB - 513) == 7);
  CHECK(byte_at(*disk, 2 * MiB - 512) == 0);
  CHECK(byte_at(*disk, 5 * MiB - 1) == 0);
  CHECK(tests::checked(*file).text() == "");
}

// [MS-VHDX] 2.6.2.1: the file is never shorter than what all its blocks would take.
TEST_CASE("a fixed disk's blocks that have no place keep room for one") {
  tests::VhdxImage image;
  image.metadata.leave_blocks_allocated = true;
  image.metadata.disk_size_bytes = 4 * MiB;
  image.entries = {{0, 4 * MiB | 6}, {3, 5 * MiB | 6}};
  image.file_bytes = 8 * MiB;
  const char* const absent = "note fixed-block-absent 0x300000, note spare-space ";
  auto larger = image.build();
  REQUIRE_OK(resize_to(*larger, 6 * MiB));
  CHECK(larger->size_bytes() == 10 * MiB);
  CHECK(tests::checked(*larger).text() == std::string(absent) + "0x600000");
  auto smaller = image.build();
  REQUIRE_OK(resize_to(*smaller, 3 * MiB));
  CHECK(smaller->size_bytes() == 7 * MiB);
  CHECK(tests::checked(*smaller).text() == std::string(absent) + "0x500000");
}

TEST_CASE("a last block that old QEMU cut off, with another behind it, cannot grow") {
  tests::VhdxImage image;
  image.metadata.block_size_bytes = 2 * MiB;
  image.metadata.disk_size_bytes = 5 * MiB;  // the last block has 1 MiB
  image.entries = {{0, 5 * MiB | 6}, {2, 4 * MiB | 6}};
  image.file_bytes = 7 * MiB;
  auto file = image.build();
  const uint64_t writes = file->write_count();
  REQUIRE_FAILS(Errc::unsupported, "has no room to grow", resize_to(*file, 6 * MiB));
  // So much that the BAT would get another place.
  REQUIRE_FAILS(Errc::unsupported, "has no room to grow", resize_to(*file, 2 * TiB));
  CHECK(file->write_count() == writes);
  CHECK(file->size_bytes() == 7 * MiB);
  CHECK(opened(*file)->geometry().size_bytes == 5 * MiB);
  CHECK(tests::checked(*file).findings.count(disk::Severity::corruption) == 0);
}

TEST_CASE("sizes that a VHDX cannot have change nothing") {
  auto file = tests::clean_image().build();
  const uint64_t writes = file->write_count();
  for (const uint64_t size : {uint64_t{0}, 8 * MiB + 1, 64 * TiB + 512})
    REQUIRE_FAILS(Errc::invalid_argument, "must be a multiple of the logical sector",
                  resize_to(*file, size));
  REQUIRE_OK(resize_to(*file, 8 * MiB));
  CHECK(file->write_count() == writes);
}

TEST_CASE("a log that is too short refuses before anything is written") {
  tests::VhdxImage image = tests::clean_image();
  image.header.log_length = 0;
  auto file = image.build();
  const uint64_t writes = file->write_count();
  REQUIRE_FAILS(Errc::unsupported, "is too short to change the image", resize_to(*file, 9 * MiB));
  CHECK(file->write_count() == writes);
}

}  // namespace
}  // namespace vhdkit::vhdx
