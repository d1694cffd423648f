#include "libvhd/vhd_layer.h"

#include <doctest/doctest.h>

#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/extents.h"
#include "tests/support/sample.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

namespace footer_at = tests::vhd_footer;
namespace header_at = tests::vhd_header;
using tests::await;
using tests::vhd_differencing;
using tests::vhd_dynamic;
using tests::vhd_fixed;
using tests::VhdBytes;
using tests::VhdImage;

std::unique_ptr<disk::Layer> opened(std::unique_ptr<File> file) {
  auto layer = await(open_layer(std::move(file)));
  REQUIRE_OK(layer);
  return std::move(*layer);
}

std::string resolved(disk::Layer& layer) {
  disk::ExtentList extents;
  REQUIRE_OK(await(layer.resolve(0, layer.geometry().size_bytes, extents)));
  return tests::text_of(extents);
}

std::unique_ptr<async::MemoryFile> fixed_file(const VhdBytes& footer, uint64_t footer_offset) {
  auto file = std::make_unique<async::MemoryFile>("a.vhd");
  file->store(footer_offset, footer.bytes);
  return file;
}

// A described field's text; "" where there is none.
std::string described(const disk::Layer& layer, std::string_view key) {
  const disk::Description description = layer.describe();
  for (const auto& field : description.fields()) {
    if (field.key != key) continue;
    if (const auto* text = std::get_if<std::string>(&field.value)) return *text;
    if (const auto* texts = std::get_if<std::vector<std::string>>(&field.value))
      return texts->front();
  }
  return "";
}

TEST_CASE("a fixed disk is its file without the footer, also above 2040 GiB") {
  for (const uint64_t size_bytes : {uint64_t{512}, 10 * MiB, 2040 * GiB + 512, 32 * TiB}) {
    CAPTURE(size_bytes);
    const auto layer =
        opened(fixed_file(tests::vhd_footer_bytes(vhd_fixed, size_bytes), size_bytes));
    CHECK(layer->geometry().size_bytes == size_bytes);
    CHECK(layer->block_size_bytes() == 0);
    CHECK(layer->identity() == Guid::literal("10111213-1415-1617-1819-1a1b1c1d1e1f"));
    CHECK(layer->time_stamp() == 0x260cf355);
    disk::ExtentList expected;
    expected.append({.disk_offset = 0, .length = size_bytes, .kind = disk::ExtentKind::data});
    CHECK(resolved(*layer) == tests::text_of(expected));
    REQUIRE_OK(await(layer->audit()));
  }
}

TEST_CASE("a fixed disk sized by its geometry leaves the rest of the file alone") {
  VhdBytes footer = tests::vhd_footer_bytes(vhd_fixed, 10 * MiB);
  footer.put(footer_at::creator, "vpc ").put(footer_at::cylinders, 2, 301);
  footer.put(footer_at::heads, 1, 4).put(footer_at::sectors, 1, 17).seal(footer_at::checksum);
  const auto layer = opened(fixed_file(footer, 10 * MiB));
  CHECK(layer->geometry().size_bytes == 301 * 4 * 17 * 512);
  CHECK(described(*layer, "size-from") == "geometry");
}

TEST_CASE("a fixed disk that runs past its footer is corrupt") {
  const VhdBytes footer = tests::vhd_footer_bytes(vhd_fixed, 10 * MiB);
  REQUIRE_FAILS(Errc::corrupt,
                "a.vhd: the fixed disk of 0xa00000 bytes runs past its footer at offset 0x9ffe00",
                await(open_layer(fixed_file(footer, 10 * MiB - 512))));
}

TEST_CASE("bug class 28: a fixed disk with a footer of 511 bytes has all its sectors") {
  auto file = fixed_file(tests::vhd_footer_bytes(vhd_fixed, MiB), MiB);
  REQUIRE_OK(file->resize(MiB + 511));
  const auto layer = opened(std::move(file));
  CHECK(layer->geometry().size_bytes == MiB);
  CHECK(described(*layer, "footer-at") == "tail, 511 bytes");
}

// Block 0 at 0x1000 and block 1 behind it.
VhdImage two_blocks(uint32_t type) {
  VhdImage image(type, 4 * MiB);
  image.place(0, 8).place(1, 8 + 4097);
  return image;
}

TEST_CASE("the content is whole where the tail's footer is lost, and a warning says so") {
  VhdImage image = two_blocks(vhd_dynamic);
  image.has_tail = false;
  const auto layer = opened(image.file());
  CHECK(resolved(*layer) == "data 0+0x200000@0x1200, data 0x200000+0x200000@0x201400");
  REQUIRE_OK(await(layer->audit()));
  CHECK(described(*layer, "footer-at") == "head");
  CHECK(described(*layer, "warnings")
            .starts_with("the footer at the tail is damaged, its copy at the head is used: a.vhd: "
                         "footer at offset 0x401200"));
}

TEST_CASE("the copy's state is described, and warned of where it is not the same") {
  VhdImage image = two_blocks(vhd_dynamic);
  CHECK(described(*opened(image.file()), "footer-copy") == "equal");
  CHECK(described(*opened(image.file()), "warnings") == "");
  auto file = image.file();
  file->store(0, std::vector<std::byte>(1));
  auto layer = opened(std::move(file));
  CHECK(described(*layer, "footer-copy") == "missing");
  CHECK(described(*layer, "warnings") == "the copy of the footer at offset 0 is missing");
  file = image.file();
  file->store(500, std::vector<std::byte>(1, std::byte{1}));
  layer = opened(std::move(file));
  CHECK(described(*layer, "footer-copy") == "different");
  CHECK(described(*layer, "warnings") ==
        "the copy of the footer at offset 0 differs from the one at the tail");
}

TEST_CASE("bug class 21: a file cut off anywhere reads what is there or is refused, never beyond") {
  const auto whole = two_blocks(vhd_differencing).file();
  std::vector<std::byte> bytes(whole->size_bytes());
  whole->fetch(0, bytes);
  const auto cut_to = [&bytes](size_t length) {
    return std::make_unique<async::MemoryFile>("a.vhd", std::span(bytes).first(length));
  };
  // Header and BAT have to be there.
  for (size_t length = 0; length < 1536; ++length) {
    CAPTURE(length);
    const auto layer = await(open_layer(cut_to(length)));
    REQUIRE_FALSE(layer.has_value());
    CHECK(layer.error().code == Errc::corrupt);
    CHECK(layer.error().message.starts_with("a.vhd: "));
  }
  struct {
    size_t length;
    std::string audit;
  } const cases[] = {
      {1536, "BAT entry 0 at offset 0x600 is missing: the BAT has 2 entries, the file room for 0"},
      {1539, "BAT entry 0 at offset 0x600 is missing"},
      {1540,
       "BAT entry 0 at offset 0x600: sector 0x8 puts the block's end (0x201200) past the end"},
      {1544, "BAT entry 0 at offset 0x600: sector 0x8 puts"},
      {0x1000, "BAT entry 0 at offset 0x600: sector 0x8 puts"},
      {0x11ff, "BAT entry 0 at offset 0x600: sector 0x8 puts"},
      {0x2011ff, "BAT entry 0 at offset 0x600: sector 0x8 puts"},
      {0x201200, "BAT entry 1 at offset 0x604: sector 0x1009 puts the block's end (0x401400)"},
      {0x4013ff, "BAT entry 1 at offset 0x604: sector 0x1009 puts the block's end (0x401400)"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.length);
    const auto layer = opened(cut_to(test.length));
    REQUIRE_FAILS(Errc::corrupt, test.audit, await(layer->audit()));
  }
  for (size_t length = 0x401400; length <= bytes.size(); ++length) {
    CAPTURE(length);
    REQUIRE_OK(await(opened(cut_to(length))->audit()));
  }
}

TEST_CASE("bug class 19: hostile footers and headers are errors, never more") {
  constexpr uint64_t numbers[] = {0,
                                  1,
                                  511,
                                  513,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  (uint64_t{1} << 62) - 512,
                                  uint64_t{1} << 62,
                                  uint64_t{1} << 63,
                                  ~uint64_t{0} - 511,
                                  ~uint64_t{0}};
  uint64_t opened_count = 0;
  for (const uint64_t number : numbers)
    for (size_t field = 8; field <= 80; field += 4)
      for (const bool in_footer : {true, false}) {
        VhdImage image = two_blocks(vhd_differencing);
        VhdBytes& structure = in_footer ? image.footer : image.header;
        structure.put(field, field % 8 == 0 ? 8 : 4, number);
        auto layer = await(open_layer(image.file()));
        if (!layer) {
          CHECK(layer.error().message.starts_with("a.vhd: "));
          continue;
        }
        ++opened_count;
        (void)await((*layer)->audit());
        const uint64_t size_bytes = (*layer)->geometry().size_bytes;
        CHECK(size_bytes % 512 == 0);
        CHECK(size_bytes > 0);
        disk::ExtentList extents;
        (void)await((*layer)->resolve(0, size_bytes, extents));
        (void)await((*layer)->resolve(size_bytes - 1, 1, extents));
        (void)(*layer)->describe();
      }
  CHECK(opened_count > 0);
}

TEST_CASE("a disk larger than any file needs no more memory than its file") {
  VhdImage image = two_blocks(vhd_dynamic);
  image.footer.put(footer_at::current_size, 8, (uint64_t{1} << 62) - 512);
  image.header.put(header_at::max_entries, 4, 0xffffffff);
  const auto layer = opened(image.file());
  CHECK(layer->geometry().size_bytes == (uint64_t{1} << 62) - 512);
  disk::ExtentList extents;
  REQUIRE_FAILS(Errc::corrupt, "is missing: the BAT has 4294967295 entries",
                await(layer->resolve(uint64_t{1} << 61, 512, extents)));
  REQUIRE_FAILS(Errc::corrupt, "sector 0x8 puts the block upon the BAT (0x600 to 0x401400)",
                await(layer->audit()));
}

TEST_CASE("Virtual PC's image has the size of its geometry") {
  auto file = tests::sample("virtualpc-dynamic.vhd.bz2");
  if (!file) return;
  const auto layer = opened(std::move(file));
  CHECK(layer->geometry().size_bytes == 136363130880);
  CHECK(resolved(*layer) == "zero 0+0x1fbfe04000");
  CHECK(described(*layer, "creator-application") == "vpc ");
  CHECK(described(*layer, "creator-version") == "1.0");
  CHECK(described(*layer, "geometry") == "65278/16/255");
  CHECK(described(*layer, "footer-copy") == "equal");
  CHECK(described(*layer, "warnings") == "");
}

TEST_CASE("Hyper-V's fixed image has the current size") {
  auto file = tests::sample("hyperv-fixed-10M.vhd.gz");
  if (!file) return;
  const auto layer = opened(std::move(file));
  CHECK(resolved(*layer) == "data 0+0xa00000@0");
  CHECK(described(*layer, "creator-application") == "win ");
  CHECK(described(*layer, "creator-version") == "10.0");
  CHECK(described(*layer, "creator-host-os") == "Wi2k");
  CHECK(described(*layer, "footer-at") == "tail");
}

}  // namespace
}  // namespace vhdkit::libvhd
