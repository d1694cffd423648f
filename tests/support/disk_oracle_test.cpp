#include "tests/support/disk_oracle.h"

#include <doctest/doctest.h>

namespace vhdkit::tests {
namespace {

using Bytes = std::vector<std::byte>;

Bytes sector_of(const DiskOracle& oracle, size_t change, uint64_t sector) {
  Bytes bytes(DiskOracle::sector_bytes);
  oracle.fill(change, sector, bytes);
  return bytes;
}

const Bytes zeroes(DiskOracle::sector_bytes);

bool now(const DiskOracle& oracle, const Bytes& bytes) {
  return oracle.judge(0, bytes, false).empty();
}
bool crashed(const DiskOracle& oracle, const Bytes& bytes) {
  return oracle.judge(0, bytes, true).empty();
}

TEST_CASE(
    "a write in flight may be there or not; a completed one is; after a crash it may be lost") {
  DiskOracle oracle(1);
  CHECK(now(oracle, zeroes));
  const size_t write = oracle.begin_write(0, 1);
  const Bytes written = sector_of(oracle, write, 0);
  CHECK((now(oracle, zeroes) && now(oracle, written)));
  oracle.complete(write);
  CHECK_FALSE(now(oracle, zeroes));
  CHECK((crashed(oracle, zeroes) && crashed(oracle, written)));
}

TEST_CASE("a flush makes durable what had completed when it began, and no more") {
  DiskOracle oracle(1);
  const size_t first = oracle.begin_write(0, 1);
  oracle.complete(first);
  const size_t flush = oracle.begin_flush();
  const size_t second = oracle.begin_write(0, 1);
  oracle.complete(second);
  oracle.complete_flush(flush);
  CHECK_FALSE(crashed(oracle, zeroes));
  CHECK(crashed(oracle, sector_of(oracle, first, 0)));
  CHECK(crashed(oracle, sector_of(oracle, second, 0)));
  CHECK_FALSE(now(oracle, sector_of(oracle, first, 0)));
}

TEST_CASE("two writes at once have no order; a failed one may be there until it is hidden") {
  DiskOracle oracle(1);
  const size_t a = oracle.begin_write(0, 1);
  const size_t b = oracle.begin_write(0, 1);
  oracle.complete(a);
  oracle.complete(b);
  CHECK((now(oracle, sector_of(oracle, a, 0)) && now(oracle, sector_of(oracle, b, 0))));
  const size_t failed = oracle.begin_write(0, 1);
  oracle.fail(failed);
  CHECK((now(oracle, sector_of(oracle, failed, 0)) && now(oracle, sector_of(oracle, a, 0))));
  oracle.complete(oracle.begin_zero(0, 1));
  CHECK_FALSE(now(oracle, sector_of(oracle, failed, 0)));
  CHECK(crashed(oracle, sector_of(oracle, failed, 0)));
}

TEST_CASE("bytes of another sector, of two writes or of nobody are found out") {
  DiskOracle oracle(2);
  const size_t a = oracle.begin_write(0, 2);
  const size_t b = oracle.begin_write(0, 2);
  CHECK_FALSE(now(oracle, sector_of(oracle, a, 1)));
  Bytes torn = sector_of(oracle, a, 0);
  const Bytes other = sector_of(oracle, b, 0);
  std::copy(other.begin() + 256, other.end(), torn.begin() + 256);
  CHECK_FALSE(now(oracle, torn));
  CHECK_FALSE(now(oracle, Bytes(DiskOracle::sector_bytes, std::byte{1})));
}

TEST_CASE("after a crash the disk goes on from what was found") {
  DiskOracle oracle(1);
  const size_t write = oracle.begin_write(0, 1);
  oracle.complete(write);
  oracle.settle(0, zeroes);
  CHECK(now(oracle, zeroes));
  CHECK_FALSE(crashed(oracle, sector_of(oracle, write, 0)));
}

}  // namespace
}  // namespace vhdkit::tests
