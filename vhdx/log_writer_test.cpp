#include "vhdx/log_writer.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/support/await.h"
#include "tests/support/content.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/log.h"
#include "vhdx/replay_plan.h"

namespace vhdkit::vhdx {
namespace {

disk::ChangedPage page_at(uint64_t file_offset, unsigned seed) {
  return {.file_offset = file_offset,
          .bytes = seed == 0 ? tests::Content(log_sector_bytes)
                             : tests::random_bytes(log_sector_bytes, seed),
          .piece = nullptr};
}

// A log that only the writer below has written to.
struct Log {
  std::unique_ptr<async::MemoryFile> file = tests::VhdxImage().build();
  FileHeader header = tests::VhdxImage().header;
  LogWriter writer{*file, header};

  void write(const std::vector<disk::ChangedPage>& pages, FileEnds ends) {
    REQUIRE_OK(tests::await(writer.write(pages, ends)));
  }
  LogContent read() {
    header.log_guid = writer.guid();
    auto content = tests::await(read_log(*file, header));
    REQUIRE_OK(content);
    return *content;
  }
};

TEST_CASE("an entry is read back with its pages, its ends and itself as tail") {
  Log log;
  const std::vector<disk::ChangedPage> pages = {page_at(3 * MiB, 1), page_at(3 * MiB + 8192, 0),
                                                page_at(3 * MiB + 12288, 0), page_at(4 * MiB, 2)};
  log.write(pages, {.flushed = 10 * MiB, .last = 12 * MiB});
  const LogContent content = log.read();
  REQUIRE(content.active.size() == 1);
  const LogEntry& entry = content.head();
  CHECK(entry.sequence_number == 1);
  CHECK(entry.tail == entry.log_offset);
  CHECK(entry.flushed_file_offset == 10 * MiB);
  CHECK(entry.last_file_offset == 12 * MiB);
  REQUIRE(entry.descriptors.size() == 3);
  CHECK(entry.descriptors[0].kind == LogDescriptor::Kind::data);
  CHECK(entry.descriptors[1].kind == LogDescriptor::Kind::zero);
  CHECK(entry.descriptors[1].file_offset == 3 * MiB + 8192);
  CHECK(entry.descriptors[1].length == 8192);
  CHECK(entry.descriptors[2].file_offset == 4 * MiB);
}

TEST_CASE("only the newest entry is replayed, and it wraps around the log's end") {
  Log log;
  std::vector<disk::ChangedPage> pages;
  for (uint64_t i = 0; i < max_entry_pages; ++i)
    pages.push_back(page_at(4 * MiB + i * log_sector_bytes, unsigned(i) + 1));
  bool wrapped = false;
  for (uint64_t round = 1; round <= 12; ++round) {
    pages[0] = page_at(4 * MiB, unsigned(1000 + round));
    log.write(pages, {.flushed = 1 * MiB, .last = 6 * MiB});
    const LogContent content = log.read();
    CHECK(content.fragments.size() <= 1);  // what the newest entry overwrote in part
    REQUIRE(content.active.size() == 1);
    const LogEntry& entry = content.head();
    CHECK(entry.sequence_number == round);
    REQUIRE(entry.descriptors.size() == max_entry_pages);
    wrapped = wrapped || entry.log_offset + entry.length > log.header.log_length;
  }
  CHECK(wrapped);
}

TEST_CASE("a torn entry leaves the one before it to be replayed") {
  Log log;
  log.write({page_at(4 * MiB, 1)}, {.flushed = 1 * MiB, .last = 6 * MiB});
  const async::MemoryFile before = *log.file;
  log.write({page_at(4 * MiB, 2), page_at(5 * MiB, 3)}, {.flushed = 1 * MiB, .last = 6 * MiB});
  CHECK(log.read().head().sequence_number == 2);
  // Any sector of the new entry may be missing.
  const uint64_t begin = log.header.log_offset + 2 * log_sector_bytes;
  tests::Content sector(512);
  for (uint64_t at = 0; at < 3 * log_sector_bytes; at += sector.size()) {
    tests::Content written(512);
    log.file->fetch(begin + at, written);
    before.fetch(begin + at, sector);
    if (written == sector) continue;
    log.file->store(begin + at, sector);
    CHECK(log.read().head().sequence_number == 1);
    log.file->store(begin + at, written);
  }
  CHECK(log.read().head().sequence_number == 2);
}

}  // namespace
}  // namespace vhdkit::vhdx
