#include "libvhd/parent_locator.h"

#include <doctest/doctest.h>

#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

using namespace std::string_view_literals;
using disk::PathKind;
using tests::VhdImage;

std::string decoded(uint32_t platform_code, std::string_view data) {
  return decode_locator(platform_code, std::as_bytes(std::span(data)));
}

TEST_CASE("each platform's data becomes a path or a text for people") {
  CHECK(decoded(platform_w2ru, ".\0\\\0a\0.\0v\0h\0d\0"sv) == ".\\a.vhd");
  CHECK(decoded(platform_w2ku, "C\0:\0\\\0\xe4\0.\0v\0h\0d\0"sv) == "C:\\ä.vhd");
  // Some writers end it with a zero, and blktap leaves room behind.
  CHECK(decoded(platform_w2ku, "a\0b\0\0\0x\0"sv) == "ab");
  CHECK(decoded(platform_w2ku, "a\0b"sv) == "a");
  CHECK(decoded(platform_wi2r, ".\\old.vhd") == ".\\old.vhd");
  CHECK(decoded(platform_wi2k, "C:\\\xe4.vhd") == "C:\\\xef\xbf\xbd.vhd");
  CHECK(decoded(platform_wi2k, "C:\\a\0b"sv) == "C:\\a");
  CHECK(decoded(platform_macx, "file:///Users/me/a.vhd") == "file:///Users/me/a.vhd");
  CHECK(decoded(platform_mac, "\0\1\2\3"sv) == "(Mac OS alias of 4 bytes)");
  CHECK(decoded(platform_w2ru, "\0\0"sv).empty());
  CHECK(decoded(platform_macx, "\0a"sv).empty());
}

TEST_CASE("the room for a locator's data is counted in sectors or in bytes") {
  struct {
    uint32_t stored;
    uint64_t room;
  } const cases[] = {{0, 0},     {1, 512},     {511, 511 * 512},
                     {512, 512}, {1024, 1024}, {0xffffffff, 0xffffffff}};
  for (const auto& test : cases) {
    CAPTURE(test.stored);
    CHECK(locator_room_bytes({.data_space = test.stored}) == test.room);
  }
}

TEST_CASE("a locator whose data cannot be read says why") {
  struct {
    uint64_t data_offset;
    uint32_t length;
    std::string damage;
  } const cases[] = {
      {0x1000, 0, "platform data length is 0"},
      {0x1000, 0x10001, "platform data length 0x10001 is above 0x10000"},
      {0x1000, 0xffffffff, "platform data length 0xffffffff is above 0x10000"},
      {0, 8, "platform data offset 0x0 lies in the copy of the footer"},
      {0x1ff, 8, "platform data offset 0x1ff lies in the copy of the footer"},
      {0x1ff9, 8, "platform data [0x1ff9, +0x8) runs past the end of the content (0x2000)"},
      {0x2000, 1, "platform data [0x2000, +0x1) runs past the end of the content (0x2000)"},
      {~uint64_t{0}, 2, "platform data [0xffffffffffffffff, +0x2) runs past the end"},
      {0x1ff8, 8, ""},
      {0x200, 8, ""},
  };
  for (const auto& test : cases) {
    CAPTURE(test.damage);
    const std::string damage =
        locator_damage({.data_length_bytes = test.length, .data_offset = test.data_offset}, 0x2000);
    CHECK(damage.starts_with(test.damage));
    CHECK(damage.empty() == test.damage.empty());
  }
}

// A child with its locators in the reverse of the order in which they are tried.
VhdImage child() {
  VhdImage image(tests::vhd_differencing, 8 * MiB);
  image.locate(0, "MacX", "file:///a.vhd").locate(1, "Mac ", "alias");
  image.locate(2, "Wi2k", "C:\\a.vhd").locate(3, "Wi2r", "a.vhd");
  image.locate(4, "W2ku", "C\0:\0\\\0a\0"sv).locate(5, "W2ru", "a\0"sv);
  image.locate(6, "W2ru", "b\0"sv);
  for (size_t i = 0; i < 16; ++i) image.header.put(tests::vhd_header::parent_id + i, 1, 0xa0 + i);
  image.header.put(tests::vhd_header::parent_time_stamp, 4, 99);
  return image;
}

TEST_CASE("locators are tried in their order, those that nobody follows last") {
  auto image = child();
  image.header.put(tests::vhd_header::parent_name, "\0p\0.\0v\0h\0d"sv);
  const auto layer = tests::await(open_layer(image.file()));
  REQUIRE_OK(layer);
  const disk::ParentReference* parent = (*layer)->parent();
  REQUIRE(parent != nullptr);
  CHECK(parent->identities == std::vector{Guid::literal("a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf")});
  CHECK(parent->time_stamp == 99);
  CHECK(parent->name == "p.vhd");
  struct {
    PathKind kind;
    std::string locator;
    std::string path;
  } const expected[] = {
      {PathKind::relative, "W2ru", "a"},
      {PathKind::relative, "W2ru", "b"},
      {PathKind::absolute, "W2ku", "C:\\a"},
      {PathKind::relative, "Wi2r", "a.vhd"},
      {PathKind::absolute, "Wi2k", "C:\\a.vhd"},
      {PathKind::other, "MacX", "file:///a.vhd"},
      {PathKind::other, "Mac ", "(Mac OS alias of 5 bytes)"},
      {PathKind::relative, "parent-name", "p.vhd"},
  };
  REQUIRE(parent->paths.size() == std::size(expected));
  for (size_t i = 0; i < std::size(expected); ++i) {
    CAPTURE(i);
    CHECK(parent->paths[i].kind == expected[i].kind);
    CHECK(parent->paths[i].locator == expected[i].locator);
    CHECK(parent->paths[i].path == expected[i].path);
  }
}

TEST_CASE("a parent name that is a whole path is absolute") {
  for (const std::string_view name : {"\0C\0:\0\\\0a"sv, "\0\\\0\\\0h\0\\\0a"sv}) {
    auto image = child();
    image.header.put(tests::vhd_header::parent_name, name);
    const auto layer = tests::await(open_layer(image.file()));
    REQUIRE_OK(layer);
    CHECK((*layer)->parent()->paths.back().kind == PathKind::absolute);
  }
}

TEST_CASE("damaged locators do not keep a child from opening, and are told") {
  auto image = child();
  image.put_locator(0, "MacX", 0x10, 512, 4).put_locator(1, "Mac ", 1 << 30, 512, 4);
  image.put_locator(2, "Wi2k", image.content_end - 2, 512, 4);
  image.put_locator(3, "Wi2r", 0x800, 512, 0).put_locator(4, "W2ku", 0x800, 512, 0xffffffff);
  image.put_locator(5, "ABCD", 0x800, 512, 4);
  const auto layer = tests::await(open_layer(image.file()));
  REQUIRE_OK(layer);
  REQUIRE((*layer)->parent()->paths.size() == 2);
  CHECK((*layer)->parent()->paths[0].path == "b");
  CHECK((*layer)->parent()->paths[1].locator == "ABCD");
  CHECK((*layer)->parent()->paths[1].kind == PathKind::other);
  size_t warning_count = 0;
  const disk::Description description = (*layer)->describe();
  for (const auto& field : description.fields())
    if (field.key == "warnings")
      warning_count = std::get<std::vector<std::string>>(field.value).size();
  CHECK(warning_count == 5);
}

TEST_CASE("a locator that points at itself is text like any other") {
  auto image = child();
  const uint64_t entry_offset = 512 + tests::vhd_header::locators;
  image.put_locator(0, "MacX", entry_offset, 512, 4);
  const auto layer = tests::await(open_layer(image.file()));
  REQUIRE_OK(layer);
  CHECK((*layer)->parent()->paths[5].path == "MacX");
}

TEST_CASE("a disk that is not differencing has no parent, whatever its locators say") {
  VhdImage image(tests::vhd_dynamic, 8 * MiB);
  image.locate(0, "W2ru", "a\0"sv);
  const auto layer = tests::await(open_layer(image.file()));
  REQUIRE_OK(layer);
  CHECK((*layer)->parent() == nullptr);
}

}  // namespace
}  // namespace vhdkit::libvhd
