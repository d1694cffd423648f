#include "hypervisor/services/wire_text.h"

#include <doctest/doctest.h>

#include <array>
#include <vector>

namespace vhdkit::services {
namespace {

std::string read(std::initializer_list<uint16_t> units) {
  std::vector<std::byte> bytes;
  for (const uint16_t unit : units) {
    bytes.push_back(std::byte(unit & 0xff));
    bytes.push_back(std::byte(unit >> 8));
  }
  return utf8_of_wire(bytes);
}

TEST_CASE("texts end with their zero or their field, and become valid UTF-8") {
  CHECK(read({}).empty());
  CHECK(read({'a', 'b'}) == "ab");
  CHECK(read({'a', 0, 'b'}) == "a");
  CHECK(read({0xe4, 0x20ac}) == "\xc3\xa4\xe2\x82\xac");
  CHECK(read({0xd83d, 0xde00}) == "\xf0\x9f\x98\x80");
  const std::string replacement = "\xef\xbf\xbd";
  CHECK(read({0xd83d}) == replacement);
  CHECK(read({0xde00, 'a'}) == replacement + "a");
  CHECK(read({0xd83d, 0xd83d, 0xde00}) == replacement + "\xf0\x9f\x98\x80");
  CHECK(read({0xde00, 0xd83d}) == replacement + replacement);
  CHECK(read({'a', 0x9b, 0x7f, 0x80, 0x9f, 0xa0}) ==
        "a" + replacement + replacement + replacement + replacement + "\xc2\xa0");
  const std::array<std::byte, 3> odd = {std::byte{'x'}, std::byte{0}, std::byte{'y'}};
  CHECK(utf8_of_wire(odd) == "x");
}

}  // namespace
}  // namespace vhdkit::services
