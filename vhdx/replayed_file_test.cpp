#include "vhdx/replayed_file.h"

#include <doctest/doctest.h>

#include <random>

#include "async/forwarding_file.h"
#include "tests/support/await.h"
#include "vhdx/test_log.h"

namespace vhdkit::vhdx {
namespace {

using testing::Sector;
using testing::sector_of;
using testing::TestEntry;
using testing::TestLog;

Result<ReplayPlan> plan(TestLog& log) {
  const auto content = tests::await(read_log(log.file, log.header));
  REQUIRE_OK(content);
  return plan_replay(log.file, log.header, *content);
}

ReplayedFile replayed(TestLog& log) {
  auto found = plan(log);
  REQUIRE_OK(found);
  return {log.file, std::move(*found)};
}

Sector bytes_at(File& file, uint64_t file_offset, size_t length) {
  Sector bytes(length, std::byte{0xee});
  REQUIRE_OK(tests::await(file.read(file_offset, bytes)));
  return bytes;
}

void fill(async::MemoryFile& file, uint64_t file_offset, uint64_t length, std::byte value) {
  file.store(file_offset, std::vector<std::byte>(length, value));
}

// Where data is, as [begin, end) pairs, over the whole file.
std::vector<std::pair<uint64_t, uint64_t>> data_ranges(File& file) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (uint64_t at = 0; at < file.size_bytes();) {
    const auto data = file.next_data(at, file.size_bytes());
    REQUIRE_OK(data);
    if (!*data) break;
    at = (*data)->file_offset + (*data)->length;
    ranges.emplace_back((*data)->file_offset, at);
  }
  return ranges;
}

TEST_CASE("a file with an empty log comes back as it is") {
  auto file = std::make_unique<async::MemoryFile>("disk.vhdx");
  File* const before = file.get();
  const FileHeader header;
  const auto after = tests::await(replay_in_memory(std::move(file), header));
  REQUIRE_OK(after);
  CHECK(after->get() == before);
}

TEST_CASE("bug class 1: an update's first 8 and last 4 bytes come back at their place") {
  TestLog log;
  fill(log.file, 2 * MiB, 12 * KiB, std::byte{0x11});
  TestEntry entry;
  entry.data(2 * MiB + 4 * KiB, sector_of(3));
  log.put(0, entry);
  ReplayedFile file = replayed(log);
  CHECK(bytes_at(file, 2 * MiB + 4 * KiB, 4096) == sector_of(3));
  CHECK(bytes_at(file, 2 * MiB, 4096) == Sector(4096, std::byte{0x11}));
  CHECK(bytes_at(file, 2 * MiB + 8 * KiB, 4096) == Sector(4096, std::byte{0x11}));
  // The base is as it was.
  CHECK(bytes_at(log.file, 2 * MiB + 4 * KiB, 4096) == Sector(4096, std::byte{0x11}));
}

TEST_CASE("bug class 1: any part of an update, cut into any buffers") {
  TestLog log;
  TestEntry entry;
  entry.data(2 * MiB, sector_of(3));
  log.put(0, entry);
  ReplayedFile file = replayed(log);
  const Sector whole = sector_of(3);
  for (const size_t begin : {0, 1, 7, 8, 9, 4090, 4091, 4092, 4093, 4095}) {
    for (const size_t end : {1, 7, 8, 9, 4091, 4092, 4093, 4096}) {
      if (begin >= end) continue;
      Sector got(end - begin);
      std::vector<iovec> vectors{{nullptr, 0}};
      for (size_t at = 0; at < got.size(); at += 3)
        vectors.push_back({got.data() + at, std::min<size_t>(3, got.size() - at)});
      REQUIRE_OK(tests::await(file.readv(2 * MiB + begin, vectors)));
      CHECK(std::ranges::equal(got, std::span(whole).subspan(begin, end - begin)));
    }
  }
}

TEST_CASE("later updates win over earlier ones, data and zeroes alike") {
  TestLog log;
  fill(log.file, 2 * MiB, 64 * KiB, std::byte{0x11});
  TestEntry first{.sequence_number = 1, .tail = 0};
  first.data(2 * MiB, sector_of(1)).data(2 * MiB + 8 * KiB, sector_of(2)).zero(2 * MiB, 4 * KiB);
  TestEntry second{.sequence_number = 2, .tail = 0};
  second.zero(2 * MiB, 32 * KiB).data(2 * MiB + 12 * KiB, sector_of(3));
  second.data(2 * MiB + 12 * KiB, sector_of(4));
  log.put(0, first).put(0x3000, second);
  ReplayedFile file = replayed(log);
  CHECK(bytes_at(file, 2 * MiB, 12 * KiB) == Sector(12 * KiB));
  CHECK(bytes_at(file, 2 * MiB + 12 * KiB, 4096) == sector_of(4));
  CHECK(bytes_at(file, 2 * MiB + 16 * KiB, 16 * KiB) == Sector(16 * KiB));
  CHECK(bytes_at(file, 2 * MiB + 32 * KiB, 4 * KiB) == Sector(4 * KiB, std::byte{0x11}));
  CHECK(file.plan().sectors_written() == 1);
  CHECK(file.plan().bytes_zeroed() == 28 * KiB);
}

TEST_CASE("entries before the head's tail are not replayed") {
  TestLog log;
  TestEntry done{.sequence_number = 1, .tail = 0};
  done.data(2 * MiB, sector_of(1));
  TestEntry head{.sequence_number = 2, .tail = 0x2000};
  head.data(3 * MiB, sector_of(2));
  log.put(0, done).put(0x2000, head);
  ReplayedFile file = replayed(log);
  CHECK(bytes_at(file, 2 * MiB, 4096) == Sector(4096));
  CHECK(bytes_at(file, 3 * MiB, 4096) == sector_of(2));
}

TEST_CASE("random updates give what writing them one after another gives") {
  std::mt19937 random(20240607);
  for (int round = 0; round < 30; ++round) {
    TestLog log;
    fill(log.file, 4 * MiB, 1 * MiB, std::byte{0x22});
    async::MemoryFile model("model");
    fill(model, 4 * MiB, 1 * MiB, std::byte{0x22});
    uint32_t at = uint32_t(random() % 256) * 4096;
    const uint32_t tail = at;
    for (unsigned number = 1; number <= 6; ++number) {
      TestEntry entry{.sequence_number = number, .tail = tail};
      for (unsigned i = 0; i < random() % 40; ++i) {
        const uint64_t place = 4 * MiB - 16 * KiB + random() % 64 * 4 * KiB;
        if (random() % 3 == 0) {
          const uint64_t length = (1 + random() % 20) * 4 * KiB;
          entry.zero(place, length);
          fill(model, place, length, std::byte{0});
        } else {
          entry.data(place, sector_of(unsigned(random())));
          model.store(place, entry.writes.back().data);
        }
      }
      const auto bytes = entry.bytes();
      log.put(at, bytes);
      at = uint32_t((at + bytes.size()) % TestLog::log_length);
    }
    ReplayedFile file = replayed(log);
    Sector expected(2 * MiB);
    model.fetch(3 * MiB, expected);
    CHECK(bytes_at(file, 3 * MiB, 2 * MiB) == expected);
    for (int part = 0; part < 20; ++part) {
      const size_t begin = random() % MiB;
      const size_t length = random() % (64 * KiB);
      const auto got = bytes_at(file, 3 * MiB + begin, length);
      CHECK(std::ranges::equal(got, std::span(expected).subspan(begin, length)));
    }
  }
}

TEST_CASE("the size grows to LastFileOffset of the head and to the end of every update") {
  TestLog log;
  TestEntry older{.sequence_number = 1, .tail = 0};
  older.last_file_offset = 100 * MiB;
  TestEntry head{.sequence_number = 2, .tail = 0};
  head.last_file_offset = 16 * MiB;
  log.put(0, older).put(0x1000, head);
  {
    ReplayedFile file = replayed(log);
    CHECK(file.size_bytes() == 16 * MiB);
    CHECK(bytes_at(file, 8 * MiB - 10, 20) == Sector(20));
    CHECK(bytes_at(file, 16 * MiB - 10, 10) == Sector(10));
    Sector buffer(2);
    REQUIRE_FAILS(Errc::out_of_range, "ends before offset 16777217",
                  tests::await(file.read(16 * MiB - 1, buffer)));
  }
  head.data(20 * MiB, sector_of(1));
  log.put(0x1000, head);
  ReplayedFile file = replayed(log);
  CHECK(file.size_bytes() == 20 * MiB + 4 * KiB);
  CHECK(bytes_at(file, 20 * MiB, 4096) == sector_of(1));
  CHECK(bytes_at(file, 20 * MiB - 4096, 4096) == Sector(4096));
}

TEST_CASE("bug class 24: FlushedFileOffset of the head, and only of it, finds a file cut off") {
  TestLog log;
  TestEntry older{.sequence_number = 1, .tail = 0};
  older.flushed_file_offset = 100 * MiB;  // the file was made smaller since
  TestEntry head{.sequence_number = 2, .tail = 0};
  log.put(0, older).put(0x1000, head);
  CHECK(replayed(log).size_bytes() == 8 * MiB);
  head.flushed_file_offset = 9 * MiB;
  log.put(0x1000, head);
  REQUIRE_FAILS(Errc::corrupt, "disk.vhdx: log entry 2 at 0x101000: FlushedFileOffset 0x900000",
                plan(log));
}

TEST_CASE("no complete sequence is corrupt, with what was wrong") {
  TestLog log;
  REQUIRE_FAILS(Errc::corrupt, "the log has no entry", plan(log));
  TestEntry entry{.sequence_number = 2, .tail = 0x5000};
  log.put(0, entry);
  REQUIRE_FAILS(Errc::corrupt, "of 1 valid entries none is reached", plan(log));
  std::vector<std::byte> bytes = entry.bytes();
  bytes[100] = std::byte{1};
  log.put(0, bytes);
  REQUIRE_FAILS(Errc::corrupt, "the first entry, at 0x100000, is damaged: checksum", plan(log));
}

TEST_CASE("updates of the header section and of the log are refused, region tables are not") {
  const struct {
    uint64_t file_offset;
    uint64_t zero_length;
    std::string_view fault;  // empty: allowed
  } cases[] = {
      {0, 4 * KiB, "touches the header section"},
      {64 * KiB, 4 * KiB, "touches the header section"},
      {188 * KiB, 8 * KiB, "touches the header section"},
      {192 * KiB, 128 * KiB, ""},
      {256 * KiB, 68 * KiB, "touches the header section"},
      {1 * MiB - 4 * KiB, 4 * KiB, "touches the header section"},
      {0, uint64_t{1} << 40, "touches the header section"},
      {1 * MiB, 4 * KiB, "touches the log (0x100000 to 0x200000)"},
      {2 * MiB - 4 * KiB, 8 * KiB, "touches the log"},
      {2 * MiB, 4 * KiB, ""},
      {2 * MiB, max_file_bytes - 2 * MiB, ""},
      {2 * MiB, max_file_bytes, "beyond what a VHDX can have"},
      {uint64_t{1} << 63, uint64_t{1} << 63, "beyond what a VHDX can have"},
      {UINT64_MAX - 4095, 4 * KiB, "beyond what a VHDX can have"},
  };
  for (const auto& [file_offset, zero_length, fault] : cases) {
    INFO(file_offset << " " << zero_length);
    TestLog log;
    TestEntry entry;
    entry.zero(2 * MiB, 4 * KiB).zero(file_offset, zero_length);
    log.put(0, entry);
    if (fault.empty()) {
      CHECK(plan(log).has_value());
    } else {
      REQUIRE_FAILS(Errc::corrupt, fault, plan(log));
      REQUIRE_FAILS(Errc::corrupt, "disk.vhdx: log entry 1 at 0x100000: descriptor 1: FileOffset",
                    plan(log));
    }
  }
  TestLog log;
  TestEntry entry;
  entry.data(64 * KiB, sector_of(1));
  log.put(0, entry);
  REQUIRE_FAILS(Errc::corrupt, "descriptor 0: FileOffset 0x10000", plan(log));
}

TEST_CASE("LastFileOffset beyond every VHDX is corrupt") {
  TestLog log;
  TestEntry entry;
  entry.last_file_offset = uint64_t{1} << 60;
  log.put(0, entry);
  REQUIRE_FAILS(Errc::corrupt, "LastFileOffset 0x1000000000000000", plan(log));
}

TEST_CASE("a zero descriptor of a TiB costs an interval and leaves its neighbours") {
  TestLog log;
  fill(log.file, 2 * MiB, 1 * MiB, std::byte{0x33});
  TestEntry entry;
  entry.zero(3 * MiB - 4 * KiB, uint64_t{1} << 40).data(1024 * MiB, sector_of(1));
  log.put(0, entry);
  ReplayedFile file = replayed(log);
  CHECK(file.size_bytes() == 3 * MiB - 4 * KiB + (uint64_t{1} << 40));
  CHECK(bytes_at(file, 3 * MiB - 8 * KiB, 4096) == Sector(4096, std::byte{0x33}));
  CHECK(bytes_at(file, 3 * MiB - 4 * KiB, 4096) == Sector(4096));
  CHECK(bytes_at(file, 1024 * MiB, 4096) == sector_of(1));
  CHECK(data_ranges(file).back() == std::pair{1024 * MiB, 1024 * MiB + 4 * KiB});
}

TEST_CASE("holes: the base's stay, zeroed ranges become some, updates fill them") {
  TestLog log;
  fill(log.file, 2 * MiB, 32 * KiB, std::byte{0x44});
  TestEntry entry;
  entry.zero(2 * MiB + 4 * KiB, 8 * KiB);        // 4 to 12 KiB: a hole in the base's data
  entry.data(2 * MiB + 16 * KiB, sector_of(1));  // data upon data
  entry.data(2 * MiB + 32 * KiB, sector_of(1));  // goes on where data ends
  entry.data(5 * MiB, sector_of(2));             // in a hole
  entry.data(5 * MiB + 4 * KiB, sector_of(3));   // beside it
  entry.zero(6 * MiB, 8 * MiB);                  // a hole in a hole
  log.put(0, entry);
  ReplayedFile file = replayed(log);
  using Range = std::pair<uint64_t, uint64_t>;
  const std::vector<Range> expected{{1 * MiB, 1 * MiB + 20 * KiB},
                                    {2 * MiB, 2 * MiB + 4 * KiB},
                                    {2 * MiB + 12 * KiB, 2 * MiB + 36 * KiB},
                                    {5 * MiB, 5 * MiB + 8 * KiB}};
  CHECK(data_ranges(file) == expected);
  const auto cut = file.next_data(2 * MiB + 13 * KiB, 2 * MiB + 14 * KiB);
  REQUIRE((cut.has_value() && cut->has_value()));
  CHECK((*cut)->file_offset == 2 * MiB + 13 * KiB);
  CHECK((*cut)->length == 1 * KiB);
}

// A file with a descriptor, which MemoryFile has not.
class DescribedFile final : public async::ForwardingFile {
 public:
  using ForwardingFile::ForwardingFile;
  Async<void> readv(uint64_t file_offset, Buffers buffers) override {
    ++read_count;
    return file_.readv(file_offset, buffers);
  }
  int descriptor(uint64_t, uint64_t) const override { return 77; }

  unsigned read_count = 0;
};

TEST_CASE("ranges without updates keep their descriptor and are read at once") {
  TestLog log;
  TestEntry entry;
  entry.data(2 * MiB, sector_of(1)).zero(4 * MiB, 4 * KiB);
  entry.last_file_offset = 16 * MiB;
  log.put(0, entry);
  auto found = plan(log);
  REQUIRE_OK(found);
  DescribedFile base(log.file);
  ReplayedFile file(base, std::move(*found));
  CHECK(file.descriptor(1 * MiB, 1 * MiB) == 77);
  CHECK(file.descriptor(1 * MiB, 1 * MiB + 1) == -1);
  CHECK(file.descriptor(2 * MiB + 4095, 1) == -1);
  CHECK(file.descriptor(2 * MiB + 4096, 2 * MiB - 4096) == 77);
  CHECK(file.descriptor(4 * MiB, 1) == -1);
  CHECK(file.descriptor(4 * MiB + 4 * KiB, 4 * MiB - 4 * KiB) == 77);
  CHECK(file.descriptor(8 * MiB - 1, 2) == -1);
  CHECK(file.descriptor(9 * MiB, 1) == -1);
  bytes_at(file, 4 * MiB + 4 * KiB, 1 * MiB);
  CHECK(base.read_count == 1);
  bytes_at(file, 3 * MiB, 2 * MiB);
  CHECK(base.read_count == 3);
}

TEST_CASE("a replayed file refuses changes") {
  TestLog log;
  log.put(0, TestEntry());
  ReplayedFile file = replayed(log);
  const Sector bytes(10);
  REQUIRE_FAILS(Errc::read_only, "disk.vhdx", tests::await(file.write(0, bytes)));
  REQUIRE_FAILS(Errc::read_only, "disk.vhdx", file.resize(0));
  REQUIRE_FAILS(Errc::read_only, "disk.vhdx", file.punch_hole(0, 10));
  REQUIRE_OK(tests::await(file.flush()));
}

}  // namespace
}  // namespace vhdkit::vhdx
