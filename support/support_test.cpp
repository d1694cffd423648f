#include <doctest/doctest.h>

#include <vector>

#include "support/bytes.h"
#include "support/checked.h"
#include "support/crc32c.h"
#include "support/guid.h"
#include "support/result.h"
#include "support/utf16.h"

namespace vhdkit {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST_CASE("stored integers keep their byte order") {
  struct Both {
    be32 big;
    le64 little;
  };
  static_assert(OnDisk<Both> && sizeof(Both) == 12);
  const Both both{0x01020304, 0x05};
  CHECK(bytes_of(both)[0] == std::byte{1});
  CHECK(bytes_of(both)[4] == std::byte{5});
  CHECK(both.big == 0x01020304);
  CHECK(both.little == 5);
}

TEST_CASE("load refuses what does not fit") {
  const std::vector<std::byte> four(4);
  CHECK(load<be32>(four).has_value());
  CHECK_FALSE(load<be32>(four, 1).has_value());
  CHECK_FALSE(load<be32>(four, SIZE_MAX).has_value());
}

TEST_CASE("is_zero sees a single bit anywhere") {
  for (size_t size : {0, 1, 15, 16, 17, 31, 32, 33, 512, 4096}) {
    std::vector<std::byte> buffer(size);
    CHECK(is_zero(buffer));
    for (size_t at = 0; at < size; ++at) {
      buffer[at] = std::byte{0x80};
      CHECK_FALSE(is_zero(buffer));
      buffer[at] = std::byte{0};
    }
  }
}

TEST_CASE("checked arithmetic and ranges never wrap") {
  CHECK_FALSE(checked_add<uint64_t>(UINT64_MAX, 1));
  CHECK_FALSE(checked_mul<uint64_t>(UINT64_MAX, 2));
  CHECK(checked_add<uint64_t>(1, 2) == 3);
  CHECK(range_fits(10, 0, 10));
  CHECK_FALSE(range_fits(10, 1, 10));
  CHECK_FALSE(range_fits(UINT64_MAX, 2, 10));
  CHECK(ceil_div(UINT64_MAX, 2) == UINT64_MAX / 2 + 1);
}

TEST_CASE("CRC-32C of the check string of RFC 3720") {
  CHECK(crc32c(bytes("123456789")) == 0xe3069283);
  CHECK(crc32c(bytes("56789"), crc32c(bytes("1234"))) == 0xe3069283);
  std::vector<std::byte> zeroes(32);
  CHECK(crc32c(zeroes) == 0x8a9136aa);  // RFC 3720 B.4
  zeroes[5] = std::byte{7};
  CHECK(crc32c_without(zeroes, 4) == 0x8a9136aa);
}

TEST_CASE("a GUID's text, stored and big-endian forms") {
  const Guid guid =
      Guid::literal("2dc27766-f623-4200-9d64-115e9bfd4a08");  // the BAT region's identifier
  CHECK(guid.to_string() == "2dc27766-f623-4200-9d64-115e9bfd4a08");
  CHECK(guid.stored().bytes[0] == std::byte{0x66});
  CHECK(guid.big_endian()[0] == std::byte{0x2d});
  CHECK(Guid::from_stored(guid.stored()) == guid);
  CHECK(Guid::parse("{2DC27766-F623-4200-9D64-115E9BFD4A08}") == guid);
  CHECK_FALSE(Guid::parse("2dc27766-f623-4200-9d64-115e9bfd4a0"));
  CHECK_FALSE(Guid::parse("2dc27766-f623-4200-9d64-115e9bfd4a0g"));
  CHECK_FALSE(Guid::parse("2dc27766xf623-4200-9d64-115e9bfd4a08"));
  CHECK(Guid::random() != Guid::random());
}

TEST_CASE("UTF-16 both ways, unpaired surrogates included") {
  for (const ByteOrder order : {ByteOrder::little, ByteOrder::big}) {
    for (const std::string text : {"", "C:\\vm\\disk.vhdx", "Grüße", "\xf0\x9f\x92\xbe"})
      CHECK(utf16_to_utf8(utf8_to_utf16(text, order), order) == text);
  }
  const std::vector<std::byte> lone{std::byte{0xd8}, std::byte{0x00}, std::byte{0x00},
                                    std::byte{0x41}};
  const std::string kept = utf16_to_utf8(lone, ByteOrder::big);
  CHECK(kept ==
        "\xed\xa0\x80"
        "A");
  CHECK(utf8_to_utf16("\xff", ByteOrder::big) ==
        std::vector<std::byte>{std::byte{0xff}, std::byte{0xfd}});
}

Result<int> half(int value) {
  if (value % 2 != 0) return fail(Errc::invalid_argument, "odd");
  return value / 2;
}

Result<int> quarter(int value) {
  TRY_LET(const int once, half(value));
  TRY_LET(const int twice, half(once));
  return twice;
}

TEST_CASE("errors travel with their context") {
  CHECK(quarter(12).value() == 3);
  const auto failed = with_context(quarter(6), "six");
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().message == "six: odd");
  CHECK(fail_errno(ENOSPC, "disk").error().code == Errc::no_space);
}

}  // namespace
}  // namespace vhdkit
