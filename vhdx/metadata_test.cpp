#include "vhdx/metadata.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using tests::await;
using tests::from_hex;
using tests::VhdxImage;

const Guid other_item = Guid::literal("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
constexpr uint64_t region_offset = VhdxImage::metadata_offset;

// The metadata that qemu-img 7.2.22 wrote for `create -f vhdx -o block_size=1M q.vhdx 3M`: the
// table at the region's start, the items behind the table's 64 KiB.
const char* const table_of_qemu =
    "6d65746164617461 0000 0500 0000000000000000000000000000000000000000"
    "3767a1ca36fa434db3b633f0aa44e76b 00000100 08000000 04000000 00000000"
    "2442a52f1bcd7648b2115dbed83bf4b8 08000100 08000000 06000000 00000000"
    "ab12cabee6b2234593efc309e000c746 10000100 10000000 06000000 00000000"
    "1dbf41816fa90947ba47f233a8faab5f 20000100 04000000 06000000 00000000"
    "c748a3cd5d4471449cc9e9885251c556 24000100 04000000 06000000 00000000";
const char* const items_of_qemu =
    "0000100000000000 0000300000000000 017423b2e5bc4851a11ae0c718bb91e6 00020000 00020000";

// A metadata region that a test may change before it is read.
struct TestRegion {
  struct Item {
    uint32_t offset;
    std::vector<std::byte> bytes;
    uint32_t length;
    uint32_t flags;
  };
  std::vector<std::pair<Guid, Item>> items;
  std::vector<std::byte> header = from_hex("6d65746164617461 0000");
  std::optional<uint16_t> count;

  TestRegion() {
    add(file_parameters_item, 0x10000, from_hex("00001000 00000000"));
    add(virtual_disk_size_item, 0x10008, from_hex("0000400000000000"));
    add(virtual_disk_id_item, 0x10010, from_hex("000102030405060708090a0b0c0d0e0f"));
    add(logical_sector_size_item, 0x10020, from_hex("00020000"));
    add(physical_sector_size_item, 0x10024, from_hex("00100000"));
  }

  void add(const Guid& id, uint32_t offset, std::vector<std::byte> bytes, uint32_t flags = 0) {
    const auto length = uint32_t(bytes.size());
    items.push_back({id, {offset, std::move(bytes), length, flags}});
  }
  Item& operator[](const Guid& id) {
    return std::ranges::find(items, id, &std::pair<Guid, Item>::first)->second;
  }
  void remove(const Guid& id) {
    std::erase_if(items, [&id](const auto& item) { return item.first == id; });
  }

  std::unique_ptr<MemoryFile> build() const {
    auto file = std::make_unique<MemoryFile>("a.vhdx");
    file->store(region_offset, header);
    file->store(region_offset + 10, bytes_of(le16(count.value_or(uint16_t(items.size())))));
    uint64_t at = region_offset + 32;
    for (const auto& [id, item] : items) {
      file->store(at, bytes_of(MetadataTableEntry{.item_id = id.stored(),
                                                  .offset = item.offset,
                                                  .length = item.length,
                                                  .flags = item.flags,
                                                  .reserved2 = 0}));
      file->store(region_offset + item.offset, item.bytes);
      at += 32;
    }
    std::ignore = file->resize(region_offset + 1 * MiB);
    return file;
  }

  Result<Metadata> read() const {
    const auto file = build();
    return await(read_metadata(*file, VhdxImage().metadata_region));
  }
};

TEST_CASE("metadata that QEMU wrote is read and built again to the byte") {
  MemoryFile file("q.vhdx");
  file.store(region_offset, from_hex(table_of_qemu));
  file.store(region_offset + 64 * KiB, from_hex(items_of_qemu));
  std::ignore = file.resize(region_offset + 1 * MiB);
  const auto metadata = await(read_metadata(file, VhdxImage().metadata_region));
  REQUIRE_OK(metadata);
  CHECK(metadata->block_size_bytes == 1 * MiB);
  CHECK_FALSE(metadata->leave_blocks_allocated);
  CHECK_FALSE(metadata->has_parent);
  CHECK(metadata->disk_size_bytes == 3 * MiB);
  CHECK(metadata->disk_id.to_string() == "b2237401-bce5-5148-a11a-e0c718bb91e6");
  CHECK(metadata->logical_sector_bytes == 512);
  CHECK(metadata->physical_sector_bytes == 512);
  std::vector<std::byte> region(1 * MiB);
  file.fetch(region_offset, region);
  CHECK(build_metadata(*metadata) == region);
  CHECK(metadata_used_bytes(*metadata) == 64 * KiB + 40);
}

TEST_CASE("every value that the specification allows is read") {
  struct Case {
    Guid item;
    const char* bytes;
  };
  const Case cases[] = {
      {file_parameters_item, "00000010 01000000"},  {file_parameters_item, "00001000 00000000"},
      {logical_sector_size_item, "00100000"},       {physical_sector_size_item, "00020000"},
      {virtual_disk_size_item, "0000000000400000"}, {virtual_disk_size_item, "0000000000000000"},
      {virtual_disk_size_item, "0010000000000000"},
  };
  for (const Case& test : cases) {
    TestRegion region;
    region[test.item].bytes = from_hex(test.bytes);
    REQUIRE_OK(region.read());
  }
  TestRegion fixed;
  fixed[file_parameters_item].bytes = from_hex("00000010 01000000");
  CHECK(fixed.read()->block_size_bytes == 256 * MiB);
  CHECK(fixed.read()->leave_blocks_allocated);
}

TEST_CASE("corrupt: values that the specification does not allow") {
  struct Case {
    Guid item;
    const char* bytes;
    const char* message;
  };
  const Case cases[] = {
      {file_parameters_item, "00000000 00000000", "block size 0x0 is no power of two"},
      {file_parameters_item, "00000800 00000000", "block size 0x80000 is no power of two from 1"},
      {file_parameters_item, "00003000 00000000", "block size 0x300000 is no power of two"},
      {file_parameters_item, "00000020 00000000",
       "a.vhdx: file parameters at offset 0x210000: "
       "block size 0x20000000"},
      {logical_sector_size_item, "00040000",
       "a.vhdx: logical sector size at offset 0x210020: 1024 "
       "is neither 512 nor 4096"},
      {physical_sector_size_item, "00000000", "physical sector size at offset 0x210024: 0 is "},
      {virtual_disk_size_item, "0002000000400000", "0x400000000200 is above 64 TiB"},
      {virtual_disk_size_item, "0001000000000000",
       "virtual disk size at offset 0x210008: 0x100 is "
       "not a multiple of the logical sector size 512"},
  };
  for (const Case& test : cases) {
    TestRegion region;
    region[test.item].bytes = from_hex(test.bytes);
    REQUIRE_FAILS(Errc::corrupt, test.message, region.read());
  }
  TestRegion region;  // bug class 6: a whole number of 512-byte sectors is not enough
  region[logical_sector_size_item].bytes = from_hex("00100000");
  region[virtual_disk_size_item].bytes = from_hex("0002000000000000");
  REQUIRE_FAILS(Errc::corrupt, "0x200 is not a multiple of the logical sector size 4096",
                region.read());
}

TEST_CASE("corrupt: known items that miss or are too short") {
  const std::pair<Guid, const char*> items[] = {
      {file_parameters_item, "file parameters"},
      {virtual_disk_size_item, "virtual disk size"},
      {virtual_disk_id_item, "virtual disk ID"},
      {logical_sector_size_item, "logical sector size"},
      {physical_sector_size_item, "physical sector size"},
  };
  for (const auto& [id, name] : items) {
    TestRegion without;
    without.remove(id);
    REQUIRE_FAILS(Errc::corrupt,
                  "a.vhdx: metadata region at offset 0x200000: no entry for " + std::string(name),
                  without.read());
    TestRegion shortened;
    --shortened[id].length;
    REQUIRE_FAILS(Errc::corrupt, name, shortened.read());
    REQUIRE_FAILS(Errc::corrupt, " is below ", shortened.read());
    TestRegion empty;
    empty[id].length = 0;
    REQUIRE_FAILS(Errc::corrupt, "length 0 is below ", empty.read());
  }
}

TEST_CASE("corrupt: the table itself") {
  TestRegion region;
  region.header = from_hex("6d65746164617462 0000");
  REQUIRE_FAILS(Errc::corrupt,
                "a.vhdx: metadata region at offset 0x200000: signature 0x627461646174656d is not "
                "\"metadata\"",
                region.read());
  region = TestRegion();
  region.count = 2048;
  REQUIRE_FAILS(Errc::corrupt, "entry count 2048 is above 2047", region.read());
  const auto file = TestRegion().build();
  Region none = VhdxImage().metadata_region;
  none.length = 0;
  REQUIRE_FAILS(Errc::corrupt, "length 0x0 is below the table's 0x10000",
                await(read_metadata(*file, none)));
}

TEST_CASE("corrupt: items in places that they may not have") {
  struct Case {
    uint32_t offset;
    uint32_t length;
    const char* message;
  };
  const Case cases[] = {
      {0xffff, 1, "offset 0xffff lies in the table"},
      {0xfffff, 2, "[0xfffff, +0x2) runs past the end of the region (0x100000)"},
      {0xffffffff, 0x100000, "runs past the end of the region (0x100000)"},
      {0x20000, 0x100001, "length 0x100001 is above 0x100000"},
      {0x1000f, 8, "lies upon"},
      {0x10020, 4, "lies upon"},
  };
  for (const Case& test : cases) {
    TestRegion region;
    region.add(other_item, 0x20000, {});
    region[other_item].offset = test.offset;
    region[other_item].length = test.length;
    REQUIRE_FAILS(Errc::corrupt, test.message, region.read());
  }
}

TEST_CASE("corrupt: an item that is twice there, unless one is the user's") {
  TestRegion region;
  region.add(virtual_disk_id_item, 0x20000, from_hex("00"));
  REQUIRE_FAILS(Errc::corrupt, "two entries for virtual disk ID", region.read());
  region.items.back().second.flags = metadata_is_user;
  const auto metadata = region.read();
  REQUIRE_OK(metadata);
  CHECK(metadata->disk_id.to_string() == "03020100-0504-0706-0809-0a0b0c0d0e0f");
  REQUIRE(metadata->unknown.size() == 1);
  CHECK(metadata->unknown[0].flags == metadata_is_user);
}

TEST_CASE("an unknown item is kept unless it is required") {
  TestRegion region;
  region.add(other_item, 0x20000, from_hex("0102"), metadata_is_virtual_disk);
  region.add(Guid::literal("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeef"), 0, {});  // present and empty
  const auto metadata = region.read();
  REQUIRE_OK(metadata);
  REQUIRE(metadata->unknown.size() == 2);
  CHECK(metadata->unknown[0].id == other_item);
  CHECK(metadata->unknown[0].offset == 0x20000);
  CHECK(metadata->unknown[0].length == 2);
  CHECK(metadata->unknown[1].length == 0);
  region[other_item].flags = metadata_is_required;
  REQUIRE_FAILS(Errc::unsupported,
                "entry 5 at region offset 0xc0: item aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee: is "
                "required and not known here",
                region.read());
}

TEST_CASE("corrupt: more than 1,024 user items") {
  TestRegion region;
  for (uint32_t i = 0; i < 1024; ++i) {
    StoredGuid id = other_item.stored();
    std::ranges::copy(bytes_of(le32(i)), id.bytes.begin());
    region.add(Guid::from_stored(id), 0x20000 + i, from_hex("00"), metadata_is_user);
  }
  REQUIRE_OK(region.read());
  region.add(other_item, 0x30000, from_hex("00"), metadata_is_user);
  REQUIRE_FAILS(Errc::corrupt, "1025 user items are above 1024", region.read());
}

TEST_CASE("a differencing disk has a parent locator, others need none") {
  TestRegion region;
  region[file_parameters_item].bytes = from_hex("00001000 03000000");
  REQUIRE_FAILS(Errc::corrupt, "no entry for parent locator", region.read());
  region.add(parent_locator_item, 0x20000, from_hex("00"));
  REQUIRE_FAILS(Errc::corrupt, "a.vhdx: parent locator at offset 0x220000: cut off after 1 bytes",
                region.read());
  region[parent_locator_item].bytes.assign(20, std::byte{1});
  region[parent_locator_item].length = 20;
  REQUIRE_FAILS(Errc::unsupported, "locator type 01010101-0101-0101-0101-010101010101",
                region.read());
  region[file_parameters_item].bytes = from_hex("00001000 00000000");
  const auto metadata = region.read();
  REQUIRE_OK(metadata);
  CHECK_FALSE(metadata->parent_locator.has_value());
}

TEST_CASE("a differencing disk's metadata are read as they were built") {
  VhdxImage image;
  image.make_differencing();
  image.metadata.leave_blocks_allocated = true;
  const auto file = image.build();
  const auto metadata = await(read_metadata(*file, image.metadata_region));
  REQUIRE_OK(metadata);
  CHECK(metadata->has_parent);
  CHECK(metadata->leave_blocks_allocated);
  CHECK(metadata->parent_locator.value().entries == image.metadata.parent_locator->entries);
}

}  // namespace
}  // namespace vhdkit::vhdx
