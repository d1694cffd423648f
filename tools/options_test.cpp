#include "tools/options.h"

#include <doctest/doctest.h>

#include "support/checked.h"
#include "tests/support/await.h"
#include "tools/target_options.h"

namespace vhdkit::tools {
namespace {

TEST_CASE("sizes are bytes or have a power of 1024 behind them") {
  struct Case {
    const char* text;
    uint64_t bytes;
  };
  const Case cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"512B", 512},
      {"1k", 1 * KiB},
      {"1K", 1 * KiB},
      {"10m", 10 * MiB},
      {"20GB", 20 * GiB},
      {"20GiB", 20 * GiB},
      {"20gib", 20 * GiB},
      {"64T", 64 * TiB},
      {"1P", 1024 * TiB},
      {"15E", 15 * 1024 * 1024 * TiB},
      {"1.5G", 3 * GiB / 2},
      {"0.5K", 512},
      {"2.0M", 2 * MiB},
      {"007", 7},
      {"18446744073709551615", UINT64_MAX},
  };
  for (const Case& test : cases) {
    CAPTURE(test.text);
    const auto size = parse_size(test.text);
    REQUIRE_OK(size);
    CHECK(*size == test.bytes);
  }
}

TEST_CASE("counts are from 1 on, and not more than what is said") {
  CHECK(parse_count("1").value_or(0) == 1);
  CHECK(parse_count("18446744073709551615").value_or(0) == UINT64_MAX);
  CHECK(parse_count("32", 32).value_or(0) == 32);
  for (const char* const text : {"", "0", "-1", "+1", " 1", "1 ", "1K", "18446744073709551616"}) {
    CAPTURE(text);
    REQUIRE_FAILS(Errc::invalid_argument, "a number from 1 on is wanted", parse_count(text));
  }
  REQUIRE_FAILS(Errc::invalid_argument, "a number from 1 to 32 is wanted", parse_count("33", 32));
}

TEST_CASE("what is no size is refused with its reason") {
  struct Case {
    const char* text;
    const char* reason;
  };
  const Case cases[] = {
      {"", "is no size"},
      {"G", "is no size"},
      {"-1", "is no size"},
      {"+1", "is no size"},
      {" 1", "is no size"},
      {"1 ", "is no size"},
      {"1X", "is no size"},
      {"1Gi", "is no size"},
      {"1GG", "is no size"},
      {"0x10", "is no size"},
      {".5G", "is no size"},
      {"1.G", "no digits behind the point"},
      {"1.2.3G", "is no size"},
      {"0.1G", "no whole number of bytes"},
      {"1.5", "no whole number of bytes"},
      {"1.00000000000000000000001G", "no whole number of bytes"},
      {"16E", "more than 64 bits"},
      {"15.9999999E", "no whole number of bytes"},
      {"18446744073709551616", "more than 64 bits"},
      {"99999999999999999999999999999999", "more than 64 bits"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.text);
    REQUIRE_FAILS(Errc::invalid_argument, test.reason, parse_size(test.text));
  }
}

TEST_CASE("a disk's new size, or by how much it changes") {
  using Kind = image::SizeChange::Kind;
  const struct {
    const char* text;
    Kind kind;
    uint64_t bytes;
  } cases[] = {
      {"4096", Kind::to, 4096}, {"+1G", Kind::by_more, GiB}, {"-512M", Kind::by_less, 512 * MiB}};
  for (const auto& test : cases) {
    CAPTURE(test.text);
    const auto change = parse_size_change(test.text);
    REQUIRE_OK(change);
    CHECK(change->kind == test.kind);
    CHECK(change->bytes == test.bytes);
  }
  for (const char* const text : {"", "+", "-", "+-1G", "--1G", " 1G", "1G+"}) {
    CAPTURE(text);
    REQUIRE_FAILS(Errc::invalid_argument, "is no size", parse_size_change(text));
  }
}

TEST_CASE("commas part the items of -o, two of them are one of a value") {
  using Parts = std::vector<std::string>;
  CHECK(split_at_commas("a=1") == Parts{"a=1"});
  CHECK(split_at_commas("a=1,b=2") == Parts{"a=1", "b=2"});
  CHECK(split_at_commas("a=x,,y,b=2") == Parts{"a=x,y", "b=2"});
  CHECK(split_at_commas("a=1,") == Parts{"a=1", ""});
  CHECK(split_at_commas("") == Parts{""});
}

TEST_CASE("every key of -o reaches its option") {
  TargetArguments target;
  target.options.format = image::Format::vhdx;
  REQUIRE_OK(target.take("subformat=fixed,block_size=4M"));
  REQUIRE_OK(target.take("logical_sector_size=4096,physical_sector_size=4K"));
  REQUIRE_OK(target.take("disk_id=788015f0-5e93-4bd2-a5de-b0cd8459db11"));
  REQUIRE_OK(target.take("data_write_guid={01234567-89ab-cdef-0123-456789ABCDEF}"));
  REQUIRE_OK(target.take("windows_parent_path=C:\\a,,b\\p.vhdx"));
  const image::CreateOptions& options = target.options;
  CHECK(options.subformat == image::Subformat::fixed);
  CHECK(options.block_size_bytes == 4 * MiB);
  CHECK(options.logical_sector_bytes == 4096);
  CHECK(options.physical_sector_bytes == 4096);
  CHECK(options.disk_id->to_string() == "788015f0-5e93-4bd2-a5de-b0cd8459db11");
  CHECK(options.data_write_guid->to_string() == "01234567-89ab-cdef-0123-456789abcdef");
  CHECK(options.windows_parent_path == "C:\\a,b\\p.vhdx");
}

TEST_CASE("force_size of qemu-img's recipes is taken, and only where it is true") {
  TargetArguments target;
  target.options.format = image::Format::vhd;
  REQUIRE_OK(target.take("subformat=fixed,force_size"));
  REQUIRE_FAILS(Errc::invalid_argument, "force_size is given twice", target.take("force_size=on"));
  TargetArguments off;
  off.options.format = image::Format::vhd;
  REQUIRE_FAILS(Errc::invalid_argument, "exactly the size", off.take("force_size=off"));
  TargetArguments vhdx;
  vhdx.options.format = image::Format::vhdx;
  REQUIRE_FAILS(Errc::invalid_argument, "vhd only", vhdx.take("force_size"));
}

TEST_CASE("bug class 29: what is wrong with -o is said by name, before anything is opened") {
  struct Case {
    const char* list;
    const char* reason;
  };
  const Case cases[] = {
      {"cluster_size=64K",
       "\"cluster_size\" is no key known here; there are subformat, block_size"},
      {"Subformat=fixed", "\"Subformat\" is no key"},
      {"", "\"\" is no key"},
      {"subformat", "subformat needs a value: subformat=fixed|dynamic"},
      {"subformat=thick", "subformat: \"thick\""},
      {"block_size=1M,block_size=2M", "block_size is given twice"},
      {"block_size=0", "block_size: "},
      {"block_size=2X", "block_size: \"2X\" is no size"},
      {"logical_sector_size=520", "neither 512 nor 4096"},
      {"physical_sector_size=", "physical_sector_size: "},
      {"disk_id=17", "disk_id: \"17\" is no identifier"},
      {"data_write_guid=00000000-0000-0000-0000-000000000000", "identifies nothing"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.list);
    TargetArguments target;
    REQUIRE_FAILS(Errc::invalid_argument, test.reason, target.take(test.list));
  }
}

TEST_CASE("contradictions are found without a size and without a parent") {
  using image::CreateOptions;
  using image::Format;
  const CreateOptions sound[] = {
      {.format = Format::raw},
      {.format = Format::vhd},
      {.format = Format::vhdx, .logical_sector_bytes = 4096},
      {.format = Format::vhdx, .parent_path = "parent.vhdx"},
      {.format = Format::vhd, .profile = image::Profile::azure},
      {.format = Format::vhdx,
       .parent_path = "parent.vhdx",
       .windows_parent_path = "C:\\parent.vhdx"},
  };
  for (const CreateOptions& options : sound) REQUIRE_OK(check_early(options));
  const CreateOptions contradictions[] = {
      {.format = Format::qcow2},
      {.format = Format::raw, .subformat = image::Subformat::fixed},
      {.format = Format::vhd, .logical_sector_bytes = 4096},
      {.format = Format::vhd, .subformat = image::Subformat::fixed, .block_size_bytes = 2 * MiB},
      {.format = Format::vhdx, .block_size_bytes = 3 * MiB},
      {.format = Format::vhdx, .profile = image::Profile::azure},
      {.format = Format::vhd, .windows_parent_path = "C:\\parent.vhd"},
  };
  for (const CreateOptions& options : contradictions)
    REQUIRE_FAILS(Errc::invalid_argument, "", check_early(options));
}

}  // namespace
}  // namespace vhdkit::tools
