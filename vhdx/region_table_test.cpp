#include "vhdx/region_table.h"

#include <doctest/doctest.h>

#include "support/crc32c.h"
#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using tests::await;
using tests::from_hex;
using tests::VhdxImage;

const Guid other_region = Guid::literal("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");

// The region table of samples/hyperv-dynamic-10M.vhdx (Windows 10.0.18363); the rest is zero.
std::vector<std::byte> table_of_windows() {
  std::vector<std::byte> table = from_hex(
      "72656769 ae8c6bc6 02000000 00000000"
      "6677c22d23f600429d64115e9bfd4a08 0000300000000000 00001000 01000000"
      "06a27c8b90479a4bb8fe575f050f886e 0000200000000000 00001000 01000000");
  table.resize(region_table_bytes);
  return table;
}

std::vector<std::byte> table_of(const std::vector<Region>& regions, uint32_t count) {
  std::vector<std::byte> table(region_table_bytes);
  const auto put = [&table](size_t at, std::span<const std::byte> bytes) {
    std::ranges::copy(bytes, table.begin() + at);
  };
  put(0, from_hex("72656769"));
  put(8, bytes_of(le32(count)));
  for (size_t i = 0; i < regions.size(); ++i) {
    const RegionTableEntry raw{.guid = regions[i].guid.stored(),
                               .file_offset = regions[i].file_offset,
                               .length = uint32_t(regions[i].length),
                               .flags = regions[i].required ? 1u : 0u};
    put(16 + 32 * i, bytes_of(raw));
  }
  put(4, bytes_of(le32(crc32c_without(table, 4))));
  return table;
}

Result<RegionTable> read(MemoryFile& file) {
  return await(read_region_table(file, VhdxImage().header));
}

// Reads a table with the usual BAT and metadata regions and these.
Result<RegionTable> read_with(std::vector<Region> regions) {
  const VhdxImage image;
  regions.insert(regions.begin(), {image.bat, image.metadata_region});
  const auto file = image.build();
  file->store(region_table_offsets[0], table_of(regions, uint32_t(regions.size())));
  return read(*file);
}

TEST_CASE("a region table that Windows wrote is read and built again to the byte") {
  const auto file = VhdxImage().build();
  file->store(region_table_offsets[0], table_of_windows());
  const auto table = read(*file);
  REQUIRE_OK(table);
  CHECK(table->bat.file_offset == 3 * MiB);
  CHECK(table->bat.length == 1 * MiB);
  CHECK(table->bat.required);
  CHECK(table->metadata.file_offset == 2 * MiB);
  CHECK(table->metadata.length == 1 * MiB);
  CHECK(table->used_index == 0);
  CHECK(build_region_table(table->bat, table->metadata) == table_of_windows());
}

TEST_CASE("QEMU's regions are not marked as required, and are read") {
  VhdxImage image;
  image.bat.required = false;
  image.metadata_region.required = false;
  const auto table = read(*image.build());
  REQUIRE_OK(table);
  CHECK_FALSE(table->bat.required);
}

TEST_CASE("the second copy is used where the first is damaged") {
  struct Case {
    std::vector<std::byte> bytes;
    const char* damage;
  };
  const Case cases[] = {
      {from_hex("00"), "signature 0x69676500 is not \"regi\""},
      {from_hex("72656769 ae8c6bc7"), "checksum 0xc76b8cae should be 0x"},
      {table_of({}, 2048), "entry count 2048 is above 2047"},
  };
  for (const Case& test : cases) {
    const auto file = VhdxImage().build();
    file->store(region_table_offsets[0], test.bytes);
    const auto table = read(*file);
    REQUIRE_OK(table);
    CHECK(table->used_index == 1);
    CHECK(table->damage[0].starts_with(test.damage));
    CHECK(table->damage[1].empty());
    file->store(region_table_offsets[1], from_hex("00"));
    REQUIRE_FAILS(Errc::corrupt, test.damage, read(*file));
    REQUIRE_FAILS(Errc::corrupt, "copy at offset 0x40000: signature", read(*file));
  }
}

TEST_CASE("damage of the copy that is not used is told") {
  const auto file = VhdxImage().build();
  file->store(region_table_offsets[1] + 65535, from_hex("01"));
  const auto table = read(*file);
  REQUIRE_OK(table);
  CHECK(table->used_index == 0);
  CHECK(table->damage[1].starts_with("checksum"));
}

TEST_CASE("an unknown region is kept unless it is required") {
  Region region{.guid = other_region, .file_offset = 8 * MiB, .length = 2 * MiB, .required = false};
  const auto table = read_with({region});
  REQUIRE_OK(table);
  REQUIRE(table->unknown.size() == 1);
  CHECK(table->unknown[0].guid == other_region);
  CHECK(table->unknown[0].file_offset == 8 * MiB);
  region.required = true;
  REQUIRE_FAILS(Errc::unsupported,
                "a.vhdx: region table entry 2 at offset 0x30050: region "
                "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee is required and not known here",
                read_with({region}));
}

TEST_CASE("corrupt: regions that miss, stand twice, or lie in a wrong place") {
  struct Case {
    Region region;
    const char* message;
  };
  const auto other = [](uint64_t offset, uint64_t length) {
    return Region{.guid = other_region, .file_offset = offset, .length = length, .required = false};
  };
  const Case cases[] = {
      {other(8 * MiB + 4096, 1 * MiB), "file offset 0x801000 is not a multiple of 1 MiB"},
      {other(8 * MiB, 4096), "length 0x1000 is not a multiple of 1 MiB"},
      {other(0, 1 * MiB), "file offset 0x0 lies in the header section"},
      {other(31 * MiB, 2 * MiB),
       "file offset 0x1f00000 with length 0x200000 runs past the end of the file (0x2000000)"},
      {other(~uint64_t{0xfffff}, 1 * MiB), "runs past the end of the file (0x2000000)"},
      {other(1 * MiB, 1 * MiB), "lies upon the"},
      {other(1 * MiB, 2 * MiB), "lies upon the"},
      {other(2 * MiB, 1 * MiB), "lies upon the metadata region (0x200000 to 0x300000)"},
      {{.guid = bat_region, .file_offset = 8 * MiB, .length = 1 * MiB, .required = true},
       "a.vhdx: region table at offset 0x30000: two entries for the BAT region"},
      {{.guid = metadata_region, .file_offset = 8 * MiB, .length = 1 * MiB, .required = true},
       "two entries for the metadata region"},
  };
  for (const Case& test : cases)
    REQUIRE_FAILS(Errc::corrupt, test.message, read_with({test.region}));
}

TEST_CASE("corrupt: no BAT region, no metadata region") {
  const VhdxImage image;
  const auto file = image.build();
  file->store(region_table_offsets[0], table_of({image.metadata_region}, 1));
  REQUIRE_FAILS(Errc::corrupt, "no entry for the BAT region", read(*file));
  file->store(region_table_offsets[0], table_of({image.bat}, 1));
  REQUIRE_FAILS(Errc::corrupt, "no entry for the metadata region", read(*file));
}

TEST_CASE("bug class 21: truncated in the region tables and in their regions") {
  struct Case {
    uint64_t file_bytes;
    const char* message;  // null: the table can be read
  };
  const Case cases[] = {
      {192 * KiB, "region table at offset 0x30000: cut off by the end of the file (0x30000)"},
      {256 * KiB - 1, "cut off by the end of the file (0x3ffff)"},
      {256 * KiB, "runs past the end of the file (0x40000)"},
      {3 * MiB, "BAT region: file offset 0x300000 with length 0x100000 runs past the end"},
      {4 * MiB - 1, "runs past the end of the file (0x3fffff)"},
      {4 * MiB, nullptr},
  };
  for (const Case& test : cases) {
    VhdxImage image;
    image.file_bytes = test.file_bytes;
    const auto file = image.build();
    if (test.message == nullptr) {
      REQUIRE_OK(read(*file));
    } else {
      REQUIRE_FAILS(Errc::corrupt, test.message, read(*file));
    }
  }
}

TEST_CASE("a full table of regions that all lie apart is read") {
  std::vector<Region> regions;
  VhdxImage image;
  image.file_bytes = 4096 * MiB;
  regions.push_back(image.bat);
  regions.push_back(image.metadata_region);
  for (uint32_t i = 0; regions.size() < 2047; ++i) {
    StoredGuid guid = other_region.stored();
    std::ranges::copy(bytes_of(le32(i)), guid.bytes.begin());
    regions.push_back({.guid = Guid::from_stored(guid),
                       .file_offset = (4 + i) * MiB,
                       .length = 1 * MiB,
                       .required = false});
  }
  const auto file = image.build();
  file->store(region_table_offsets[0], table_of(regions, 2047));
  const auto table = read(*file);
  REQUIRE_OK(table);
  CHECK(table->unknown.size() == 2045);
}

}  // namespace
}  // namespace vhdkit::vhdx
