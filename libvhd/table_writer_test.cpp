#include "libvhd/table_writer.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "async/forwarding_file.h"
#include "async/sim_file.h"
#include "async/task_group.h"
#include "disk/layered_disk.h"
#include "libvhd/check.h"
#include "libvhd/create.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

namespace footer_at = tests::vhd_footer;
namespace header_at = tests::vhd_header;
using tests::await;
using tests::vhd_dynamic;
using tests::VhdImage;

constexpr uint32_t place_sectors = 1 + 4096;  // of a block of 2 MiB with its bitmap

Async<std::unique_ptr<disk::LayeredDisk>> open_for_writing(File& file) {
  std::vector<std::unique_ptr<disk::Layer>> layers(1);
  auto view = std::make_unique<async::ForwardingFile>(file);
  const OpenOptions options{.writable = true};
  CO_TRY_LET(layers[0], co_await open_layer(std::move(view), options));
  co_return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

// A session that ends well.
Async<void> write_at(File& file, std::vector<uint64_t> disk_offsets) {
  CO_TRY_LET(const auto disk, co_await open_for_writing(file));
  const std::vector<std::byte> bytes(512, std::byte{0xab});
  const std::span<const std::byte> view(bytes);
  for (const uint64_t disk_offset : disk_offsets) CO_TRY(co_await disk->write(disk_offset, view));
  co_return co_await disk->close();
}

std::vector<std::byte> bytes_at(const async::MemoryFile& file, uint64_t begin, uint64_t length) {
  REQUIRE(begin + length <= file.size_bytes());
  std::vector<std::byte> bytes(length);
  file.fetch(begin, bytes);
  return bytes;
}

// The block's entry, bitmap and data are what the image has there, and lie before the footer.
void check_kept(const VhdImage& image, uint32_t block, const async::MemoryFile& file) {
  const uint64_t begin = uint64_t{image.table.at(block)} * 512;
  const uint64_t length = uint64_t{place_sectors} * 512;
  tests::VhdBytes entry{std::vector<std::byte>(4)};
  entry.put(0, 4, image.table.at(block));
  CHECK(bytes_at(file, image.table_offset + block * 4, 4) == entry.bytes);
  CHECK(begin + length + 512 <= file.size_bytes());
  const auto bitmap = bytes_at(file, begin, 512);
  const auto data = bytes_at(file, begin + 512, length - 512);
  CHECK(std::ranges::count(bitmap, std::byte{0xff}) == 512);
  CHECK(std::ranges::count(data, std::byte{0x77}) == int64_t(length - 512));
}

void fill(VhdImage& image, uint32_t block) {
  const uint64_t data_offset = uint64_t{image.table.at(block)} * 512 + 512;
  image.pieces.push_back({data_offset, std::vector<std::byte>(2 * MiB, std::byte{0x77})});
}

TEST_CASE("a block behind the geometry's end keeps its place and its bytes") {
  // 2080 * 16 * 63 sectors end in block 511, the current size in block 512.
  for (const bool lies_last : {true, false}) {
    CAPTURE(lies_last);
    VhdImage image(vhd_dynamic, GiB + 64 * KiB);
    image.footer.put(footer_at::creator, "vpc ").put(footer_at::cylinders, 2, 2080);
    image.footer.put(footer_at::heads, 1, 16).put(footer_at::sectors, 1, 63);
    image.place(0, lies_last ? 8 : 8 + place_sectors).place(512, lies_last ? 8 + place_sectors : 8);
    fill(image, 512);
    const auto file = image.file();
    const uint64_t file_bytes = file->size_bytes();
    REQUIRE_OK(await(write_at(*file, {0})));
    CHECK(file->size_bytes() == file_bytes);
    check_kept(image, 512, *file);
    REQUIRE_OK(await(write_at(*file, {2 * MiB, 6 * MiB})));
    check_kept(image, 512, *file);
  }
}

TEST_CASE("so does one of a BAT with room to grow") {
  VhdImage image(vhd_dynamic, 4 * MiB);
  image.header.put(header_at::max_entries, 4, 64);
  image.table.resize(64, 0xffffffff);
  image.place(63, 8);
  fill(image, 63);
  const auto file = image.file();
  REQUIRE_OK(await(write_at(*file, {0, 2 * MiB})));
  check_kept(image, 63, *file);
}

TEST_CASE("entries behind the disk's that name nothing, or all the same, do no harm") {
  VhdImage image(vhd_dynamic, 4 * MiB);
  image.header.put(header_at::max_entries, 4, 100'000);
  image.table.resize(100'000);
  for (uint32_t block = 2; block < 100'000; ++block)
    image.table[block] = block % 2 == 0 ? 0xfffffffe : block % 7;
  image.content_end = 1 * MiB;
  const auto file = image.file();
  REQUIRE_OK(await(write_at(*file, {0, 2 * MiB})));
}

TEST_CASE("a footer that moves keeps all its bytes") {
  VhdImage image(vhd_dynamic, 8 * MiB);
  image.footer.put(footer_at::creator, "tap\0").put(footer_at::saved_state, 1, 2);
  image.footer.put(footer_at::reserved, 1, 1).put(511, 1, 0x5a);
  const auto file = image.file();
  REQUIRE_OK(await(write_at(*file, {0})));
  CHECK(bytes_at(*file, 0, 512) == image.footer.bytes);
  CHECK(bytes_at(*file, file->size_bytes() - 512, 512) == image.footer.bytes);
}

Async<void> write_at_once(File& file, uint64_t count) {
  CO_TRY_LET(const auto disk, co_await open_for_writing(file));
  const std::vector<std::byte> bytes(4 * KiB, std::byte{0xab});
  const std::span<const std::byte> view(bytes);
  async::TaskGroup writes;
  for (uint64_t i = 0; i < count; ++i) writes.start(disk->write(i * bytes.size(), view));
  CO_TRY(co_await writes.finish());
  co_return co_await disk->close();
}

TEST_CASE("first writes at one time into one block take one place") {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    async::MemoryFile empty("new.vhd");
    const CreateOptions options{
        .size_bytes = 64 * MiB, .unique_id = Guid::random(), .parent = std::nullopt};
    const auto writer = create(empty, options);
    REQUIRE_OK(writer);
    REQUIRE_OK(await((*writer)->finish()));
    async::SimLoop loop(seed);
    async::SimFile file(loop, empty);
    REQUIRE_OK(loop.run(write_at_once(file, 32)));
    async::MemoryFile written = file.content();
    disk::Findings findings;
    disk::BlockUsage usage;
    REQUIRE_OK(await(check(written, findings, usage)));
    CHECK(usage.allocated == 1);
    CHECK(findings.count(disk::Severity::leak) == 0);
    CHECK(written.size_bytes() < empty.size_bytes() + 3 * MiB);
  }
}

Async<void> write_sector(disk::LayeredDisk& disk, uint64_t disk_offset) {
  const std::vector<std::byte> bytes(512, std::byte{0xab});
  const std::span<const std::byte> view(bytes);
  co_return co_await disk.write(disk_offset, view);
}

// The system tells of lost bytes once: those of block 0 may be lost when the file grows for the
// next block.
TEST_CASE("a flush that fails while the file grows ends all writing, a failed write does not") {
  using Access = async::SimFile::Access;
  const VhdImage shape(vhd_dynamic, 256 * MiB);
  for (const Access broken : {Access::flush, Access::write}) {
    CAPTURE(int(broken));
    async::SimLoop loop(1);
    VhdImage image = shape;
    async::SimFile file(loop, *image.file());
    auto opened = loop.run(open_for_writing(file));
    REQUIRE_OK(opened);
    disk::LayeredDisk& disk = **opened;
    REQUIRE_OK(loop.run(write_sector(disk, 0)));
    REQUIRE_OK(loop.run(disk.flush()));
    REQUIRE_OK(loop.run(write_sector(disk, 0)));
    file.set_fault([broken](Access access, uint64_t, uint64_t) {
      return access == broken ? (broken == Access::flush ? EIO : ENOSPC) : 0;
    });
    // 64 MiB of room were made for block 0.
    Result<void> failed;
    for (uint64_t block = 1; failed && block < 64; ++block)
      failed = loop.run(write_sector(disk, block * 2 * MiB));
    REQUIRE_FALSE(failed.has_value());
    file.set_fault({});
    if (broken == Access::write) {
      REQUIRE_OK(loop.run(write_sector(disk, 200 * MiB)));
      REQUIRE_OK(loop.run(disk.close()));
      continue;
    }
    const uint64_t writes = file.write_count();
    const std::string& says = failed.error().message;
    REQUIRE_FAILS(Errc::io, says, loop.run(disk.flush()));
    REQUIRE_FAILS(Errc::io, says, loop.run(write_sector(disk, 0)));
    REQUIRE_FAILS(Errc::io, says, loop.run(write_sector(disk, 200 * MiB)));
    REQUIRE_FAILS(Errc::io, says, loop.run(disk.zero(0, 512)));
    REQUIRE_FAILS(Errc::io, says, loop.run(disk.close()));
    CHECK(file.write_count() == writes);
  }
}

}  // namespace
}  // namespace vhdkit::libvhd
