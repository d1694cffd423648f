#include "vsp-storage/scsi/verify.h"

#include "support/bytes.h"
#include "support/checked.h"
#include "tests/support/content.h"
#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

using tests::random_bytes;

constexpr uint8_t verifies[] = {0x2f, 0xaf, 0x8f};
constexpr uint8_t write_and_verifies[] = {0x2e, 0xae, 0x8e};
constexpr uint8_t bytchk1 = 0x02, bytchk2 = 0x04, bytchk3 = 0x06;

// INFORMATION, where it is valid.
std::optional<uint64_t> information(const Outcome& outcome) {
  if ((outcome.sense[0] & std::byte{0x80}) == std::byte{0}) return std::nullopt;
  const Bytes sense(outcome.sense.begin(), outcome.sense.end());
  return value_at(sense, 3, 4);
}

Bytes caw(uint64_t lba, unsigned count, uint8_t flags = 0) {
  Bytes cdb = cdb16(0x89, {.lba = lba, .flags = flags});
  cdb[13] = std::byte(count);
  return cdb;
}

Bytes joined(const Bytes& first, const Bytes& second) {
  Bytes both = first;
  both.insert(both.end(), second.begin(), second.end());
  return both;
}

TEST_CASE("VERIFY 10, 12, 16: Simple, Flags, Dpo") {
  for (const uint32_t block_bytes : {512U, 4096U}) {
    TestDisk test(TestDisk::default_options(), block_bytes, 4096);
    const Bytes content = random_bytes(size_t{700} * block_bytes, 5);
    CHECK(said(test.initiator.write({.lba = 1, .count = 700}, content)) == "good");
    for (const uint8_t opcode : verifies)
      for (const uint8_t flags : {uint8_t{0}, uint8_t{0x10}, bytchk1, uint8_t{bytchk1 | 0x10}}) {
        const Blocks blocks{.lba = 1, .count = 700, .flags = flags};
        const bool sends = (flags & bytchk1) != 0;
        const Outcome outcome =
            test.initiator.out(block_cdb(opcode, blocks), sends ? content : Bytes());
        CHECK(said(outcome) == "good");
        CHECK(outcome.transferred_bytes == (sends ? content.size() : 0));
      }
  }
}

TEST_CASE("VERIFY 10, 12, 16: BeyondEol, ZeroBlocks, VerifyProtect") {
  TestDisk test;
  for (const uint8_t opcode : verifies) {
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1023, .count = 2}))) == "5/21/00");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1025}))) == "5/21/00");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1024}))) == "good");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 0}))) == "good");
    const Outcome protect =
        test.initiator.out(block_cdb(opcode, {.count = 1, .flags = 0x20}), test.blocks(1, 0));
    CHECK(field(protect) == "cdb 1.7");
    const Outcome reserved =
        test.initiator.out(block_cdb(opcode, {.count = 1, .flags = bytchk2}), test.blocks(1, 0));
    CHECK(field(reserved) == "cdb 1.2");
  }
}

TEST_CASE("VERIFY 10, 12, 16: Mismatch says where, MismatchNoCmp does not compare") {
  TestDisk test;
  const Bytes content = random_bytes(size_t{1024} * 512, 6);
  CHECK(said(test.initiator.write({.count = 1024}, content)) == "good");
  for (const uint8_t opcode : verifies)
    for (const size_t at : {size_t{0}, size_t{511}, size_t{512}, size_t{262143}, size_t{262144},
                            content.size() - 1}) {
      CAPTURE(at);
      Bytes other = content;
      other[at] ^= std::byte{1};
      const Blocks compared{.count = 1024, .flags = bytchk1};
      const Outcome outcome = test.initiator.out(block_cdb(opcode, compared), other);
      CHECK(said(outcome) == "E/1D/00");
      CHECK(information(outcome) == at);
      CHECK(said(test.initiator.out(block_cdb(opcode, {.count = 1024}), other)) == "good");
    }
}

TEST_CASE("VERIFY with BYTCHK 3 compares every block with the one that is sent") {
  TestDisk test;
  const Bytes one = random_bytes(512, 7);
  Bytes many;
  for (int i = 0; i < 600; ++i) many.insert(many.end(), one.begin(), one.end());
  CHECK(said(test.initiator.write({.lba = 2, .count = 600}, many)) == "good");
  for (const uint8_t opcode : verifies) {
    const Blocks same{.lba = 2, .count = 600, .flags = bytchk3};
    const Outcome outcome = test.initiator.out(block_cdb(opcode, same), one);
    CHECK(said(outcome) == "good");
    CHECK(outcome.transferred_bytes == 512);
    const Blocks one_more{.lba = 2, .count = 601, .flags = bytchk3};
    const Outcome differs = test.initiator.out(block_cdb(opcode, one_more), one);
    CHECK(said(differs) == "E/1D/00");
    CHECK(said(test.initiator.out(block_cdb(opcode, same), Bytes(511))) == "overrun");
  }
}

TEST_CASE("VERIFY compares no more than the buffers hold") {
  TestDisk test;
  for (const uint8_t opcode : verifies) {
    const Blocks four{.count = 4, .flags = bytchk1};
    const Outcome outcome = test.initiator.out(block_cdb(opcode, four), Bytes(1100));
    CHECK(said(outcome) == "overrun");
    CHECK(outcome.transferred_bytes == 1024);
  }
}

TEST_CASE("VERIFY asks before each piece that it reads, and ends where it may not go on") {
  for (const uint8_t opcode : verifies) {
    TestDisk test;
    CountedPace enough(4), one_piece(1);
    test.initiator.pace = &enough;
    const Bytes all = block_cdb(opcode, {.count = 1000});
    CHECK(said(test.initiator.none(all)) == "good");
    CHECK(enough.asked == std::vector<uint64_t>{256 * KiB, 1000 * 512 - 256 * KiB});
    const uint64_t reads = test.disk.reads;
    test.initiator.pace = &one_piece;
    CHECK(said(test.initiator.none(all)) == "B/00/00");
    CHECK(test.disk.reads == reads + 1);
  }
}

TEST_CASE("WRITE AND VERIFY 10, 12, 16: Simple, Flags, Dpo: written, durable, read back") {
  TestDisk test;
  uint64_t durable = 0;
  for (const uint8_t opcode : write_and_verifies)
    for (const uint8_t flags : {uint8_t{0}, uint8_t{0x10}, bytchk1}) {
      const Bytes data = random_bytes(600 * 512, opcode + flags);
      const uint64_t reads = test.disk.reads;
      const Outcome outcome =
          test.initiator.out(block_cdb(opcode, {.lba = 9, .count = 600, .flags = flags}), data);
      CHECK(said(outcome) == "good");
      CHECK(outcome.transferred_bytes == data.size());
      CHECK(test.disk.durable_writes == ++durable);
      CHECK(test.disk.reads == reads + 2);  // 300 KiB in pieces of 256
      REQUIRE_EQUAL(test.content(9, 600), data);
    }
}

TEST_CASE("WRITE AND VERIFY 10, 12, 16: BeyondEol, ZeroBlocks, WriteProtect, Residuals") {
  TestDisk test;
  for (const uint8_t opcode : write_and_verifies) {
    const Bytes data = test.blocks(2, 1);
    CHECK(said(test.initiator.out(block_cdb(opcode, {.lba = 1023, .count = 2}), data)) ==
          "5/21/00");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1025}))) == "5/21/00");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1024}))) == "good");
    CHECK(field(test.initiator.out(block_cdb(opcode, {.count = 2, .flags = 0xe0}), data)) ==
          "cdb 1.7");
    CHECK(field(test.initiator.out(block_cdb(opcode, {.count = 2, .flags = bytchk3}), data)) ==
          "cdb 1.2");
    CHECK(test.disk.durable_writes == 0);
  }
  for (const uint8_t opcode : write_and_verifies) {
    const Outcome longer = test.initiator.out(block_cdb(opcode, {.count = 1}), test.blocks(3, 4));
    CHECK(said(longer) == "good");
    CHECK(longer.transferred_bytes == 512);
    const Outcome shorter = test.initiator.out(block_cdb(opcode, {.count = 3}), test.blocks(1, 4));
    CHECK(said(shorter) == "overrun");
    CHECK(shorter.transferred_bytes == 512);
    CHECK(is_zero(test.content(1, 2)));
  }
}

TEST_CASE("a medium that does not hold what was written is found out") {
  TestDisk test;
  test.disk.damaged_offset = 3 * 512 + 17;
  for (const uint8_t opcode : write_and_verifies) {
    const Blocks plain{.lba = 2, .count = 4};
    const Blocks compared{.lba = 2, .count = 4, .flags = bytchk1};
    CHECK(said(test.initiator.out(block_cdb(opcode, plain), test.blocks(4, 9))) == "good");
    const Outcome outcome = test.initiator.out(block_cdb(opcode, compared), test.blocks(4, 9));
    CHECK(said(outcome) == "E/1D/00");
    CHECK(information(outcome) == 512 + 17);
  }
}

TEST_CASE("COMPARE AND WRITE: Simple, DpoFua, Unwritten") {
  TestDisk test;
  for (const unsigned count : {1U, 2U, 31U, 32U})
    for (const uint64_t lba : {uint64_t{0}, uint64_t{1024} - count}) {
      const Bytes before = test.content(lba, count);
      const Bytes after = random_bytes(count * 512, unsigned(lba) + count);
      const Outcome outcome = test.initiator.out(caw(lba, count), joined(before, after));
      CHECK(said(outcome) == "good");
      CHECK(outcome.transferred_bytes == 2 * after.size());
      REQUIRE_EQUAL(test.content(lba, count), after);
    }
  const uint64_t durable = test.disk.durable_writes;
  const Bytes same = test.content(0, 1);
  CHECK(said(test.initiator.out(caw(0, 1, 0x10), joined(same, same))) == "good");
  CHECK(test.disk.durable_writes == durable);
  CHECK(said(test.initiator.out(caw(0, 1, 0x08), joined(same, same))) == "good");
  CHECK(test.disk.durable_writes == durable + 1);
}

TEST_CASE("COMPARE AND WRITE: Miscompare changes nothing and says where") {
  TestDisk test;
  const Bytes content = random_bytes(2 * 512, 3);
  CHECK(said(test.initiator.write({.lba = 4, .count = 2}, content)) == "good");
  for (const size_t at : {0, 1, 511, 512, 1023}) {
    Bytes wrong = content;
    wrong[at] ^= std::byte{0x80};
    const Outcome outcome = test.initiator.out(caw(4, 2), joined(wrong, test.blocks(2, 1)));
    CHECK(said(outcome) == "E/1D/00");
    CHECK(information(outcome) == at);
    CHECK(test.content(4, 2) == content);
  }
}

TEST_CASE("COMPARE AND WRITE: InvalidDataOutSize, limits, beyond the end") {
  TestDisk test;
  for (const size_t blocks : {0, 1, 3, 4})
    CHECK(field(test.initiator.out(caw(0, 1), test.blocks(blocks, 0))) == "cdb 13");
  CHECK(field(test.initiator.out(caw(0, 33), test.blocks(66, 0))) == "cdb 13");
  CHECK(said(test.initiator.out(caw(1023, 2), test.blocks(4, 0))) == "5/21/00");
  CHECK(said(test.initiator.out(caw(UINT64_MAX, 1), test.blocks(2, 0))) == "5/21/00");
  CHECK(field(test.initiator.out(caw(0, 1, 0x20), test.blocks(2, 0))) == "cdb 1.7");
  CHECK(said(test.initiator.none(caw(0, 0))) == "good");
  CHECK(test.disk.cached_writes == 0);
}

// A command that is under way, with its buffers.
struct Running {
  Running(DiskUnit& unit, disk::Disk& disk, Bytes bytes, Direction direction, Bytes buffer,
          Resumer* resumer, Pace* pace = nullptr)
      : cdb(std::move(bytes)),
        data(std::move(buffer)),
        vector{data.data(), data.size()},
        command{.cdb = cdb,
                .direction = direction,
                .data = Buffers(&vector, 1),
                .initiator = 0,
                .resumer = resumer,
                .pace = pace},
        task(unit.execute(disk, command)) {
    task.start();
  }
  Bytes cdb;
  Bytes data;
  iovec vector;
  Command command;
  async::Task<Outcome> task;
};

TEST_CASE("COMPARE AND WRITE waits for what runs, and what comes later waits for it") {
  TestDisk test;
  ResumeHere resumer;
  test.disk.holds_reads = true;
  const Bytes old_and_new = joined(test.blocks(1, 0), test.blocks(1, 7));
  Running reading(test.unit, test.disk, cdb10(0x28, {.count = 1}), Direction::from_device,
                  Bytes(512), &resumer);
  Running comparing(test.unit, test.disk, caw(0, 1), Direction::to_device, old_and_new, &resumer);
  Running writing(test.unit, test.disk, cdb10(0x2a, {.count = 1}), Direction::to_device,
                  test.blocks(1, 9), &resumer);
  CHECK_FALSE(reading.task.done());
  CHECK(test.disk.held.size() == 1);
  CHECK(test.disk.cached_writes == 0);
  // The read ends, so the comparison begins.
  test.disk.held.front().resume();
  CHECK(reading.task.done());
  REQUIRE(test.disk.held.size() == 2);
  CHECK_FALSE(comparing.task.done());
  CHECK(test.disk.cached_writes == 0);
  test.disk.held.back().resume();
  REQUIRE(comparing.task.done());
  CHECK(said(comparing.task.take()) == "good");
  REQUIRE(writing.task.done());
  CHECK(said(writing.task.take()) == "good");
  test.disk.holds_reads = false;
  CHECK(test.content(0, 1) == test.blocks(1, 9));
}

TEST_CASE("COMPARE AND WRITE does not wait for the whole of a long VERIFY") {
  TestDisk test;
  ResumeHere resumer;
  test.disk.holds_reads = true;
  Running verifying(test.unit, test.disk, cdb16(0x8f, {.count = 1024}), Direction::none, {},
                    &resumer);
  Running comparing(test.unit, test.disk, caw(0, 1), Direction::to_device, Bytes(1024), &resumer);
  CHECK(test.disk.held.size() == 1);
  test.disk.held[0].resume();
  CHECK(test.disk.held.size() == 2);
  CHECK_FALSE(verifying.task.done());
  test.disk.held[1].resume();
  REQUIRE(comparing.task.done());
  CHECK(said(comparing.task.take()) == "good");
  REQUIRE(test.disk.held.size() == 3);
  test.disk.held[2].resume();
  REQUIRE(verifying.task.done());
  CHECK(said(verifying.task.take()) == "good");
}

// Holds every piece until it is let go.
class HeldPace final : public Pace {
 public:
  async::Task<bool> admit(uint64_t) override {
    Hold hold{*this};
    co_await hold;
    co_return true;
  }
  std::deque<std::coroutine_handle<>> held;

 private:
  struct Hold {
    HeldPace& pace;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { pace.held.push_back(waiter); }
    void await_resume() const noexcept {}
  };
};

TEST_CASE("COMPARE AND WRITE does not wait for a WRITE SAME that may not go on yet") {
  TestDisk test;
  ResumeHere resumer;
  HeldPace pace;
  Running filling(test.unit, test.disk, cdb16(0x93, {.lba = 8, .count = 1000}),
                  Direction::to_device, test.blocks(1, 9), &resumer, &pace);
  REQUIRE(pace.held.size() == 1);
  Running comparing(test.unit, test.disk, caw(0, 1), Direction::to_device,
                    joined(test.blocks(1, 0), test.blocks(1, 7)), &resumer);
  REQUIRE(comparing.task.done());
  CHECK(said(comparing.task.take()) == "good");
  pace.held[0].resume();
  REQUIRE(pace.held.size() == 2);
  pace.held[1].resume();
  REQUIRE(filling.task.done());
  CHECK(said(filling.task.take()) == "good");
  CHECK(test.content(0, 1) == test.blocks(1, 7));
  CHECK(test.content(1007, 1) == test.blocks(1, 9));
}

TEST_CASE("a command that may not wait is told that the unit is busy") {
  TestDisk test;
  ResumeHere resumer;
  test.disk.holds_reads = true;
  Running reading(test.unit, test.disk, cdb10(0x28, {.count = 1}), Direction::from_device,
                  Bytes(512), nullptr);
  Running refused(test.unit, test.disk, caw(0, 1), Direction::to_device, Bytes(1024), nullptr);
  REQUIRE(refused.task.done());
  CHECK(said(refused.task.take()) == "busy");
  Running waiting(test.unit, test.disk, caw(0, 1), Direction::to_device, Bytes(1024), &resumer);
  Running writing(test.unit, test.disk, cdb10(0x2a, {.count = 1}), Direction::to_device, Bytes(512),
                  nullptr);
  REQUIRE(writing.task.done());
  CHECK(said(writing.task.take()) == "busy");
  test.disk.held[0].resume();
  test.disk.held[1].resume();
  CHECK(said(reading.task.take()) == "good");
  CHECK(said(waiting.task.take()) == "good");
}

}  // namespace
}  // namespace vhdkit::scsi
