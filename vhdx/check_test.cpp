#include "vhdx/check.h"

#include <doctest/doctest.h>

#include "tests/support/programs.h"
#include "tests/support/sample.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vhdx_check.h"
#include "vhdx/create.h"
#include "vhdx/test_log.h"

namespace vhdkit::vhdx {
namespace {

using tests::Case;
using tests::check_cases;
using tests::checked;
using tests::clean_image;
using tests::Damaged;
using tests::Report;

// Where the fields of [MS-VHDX] 2.2 lie.
constexpr uint64_t header1 = 64 * KiB;
constexpr uint64_t header2 = 128 * KiB;  // the current one
constexpr uint64_t table1 = 192 * KiB;
constexpr uint64_t table2 = 256 * KiB;
constexpr uint64_t entry_bytes = 32;
constexpr uint64_t bat_entry = 16;  // in the region table
constexpr uint64_t metadata_entry = 16 + entry_bytes;
constexpr uint64_t third_entry = 16 + 2 * entry_bytes;

TEST_CASE("new images of every kind are clean") {
  for (const DiskType type : {DiskType::fixed, DiskType::dynamic, DiskType::differencing}) {
    for (const uint32_t sector : {512u, 4096u}) {
      CreateOptions options{.type = type,
                            .size_bytes = 5000 * MiB + sector,
                            .block_size_bytes = 1 * MiB,
                            .logical_sector_bytes = sector,
                            .disk_id = Guid::random(),
                            .data_write_guid = Guid::random(),
                            .parent = std::nullopt};
      if (type == DiskType::differencing)
        options.parent = ParentLink{.data_write_guid = Guid::random(),
                                    .relative_path = R"(.\parent.vhdx)",
                                    .absolute_path = R"(C:\vm\parent.vhdx)"};
      async::MemoryFile file("new.vhdx");
      const auto writer = create(file, options);
      REQUIRE_OK(writer);
      for (const uint64_t block : {5000, 0, 4096, 1})
        REQUIRE_OK((*writer)->place(block * MiB, sector));
      REQUIRE_OK(tests::await((*writer)->finish()));
      const Report report = checked(file);
      CHECK(report.text() == "");
      CHECK(report.usage.total == 5001);
      CHECK(report.usage.allocated == (type == DiskType::fixed ? 5001 : 4));
      // Behind each other lie: all; only blocks 0 and 4096, of 0, 1, 4096, 5000.
      CHECK(report.usage.fragmented == (type == DiskType::fixed ? 0 : 3));
      CHECK(report.usage.image_end_offset == file.size_bytes());
    }
  }
}

TEST_CASE("images of qemu-img have notes at most") {
  if (!tests::has_program("qemu-img")) return tests::skip("qemu-img is not there");
  const tests::TemporaryFolder folder;
  const char* const commands[] = {
      "qemu-img create -f vhdx FILE 10G",
      "qemu-img create -f vhdx -o block_size=1M,log_size=4M FILE 64T",
      "qemu-img create -f vhdx -o subformat=fixed FILE 100M",
      "qemu-img create -f vhdx -o subformat=fixed,block_state_zero=off FILE 96M",
      "qemu-img create -f vhdx FILE 10G && qemu-io -c 'write -P 1 5M 70M' -c 'write 9G 1M' FILE",
      "qemu-img create -f vhdx -o block_size=1M FILE 3T && qemu-io -c 'write 2T 1M' FILE",
  };
  for (const std::string command : commands) {
    CAPTURE(command);
    const std::string path = folder.path("q.vhdx");
    std::string with_path = command;
    for (size_t at = 0; (at = with_path.find("FILE")) != std::string::npos;)
      with_path.replace(at, 4, path);
    REQUIRE(tests::run(with_path));
    auto loop = async::Loop::create();
    REQUIRE_OK(loop);
    const auto file = async::SystemFile::open(**loop, path, async::SystemFile::Access::read_only);
    REQUIRE_OK(file);
    Report report;
    REQUIRE_OK((*loop)->run(check(**file, report.findings, report.usage)));
    INFO(report.messages());
    CHECK(report.findings.count(disk::Severity::note) == report.findings.total());
  }
}

TEST_CASE("an image of Hyper-V is clean") {
  const auto file = tests::sample("hyperv-dynamic-10M.vhdx.gz");
  if (!file) return;
  const Report report = checked(*file);
  CHECK(report.text() == "");
  CHECK(report.usage.total == 1);
  CHECK(report.usage.allocated == 1);
}

TEST_CASE("an image that was cut off while writing is checked as it will be after replay") {
  const auto file = tests::sample("iotest-dirtylog-10G-4M.vhdx.bz2");
  if (!file) return;
  const Report report = checked(*file);
  CHECK(report.findings.count(disk::Severity::corruption) == 0);
  CHECK(report.findings.count(disk::Severity::warning) == 0);
  CHECK(report.text().starts_with("note log-dirty 0x100000"));
}

TEST_CASE("damage to the file type identifier and the headers") {
  const Case cases[] = {
      {"corruption signature 0x0", [](Damaged& d) { d.put8(0, 'V'); }},
      {"warning header-signature 0x10000", [](Damaged& d) { d.put8(header1, 0); }},
      {"warning header-signature 0x20000", [](Damaged& d) { d.put8(header2, 0); }},
      {"corruption header-signature 0x10000, corruption header-signature 0x20000",
       [](Damaged& d) { d.put8(header1, 0).put8(header2, 0); }},
      {"warning header-checksum 0x10004", [](Damaged& d) { d.put8(header1 + 16, 0); }},
      {"warning header-checksum 0x20004", [](Damaged& d) { d.put8(header2 + 16, 0); }},
      {"corruption header-checksum 0x10004, corruption header-checksum 0x20004",
       [](Damaged& d) { d.put8(header1 + 16, 0).put8(header2 + 16, 0); }},
      {"warning header-version 0x10042",
       [](Damaged& d) { d.put16(header1 + 66, 2).seal_headers(); }},
      {"corruption header-version 0x20042",
       [](Damaged& d) { d.put16(header2 + 66, 2).seal_headers(); }},
      {"warning log-version 0x20040", [](Damaged& d) { d.put16(header2 + 64, 1).seal_headers(); }},
      {"corruption log-version 0x20040",
       [](Damaged& d) { d.put16(header2 + 64, 1).put8(header2 + 48, 1).seal_headers(); }},
      {"corruption log-length 0x20044, note spare-space 0x100000",
       [](Damaged& d) { d.put32(header2 + 68, 512 * KiB).seal_headers(); }},
      {"warning log-missing 0x20044, note spare-space 0x100000",
       [](Damaged& d) { d.put32(header2 + 68, 0).seal_headers(); }},
      {"corruption log-length 0x20044, note spare-space 0x100000",
       [](Damaged& d) { d.put32(header2 + 68, 0).put8(header2 + 48, 1).seal_headers(); }},
      {"corruption log-unaligned 0x20048, note spare-space 0x100000",
       [](Damaged& d) { d.put64(header2 + 72, 1 * MiB + 4096).seal_headers(); }},
      {"corruption log-in-header-section 0x20048, note spare-space 0x100000",
       [](Damaged& d) { d.put64(header2 + 72, 0).seal_headers(); }},
      {"corruption log-past-end 0x20048, note spare-space 0x100000",
       [](Damaged& d) { d.put64(header2 + 72, 6 * MiB).seal_headers(); }},
      {"corruption log-past-end 0x20048, note spare-space 0x100000",
       [](Damaged& d) { d.put64(header2 + 72, ~uint64_t{0xfffff}).seal_headers(); }},
      {"warning log-past-end 0x10048",
       [](Damaged& d) { d.put64(header1 + 72, 6 * MiB).seal_headers(); }},
      {"warning header-reserved 0x20050",
       [](Damaged& d) { d.put8(header2 + 4095, 1).seal_headers(); }},
      {"corruption headers-ambiguous 0x20008",
       [](Damaged& d) { d.put64(header1 + 8, 7).put8(header1 + 16, 0).seal_headers(); }},
      {"corruption log-past-end 0x10048, warning header-cut-off 0x20000, corruption "
       "region-table-signature 0x30000, corruption region-table-signature 0x40000",
       [](Damaged& d) { d.resize(130 * KiB); }},
      {"corruption signature 0x0, corruption header-cut-off 0x10000, corruption header-cut-off "
       "0x20000",
       [](Damaged& d) { d.resize(0); }},
  };
  check_cases(clean_image(), cases);
}

TEST_CASE("bug class 22: two identical headers with one sequence number are only noted") {
  const Case cases[] = {
      {"note headers-identical 0x20008", [](Damaged& d) { d.copy(header2, header1, 4096); }},
  };
  check_cases(clean_image(), cases);
}

// An image whose current header names the log of testing::TestEntry.
tests::VhdxImage image_with_log() {
  tests::VhdxImage image = clean_image();
  image.header.log_guid = testing::log_guid;
  return image;
}

testing::TestEntry entry_of_6_mib() {
  testing::TestEntry entry;
  entry.flushed_file_offset = entry.last_file_offset = 6 * MiB;
  return entry;
}

TEST_CASE("a log that is not empty is a note, and the rest is checked after replay") {
  Damaged damaged(image_with_log().build());
  const std::vector<std::byte> bat = damaged.fetch(3 * MiB, 4096);
  testing::TestEntry entry = entry_of_6_mib();
  entry.data(3 * MiB, bat).zero(3 * MiB + 4096, 8192);
  damaged.put(1 * MiB, entry.bytes());
  damaged.put64(3 * MiB, 0x5).put64(3 * MiB + 8, 2 * MiB | 6);
  const Report report = checked(damaged.file());
  CHECK(report.text() == "note log-dirty 0x100000");
  CHECK(report.messages() ==
        "log: is not empty: a replay of 1 entries writes 1 sectors of 4 KiB and zeroes 8192 bytes; "
        "what follows is checked as it will be then\n");
  CHECK(report.usage.allocated == 2);
  CHECK(damaged.fetch(3 * MiB, 1)[0] == std::byte{5});
}

TEST_CASE("a log that cannot be replayed is corruption, and says why") {
  {
    Damaged damaged(image_with_log().build());
    const Report report = checked(damaged.file());
    CHECK(report.text() == "corruption log-incomplete 0x100000");
    CHECK(report.usage.allocated == 2);
  }
  {
    Damaged damaged(image_with_log().build());
    testing::TestEntry entry = entry_of_6_mib();
    entry.flushed_file_offset = 7 * MiB;
    damaged.put(1 * MiB, entry.bytes());
    CHECK(checked(damaged.file()).text() == "corruption file-truncated 0x100030");
  }
  {
    Damaged damaged(image_with_log().build());
    testing::TestEntry entry = entry_of_6_mib();
    damaged.put(1 * MiB, entry.data(0, testing::sector_of(1)).bytes());
    const Report report = checked(damaged.file());
    CHECK(report.text() == "corruption log-misplaced-update 0x100000");
    CHECK(report.messages().find("a.vhdx") == std::string::npos);
  }
}

// Changes both copies of the region table.
Damaged& put_region(Damaged& d, uint64_t in_table, uint64_t value, unsigned bytes) {
  for (const uint64_t table : {table1, table2})
    bytes == 8 ? d.put64(table + in_table, value) : d.put32(table + in_table, value);
  return d.seal_tables();
}

// A third entry, with a place or a length of zero.
Damaged& add_region(Damaged& d, unsigned first_byte, uint64_t file_offset, uint64_t length,
                    uint64_t flags) {
  put_region(d, third_entry, first_byte, 8);
  put_region(d, third_entry + 16, file_offset, 8);
  put_region(d, third_entry + 24, length, 4);
  put_region(d, third_entry + 28, flags, 4);
  return put_region(d, 8, 3, 4);
}

TEST_CASE("damage to the region tables") {
  const Case cases[] = {
      {"warning region-table-signature 0x30000", [](Damaged& d) { d.put8(table1, 0); }},
      {"corruption region-table-signature 0x30000, corruption region-table-signature 0x40000",
       [](Damaged& d) { d.put8(table1, 0).put8(table2, 0); }},
      {"warning region-table-checksum 0x40004", [](Damaged& d) { d.put8(table2 + 500, 1); }},
      {"corruption region-table-checksum 0x30004, corruption region-table-checksum 0x40004",
       [](Damaged& d) { d.put8(table1 + 500, 1).put8(table2 + 500, 1); }},
      {"warning region-table-count 0x30008",
       [](Damaged& d) { d.put32(table1 + 8, 2048).seal_tables(); }},
      {"corruption region-table-count 0x30008, corruption region-table-count 0x40008",
       [](Damaged& d) { put_region(d, 8, 2048, 4); }},
      {"warning region-table-reserved 0x3000c, warning region-table-reserved 0x4000c",
       [](Damaged& d) { put_region(d, 12, 1, 4); }},
      {"warning region-tables-differ 0x40004",
       [](Damaged& d) { d.put8(table2 + 500, 1).seal_tables(); }},
      {"warning region-flags 0x3002c", [](Damaged& d) { put_region(d, bat_entry + 28, 3, 4); }},
      {"note region-not-required 0x3002c", [](Damaged& d) { put_region(d, bat_entry + 28, 0, 4); }},
      {"corruption region-unknown-required 0x30050",
       [](Damaged& d) { add_region(d, 1, 1 * MiB, 0, 1); }},
      {"note region-unknown 0x30050", [](Damaged& d) { add_region(d, 1, 1 * MiB, 0, 0); }},
      {"corruption region-missing 0x30000", [](Damaged& d) { put_region(d, 8, 1, 4); }},
      {"corruption region-length 0x30028",
       [](Damaged& d) { put_region(d, bat_entry + 24, 512 * KiB, 4); }},
      {"corruption region-unaligned 0x30020",
       [](Damaged& d) { put_region(d, bat_entry + 16, 3 * MiB + 4096, 8); }},
      {"corruption region-in-header-section 0x30020",
       [](Damaged& d) { put_region(d, bat_entry + 16, 0, 8); }},
      {"corruption region-past-end 0x30040",
       [](Damaged& d) { put_region(d, metadata_entry + 16, 6 * MiB, 8); }},
      {"corruption region-past-end 0x30040",
       [](Damaged& d) { put_region(d, metadata_entry + 16, ~uint64_t{0xfffff}, 8); }},
      // Upon the log, which is all zeroes: no blocks.
      {"corruption regions-overlap 0x100000, note spare-space 0x300000",
       [](Damaged& d) { put_region(d, bat_entry + 16, 1 * MiB, 8); }},
  };
  check_cases(clean_image(), cases);
}

TEST_CASE("bug class 7: a region that is twice there, or upon another, is named") {
  Damaged twice(clean_image().build());
  add_region(twice, 0, 3 * MiB, 1 * MiB, 1);
  for (const uint64_t table : {table1, table2})
    twice.copy(table + bat_entry, table + third_entry, 16);
  twice.seal_tables();
  const Report report = checked(twice.file());
  CHECK(report.text() == "corruption region-twice 0x30050, corruption regions-overlap 0x300000");
  CHECK(report.messages() ==
        "region table entry 2 (BAT region): there is an entry for this region already\n"
        "BAT region: lies upon the BAT region (0x300000 to 0x400000)\n");
}

TEST_CASE("bug class 21: an image cut off at every MiB and KiB boundary is reported, never more") {
  for (uint64_t size = 0; size < 6 * MiB; size += 64 * KiB) {
    Damaged damaged(clean_image().build());
    const Report report = checked(damaged.resize(size).file());
    CHECK(report.findings.count(disk::Severity::corruption) > 0);
  }
}

}  // namespace
}  // namespace vhdkit::vhdx
