#include "image/log.h"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/test_log.h"

namespace vhdkit::image {
namespace {

using vhdx::testing::sector_of;
using vhdx::testing::TestEntry;

// An image on disk whose log begins with these entries, one behind the other.
class DirtyImage {
 public:
  explicit DirtyImage(const std::vector<TestEntry>& entries, Guid log_guid) {
    tests::VhdxImage image;
    image.header.log_guid = log_guid;
    image.file_bytes = 8 * MiB;
    auto memory = image.build();
    uint64_t at = 1 * MiB;
    for (const TestEntry& entry : entries) {
      const auto bytes = entry.bytes();
      memory->store(at, bytes);
      at += bytes.size();
    }
    std::vector<std::byte> content(memory->size_bytes());
    memory->fetch(0, content);
    std::ofstream(path(), std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
  }
  std::string path() const { return folder_.path("a.vhdx"); }

  Result<LogReport> report() const {
    auto loop = async::Loop::create();
    return (*loop)->run(read_log_report(**loop, path(), {}));
  }

 private:
  tests::TemporaryFolder folder_;
};

TestEntry entry_of(uint64_t sequence_number) {
  TestEntry entry{.sequence_number = sequence_number, .tail = 0};
  entry.data(4 * MiB, sector_of(unsigned(sequence_number)));
  return entry;
}

TEST_CASE("a log report: entries, the active ones, fragments, and what a replay would do") {
  TestEntry second = entry_of(6);
  second.zero(5 * MiB, 64 * KiB).zero(5 * MiB + 32 * KiB, 64 * KiB);
  second.last_file_offset = 9 * MiB;
  TestEntry stale = entry_of(9);
  stale.guid = vhdx::testing::other_guid;
  const DirtyImage image({entry_of(5), second, stale, entry_of(2)}, vhdx::testing::log_guid);
  const auto report = image.report();
  REQUIRE_OK(report);
  CHECK(report->state == LogState::dirty);
  CHECK(report->header.log_offset == 1 * MiB);
  CHECK(report->header.log_guid == vhdx::testing::log_guid);
  REQUIRE(report->content.entries.size() == 3);
  CHECK(report->content.entries[1].log_offset == 0x2000);
  CHECK(report->content.entries[2].sequence_number == 2);
  CHECK(report->content.active == std::vector<size_t>{0, 1});
  REQUIRE(report->content.fragments.size() == 1);
  CHECK(report->content.fragments[0].log_offset == 0x4000);
  CHECK(report->sectors_written == 1);
  CHECK(report->bytes_zeroed == 96 * KiB);
  CHECK(report->file_bytes == 8 * MiB);
  CHECK(report->replayed_file_bytes == 9 * MiB);
}

TEST_CASE("a log that nothing can be replayed of is unusable, with the reason") {
  TestEntry cut_off = entry_of(5);
  cut_off.flushed_file_offset = 16 * MiB;
  const DirtyImage image({cut_off}, vhdx::testing::log_guid);
  const auto report = image.report();
  REQUIRE_OK(report);
  CHECK(report->state == LogState::unusable);
  CHECK(report->fault.find("FlushedFileOffset 0x1000000") != std::string::npos);
  CHECK(report->content.entries.size() == 1);
}

TEST_CASE("an empty log is empty, whatever an older session left there") {
  const DirtyImage image({entry_of(5)}, Guid());
  const auto report = image.report();
  REQUIRE_OK(report);
  CHECK(report->state == LogState::empty);
  CHECK(report->content.entries.empty());
  CHECK(report->content.fragments.empty());
}

TEST_CASE("only VHDX has a log") {
  const tests::TemporaryFolder folder;
  std::ofstream(folder.path("disk.raw")) << std::string(4096, 'x');
  auto loop = async::Loop::create();
  REQUIRE_FAILS(Errc::unsupported, "disk.raw: raw images have no log",
                (*loop)->run(read_log_report(**loop, folder.path("disk.raw"), {})));
}

}  // namespace
}  // namespace vhdkit::image
