#include <doctest/doctest.h>

#include "tests/support/vhdx_check.h"

namespace vhdkit::vhdx {
namespace {

using tests::Case;
using tests::check_cases;
using tests::checked;
using tests::clean_image;
using tests::Damaged;
using tests::Report;

// Where the fields of [MS-VHDX] 2.6 lie: entries of 32 bytes behind a header of 32, items in the
// order of the table's entries behind its 64 KiB.
constexpr uint64_t table = 2 * MiB;
constexpr uint64_t entry_of_parameters = table + 32;
constexpr uint64_t entry_of_size = table + 64;
constexpr uint64_t entry_of_physical = table + 160;
constexpr uint64_t entry_of_locator = table + 192;
constexpr uint64_t parameters = table + 64 * KiB;
constexpr uint64_t disk_size = parameters + 8;
constexpr uint64_t logical = parameters + 32;
constexpr uint64_t physical = parameters + 36;
constexpr uint64_t locator = parameters + 40;

// One entry more, the sixth; its identifier is no known one's.
Damaged& add_item(Damaged& d, uint64_t offset, uint64_t length, uint64_t flags) {
  d.put16(table + 10, 6);
  return d.put32(entry_of_locator, 1)
      .put32(entry_of_locator + 16, offset)
      .put32(entry_of_locator + 20, length)
      .put32(entry_of_locator + 24, flags);
}

TEST_CASE("damage to the metadata table") {
  const Case cases[] = {
      {"corruption metadata-signature 0x200000", [](Damaged& d) { d.put8(table, 0); }},
      {"warning metadata-reserved 0x200008", [](Damaged& d) { d.put16(table + 8, 1); }},
      {"warning metadata-reserved 0x200008", [](Damaged& d) { d.put8(table + 31, 1); }},
      {"note item-unknown 0x2000c0", [](Damaged& d) { add_item(d, 0x20000, 8, 0); }},
      {"note item-unknown 0x2000c0", [](Damaged& d) { add_item(d, 0x20000, 8, 1); }},
      {"corruption item-unknown-required 0x2000c0", [](Damaged& d) { add_item(d, 0x20000, 8, 4); }},
      {"note item-unknown 0x2000c0, warning item-empty 0x2000d0",
       [](Damaged& d) { add_item(d, 0x20000, 0, 0); }},
      {"note item-unknown 0x2000c0", [](Damaged& d) { add_item(d, 0, 0, 0); }},
      {"note item-unknown 0x2000c0, corruption item-too-long 0x2000d4",
       [](Damaged& d) { add_item(d, 0x10000, 1 * MiB + 1, 0); }},
      {"note item-unknown 0x2000c0, corruption item-in-table 0x2000d0",
       [](Damaged& d) { add_item(d, 0xfff8, 8, 0); }},
      {"note item-unknown 0x2000c0, corruption item-past-end 0x2000d0",
       [](Damaged& d) { add_item(d, 1 * MiB - 4, 8, 0); }},
      {"note item-unknown 0x2000c0, corruption item-past-end 0x2000d0",
       [](Damaged& d) { add_item(d, 0xfffffff8, 1 * MiB, 0); }},
      {"note item-unknown 0x2000c0, corruption items-overlap 0x21001f, corruption items-overlap "
       "0x210020",
       [](Damaged& d) { add_item(d, 0x1001f, 2, 0); }},
      {"warning item-reserved 0x200058", [](Damaged& d) { d.put32(entry_of_size + 24, 6 | 8); }},
      {"warning item-reserved 0x200058", [](Damaged& d) { d.put32(entry_of_size + 28, 1); }},
      {"warning item-flags 0x200058", [](Damaged& d) { d.put32(entry_of_size + 24, 4); }},
      {"corruption item-unknown-required 0x2000a0, corruption item-missing 0x200000",
       [](Damaged& d) { d.put8(entry_of_physical, 0); }},
      // A user's item is never a known one.
      {"corruption item-unknown-required 0x200040, corruption item-missing 0x200000",
       [](Damaged& d) { d.put32(entry_of_size + 24, 7); }},
  };
  check_cases(clean_image(), cases);
}

TEST_CASE("an item that is twice there is corruption, unless a user's") {
  const Case cases[] = {
      {"corruption item-twice 0x2000c0",
       [](Damaged& d) { add_item(d, 0x20000, 8, 6).copy(entry_of_size, entry_of_locator, 16); }},
      {"note item-unknown 0x2000c0",
       [](Damaged& d) { add_item(d, 0x20000, 8, 1).copy(entry_of_size, entry_of_locator, 16); }},
  };
  check_cases(clean_image(), cases);
}

// `count` user items behind the five known ones, as many of them as the table has room for.
Report with_user_items(unsigned count) {
  Damaged damaged(clean_image().build());
  damaged.put16(table + 10, 5 + count);
  for (unsigned i = 0; i < std::min(count, 2042u); ++i) {
    const uint64_t entry = entry_of_locator + i * 32;
    damaged.put32(entry, i + 1).put32(entry + 24, 1);
  }
  return checked(damaged.file());
}

TEST_CASE("a table has at most 1024 user items and 2047 entries") {
  CHECK(with_user_items(1024).findings.count(disk::Severity::corruption) == 0);
  const Report many = with_user_items(1025);
  CHECK(many.findings.count(disk::Severity::corruption) == 1);
  CHECK(many.findings.kept().back().code == "vhdx-metadata-user-count");
  const Report full = with_user_items(2043);
  CHECK(full.findings.count(disk::Severity::corruption) == 2);
  CHECK(full.findings.kept().front().code == "vhdx-metadata-count");
}

TEST_CASE("damage to the values of metadata items") {
  const Case cases[] = {
      {"corruption item-length 0x210000", [](Damaged& d) { d.put32(entry_of_parameters + 20, 4); }},
      {"warning item-length 0x210024", [](Damaged& d) { d.put32(entry_of_physical + 20, 8); }},
      {"warning file-parameters-reserved 0x210004", [](Damaged& d) { d.put32(parameters + 4, 4); }},
      {"corruption block-size 0x210000", [](Damaged& d) { d.put32(parameters, 512 * KiB); }},
      {"corruption block-size 0x210000", [](Damaged& d) { d.put32(parameters, 3 * MiB); }},
      {"corruption block-size 0x210000", [](Damaged& d) { d.put32(parameters, 512 * MiB); }},
      {"corruption block-size 0x210000", [](Damaged& d) { d.put32(parameters, 0); }},
      {"corruption disk-size 0x210008", [](Damaged& d) { d.put64(disk_size, 64 * TiB + 512); }},
      {"corruption disk-size 0x210008", [](Damaged& d) { d.put64(disk_size, 8 * MiB - 1); }},
      {"warning disk-empty 0x210008, leak unused-tail 0x400000",
       [](Damaged& d) { d.put64(disk_size, 0).resize(10 * MiB); }},
      {"corruption sector-size 0x210020", [](Damaged& d) { d.put32(logical, 1024); }},
      {"corruption sector-size 0x210020, warning sector-sizes 0x210024",
       [](Damaged& d) { d.put32(logical, 8192); }},
      {"corruption sector-size 0x210024", [](Damaged& d) { d.put32(physical, 1024); }},
      {"warning sector-sizes 0x210024",
       [](Damaged& d) { d.put32(logical, 4096).put32(physical, 512); }},
      {"corruption item-missing 0x200000", [](Damaged& d) { d.put32(parameters + 4, 2); }},
  };
  check_cases(clean_image(), cases);
}

// A differencing image whose locator has these pairs.
std::string of_locator(std::vector<std::pair<std::string, std::string>> pairs) {
  tests::VhdxImage image = clean_image();
  image.make_differencing();
  image.metadata.parent_locator->entries = std::move(pairs);
  const auto file = image.build();
  return checked(*file).text();
}

TEST_CASE("what a parent locator says") {
  const std::pair<std::string, std::string> linkage = {"parent_linkage",
                                                       "{fedcba98-7654-3210-fedc-ba9876543210}"};
  const std::pair<std::string, std::string> path = {"relative_path", R"(.\p.vhdx)"};
  const std::string zero = "{00000000-0000-0000-0000-000000000000}";
  CHECK(of_locator({linkage, path}) == "");
  CHECK(of_locator({linkage, {"absolute_win32_path", R"(\\?\C:\p.vhdx)"}}) == "");
  CHECK(of_locator({linkage, {"absolute_win32_path", R"(C:\p.vhdx)"}}) ==
        "warning parent-path-form 0x210028");
  CHECK(of_locator({linkage}) == "warning parent-path-missing 0x210028");
  CHECK(of_locator({linkage, {"relative_path", ""}}) == "warning parent-path-missing 0x210028");
  CHECK(of_locator({{"parent_linkage", zero}, path}) == "warning linkage-zero 0x210028");
  CHECK(of_locator({{"parent_linkage", "FEDCBA98-7654-3210-FEDC-BA9876543210"}, path}) ==
        "note linkage-form 0x210028");
  CHECK(of_locator({linkage, {"parent_linkage2", zero}, path}) == "");
  CHECK(of_locator({linkage, {"parent_linkage2", linkage.second}, path}) ==
        "note linkage2 0x210028");
  CHECK(of_locator({linkage, path, {"colour", "blue"}}) == "note locator-key 0x210028");
  CHECK(of_locator({path}) == "corruption locator-damaged 0x210028");
  CHECK(of_locator({{"parent_linkage", "none"}, path}) == "corruption locator-damaged 0x210028");
}

TEST_CASE("damage to a differencing disk's locator") {
  tests::VhdxImage image = clean_image();
  image.make_differencing();
  const Case cases[] = {
      {"corruption locator-type 0x210028", [](Damaged& d) { d.put8(locator, 0); }},
      {"warning locator-reserved 0x210038", [](Damaged& d) { d.put16(locator + 16, 1); }},
      {"corruption locator-damaged 0x210028", [](Damaged& d) { d.put16(locator + 18, 500); }},
      {"corruption locator-damaged 0x210028", [](Damaged& d) { d.put32(locator + 20, 0x10000); }},
      {"warning locator-unexpected 0x210028", [](Damaged& d) { d.put32(parameters + 4, 0); }},
  };
  check_cases(image, cases);
}

TEST_CASE("a metadata region without room for its table is corruption") {
  // The region table's lengths are multiples of 1 MiB, so only an empty region is too short.
  Damaged damaged(clean_image().build());
  for (const uint64_t region_table : {192 * KiB, 256 * KiB})
    damaged.put32(region_table + 16 + 32 + 24, 0);
  CHECK(checked(damaged.seal_tables().file()).text() == "corruption metadata-too-short 0x200000");
}

}  // namespace
}  // namespace vhdkit::vhdx
