#include "libvhd/dynamic_header.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "tests/support/await.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

namespace at = tests::vhd_header;
using tests::vhd_header_bytes;
using tests::VhdBytes;
using tests::VhdImage;

const Guid parent_id = Guid::literal("a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");

// Of a child of "Ü.vhd", with its second and its last locator used.
VhdBytes child_header() {
  VhdBytes raw = vhd_header_bytes(0x1234, 1 << 20);
  for (size_t i = 0; i < 16; ++i) raw.put(at::parent_id + i, 1, 0xa0 + i);
  raw.put(at::parent_time_stamp, 4, 77).put(at::parent_name, {"\0\xdc\0.\0v\0h\0d", 10});
  const size_t second = at::locators + at::locator_bytes;
  raw.put(second, "W2ru").put(second + at::space, 4, 0x200).put(second + at::length, 4, 14);
  raw.put(second + at::offset, 8, 0x123456789);
  const size_t last = at::locators + 7 * at::locator_bytes;
  raw.put(last, "MacX").put(last + at::space, 4, 2).put(last + at::length, 4, 600);
  raw.put(last + at::offset, 8, 0x4000);
  return raw.seal(at::checksum);
}

TEST_CASE("a dynamic disk header is parsed field by field") {
  const auto header = parse_dynamic_header(child_header().bytes, "a");
  REQUIRE_OK(header);
  CHECK(header->table_offset == 1536);
  CHECK(header->max_table_entries == 0x1234);
  CHECK(header->block_size_bytes == MiB);
  CHECK(header->parent_unique_id == parent_id);
  CHECK(header->parent_time_stamp == 77);
  CHECK(header->parent_name == "Ü.vhd");
  REQUIRE(header->parent_locators.size() == 2);
  const ParentLocator& second = header->parent_locators[0];
  CHECK(second.index == 1);
  CHECK(second.platform_code == platform_w2ru);
  CHECK(second.data_space == 0x200);
  CHECK(second.data_length_bytes == 14);
  CHECK(second.data_offset == 0x123456789);
  CHECK(header->parent_locators[1].index == 7);
  CHECK(header->parent_locators[1].platform_code == platform_macx);
}

TEST_CASE("a built header is the specification's 1024 bytes") {
  const DynamicHeader built =
      build_dynamic_header({.table_offset = 1536,
                            .max_table_entries = 0x1234,
                            .block_size_bytes = MiB,
                            .parent_unique_id = parent_id,
                            .parent_time_stamp = 77,
                            .parent_name = "Ü.vhd",
                            .parent_locators = {{1, platform_w2ru, 0x200, 14, 0x123456789},
                                                {7, platform_macx, 2, 600, 0x4000}}});
  CHECK(std::ranges::equal(bytes_of(built), child_header().bytes));
}

TEST_CASE("a long parent name is cut so that it ends with a zero") {
  const DynamicHeader built = build_dynamic_header({.parent_name = std::string(300, 'n')});
  CHECK(header_values(built).parent_name == std::string(255, 'n'));
  CHECK(built.parent_unicode_name[510] == std::byte{0});
  CHECK(built.parent_unicode_name[511] == std::byte{0});
}

TEST_CASE("every damage of a header is named with its value") {
  struct {
    std::function<void(VhdBytes&)> damage;
    bool is_sealed_again;
    Errc code;
    std::string message;
  } const cases[] = {
      {[](VhdBytes& raw) { raw.put(0, "CXSPARSE"); }, true, Errc::corrupt,
       "a: cookie 0x4358535041525345 is not \"cxsparse\""},
      {[](VhdBytes& raw) { raw.put(at::checksum, 4, 0x12345); }, false, Errc::corrupt,
       "a: checksum 0x12345 should be 0xffff"},
      {[](VhdBytes& raw) { raw.put(1023, 1, 1); }, false, Errc::corrupt, "a: checksum 0xffff"},
      {[](VhdBytes& raw) { raw.put(at::version, 4, 0x20000); }, true, Errc::unsupported,
       "a: header version 0x20000 is not 1.x"},
      {[](VhdBytes& raw) { raw.put(at::block_size, 4, 3 * MiB); }, true, Errc::corrupt,
       "a: block size 0x300000 is not a power of two"},
      {[](VhdBytes& raw) { raw.put(at::block_size, 4, 0); }, true, Errc::corrupt,
       "a: block size 0x0 is not a power of two"},
      {[](VhdBytes& raw) { raw.put(at::block_size, 4, 256 * KiB); }, true, Errc::unsupported,
       "a: block size 262144 is below the smallest one supported, 524288"},
      {[](VhdBytes& raw) { raw.bytes.resize(1023); }, false, Errc::corrupt,
       "a: cut off after 1023 bytes"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.message);
    VhdBytes raw = vhd_header_bytes(4, 2 << 20);
    test.damage(raw);
    if (test.is_sealed_again) raw.seal(at::checksum);
    REQUIRE_FAILS(test.code, test.message, parse_dynamic_header(raw.bytes, "a"));
  }
}

TEST_CASE("a header is read only where it and the BAT can be") {
  struct {
    uint64_t header_offset;
    uint64_t table_offset;
    std::string message;
  } const cases[] = {
      {0, 1536, "a.vhd: dynamic disk header at offset 0x0: lies in the copy of the footer"},
      {511, 1536, "at offset 0x1ff: lies in the copy of the footer"},
      {0x601, 1536, "at offset 0x601: runs past the end of the content (0xa00)"},
      {~uint64_t{0}, 1536, "at offset 0xffffffffffffffff: runs past the end of the content"},
      {512, 0, "table offset 0x0 lies outside the content (0x200 to 0xa00)"},
      {512, 511, "table offset 0x1ff lies outside the content"},
      {512, 0xa01, "table offset 0xa01 lies outside the content"},
      {512, ~uint64_t{0}, "table offset 0xffffffffffffffff lies outside the content"},
      {512, 512, "table offset 0x200 lays the BAT upon the header"},
      {512, 1535, "table offset 0x5ff lays the BAT upon the header"},
      {1024, 1012, "table offset 0x3f4 lays the BAT upon the header"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.message);
    async::MemoryFile file("a.vhd");
    REQUIRE_OK(file.resize(0xa00));
    VhdBytes raw = vhd_header_bytes(4, 2 << 20);
    raw.put(at::table_offset, 8, test.table_offset).seal(at::checksum);
    if (test.header_offset <= 0xa00 - 1024) file.store(test.header_offset, raw.bytes);
    REQUIRE_FAILS(Errc::corrupt, test.message,
                  tests::await(read_dynamic_header(file, test.header_offset, 0xa00)));
  }
}

TEST_CASE("header and BAT may lie anywhere, at odd offsets too") {
  async::MemoryFile file("a.vhd");
  VhdBytes raw = vhd_header_bytes(4, 2 << 20);
  raw.put(at::table_offset, 8, 513).seal(at::checksum);
  file.store(529, raw.bytes);
  const auto header = tests::await(read_dynamic_header(file, 529, file.size_bytes()));
  REQUIRE_OK(header);
  CHECK(header->table_offset == 513);
}

}  // namespace
}  // namespace vhdkit::libvhd
