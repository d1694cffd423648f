#include "libvhd/resize.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "async/forwarding_file.h"
#include "disk/layered_disk.h"
#include "libvhd/check.h"
#include "libvhd/footer.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/byte_at.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

using tests::byte_at;
using tests::fill;

constexpr uint32_t dynamic = 3;

std::unique_ptr<disk::LayeredDisk> opened(const async::MemoryFile& file) {
  auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(file)));
  REQUIRE_OK(layer);
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(*layer));
  return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

// Of everything that the check finds.
std::string codes(async::MemoryFile& file) {
  disk::Findings findings;
  disk::BlockUsage usage;
  REQUIRE_OK(tests::await(check(file, findings, usage)));
  std::string text;
  for (const disk::Finding& finding : findings.kept())
    text += (text.empty() ? "" : " ") + finding.code;
  return text;
}

// Big-endian.
uint64_t value_at(const async::MemoryFile& file, uint64_t file_offset, size_t length) {
  std::vector<std::byte> bytes(length);
  file.fetch(file_offset, bytes);
  uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | uint64_t(byte);
  return value;
}

// Sector 4 is the first behind a BAT of one sector; the data begins one bitmap later.
constexpr uint64_t first_data = 5 * 512;

TEST_CASE("a disk grows in both footers and the header, its content stays") {
  tests::VhdImage image(dynamic, 4 * MiB - 512);
  image.place(1, 4);
  auto file = image.file();
  fill(*file, first_data, 2 * MiB, 7);  // with what lies behind the disk's end
  REQUIRE_OK(tests::await(resize(*file, 127 * 2 * MiB)));
  for (const uint64_t footer : {uint64_t{0}, file->size_bytes() - 512}) {
    CHECK(value_at(*file, footer + tests::vhd_footer::current_size, 8) == 254 * MiB);
    CHECK(value_at(*file, footer + tests::vhd_footer::original_size, 8) == 4 * MiB - 512);
    // Spec "Appendix: CHS Calculation", by hand: 520192 sectors, 17 a track, 30599 of those, 30
    // heads for at most 1024 cylinders are more than 16: 31 a track, 16 heads, 16780 / 16 is 1048,
    // too many: 63 a track, 8256 / 16.
    CHECK(value_at(*file, footer + tests::vhd_footer::cylinders, 2) == 516);
    CHECK(value_at(*file, footer + tests::vhd_footer::heads, 1) == 16);
    CHECK(value_at(*file, footer + tests::vhd_footer::sectors, 1) == 63);
  }
  CHECK(value_at(*file, 512 + tests::vhd_header::max_entries, 4) == 127);
  CHECK(value_at(*file, 512 + tests::vhd_header::table_offset, 8) == 1536);
  const auto disk = opened(*file);
  CHECK(byte_at(*disk, 4 * MiB - 513) == 7);
  CHECK(byte_at(*disk, 4 * MiB - 512) == 0);
  CHECK(byte_at(*disk, 254 * MiB - 1) == 0);
  CHECK(codes(*file) == "vhd-blocks-unaligned");
}

TEST_CASE("a BAT with a block behind it moves behind the content") {
  tests::VhdImage image(dynamic, 4 * MiB);
  image.place(1, 4);
  auto file = image.file();
  fill(*file, first_data, 2 * MiB, 7);
  REQUIRE_OK(tests::await(resize(*file, 2 * GiB)));  // 1024 entries have 8 sectors
  const uint64_t content_end = first_data + 2 * MiB;
  CHECK(value_at(*file, 512 + tests::vhd_header::table_offset, 8) == content_end + 512);
  CHECK(value_at(*file, 512 + tests::vhd_header::max_entries, 4) == 1024);
  CHECK(value_at(*file, content_end + 512 + 4, 4) == 4);
  CHECK(value_at(*file, content_end + 512 + 1023 * 4, 4) == 0xffffffff);
  CHECK(file->size_bytes() == content_end + 512 + 4096 + 512);
  const auto disk = opened(*file);
  CHECK(disk->geometry().size_bytes == 2 * GiB);
  CHECK(byte_at(*disk, 4 * MiB - 1) == 7);
  CHECK(byte_at(*disk, 2 * GiB - 1) == 0);
  CHECK(codes(*file) == "vhd-blocks-unaligned");
}

TEST_CASE("entries that nobody looked at are unused afterwards") {
  tests::VhdImage image(dynamic, 4 * MiB);
  image.place(1, 4);
  image.table.push_back(4);
  image.header.put(tests::vhd_header::max_entries, 4, 3);
  auto file = image.file();
  fill(*file, first_data, 2 * MiB, 7);
  REQUIRE_OK(tests::await(resize(*file, 6 * MiB)));
  CHECK(byte_at(*opened(*file), 5 * MiB) == 0);
  CHECK(codes(*file) == "vhd-blocks-unaligned");
}

TEST_CASE("a smaller disk gives its blocks back, and grown again it has zeroes there") {
  tests::VhdImage image(dynamic, 8 * MiB);
  image.place(0, 4).place(3, 4 + 4097);
  auto file = image.file();
  fill(*file, first_data, 2 * MiB, 7);
  fill(*file, first_data + 4097 * 512, 2 * MiB, 8);
  REQUIRE_OK(tests::await(resize(*file, 1 * MiB)));
  CHECK(file->size_bytes() == first_data + 2 * MiB + 512);
  CHECK(value_at(*file, 512 + tests::vhd_header::max_entries, 4) == 1);
  CHECK(codes(*file) == "vhd-blocks-unaligned");
  REQUIRE_OK(tests::await(resize(*file, 8 * MiB)));
  const auto disk = opened(*file);
  CHECK(byte_at(*disk, 1 * MiB - 1) == 7);
  CHECK(byte_at(*disk, 1 * MiB) == 0);
  CHECK(byte_at(*disk, 6 * MiB) == 0);
}

TEST_CASE("what a smaller disk has no more leaves the block that begins where the disk ended") {
  tests::VhdImage cut(dynamic, 3 * MiB);
  const uint64_t next_block = first_data + 1 * MiB;
  cut.place(1, 4).place(0, next_block / 512);
  auto file = cut.file();
  fill(*file, first_data, 1 * MiB, 7);
  fill(*file, next_block + 512, 2 * MiB, 8);
  REQUIRE_OK(tests::await(resize(*file, 2 * MiB + 512 * KiB)));
  const auto disk = opened(*file);
  for (const uint64_t disk_offset : {uint64_t{0}, 1 * MiB, 2 * MiB - 1})
    CHECK(byte_at(*disk, disk_offset) == 8);
  CHECK(byte_at(*disk, 2 * MiB + 512 * KiB - 1) == 7);
}

TEST_CASE("a block that lies where the header only counts entries keeps its bytes") {
  for (const uint64_t size : {2 * MiB, 10 * MiB, 2 * GiB, 400 * GiB}) {
    CAPTURE(size);
    tests::VhdImage image(dynamic, 8 * MiB);
    image.place(0, 4);
    image.header.put(tests::vhd_header::max_entries, 4, 3000);
    auto file = image.file();
    fill(*file, first_data, 2 * MiB, 7);
    REQUIRE_OK(tests::await(resize(*file, size)));
    const auto disk = opened(*file);
    for (const uint64_t disk_offset : {uint64_t{0}, 12 * KiB, 2 * MiB - 1})
      CHECK(byte_at(*disk, disk_offset) == 7);
    if (size > 2 * MiB) CHECK(byte_at(*disk, size - 1) == 0);
  }
}

TEST_CASE("where guests would see the geometry, the creator becomes one whose size counts") {
  tests::VhdImage image(dynamic, 4 * MiB);
  image.footer.put(tests::vhd_footer::creator, "qemu");
  image.footer.put(tests::vhd_footer::cylinders, 2, 120).put(tests::vhd_footer::heads, 1, 4);
  image.footer.put(tests::vhd_footer::sectors, 1, 17);
  auto file = image.file();
  REQUIRE_OK(tests::await(resize(*file, 9 * MiB)));
  CHECK(opened(*file)->geometry().size_bytes == 9 * MiB);
  CHECK(value_at(*file, tests::vhd_footer::creator, 4) == creator_of("win "));
}

// By who only asks too.
void check_refused(async::MemoryFile& file, uint64_t size_bytes, Errc code, const char* says) {
  const uint64_t writes = file.write_count();
  REQUIRE_FAILS(code, says, tests::await(check_resize(file, size_bytes)));
  REQUIRE_FAILS(code, says, tests::await(resize(file, size_bytes)));
  CHECK(file.write_count() == writes);
}

TEST_CASE("what cannot be resized in place is refused, and nothing changes") {
  tests::VhdImage in_sector(dynamic, 4 * MiB);
  in_sector.header_offset = 4096 + 256;
  in_sector.footer.put(tests::vhd_footer::data_offset, 8, in_sector.header_offset);
  in_sector.content_end = 8192;
  check_refused(*in_sector.file(), 8 * MiB, Errc::unsupported, "does not begin with a sector");

  tests::VhdImage with_map(dynamic, 4 * MiB);
  tests::VhdBytes map{std::vector<std::byte>(512)};
  map.put(0, "tdbatmap").put(8, 8, 4096).put(16, 4, 1);
  with_map.pieces.push_back({2048, map.bytes});
  with_map.content_end = 8192;
  for (const uint64_t size : {2 * MiB, 8 * MiB})
    check_refused(*with_map.file(), size, Errc::unsupported, "blktap's map");

  tests::VhdImage cut(dynamic, 4 * MiB - 1 * MiB);  // the next block begins where the disk ends
  cut.place(1, 4).place(0, 5 + 2048);
  const auto file = cut.file();
  check_refused(*file, 8 * MiB, Errc::unsupported, "has no room to grow");
  REQUIRE_OK(tests::await(check_resize(*file, 2 * MiB)));

  tests::VhdImage beyond(dynamic, 3 * MiB);  // so does a block of a larger disk
  beyond.header.put(tests::vhd_header::max_entries, 4, 3);
  beyond.table.resize(3, 0xffffffff);
  beyond.place(1, 4).place(2, 5 + 2048);
  check_refused(*beyond.file(), 8 * MiB, Errc::unsupported, "has no room to grow");

  for (const uint64_t size : {uint64_t{0}, 4 * MiB + 1, 2041 * GiB})
    check_refused(*file, size, Errc::invalid_argument, "a dynamic VHD has a multiple of 512");
}

TEST_CASE("a writer makes the copy what the tail says, before anything else") {
  tests::VhdImage image(dynamic, 4 * MiB);
  auto file = image.file();
  tests::VhdBytes other = image.footer;
  file->store(0, other.put(tests::vhd_footer::current_size, 8, 2 * MiB)
                     .seal(tests::vhd_footer::checksum)
                     .bytes);
  auto layer = tests::await(
      open_layer(std::make_unique<async::ForwardingFile>(*file), OpenOptions{.writable = true}));
  REQUIRE_OK(layer);
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(*layer));
  disk::LayeredDisk disk(std::move(layers));
  const std::vector<std::byte> bytes(512, std::byte{1});
  const std::span<const std::byte> view(bytes);
  REQUIRE_OK(tests::await(disk.write(0, view)));
  CHECK(value_at(*file, tests::vhd_footer::current_size, 8) == 4 * MiB);
}

}  // namespace
}  // namespace vhdkit::libvhd
