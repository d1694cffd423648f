#include "vhdx/replay.h"

#include <doctest/doctest.h>

#include <random>

#include "async/forwarding_file.h"
#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/replayed_file.h"
#include "vhdx/test_log.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using testing::Sector;
using testing::sector_of;
using testing::TestEntry;
using tests::await;

// An image with a dirty log of two entries: data and zeroes upon data and holes, a region table, a
// page past the end.
std::unique_ptr<MemoryFile> dirty_image() {
  tests::VhdxImage image;
  image.header.log_guid = testing::log_guid;
  image.file_bytes = 8 * MiB;
  auto file = image.build();
  file->store(4 * MiB, std::vector<std::byte>(64 * KiB, std::byte{0x55}));
  Sector table(4096);
  file->fetch(region_table_offsets[1], table);
  TestEntry first{.sequence_number = 11, .tail = 0};
  first.data(3 * MiB, sector_of(1)).data(4 * MiB + 8 * KiB, sector_of(2));
  first.data(region_table_offsets[1], table);
  TestEntry head{.sequence_number = 12, .tail = 0, .last_file_offset = 12 * MiB};
  head.zero(4 * MiB + 16 * KiB, 32 * KiB).data(3 * MiB, sector_of(3)).zero(5 * MiB, 1 * MiB);
  head.data(9 * MiB, sector_of(4));
  const auto bytes = first.bytes();
  file->store(1 * MiB, bytes);
  file->store(1 * MiB + bytes.size(), head.bytes());
  return file;
}

// All but the headers.
Sector content_of(File& file) {
  Sector content(file.size_bytes() - region_table_offsets[0]);
  REQUIRE_OK(await(file.read(region_table_offsets[0], content)));
  return content;
}

FileHeader header_of(File& file) {
  const auto headers = await(read_headers(file));
  REQUIRE_OK(headers);
  return headers->current;
}

// What readers see of the file, whether its log is empty or not.
Sector readable_content(std::unique_ptr<File> file) {
  const FileHeader header = header_of(*file);
  auto replayed = await(replay_in_memory(std::move(file), header));
  REQUIRE_OK(replayed);
  return content_of(**replayed);
}

TEST_CASE("a replayed file is what the overlay showed, with an empty log and new headers") {
  const Sector expected = readable_content(dirty_image());
  const auto file = dirty_image();
  const FileHeader before = header_of(*file);
  const auto replayed = await(replay_on_disk(*file));
  REQUIRE_OK(replayed);
  CHECK(*replayed);
  CHECK(file->size_bytes() == 12 * MiB);
  CHECK(content_of(*file) == expected);
  Sector page(4096);
  REQUIRE_OK(await(file->read(3 * MiB, page)));
  CHECK(page == sector_of(3));
  const auto after = await(read_headers(*file));
  REQUIRE_OK(after);
  CHECK(after->damage[0].empty());
  CHECK(after->damage[1].empty());
  CHECK(after->current.log_is_empty());
  CHECK(after->current.file_write_guid != before.file_write_guid);
  CHECK(after->current.data_write_guid == before.data_write_guid);
  CHECK(after->current.sequence_number == before.sequence_number + 4);
  // Holes stay holes.
  const auto data = file->next_data(5 * MiB, 9 * MiB);
  REQUIRE_OK(data);
  CHECK_FALSE(data->has_value());
}

TEST_CASE("a file whose log is empty is not written") {
  const auto file = tests::VhdxImage().build();
  const auto replayed = await(replay_on_disk(*file));
  REQUIRE_OK(replayed);
  CHECK_FALSE(*replayed);
  CHECK(file->write_count() == 0);
}

TEST_CASE("a log that cannot be replayed leaves the file unwritten") {
  const auto file = dirty_image();
  file->store(1 * MiB + 100, Sector(1, std::byte{0xff}));
  file->store(1 * MiB + 4 * 4096 + 100, Sector(1, std::byte{0xff}));
  REQUIRE_FAILS(Errc::corrupt, "no complete sequence", await(replay_on_disk(*file)));
  CHECK(file->write_count() == 0);
  const auto last = dirty_image();
  FileHeader header = header_of(*last);
  header.sequence_number = UINT64_MAX - 3;
  last->store(header_offsets[1], bytes_of(build_header(header)));
  REQUIRE_FAILS(Errc::corrupt, "leaves none for an update", await(replay_on_disk(*last)));
  CHECK(last->write_count() == 0);
}

TEST_CASE("a replay that fails at any write is done by the next") {
  const Sector expected = readable_content(dirty_image());
  for (uint64_t n = 0;; ++n) {
    auto file = dirty_image();
    file->fail_writes_from(n);
    const auto first = await(replay_on_disk(*file));
    file->fail_writes_from(UINT64_MAX / 2);
    if (first) {
      CHECK(n > 8);
      break;
    }
    CHECK(first.error().code == Errc::no_space);
    REQUIRE_OK(await(replay_on_disk(*file)));
    CHECK(content_of(*file) == expected);
    CHECK(header_of(*file).log_is_empty());
  }
}

// Remembers what was done to a file, so that states after a crash can be made.
class RecordedFile final : public async::ForwardingFile {
 public:
  struct Operation {
    enum class Kind { write, resize, flush } kind;
    uint64_t file_offset;  // for resize the size
    Sector bytes;
  };

  using ForwardingFile::ForwardingFile;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override {
    Sector bytes;
    for (const iovec& vector : buffers) {
      const auto* begin = static_cast<const std::byte*>(vector.iov_base);
      bytes.insert(bytes.end(), begin, begin + vector.iov_len);
    }
    operations.push_back({Operation::Kind::write, file_offset, std::move(bytes)});
    return file_.writev(file_offset, buffers, durability);
  }
  Async<void> flush() override {
    operations.push_back({Operation::Kind::flush, 0, {}});
    return file_.flush();
  }
  Result<void> resize(uint64_t size_bytes) override {
    operations.push_back({Operation::Kind::resize, size_bytes, {}});
    return file_.resize(size_bytes);
  }
  Result<void> punch_hole(uint64_t, uint64_t) override {
    return fail(Errc::unsupported, "not recorded");
  }

  std::vector<Operation> operations;
};

using Operation = RecordedFile::Operation;

// The dirty image after a crash at operation `crash`: what was flushed, and of the rest whatever
// 512 bytes chance keeps.
std::unique_ptr<MemoryFile> crashed(const std::vector<Operation>& operations, size_t crash,
                                    std::mt19937& random) {
  auto file = dirty_image();
  size_t durable = 0;
  for (size_t i = 0; i < crash; ++i)
    if (operations[i].kind == Operation::Kind::flush) durable = i;
  for (size_t i = 0; i < crash; ++i) {
    const auto& [kind, file_offset, bytes] = operations[i];
    const bool kept = i < durable;
    if (kind == Operation::Kind::resize && (kept || random() % 2 == 0))
      REQUIRE_OK(file->resize(std::max(file_offset, file->size_bytes())));
    for (size_t at = 0; at < bytes.size(); at += 512)
      if (kept || random() % 2 == 0)
        file->store(file_offset + at, std::span(bytes).subspan(at).first(512));
  }
  return file;
}

TEST_CASE("a crash at any moment, any sectors lost since the flush: the content is the same") {
  const Sector expected = readable_content(dirty_image());
  const auto whole = dirty_image();
  RecordedFile recorded(*whole);
  REQUIRE_OK(await(replay_on_disk(recorded)));
  std::mt19937 random(7);
  for (size_t crash = 0; crash <= recorded.operations.size(); ++crash) {
    for (int chance = 0; chance < 8; ++chance) {
      CAPTURE(crash);
      const std::mt19937 same = random;
      auto file = crashed(recorded.operations, crash, random);
      std::mt19937 again = same;
      CHECK(readable_content(std::move(file)) == expected);
      file = crashed(recorded.operations, crash, again);
      REQUIRE_OK(await(replay_on_disk(*file)));
      CHECK(content_of(*file) == expected);
      CHECK(header_of(*file).log_is_empty());
    }
  }
}

TEST_CASE("whole copies are not rewritten") {
  const auto file = tests::VhdxImage().build();
  const auto repaired = await(repair_copies(*file));
  REQUIRE_OK(repaired);
  CHECK_FALSE((repaired->header || repaired->region_table));
  CHECK(file->write_count() == 0);
}

TEST_CASE("a damaged header and a damaged region table are rewritten from their other copy") {
  for (const unsigned damaged : {0u, 1u}) {
    for (const bool both : {false, true}) {
      const auto file = tests::VhdxImage().build();
      const Sector expected = content_of(*file);
      file->store(header_offsets[damaged] + 100, Sector(1, std::byte{1}));
      if (both) file->store(region_table_offsets[damaged] + 100, Sector(100, std::byte{0x77}));
      const auto repaired = await(repair_copies(*file));
      REQUIRE_OK(repaired);
      CHECK(repaired->header);
      CHECK(repaired->region_table == both);
      CHECK(content_of(*file) == expected);
      const auto headers = await(read_headers(*file));
      REQUIRE_OK(headers);
      CHECK(headers->damage[0].empty());
      CHECK(headers->damage[1].empty());
      CHECK(headers->current.file_write_guid != tests::VhdxImage().header.file_write_guid);
      CHECK(headers->current.data_write_guid == tests::VhdxImage().header.data_write_guid);
    }
  }
}

TEST_CASE("a damaged region table alone is a change too: the headers say so first") {
  const auto file = tests::VhdxImage().build();
  const Sector expected = content_of(*file);
  file->store(region_table_offsets[0], Sector(4, std::byte{0}));
  file->fail_writes_from(2);
  REQUIRE_FAILS(Errc::no_space, "a.vhdx", await(repair_copies(*file)));
  CHECK(header_of(*file).file_write_guid != tests::VhdxImage().header.file_write_guid);
  file->fail_writes_from(UINT64_MAX / 2);
  const auto repaired = await(repair_copies(*file));
  REQUIRE_OK(repaired);
  CHECK(repaired->region_table);
  CHECK(content_of(*file) == expected);
}

TEST_CASE("copies are not repaired while the log is not empty") {
  const auto file = dirty_image();
  REQUIRE_FAILS(Errc::invalid_argument, "a.vhdx: the log is not empty",
                await(repair_copies(*file)));
  CHECK(file->write_count() == 0);
}

}  // namespace
}  // namespace vhdkit::vhdx
