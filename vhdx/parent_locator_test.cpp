#include "vhdx/parent_locator.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"

namespace vhdkit::vhdx {
namespace {

using tests::from_hex;

constexpr const char* linkage = "{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}";  // the specification's

// A locator by hand: a header, entries, and their strings behind them in order.
class TestLocator {
 public:
  void add(std::u16string_view key, std::u16string_view value) {
    strings_.push_back({bytes_of_text(key), bytes_of_text(value)});
  }

  std::vector<std::byte> build() const {
    std::vector<std::byte> item = from_hex("b7ef4ab0 9ed1 814a b78925b8e9445913 0000 0000");
    item[18] = std::byte(uint8_t(strings_.size()));
    std::vector<std::byte> pool;
    for (const auto& [key, value] : strings_) {
      const size_t at = 20 + 12 * strings_.size() + pool.size();
      append(item, bytes_of(ParentLocatorEntry{.key_offset = uint32_t(at),
                                               .value_offset = uint32_t(at + key.size()),
                                               .key_length = uint16_t(key.size()),
                                               .value_length = uint16_t(value.size())}));
      append(pool, key);
      append(pool, value);
    }
    append(item, pool);
    return item;
  }

 private:
  static std::vector<std::byte> bytes_of_text(std::u16string_view text) {
    std::vector<std::byte> bytes;
    for (const char16_t unit : text) append(bytes, bytes_of(le16(uint16_t(unit))));
    return bytes;
  }
  static void append(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
  }

  std::vector<std::pair<std::vector<std::byte>, std::vector<std::byte>>> strings_;
};

TestLocator usual() {
  TestLocator locator;
  locator.add(u"parent_linkage", u"{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}");
  return locator;
}

Result<ParentLocator> parse(const TestLocator& locator) {
  return parse_parent_locator(locator.build(), "a.vhdx: parent locator");
}

TEST_CASE("a locator's entries come in the order of the file, unknown keys too") {
  TestLocator locator;
  locator.add(u"absolute_win32_path", u"\\\\?\\d:\\path2\\sub3\\p\u00e4rent.vhdx");
  locator.add(u"parent_linkage", u"{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}");
  locator.add(u"Parent_Linkage", u"keys are case sensitive");
  locator.add(u"relative_path", u"..\\..\\path2\\sub3\\p\U0001f4be.vhdx");
  const auto parsed = parse(locator);
  REQUIRE_OK(parsed);
  REQUIRE(parsed->entries.size() == 4);
  CHECK(parsed->entries[0].second == "\\\\?\\d:\\path2\\sub3\\p\u00e4rent.vhdx");
  CHECK(parsed->entries[2].first == "Parent_Linkage");
  CHECK(*parsed->find("relative_path") == "..\\..\\path2\\sub3\\p\U0001f4be.vhdx");
  CHECK(*parsed->find("parent_linkage") == linkage);
  CHECK(parsed->find("volume_path") == nullptr);
  CHECK(build_parent_locator(*parsed) == locator.build());
}

TEST_CASE(
    "the parent is told by its linkages and its paths, relative before volume before absolute") {
  TestLocator locator = usual();
  locator.add(u"absolute_win32_path", u"\\\\?\\d:\\p.vhdx");
  locator.add(u"volume_path", u"\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\p.vhdx");
  locator.add(u"parent_linkage2", u"01234567-89AB-CDEF-0123-456789ABCDEF");
  locator.add(u"relative_path", u".\\p.vhdx");
  const disk::ParentReference parent = parent_reference(parse(locator).value());
  REQUIRE(parent.identities.size() == 2);
  CHECK(parent.identities[0].to_string() == "83ed0ec3-24c8-49a6-a959-5e4bf1288bfb");
  CHECK(parent.identities[1].to_string() == "01234567-89ab-cdef-0123-456789abcdef");
  REQUIRE(parent.paths.size() == 3);
  CHECK(parent.paths[0].kind == disk::PathKind::relative);
  CHECK(parent.paths[0].locator == "relative_path");
  CHECK(parent.paths[0].path == ".\\p.vhdx");
  CHECK(parent.paths[1].kind == disk::PathKind::volume);
  CHECK(parent.paths[1].locator == "volume_path");
  CHECK(parent.paths[2].kind == disk::PathKind::absolute);
  CHECK(parent.paths[2].path == "\\\\?\\d:\\p.vhdx");
  CHECK_FALSE(parent.time_stamp.has_value());
}

TEST_CASE("a linkage is read in either case, with or without braces") {
  for (const char16_t* text :
       {u"{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}", u"{83ED0EC3-24C8-49A6-A959-5E4BF1288BFB}",
        u"83ed0ec3-24c8-49a6-a959-5e4bf1288bfb", u"83ED0EC3-24C8-49A6-A959-5E4BF1288BFB"}) {
    TestLocator locator;
    locator.add(u"parent_linkage", text);
    const auto parsed = parse(locator);
    REQUIRE_OK(parsed);
    const auto identities = parent_reference(*parsed).identities;
    REQUIRE(identities.size() == 1);
    CHECK(identities[0].to_string() == "83ed0ec3-24c8-49a6-a959-5e4bf1288bfb");
  }
}

TEST_CASE("a second linkage of zero names nobody, a first one does") {
  TestLocator locator = usual();
  locator.add(u"parent_linkage2", u"{00000000-0000-0000-0000-000000000000}");
  CHECK(parent_reference(parse(locator).value()).identities.size() == 1);
  TestLocator zero;
  zero.add(u"parent_linkage", u"{00000000-0000-0000-0000-000000000000}");
  CHECK(parent_reference(parse(zero).value()).identities == std::vector<Guid>{Guid()});
}

TEST_CASE("images that a merge has put into the parent are told by our own key") {
  TestLocator locator = usual();
  CHECK(parent_reference(parse(locator).value()).merged.empty());
  locator.add(u"vhdkit_merged",
              u"{01234567-89ab-cdef-0123-456789abcdef} base.vhdx "
              u"{11234567-89ab-cdef-0123-456789abcdef}");
  const disk::ParentReference parent = parent_reference(parse(locator).value());
  CHECK(parent.merged == std::vector{Guid::literal("01234567-89ab-cdef-0123-456789abcdef"),
                                     Guid::literal("11234567-89ab-cdef-0123-456789abcdef")});
  CHECK(parent.identities.size() == 1);
}

TEST_CASE("a terminating NUL that a writer counted in is taken off") {
  TestLocator locator = usual();
  locator.add({u"relative_path\0", 14}, {u".\\p.vhdx\0", 9});
  const auto parsed = parse(locator);
  REQUIRE_OK(parsed);
  CHECK(*parsed->find("relative_path") == ".\\p.vhdx");
}

TEST_CASE("corrupt: linkages that miss or are no GUID") {
  TestLocator none;
  none.add(u"relative_path", u".\\p.vhdx");
  REQUIRE_FAILS(Errc::corrupt, "a.vhdx: parent locator: the key \"parent_linkage\" is missing",
                parse(none));
  TestLocator wrong;
  wrong.add(u"parent_linkage", u"{83ed0ec3}");
  REQUIRE_FAILS(Errc::corrupt, "parent_linkage \"{83ed0ec3}\" is no GUID", parse(wrong));
  TestLocator second = usual();
  second.add(u"parent_linkage2", u"");
  REQUIRE_FAILS(Errc::corrupt, "parent_linkage2 \"\" is no GUID", parse(second));
}

TEST_CASE("corrupt: keys that are empty or twice there, strings with a NUL inside") {
  TestLocator empty = usual();
  empty.add(u"", u"x");
  REQUIRE_FAILS(Errc::corrupt, "entry 1 at item offset 0x20: the key is empty", parse(empty));
  TestLocator twice = usual();
  twice.add(u"parent_linkage", u"{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}");
  REQUIRE_FAILS(Errc::corrupt, "the key \"parent_linkage\" is twice there", parse(twice));
  TestLocator nul = usual();
  nul.add({u"a\0b", 3}, u"x");
  REQUIRE_FAILS(Errc::corrupt, "entry 1 at item offset 0x20: key at item offset", parse(nul));
  TestLocator value = usual();
  value.add(u"relative_path", {u".\\p\0.vhdx", 9});
  REQUIRE_FAILS(Errc::corrupt, "has a NUL inside", parse(value));
}

TEST_CASE("unsupported: another locator's type") {
  std::vector<std::byte> item = usual().build();
  item[0] = std::byte{0};
  REQUIRE_FAILS(Errc::unsupported,
                "locator type b04aef00-d19e-4a81-b789-25b8e9445913 is not VHDX's",
                parse_parent_locator(item, "a.vhdx: parent locator"));
}

TEST_CASE("corrupt: strings outside the item, of odd length, or shared to make much of little") {
  struct Case {
    size_t at;  // in the item; entry 0 begins at 20
    const char* bytes;
    const char* message;
  };
  const Case cases[] = {
      {20, "ffffffff", "entry 0 at item offset 0x14: key [0xffffffff, +0x1c) runs past the end"},
      {24, "00000001", "value [0x1000000, +0x4c) runs past the end of the item (0x88)"},
      {30, "4e00", "value [0x3c, +0x4e) runs past the end of the item (0x88)"},
      {28, "1b00", "key length 27 is odd"},
  };
  for (const Case& test : cases) {
    std::vector<std::byte> item = usual().build();
    std::ranges::copy(from_hex(test.bytes), item.begin() + test.at);
    REQUIRE_FAILS(Errc::corrupt, test.message, parse_parent_locator(item, "a.vhdx: locator"));
  }
  std::vector<std::byte> item(1 * MiB, std::byte{'a'});
  std::ranges::copy(usual().build(), item.begin());
  item[18] = item[19] = std::byte{0xff};
  for (size_t i = 0; i < 65535; ++i)
    std::ranges::copy(bytes_of(ParentLocatorEntry{.key_offset = uint32_t(900000 + i),
                                                  .value_offset = 800000,
                                                  .key_length = 64,
                                                  .value_length = 0xfffe}),
                      item.begin() + 20 + 12 * i);
  REQUIRE_FAILS(Errc::corrupt, "strings of more than 0x100000 bytes",
                parse_parent_locator(item, "a.vhdx: locator"));
}

TEST_CASE("bug class 21: a locator truncated anywhere is an error, never more") {
  const std::vector<std::byte> whole = usual().build();
  for (size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    const auto cut = std::vector(whole.begin(), whole.begin() + length);
    const char* const message = length < 20   ? "cut off after"
                                : length < 32 ? "ends before it"
                                              : "runs past the end of the item";
    REQUIRE_FAILS(Errc::corrupt, message, parse_parent_locator(cut, "a.vhdx: parent locator"));
  }
}

}  // namespace
}  // namespace vhdkit::vhdx
