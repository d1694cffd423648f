#include "hypervisor/runner/disk_option.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

TEST_CASE("a disk is a file, written through the page cache unless said otherwise") {
  const auto plan = parse_disk("a disk.vhdx");
  REQUIRE(plan);
  CHECK(plan->path == "a disk.vhdx");
  CHECK(plan->open.writable);
  CHECK_FALSE(plan->open.direct);
  CHECK_FALSE(plan->open.format);
  CHECK_FALSE(plan->limits.is_limited());
}

TEST_CASE("words behind the file") {
  const auto plan = parse_disk("x.img,ro,cache=none,format=raw,iops=500,bps=50M");
  REQUIRE(plan);
  CHECK(plan->path == "x.img");
  CHECK_FALSE(plan->open.writable);
  CHECK(plan->open.direct);
  CHECK(plan->open.format == image::Format::raw);
  CHECK(plan->limits.requests_per_second == 500);
  CHECK(plan->limits.bytes_per_second == 50 << 20);
}

TEST_CASE("a comma of the file's name stands twice") {
  const auto plan = parse_disk("a,,b,,,ro");
  REQUIRE(plan);
  CHECK(plan->path == "a,b,");
  CHECK_FALSE(plan->open.writable);
}

TEST_CASE("what is no option is named") {
  REQUIRE_FAILS(Errc::invalid_argument, "file is missing", parse_disk(""));
  REQUIRE_FAILS(Errc::invalid_argument, "file is missing", parse_disk(",ro"));
  REQUIRE_FAILS(Errc::invalid_argument, "\"rw\"", parse_disk("a,rw"));
  REQUIRE_FAILS(Errc::invalid_argument, "\"\"", parse_disk("a,,,ro,cache="));
  REQUIRE_FAILS(Errc::invalid_argument, "\"fast\"", parse_disk("a,cache=fast"));
  REQUIRE_FAILS(Errc::invalid_argument, "\"0\"", parse_disk("a,iops=0"));
  REQUIRE_FAILS(Errc::invalid_argument, "\"0\"", parse_disk("a,bps=0"));
  REQUIRE_FAILS(Errc::invalid_argument, "\"\"", parse_disk("a,iops"));
  REQUIRE_FAILS(Errc::invalid_argument, "qcow3", parse_disk("a,format=qcow3"));
}

}  // namespace
}  // namespace vhdkit::hypervisor
