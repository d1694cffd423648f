#include "vhdx/log.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "vhdx/test_log.h"

namespace vhdkit::vhdx {
namespace {

using testing::sector_of;
using testing::TestEntry;
using testing::TestLog;
using Kind = LogDescriptor::Kind;

LogContent read(TestLog& log) {
  auto content = tests::await(read_log(log.file, log.header));
  REQUIRE_OK(content);
  return std::move(*content);
}

// Sequence numbers of the active sequence.
std::vector<uint64_t> active_numbers(const LogContent& content) {
  std::vector<uint64_t> numbers;
  for (const size_t index : content.active)
    numbers.push_back(content.entries[index].sequence_number);
  return numbers;
}

using Numbers = std::vector<uint64_t>;

// An entry of one data sector: 8 KiB.
TestEntry small(uint64_t sequence_number, uint32_t tail) {
  TestEntry entry{.sequence_number = sequence_number, .tail = tail};
  entry.data(2 * MiB, sector_of(unsigned(sequence_number)));
  return entry;
}

// Overwrites an integer of an entry's bytes and gives it its right checksum again.
template <class T>
std::vector<std::byte> changed(std::vector<std::byte> bytes, size_t at, T value) {
  std::ranges::copy(bytes_of(value), bytes.begin() + long(at));
  TestEntry::seal(bytes);
  return bytes;
}

TEST_CASE("an empty log GUID finds nothing, whatever lies in the log") {
  TestLog log;
  log.put(0, small(1, 0));
  log.header.log_guid = Guid();
  const LogContent content = read(log);
  CHECK(content.entries.empty());
  CHECK_FALSE(content.has_active_sequence());
}

TEST_CASE("an entry comes back with its every field") {
  TestLog log;
  TestEntry entry{.sequence_number = 0x100000007, .tail = 0x3000};
  entry.flushed_file_offset = 5 * MiB;
  entry.last_file_offset = 6 * MiB;
  entry.data(2 * MiB, sector_of(1)).zero(3 * MiB, 64 * KiB).data(2 * MiB + 4 * KiB, sector_of(2));
  log.put(0x3000, entry);
  const LogContent content = read(log);
  REQUIRE(content.entries.size() == 1);
  CHECK(content.fragments.empty());
  const LogEntry& got = content.entries[0];
  CHECK(got.log_offset == 0x3000);
  CHECK(got.length == 12 * KiB);
  CHECK(got.tail == 0x3000);
  CHECK(got.sequence_number == 0x100000007);
  CHECK(got.log_guid == testing::log_guid);
  CHECK(got.flushed_file_offset == 5 * MiB);
  CHECK(got.last_file_offset == 6 * MiB);
  REQUIRE(got.descriptors.size() == 3);
  CHECK(got.descriptors[0].kind == Kind::data);
  CHECK(got.descriptors[0].sector_offset == 0x4000);
  CHECK(got.descriptors[0].leading_bytes[7] == sector_of(1)[7]);
  CHECK(got.descriptors[0].trailing_bytes[3] == sector_of(1)[4095]);
  CHECK(got.descriptors[1].kind == Kind::zero);
  CHECK(got.descriptors[1].file_offset == 3 * MiB);
  CHECK(got.descriptors[1].length == 64 * KiB);
  CHECK(got.descriptors[2].sector_offset == 0x5000);
  CHECK(active_numbers(content) == Numbers{0x100000007});
}

TEST_CASE("bug class 24: an entry wraps around the log's end at each of its sectors") {
  TestEntry entry = small(1, 0);
  entry.zero(4 * MiB, 4 * KiB).data(3 * MiB, sector_of(9));
  for (uint32_t before_end = 0x1000; before_end <= 0x3000; before_end += 0x1000) {
    TestLog log;
    const uint32_t at = uint32_t(TestLog::log_length) - before_end;
    entry.tail = at;
    log.put(at, entry);
    const LogContent content = read(log);
    REQUIRE(content.entries.size() == 1);
    REQUIRE(active_numbers(content) == Numbers{1});
    CHECK(content.entries[0].descriptors[0].sector_offset == (at + 0x1000) % TestLog::log_length);
    CHECK(content.entries[0].descriptors[2].sector_offset == (at + 0x2000) % TestLog::log_length);
  }
}

TEST_CASE("bug class 24: an entry is none when any of its sectors was lost or torn") {
  TestEntry second{.sequence_number = 8, .tail = 0};
  for (unsigned i = 0; i < 130; ++i) second.data(2 * MiB + i * 4 * KiB, sector_of(i));
  const std::vector<std::byte> whole = second.bytes();
  REQUIRE(whole.size() == (2 + 130) * 4096);
  for (size_t lost = 0; lost < whole.size(); lost += 4096) {
    for (const bool half : {false, true}) {
      TestLog log;
      log.put(0, small(7, 0));
      std::vector<std::byte> bytes = whole;
      // What was there before: an older session's bytes.
      std::fill_n(bytes.begin() + long(lost + (half ? 512 : 0)), half ? 3584 : 4096,
                  std::byte{0x5a});
      log.put(0x2000, bytes);
      const LogContent content = read(log);
      CHECK(active_numbers(content) == Numbers{7});
      CHECK(content.fragments.size() == (lost == 0 && !half ? 0 : 1));
    }
  }
}

TEST_CASE("bug class 24: entries with another log's GUID are not the log's") {
  TestLog log;
  TestEntry stale = small(9, 0x2000);
  stale.guid = testing::other_guid;
  log.put(0, small(8, 0)).put(0x2000, stale);
  const LogContent content = read(log);
  CHECK(active_numbers(content) == Numbers{8});
  REQUIRE(content.fragments.size() == 1);
  CHECK(content.fragments[0].log_offset == 0x2000);
  CHECK(content.fragments[0].sequence_number == 9);
  CHECK(content.fragments[0].damage.find("another log's") != std::string::npos);
}

TEST_CASE("entry headers: each field is checked behind a right checksum") {
  const std::vector<std::byte> good = small(1, 0).bytes();
  const struct {
    std::vector<std::byte> bytes;
    std::string_view damage;
  } cases[] = {
      {changed(good, 8, le32(0)), "EntryLength 0x0"},
      {changed(good, 8, le32(0x1800)), "EntryLength 0x1800"},
      {changed(good, 8, le32(0x101000)), "EntryLength 0x101000"},
      {changed(good, 8, le32(0x1000)), "1 data descriptors"},
      {changed(good, 8, le32(0x3000)), "1 data descriptors"},
      {changed(good, 12, le32(0x200)), "Tail 0x200"},
      {changed(good, 12, le32(0x100000)), "Tail 0x100000"},
      {changed(good, 16, le64(0)), "SequenceNumber is 0"},
      {changed(good, 24, le32(300)), "DescriptorCount 300"},
      {changed(good, 24, le32(0xffffffff)), "DescriptorCount 4294967295"},
      {changed(good, 24, le32(2)), "descriptor 1: signature 0x0"},
      {changed(good, 64, le32(0x12345678)), "descriptor 0: signature 0x12345678"},
      {changed(good, 64 + 16, le64(2 * MiB + 512)), "descriptor 0: FileOffset 0x200200"},
      {changed(good, 64 + 24, le64(2)), "descriptor 0: SequenceNumber 2"},
      {changed(good, 4096, le32(0)), "data sector 0: signature 0x0"},
      {changed(good, 4096 + 4, le32(1)), "data sector 0: SequenceNumber 4294967297"},
      {changed(good, 8188, le32(2)), "data sector 0: SequenceNumber 2"},
  };
  for (const auto& [bytes, damage] : cases) {
    INFO(damage);
    TestLog log;
    log.put(0, bytes);
    const LogContent content = read(log);
    CHECK(content.entries.empty());
    REQUIRE(content.fragments.size() == 1);
    INFO(content.fragments[0].damage);
    CHECK(content.fragments[0].damage.find(damage) == 0);
  }
}

TEST_CASE("an entry's checksum covers its every byte") {
  const std::vector<std::byte> good = small(1, 0).bytes();
  for (const size_t at : {4, 28, 40, 50, 68, 4000, 4096 + 8, 8187}) {
    std::vector<std::byte> bytes = good;
    bytes[at] ^= std::byte{1};
    TestLog log;
    log.put(0, bytes);
    const LogContent content = read(log);
    REQUIRE(content.fragments.size() == 1);
    const std::string_view damage = at == 40 ? "LogGuid" : "checksum";
    CHECK(content.fragments[0].damage.find(damage) == 0);
  }
}

TEST_CASE("zero descriptors: only such, none at all, and a length that is no multiple of 4 KiB") {
  TestLog log;
  TestEntry none{.sequence_number = 1, .tail = 0};
  TestEntry zeroes{.sequence_number = 2, .tail = 0};
  zeroes.zero(2 * MiB, 1 * MiB).zero(4 * MiB, uint64_t{1} << 40);
  TestEntry odd{.sequence_number = 3, .tail = 0};
  odd.zero(2 * MiB, 4097);
  log.put(0, none).put(0x1000, zeroes).put(0x2000, odd);
  const LogContent content = read(log);
  CHECK(active_numbers(content) == Numbers{1, 2});
  CHECK(content.entries[0].descriptors.empty());
  CHECK(content.entries[1].length == 4 * KiB);
  CHECK(content.entries[1].descriptors[1].length == uint64_t{1} << 40);
  REQUIRE(content.fragments.size() == 1);
  CHECK(content.fragments[0].damage.find("ZeroLength 0x1001") != std::string::npos);
}

TEST_CASE("descriptors go on in a second and third sector") {
  for (const unsigned count : {126u, 127u, 254u, 255u}) {
    TestLog log;
    TestEntry entry{.sequence_number = 1, .tail = 0};
    for (unsigned i = 0; i + 1 < count; ++i) entry.zero(2 * MiB + i * 8 * KiB, 4 * KiB);
    entry.data(4 * MiB, sector_of(count));
    log.put(0, entry);
    const LogContent content = read(log);
    REQUIRE(content.entries.size() == 1);
    const LogEntry& got = content.entries[0];
    REQUIRE(got.descriptors.size() == count);
    CHECK(got.length == (count <= 126 ? 2 : count <= 254 ? 3 : 4) * 4 * KiB);
    CHECK(got.descriptors[count - 2].file_offset == 2 * MiB + (count - 2) * 8 * KiB);
    CHECK(got.descriptors[count - 1].sector_offset == got.length - 4 * KiB);
  }
}

TEST_CASE("the active sequence begins at its head's tail, not where entries begin") {
  TestLog log;
  log.put(0, small(5, 0)).put(0x2000, small(6, 0)).put(0x4000, small(7, 0x2000));
  const LogContent content = read(log);
  CHECK(content.entries.size() == 3);
  CHECK(active_numbers(content) == Numbers{6, 7});
  CHECK(content.head().sequence_number == 7);
}

TEST_CASE("of several complete sequences the newest is active") {
  TestLog log;
  log.put(0, small(20, 0)).put(0x2000, small(21, 0));
  log.put(0x8000, small(3, 0x8000)).put(0xa000, small(4, 0x8000));
  CHECK(active_numbers(read(log)) == Numbers{20, 21});
  log.put(0xa000, small(40, 0xa000));  // overwrites 4
  CHECK(active_numbers(read(log)) == Numbers{40});
}

TEST_CASE("a gap in the sequence numbers ends a sequence") {
  TestLog log;
  log.put(0, small(5, 0)).put(0x2000, small(7, 0));
  const LogContent content = read(log);
  // 7 says that it goes back to 0, but 6 was never there: only 5 is complete.
  CHECK(active_numbers(content) == Numbers{5});
  CHECK(content.entries.size() == 2);
}

TEST_CASE("a gap between places ends a sequence") {
  TestLog log;
  log.put(0, small(5, 0)).put(0x3000, small(6, 0));
  CHECK(active_numbers(read(log)) == Numbers{5});
}

TEST_CASE("a head whose tail is no entry of its sequence makes no sequence") {
  TestLog log;
  log.put(0x4000, small(6, 0x4000)).put(0x6000, small(7, 0));
  // The head of the whole run decides: 6 alone is not the newest state.
  CHECK_FALSE(read(log).has_active_sequence());
  log.put(0x6000, small(7, 0x8000));
  CHECK_FALSE(read(log).has_active_sequence());
  log.put(0x6000, small(7, 0x5000));
  CHECK_FALSE(read(log).has_active_sequence());
}

TEST_CASE("a sequence wraps around the log's end") {
  TestLog log;
  const uint32_t end = uint32_t(TestLog::log_length);
  log.put(end - 0x4000, small(5, end - 0x4000)).put(end - 0x2000, small(6, end - 0x4000));
  log.put(0, small(7, end - 0x4000)).put(0x2000, small(4, 0x2000));
  CHECK(active_numbers(read(log)) == Numbers{5, 6, 7});
}

TEST_CASE("one entry fills the whole log") {
  TestLog log;
  TestEntry entry{.sequence_number = 1, .tail = 0x5000};
  for (unsigned i = 0; i < 253; ++i) entry.data(2 * MiB + i * 4 * KiB, sector_of(i));
  REQUIRE(entry.bytes().size() == TestLog::log_length - 4096);
  entry.data(5 * MiB, sector_of(7));
  log.put(0x5000, entry);
  const LogContent content = read(log);
  CHECK(active_numbers(content) == Numbers{1});
  CHECK(content.entries[0].descriptors[253].sector_offset == 0x4000);
}

TEST_CASE("an entry that a newer one was written over is none, with any length that it claims") {
  TestLog log;
  TestEntry old{.sequence_number = 5, .tail = 0};
  for (unsigned i = 0; i < 20; ++i) old.data(2 * MiB + i * 4 * KiB, sector_of(i));
  log.put(0, old).put(0x4000, small(9, 0x4000));
  const LogContent content = read(log);
  CHECK(active_numbers(content) == Numbers{9});
  REQUIRE(content.fragments.size() == 1);
  CHECK(content.fragments[0].damage == "EntryLength 0x15000 reaches over the entry at 0x4000");
}

TEST_CASE("a log full of headers that claim the whole log costs no more than one look") {
  TestLog log;
  log.header.log_length = 64 * MiB;
  REQUIRE_OK(log.file.resize(128 * MiB));
  std::vector<std::byte> bytes = small(1, 0).bytes();
  bytes.resize(4096);
  const le32 whole_log = uint32_t(log.header.log_length);
  std::ranges::copy(bytes_of(whole_log), bytes.begin() + 8);
  for (uint64_t at = 0; at < log.header.log_length; at += 4096)
    log.file.store(log.header.log_offset + at, bytes);
  const LogContent content = read(log);
  CHECK(content.entries.empty());
  CHECK(content.fragments.size() == 64 * MiB / 4096);
}

TEST_CASE("a log outside the file is corrupt") {
  TestLog log;
  log.header.log_offset = 8 * MiB;
  REQUIRE_FAILS(Errc::corrupt, "disk.vhdx: log at 0x800000",
                tests::await(read_log(log.file, log.header)));
}

}  // namespace
}  // namespace vhdkit::vhdx
