#include "vhdx/table_writer.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <vector>

#include "async/forwarding_file.h"
#include "async/sim_file.h"
#include "async/task_group.h"
#include "disk/layered_disk.h"
#include "tests/support/await.h"
#include "tests/support/byte_at.h"
#include "tests/support/vhdx_check.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

using Access = async::SimFile::Access;

// An image on a simulated file, open for writing.
class Writing {
 public:
  explicit Writing(const tests::VhdxImage& image = tests::clean_image(), uint64_t seed = 1)
      : loop_(seed), file_(loop_, *image.build()) {
    const OpenOptions options{.writable = true};
    auto layer = loop_.run(open_layer(std::make_unique<async::ForwardingFile>(file_), options));
    REQUIRE_OK(layer);
    std::vector<std::unique_ptr<disk::Layer>> layers;
    layers.push_back(std::move(*layer));
    disk_ = std::make_unique<disk::LayeredDisk>(std::move(layers));
  }

  async::SimLoop& loop() { return loop_; }
  async::SimFile& file() { return file_; }
  disk::LayeredDisk& disk() { return *disk_; }
  Result<void> write(uint64_t block) {
    const std::vector<std::byte> bytes(512, std::byte{7});
    const std::span<const std::byte> view(bytes);
    return loop_.run(disk_->write(block * MiB, view));
  }
  Result<void> write_at_once(size_t count) { return loop_.run(write_side_by_side(count)); }
  // All at once, two to a chunk.
  Result<void> write_to_chunks(const std::vector<uint64_t>& lengths, uint64_t chunk_bytes) {
    return loop_.run(write_lengths(lengths, chunk_bytes));
  }
  Result<void> zero(uint64_t disk_offset, uint64_t length) {
    return loop_.run(disk_->zero(disk_offset, length));
  }
  Result<void> flush() { return loop_.run(disk_->flush()); }
  Result<void> flush_at_once(size_t count) { return loop_.run(flush_side_by_side(count)); }
  Result<void> close() { return loop_.run(disk_->close()); }

  uint64_t entry(uint64_t index) const {
    le64 value;
    file_.content().fetch(3 * MiB + index * sizeof value, writable_bytes_of(value));
    return value;
  }
  // What a check of the file as it is finds.
  tests::Report checked() const {
    async::MemoryFile content = file_.content();
    return tests::checked(content);
  }

 private:
  // Into blocks that are not there.
  Async<void> write_side_by_side(size_t count) {
    const std::vector<std::byte> bytes(512, std::byte{7});
    const std::span<const std::byte> view(bytes);
    async::TaskGroup writes;
    for (size_t i = 0; i < count; ++i) writes.start(disk_->write((2 + i) * MiB, view));
    co_return co_await writes.finish();
  }
  Async<void> write_lengths(std::vector<uint64_t> lengths, uint64_t chunk_bytes) {
    const std::vector<std::byte> bytes(1 * MiB, std::byte{7});
    async::TaskGroup writes;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const std::span<const std::byte> view = std::span(bytes).first(lengths[i]);
      writes.start(disk_->write(i / 2 * chunk_bytes + i % 2 * MiB, view));
    }
    co_return co_await writes.finish();
  }
  Async<void> flush_side_by_side(size_t count) {
    async::TaskGroup flushes;
    for (size_t i = 0; i < count; ++i) flushes.start(disk_->flush());
    co_return co_await flushes.finish();
  }

  async::SimLoop loop_;
  async::SimFile file_;
  std::unique_ptr<disk::LayeredDisk> disk_;
};

std::unique_ptr<disk::LayeredDisk> opened(const async::MemoryFile& file) {
  auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(file), {}));
  REQUIRE_OK(layer);
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(*layer));
  return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

TEST_CASE("a table that could not be written ends all writing, and what was flushed is there") {
  const auto in_log = [](Access access, uint64_t file_offset, uint64_t) {
    return access == Access::write && file_offset / MiB == 1 ? EIO : 0;
  };
  const auto at_flush = [](Access access, uint64_t, uint64_t) {
    return access == Access::flush ? EIO : 0;
  };
  for (const async::SimFile::Fault& fault :
       {async::SimFile::Fault(in_log), async::SimFile::Fault(at_flush)}) {
    Writing writing;
    REQUIRE_OK(writing.write(3));
    REQUIRE_OK(writing.flush());
    REQUIRE_OK(writing.write(5));
    writing.file().set_fault(fault);
    const auto failed = writing.flush();
    REQUIRE_FAILS(Errc::io, "Input/output error", failed);
    writing.file().set_fault({});
    const uint64_t writes = writing.file().write_count();
    for (const auto& later : {writing.flush(), writing.write(3), writing.write(6), writing.close()})
      REQUIRE_FAILS(Errc::io, failed.error().message, later);
    CHECK(writing.file().write_count() == writes);

    async::MemoryFile left = writing.file().content();
    CHECK(tests::checked(left).findings.count(disk::Severity::corruption) == 0);
    CHECK(tests::byte_at(*opened(left), 3 * MiB) == 7);
  }
}

TEST_CASE("a header that cannot be written is tried once, and its other copy stays") {
  Writing writing;
  uint64_t tries = 0;
  writing.file().set_fault([&](Access access, uint64_t file_offset, uint64_t) {
    const bool is_header = access == Access::write && file_offset < 192 * KiB;
    tries += is_header ? 1 : 0;
    return is_header ? EIO : 0;
  });
  const auto failed = writing.write_at_once(4);
  REQUIRE_FAILS(Errc::io, "Input/output error", failed);
  CHECK(tries == 1);
  writing.file().set_fault({});
  REQUIRE_FAILS(Errc::io, failed.error().message, writing.write(3));
  CHECK(writing.checked().findings.count(disk::Severity::corruption) == 0);
}

// As QEMU makes them: room for all blocks behind 4 MiB of its own, and no block in it.
TEST_CASE("a fixed disk's file keeps its room for blocks that are not there") {
  tests::VhdxImage image = tests::clean_image();
  image.metadata.leave_blocks_allocated = true;
  image.entries = {};
  image.file_bytes = 16 * MiB;
  Writing writing(image);
  REQUIRE_OK(writing.write(3));
  REQUIRE_OK(writing.close());
  CHECK(writing.file().size_bytes() == 16 * MiB);
  CHECK(writing.entry(3) == (4 * MiB | 6));
  CHECK(writing.checked().text() == "note fixed-block-absent 0x300000, note spare-space 0x500000");
}

// [MS-VHDX] 2.5.1: FileOffsetMB is unique where it is not zero.
TEST_CASE("no block gets a place that an undefined or unmapped block keeps, after a crash too") {
  tests::VhdxImage image = tests::clean_image();
  image.entries = {{0, 4 * MiB | 6}, {1, 5 * MiB | 3}, {2, 6 * MiB | 1}};
  image.file_bytes = 7 * MiB;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Writing writing(image, seed);
    disk::ExtentList extents;
    REQUIRE_OK(writing.loop().run(writing.disk().extents(1 * MiB, 7 * MiB, extents)));
    CHECK(extents.size() == 1);
    writing.loop().set_observer([&] {
      async::MemoryFile state = writing.file().crash_state(writing.loop().random());
      const tests::Report report = tests::checked(state);
      REQUIRE(report.findings.count(disk::Severity::corruption) == 0);
      REQUIRE(report.text().find("kept-place") == std::string::npos);
    });
    REQUIRE_OK(writing.write(3));
    REQUIRE_OK(writing.write(2));
    REQUIRE_OK(writing.flush());
    REQUIRE_OK(writing.close());
    CHECK(writing.entry(1) == 3);
    CHECK(writing.entry(2) == (6 * MiB | 6));
    CHECK(writing.entry(3) == (5 * MiB | 6));
    CHECK(writing.checked().text() == "");
  }
}

TEST_CASE("a file is not cut off under a kept place, whatever places others claim to keep") {
  tests::VhdxImage image = tests::clean_image();
  image.entries = {{0, 4 * MiB | 6},
                   {1, 5 * MiB | 3},
                   {2, 4 * MiB | 1},
                   {3, 1 * MiB | 3},
                   {4, ~uint64_t{0xfffff} | 1}};
  Writing writing(image);
  REQUIRE_OK(writing.write(0));
  REQUIRE_OK(writing.close());
  CHECK(writing.file().size_bytes() == 5 * MiB);
  CHECK(writing.entry(0) == (4 * MiB | 6));
  for (uint64_t index = 1; index < 5; ++index)
    CHECK(writing.entry(index) == (index % 2 == 1 ? 3 : 1));
  CHECK(writing.checked().text() == "");
}

// [MS-VHDX] 2.5.1.1: only a ZERO block reads as zeroes whoever reads it.
TEST_CASE("zeroing makes zero blocks of those that may show old content elsewhere") {
  for (const bool has_parent : {false, true}) {
    tests::VhdxImage image = tests::clean_image();
    if (has_parent) image.make_differencing();
    image.entries = {{0, 4 * MiB | 6}, {1, 5 * MiB | 3}, {2, 1}, {3, 3}, {4, 2}};
    Writing writing(image);
    REQUIRE_OK(writing.zero(0, 3 * MiB));
    REQUIRE_OK(writing.zero(3 * MiB + 512, 512));
    REQUIRE_OK(writing.zero(4 * MiB, 1 * MiB));
    REQUIRE_OK(writing.close());
    for (uint64_t index = 0; index < 5; ++index) CHECK(writing.entry(index) == 2);
    CHECK(writing.entry(5) == 0);
  }
}

TEST_CASE("an undefined block that is written has zeroes where nothing was written") {
  tests::VhdxImage image = tests::clean_image();
  image.make_differencing();
  image.entries = {{1, 4 * MiB | 3}};
  image.file_bytes = 5 * MiB;
  Writing writing(image);
  REQUIRE_OK(writing.write(1));
  REQUIRE_OK(writing.close());
  CHECK(bat_state_of(writing.entry(1)) == 6);
  const auto disk = opened(writing.file().content());
  CHECK(tests::byte_at(*disk, 1 * MiB) == 7);
  CHECK(tests::byte_at(*disk, 1 * MiB + 512) == 0);
}

// [MS-VHDX] 2.3.1.1: both ends are multiples of 1 MiB.
TEST_CASE("a log entry tells whole MiB of a file that ends between") {
  tests::VhdxImage image = tests::clean_image();
  image.metadata.disk_size_bytes = 1 * MiB + 512;
  image.file_bytes = 5 * MiB + 512;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Writing writing(image, seed);
    writing.loop().set_observer([&] {
      async::MemoryFile state = writing.file().crash_state(writing.loop().random());
      REQUIRE(tests::checked(state).findings.count(disk::Severity::corruption) == 0);
    });
    REQUIRE_OK(writing.zero(0, 1 * MiB));
    REQUIRE_OK(writing.flush());
    LogEntryHeader entry{};
    writing.file().content().fetch(1 * MiB, writable_bytes_of(entry));
    CHECK(entry.flushed_file_offset == 6 * MiB);
    CHECK(entry.last_file_offset == 6 * MiB);
    CHECK(writing.file().size_bytes() == 6 * MiB);
    REQUIRE_OK(writing.close());
    CHECK(writing.file().size_bytes() == 5 * MiB + 512);
  }
}

TEST_CASE("flushes at the same time are one, or two where one runs already") {
  Writing writing;
  REQUIRE_OK(writing.write(3));
  REQUIRE_OK(writing.flush());
  REQUIRE_OK(writing.write(5));
  const uint64_t before = writing.file().flush_count();
  REQUIRE_OK(writing.flush());
  const uint64_t of_one = writing.file().flush_count() - before;
  REQUIRE_OK(writing.write(6));
  REQUIRE_OK(writing.flush_at_once(16));
  CHECK(writing.file().flush_count() - before <= 3 * of_one);
  REQUIRE_OK(writing.close());
}

// [MS-VHDX] 2.5.1.2: only a chunk with a partially present block needs a sector bitmap block.
TEST_CASE("a child's session leaves no unused space, whatever comes to its chunks") {
  // Chunks of 4 GiB; whole blocks in some, parts in others.
  constexpr uint64_t chunk_bytes = 4 * GiB;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    tests::VhdxImage image = tests::clean_image();
    image.make_differencing();
    image.entries.clear();
    image.metadata.disk_size_bytes = 6 * chunk_bytes;
    image.file_bytes = 4 * MiB;
    Writing writing(image, seed);
    std::vector<uint64_t> lengths;
    for (uint64_t i = 0; i < 12; ++i) {
      const bool is_whole = (seed >> i % 4 & 1) == 0;
      lengths.push_back(is_whole ? 1 * MiB : 512 * (1 + i));
    }
    REQUIRE_OK(writing.write_to_chunks(lengths, chunk_bytes));
    REQUIRE_OK(writing.close());
    CHECK(writing.checked().text() == "");
  }
}

}  // namespace
}  // namespace vhdkit::vhdx
