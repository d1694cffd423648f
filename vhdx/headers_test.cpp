#include "vhdx/headers.h"

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

// Header 1 as Windows 10.0.18363 left it in samples/hyperv-dynamic-10M.vhdx; the rest is zero.
Header header_of_windows() {
  Header header{};
  const std::vector<std::byte> bytes = from_hex(
      "68656164 18f45e20 0e00000000000000 386efdaf576e64478caa7218669affba"
      "e19ae02894ab1548a155f143e2d00a3f 00000000000000000000000000000000"
      "0000 0100 00001000 0000100000000000");
  std::ranges::copy(bytes, writable_bytes_of(header).begin());
  return header;
}

void store_header(MemoryFile& file, unsigned index, Header raw) {
  raw.checksum = crc32c_without(bytes_of(raw), offsetof(Header, checksum));
  file.store(header_offsets[index], bytes_of(raw));
}

Result<FoundHeaders> read(MemoryFile& file) { return await(read_headers(file)); }

TEST_CASE("a header that Windows wrote is read and built again to the byte") {
  const Header raw = header_of_windows();
  CHECK_FALSE(header_damage(raw).has_value());
  const FileHeader header = header_values(raw);
  CHECK(header.sequence_number == 14);
  CHECK(header.file_write_guid.to_string() == "affd6e38-6e57-4764-8caa-7218669affba");
  CHECK(header.data_write_guid.to_string() == "28e09ae1-ab94-4815-a155-f143e2d00a3f");
  CHECK(header.log_is_empty());
  CHECK(header.log_offset == 1 * MiB);
  CHECK(header.log_length == 1 * MiB);
  CHECK(std::ranges::equal(bytes_of(build_header(header)), bytes_of(raw)));
}

TEST_CASE("a header's damage is its signature or its checksum, wherever a byte changed") {
  Header raw = header_of_windows();
  raw.signature = 0x64616569;
  CHECK(header_damage(raw).value() == "signature 0x64616569 is not \"head\"");
  for (const size_t at : {size_t{4}, size_t{8}, size_t{79}, size_t{80}, size_t{4095}}) {
    Header changed = header_of_windows();
    writable_bytes_of(changed)[at] ^= std::byte{0x10};
    CHECK(header_damage(changed).value().starts_with("checksum 0x"));
  }
}

TEST_CASE("the valid header with the larger sequence number is current") {
  for (const unsigned newer : {0u, 1u}) {
    const auto file = VhdxImage().build();
    FileHeader header = VhdxImage().header;
    header.sequence_number = 1000;
    header.data_write_guid = Guid::literal("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
    file->store(header_offsets[newer], bytes_of(build_header(header)));
    const auto found = read(*file);
    REQUIRE_OK(found);
    CHECK(found->current_index == newer);
    CHECK(found->current.data_write_guid == header.data_write_guid);
    CHECK(found->damage == std::array<std::string, 2>{});
  }
}

TEST_CASE("a damaged header leaves the image to the other one") {
  for (const unsigned damaged : {0u, 1u}) {
    const auto file = VhdxImage().build();
    file->store(header_offsets[damaged], from_hex("00"));
    const auto found = read(*file);
    REQUIRE_OK(found);
    CHECK(found->current_index == 1 - damaged);
    CHECK(found->damage[damaged] == "signature 0x64616500 is not \"head\"");
    CHECK(found->damage[1 - damaged].empty());
  }
}

TEST_CASE("corrupt: two damaged headers are both told") {
  const auto file = VhdxImage().build();
  file->store(header_offsets[0] + 100, from_hex("01"));
  file->store(header_offsets[1], from_hex("00"));
  REQUIRE_FAILS(Errc::corrupt, "a.vhdx: header 1 at offset 0x10000: checksum 0x", read(*file));
  REQUIRE_FAILS(Errc::corrupt, "header 2 at offset 0x20000: signature 0x64616500 is not \"head\"",
                read(*file));
}

TEST_CASE("bug class 22: two identical headers with one sequence number are accepted") {
  const auto file = VhdxImage().build();
  for (const uint64_t offset : header_offsets) file->store(offset, bytes_of(header_of_windows()));
  const auto found = read(*file);
  REQUIRE_OK(found);
  CHECK(found->current_index == 0);
  CHECK(found->current.sequence_number == 14);
}

TEST_CASE("corrupt: two headers with one sequence number that differ") {
  const auto file = VhdxImage().build();
  FileHeader header = VhdxImage().header;
  file->store(header_offsets[0], bytes_of(build_header(header)));
  header.file_write_guid = Guid::literal("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
  file->store(header_offsets[1], bytes_of(build_header(header)));
  REQUIRE_FAILS(Errc::corrupt, "sequence number 7 is header 2's too", read(*file));
}

TEST_CASE("corrupt: no VHDX signature") {
  MemoryFile file("b.vhdx", from_hex("76686478 66696c66"));
  REQUIRE_FAILS(Errc::corrupt,
                "b.vhdx: file type identifier at offset 0x0: signature 0x666c696678646876 is not "
                "\"vhdxfile\"",
                read(file));
  MemoryFile empty("c.vhdx");
  REQUIRE_FAILS(Errc::corrupt, "c.vhdx: file type identifier", read(empty));
}

TEST_CASE("the creator is text up to its zero, or 256 characters") {
  const auto file = VhdxImage().build();
  file->store(8, from_hex("5100 4500 4d00 5500 0000 5100"));  // "QEMU", as QEMU 7.2 begins it
  CHECK(read(*file)->creator == "QEMU");
  for (uint64_t i = 0; i < 256; ++i) file->store(8 + 2 * i, from_hex("5800"));
  CHECK(read(*file)->creator == std::string(256, 'X'));
}

TEST_CASE("unsupported: versions of the format and of a log in use") {
  const auto file = VhdxImage().build();
  Header raw = build_header(VhdxImage().header);
  raw.log_version = 1;
  store_header(*file, 1, raw);
  REQUIRE_OK(read(*file));  // the log is empty: nobody will read it
  raw.log_guid = Guid::literal("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa").stored();
  store_header(*file, 1, raw);
  REQUIRE_FAILS(Errc::unsupported, "header 2 at offset 0x20000: log version 1 is not 0",
                read(*file));
  raw.version = 2;
  store_header(*file, 1, raw);
  REQUIRE_FAILS(Errc::unsupported, "header 2 at offset 0x20000: version 2 is not 1", read(*file));
}

TEST_CASE("corrupt: a log in a place that it may not have") {
  struct Case {
    uint64_t offset;
    uint64_t length;
    const char* message;
  };
  const Case cases[] = {
      {1 * MiB, 4096, "log length 0x1000 is not a multiple of 1 MiB"},
      {1 * MiB + 4096, 1 * MiB, "log offset 0x101000 is not a multiple of 1 MiB"},
      {0, 1 * MiB, "log offset 0x0 lies in the header section"},
      {31 * MiB, 2 * MiB,
       "the log [0x1f00000, +0x200000) runs past the end of the file (0x2000000)"},
      {~uint64_t{0xfffff}, 1 * MiB, "runs past the end of the file (0x2000000)"},
  };
  for (const Case& test : cases) {
    VhdxImage image;
    image.header.log_offset = test.offset;
    image.header.log_length = test.length;
    REQUIRE_FAILS(Errc::corrupt, test.message, read(*image.build()));
  }
}

TEST_CASE("no log at all is right while it is empty") {
  VhdxImage image;
  image.header.log_offset = 0;
  image.header.log_length = 0;
  REQUIRE_OK(read(*image.build()));
  image.header.log_guid = Guid::literal("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
  REQUIRE_FAILS(Errc::corrupt, "log length 0x0", read(*image.build()));
}

TEST_CASE("bug class 21: truncated at the boundaries of the header section") {
  struct Case {
    uint64_t file_bytes;
    const char* message;  // null: the headers can be read
  };
  const Case cases[] = {
      {0, "file type identifier"},
      {7, "file type identifier"},
      {8, "header 1 at offset 0x10000: cut off by the end of the file (0x8)"},
      {64 * KiB, "cut off by the end of the file (0x10000)"},
      {64 * KiB + 4095, "cut off by the end of the file (0x10fff)"},
      {64 * KiB + 4096, "the log [0x100000, +0x100000) runs past the end"},
      {128 * KiB + 4095, "header 1 at offset 0x10000: the log"},
      {128 * KiB + 4096, "header 2 at offset 0x20000: the log"},
      {2 * MiB - 1, "runs past the end of the file (0x1fffff)"},
      {2 * MiB, nullptr},
  };
  for (const Case& test : cases) {
    VhdxImage image;
    image.file_bytes = test.file_bytes;
    const auto file = image.build();
    CAPTURE(test.file_bytes);
    if (test.message == nullptr) {
      REQUIRE_OK(read(*file));
    } else {
      REQUIRE_FAILS(Errc::corrupt, test.message, read(*file));
    }
  }
}

}  // namespace
}  // namespace vhdkit::vhdx
