#include "libvhd/footer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "tests/support/await.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

namespace at = tests::vhd_footer;
using tests::vhd_footer_bytes;
using tests::VhdBytes;
using tests::VhdImage;

TEST_CASE("a footer is parsed field by field") {
  VhdBytes raw = vhd_footer_bytes(tests::vhd_dynamic, 8 * GiB);
  raw.put(at::features, 4, 3).put(at::data_offset, 8, 0x1234).put(at::creator, "vpc ");
  raw.put(at::creator_version, 4, 0x50003).put(at::creator_os, "Mac ");
  raw.put(at::original_size, 8, 5 * GiB).put(at::saved_state, 1, 1);
  raw.put(at::cylinders, 2, 16644).put(at::heads, 1, 15).put(at::sectors, 1, 63);
  const auto footer = parse_footer(raw.seal(at::checksum).bytes, "a");
  REQUIRE_OK(footer);
  CHECK(footer->type == DiskType::dynamic);
  CHECK(footer->features == 3);
  CHECK(footer->file_format_version == 0x10000);
  CHECK(footer->data_offset == 0x1234);
  CHECK(footer->time_stamp == 0x260cf355);
  CHECK(footer->creator_application == creator_of("vpc "));
  CHECK(footer->creator_version == 0x50003);
  CHECK(footer->creator_host_os == creator_of("Mac "));
  CHECK(footer->original_size_bytes == 5 * GiB);
  CHECK(footer->current_size_bytes == 8 * GiB);
  CHECK(footer->geometry == Chs{.cylinders = 16644, .heads = 15, .sectors_per_track = 63});
  CHECK(footer->unique_id.to_string() == "10111213-1415-1617-1819-1a1b1c1d1e1f");
  CHECK(footer->saved_state == 1);
}

TEST_CASE("a built footer is the specification's 512 bytes") {
  VhdBytes expected = vhd_footer_bytes(tests::vhd_dynamic, 8 * GiB);
  expected.put(at::cylinders, 2, 16644).put(at::heads, 1, 16).put(at::sectors, 1, 63);
  expected.put(at::saved_state, 1, 1).put(at::original_size, 8, GiB).seal(at::checksum);
  const Footer built =
      build_footer({.type = DiskType::dynamic,
                    .data_offset = 512,
                    .time_stamp = 0x260cf355,
                    .original_size_bytes = GiB,
                    .current_size_bytes = 8 * GiB,
                    .geometry = {16644, 16, 63},
                    .unique_id = Guid::literal("10111213-1415-1617-1819-1a1b1c1d1e1f"),
                    .saved_state = 1});
  CHECK(std::ranges::equal(bytes_of(built), expected.bytes));
  expected.put(at::saved_state, 1, 2).put(at::reserved, 1, 1).put(511, 1, 3).seal(at::checksum);
  const auto parsed = parse_footer(expected.bytes, "");
  REQUIRE(parsed.has_value());
  CHECK(std::ranges::equal(bytes_of(build_footer(*parsed)), expected.bytes));
  CHECK(is_footer(expected.bytes));
}

TEST_CASE("the geometry of a size is the one that other programs store") {
  struct {
    uint64_t size_bytes;
    Chs chs;
  } const cases[] = {
      // qemu-img 7.2 create -f vpc
      {3168256, {91, 4, 17}},
      {10514432, {302, 4, 17}},
      {41953280, {964, 5, 17}},
      {104865792, {1004, 12, 17}},
      {524353536, {1016, 16, 63}},
      {528482304, {1024, 16, 63}},
      {1073995776, {2081, 16, 63}},
      {5368946688, {10403, 16, 63}},
      {8590417920, {16645, 16, 63}},
      {33286127616, {64496, 16, 63}},
      {34361303040, {16449, 16, 255}},
      {107374632960, {51401, 16, 255}},
      {137438953472, {65535, 16, 255}},
      // Hyper-V and Virtual PC, in the samples
      {10485760, {301, 4, 17}},
      {136365211648, {65278, 16, 255}},
      // The specification's bounds, by hand: 65535 * 16 * 63 and 65535 * 16 * 255 sectors
      {uint64_t{65535} * 16 * 63 * 512 - 512, {65534, 16, 63}},
      {uint64_t{65535} * 16 * 63 * 512, {16191, 16, 255}},
      {uint64_t{65535} * 16 * 255 * 512, {65535, 16, 255}},
      {64 * TiB, {65535, 16, 255}},
      {~uint64_t{0}, {65535, 16, 255}},
      // 16 * 1024 * 17 sectors no longer fit 17 a track; 16 * 1024 * 31 no longer 31
      {uint64_t{16} * 1024 * 17 * 512 - 512, {1023, 16, 17}},
      {uint64_t{16} * 1024 * 17 * 512, {561, 16, 31}},
      {uint64_t{16} * 1024 * 31 * 512 - 512, {1023, 16, 31}},
      {uint64_t{16} * 1024 * 31 * 512, {503, 16, 63}},
      {512, {0, 4, 17}},
  };
  for (const auto& test : cases) {
    CAPTURE(test.size_bytes);
    const Chs chs = chs_of_size(test.size_bytes);
    CHECK(chs.cylinders == test.chs.cylinders);
    CHECK(chs.heads == test.chs.heads);
    CHECK(chs.sectors_per_track == test.chs.sectors_per_track);
  }
}

TEST_CASE("bug class 13: creators differ in which of the footer's two sizes they mean") {
  constexpr uint64_t current = 136365211648;    // the sample virtualpc-dynamic.vhd
  constexpr uint64_t geometric = 136363130880;  // 65278 * 16 * 255 sectors
  const Chs smaller = {65278, 16, 255};
  struct {
    std::string_view creator;
    Chs geometry;
    uint64_t expected;
  } const cases[] = {
      {"vpc ", smaller, geometric},
      {"vs  ", smaller, geometric},
      {"qemu", smaller, geometric},
      {"win ", smaller, current},
      {"qem2", smaller, current},
      {{"d2v\0", 4}, smaller, current},
      {{"tap\0", 4}, smaller, current},
      {"CTXS", smaller, current},
      {{"wa\0\0", 4}, smaller, current},
      {"vbox", smaller, current},
      {"????", smaller, current},
      // A geometry that says no size
      {"vpc ", {65535, 16, 255}, current},
      {"qemu", {65535, 16, 255}, current},
      {"vpc ", {0, 0, 0}, current},
      {"vs  ", {65278, 0, 255}, current},
      {"win ", {65535, 16, 255}, current},
      // A geometry that is larger
      {"vpc ", {65279, 16, 255}, 136365219840},
  };
  for (const auto& test : cases) {
    CAPTURE(test.creator);
    CAPTURE(test.geometry.cylinders);
    VhdBytes raw = vhd_footer_bytes(tests::vhd_dynamic, current);
    raw.put(at::creator, test.creator).put(at::cylinders, 2, test.geometry.cylinders);
    raw.put(at::heads, 1, test.geometry.heads).put(at::sectors, 1, test.geometry.sectors_per_track);
    const auto footer = parse_footer(raw.seal(at::checksum).bytes, "a");
    REQUIRE_OK(footer);
    CHECK(footer->size_bytes() == test.expected);
  }
}

TEST_CASE("a size that is no multiple of 512 loses its last part sector") {
  const auto footer = parse_footer(vhd_footer_bytes(tests::vhd_dynamic, 3 * MiB + 700).bytes, "a");
  REQUIRE_OK(footer);
  CHECK(footer->size_bytes() == 3 * MiB + 512);
}

TEST_CASE("every damage of a footer is named with its value") {
  struct {
    std::function<void(VhdBytes&)> damage;
    bool is_sealed_again;
    Errc code;
    std::string message;
  } const cases[] = {
      {[](VhdBytes& raw) { raw.put(7, "y"); }, true, Errc::corrupt,
       "a: cookie 0x636f6e6563746979 is not \"conectix\""},
      {[](VhdBytes& raw) { raw.put(at::checksum, 4, 0x12345); }, false, Errc::corrupt,
       "a: checksum 0x12345 should be 0xfffff"},
      {[](VhdBytes& raw) { raw.put(511, 1, 1); }, false, Errc::corrupt, "a: checksum 0xfffff"},
      {[](VhdBytes& raw) { raw.put(at::version, 4, 0x20000); }, true, Errc::unsupported,
       "a: file format version 0x20000 is not 1.x"},
      {[](VhdBytes& raw) { raw.put(at::type, 4, 0); }, true, Errc::unsupported,
       "a: disk type 0 is not fixed (2), dynamic (3) or differencing (4)"},
      {[](VhdBytes& raw) { raw.put(at::type, 4, 5); }, true, Errc::unsupported, "a: disk type 5"},
      {[](VhdBytes& raw) { raw.put(at::current_size, 8, 0); }, true, Errc::corrupt,
       "a: current size 0x0 is no size of a disk"},
      {[](VhdBytes& raw) { raw.put(at::current_size, 8, 511); }, true, Errc::corrupt,
       "a: current size 0x1ff is no size of a disk"},
      {[](VhdBytes& raw) { raw.put(at::current_size, 8, ~uint64_t{0}); }, true, Errc::corrupt,
       "a: current size 0xffffffffffffffff is no size of a disk"},
      {[](VhdBytes& raw) { raw.bytes.resize(510); }, false, Errc::corrupt,
       "a: cut off after 510 bytes"},
      {[](VhdBytes& raw) { raw.bytes.clear(); }, false, Errc::corrupt, "a: cut off after 0 bytes"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.message);
    VhdBytes raw = vhd_footer_bytes(tests::vhd_dynamic, GiB);
    test.damage(raw);
    if (test.is_sealed_again) raw.seal(at::checksum);
    REQUIRE_FAILS(test.code, test.message, parse_footer(raw.bytes, "a"));
  }
}

TEST_CASE("a later minor version is read") {
  VhdBytes raw = vhd_footer_bytes(tests::vhd_fixed, GiB);
  raw.put(at::version, 4, 0x10001).seal(at::checksum);
  REQUIRE_OK(parse_footer(raw.bytes, "a"));
}

TEST_CASE("bug class 28: a footer of 511 bytes, as Virtual PC before 2004 wrote it, is found") {
  VhdImage image(tests::vhd_dynamic, GiB);
  auto file = image.file();
  REQUIRE_OK(file->resize(file->size_bytes() - 1));
  const auto found = tests::await(find_footer(*file));
  REQUIRE_OK(found);
  CHECK(found->place == FooterPlace::short_tail);
  CHECK(found->content_end == image.content_end);
  CHECK(found->copy == FooterCopy::equal);
  CHECK(found->footer.current_size_bytes == GiB);
  // Alone in its file too, which is shorter than a footer.
  const VhdBytes alone = vhd_footer_bytes(tests::vhd_fixed, GiB);
  async::MemoryFile lone("b.vhd", std::span(alone.bytes).first(511));
  const auto found_alone = tests::await(find_footer(lone));
  REQUIRE_OK(found_alone);
  CHECK(found_alone->content_end == 0);
}

TEST_CASE("the footer at the tail comes first, and its copy is compared") {
  VhdImage image(tests::vhd_dynamic, GiB);
  auto file = image.file();
  auto found = tests::await(find_footer(*file));
  REQUIRE_OK(found);
  CHECK(found->place == FooterPlace::tail);
  CHECK(found->copy == FooterCopy::equal);
  CHECK(found->content_end == image.content_end);
  CHECK(found->tail_damage.empty());

  const VhdBytes other = vhd_footer_bytes(tests::vhd_dynamic, 2 * GiB);
  file->store(0, other.bytes);
  found = tests::await(find_footer(*file));
  REQUIRE_OK(found);
  CHECK(found->copy == FooterCopy::different);
  CHECK(found->footer.current_size_bytes == GiB);

  file->store(0, std::vector<std::byte>(512));
  found = tests::await(find_footer(*file));
  REQUIRE_OK(found);
  CHECK(found->copy == FooterCopy::missing);
}

TEST_CASE("the copy at the head serves where the tail is lost") {
  VhdImage image(tests::vhd_dynamic, GiB);
  for (const uint64_t cut : {2, 300, 511, 512, 1000}) {
    CAPTURE(cut);
    auto file = image.file();
    REQUIRE_OK(file->resize(file->size_bytes() - cut));
    const auto found = tests::await(find_footer(*file));
    REQUIRE_OK(found);
    CHECK(found->place == FooterPlace::head);
    CHECK(found->content_end == file->size_bytes());
    CHECK(found->footer.current_size_bytes == GiB);
    CHECK(found->tail_damage.starts_with("a.vhd: footer at offset 0x"));
  }
}

TEST_CASE("a file without a usable footer is told why") {
  VhdImage image(tests::vhd_dynamic, GiB);
  image.has_tail = false;
  image.has_copy = false;
  REQUIRE_FAILS(Errc::corrupt, "is not \"conectix\"", tests::await(find_footer(*image.file())));
  // A fixed disk has no copy: what lies at its beginning belongs to the guest.
  const VhdBytes fixed = vhd_footer_bytes(tests::vhd_fixed, MiB);
  async::MemoryFile inner("b.vhd", fixed.bytes);
  REQUIRE_OK(inner.resize(MiB));
  REQUIRE_FAILS(Errc::corrupt, "b.vhd: footer at offset 0xffe00: cookie 0x0",
                tests::await(find_footer(inner)));
  async::MemoryFile tiny("c.vhd", std::vector<std::byte>(510));
  REQUIRE_FAILS(Errc::corrupt, "c.vhd: 510 bytes are too few for a VHD footer (512)",
                tests::await(find_footer(tiny)));
  async::MemoryFile empty("d.vhd");
  REQUIRE_FAILS(Errc::corrupt, "0 bytes", tests::await(find_footer(empty)));
}

TEST_CASE("a whole footer of another version is not passed over for its copy") {
  VhdImage image(tests::vhd_dynamic, GiB);
  auto file = image.file();
  VhdBytes later = vhd_footer_bytes(tests::vhd_dynamic, GiB);
  later.put(at::version, 4, 0x20000).seal(at::checksum);
  file->store(image.content_end, later.bytes);
  REQUIRE_FAILS(Errc::unsupported, "file format version 0x20000", tests::await(find_footer(*file)));
}

TEST_CASE("codes and times have a text") {
  CHECK(disk_type_name(2) == "fixed");
  CHECK(disk_type_name(3) == "dynamic");
  CHECK(disk_type_name(4) == "differencing");
  CHECK(disk_type_name(0) == "type 0");
  CHECK(code_text(creator_of("win ")) == "win ");
  CHECK(code_text(0x64327600) == "d2v\\x00");
  CHECK(code_text(0xff7f1f41) == "\\xff\\x7f\\x1fA");
  CHECK(time_stamp_text(0) == "2000-01-01T00:00:00Z");
  CHECK(time_stamp_text(0x1e56f9c4) == "2016-02-17T09:28:36Z");  // by date -u -d @SECONDS
  CHECK(time_stamp_text(0xffffffff) == "2136-02-07T06:28:15Z");
}

}  // namespace
}  // namespace vhdkit::libvhd
