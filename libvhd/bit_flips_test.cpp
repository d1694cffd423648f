// Whatever single bit of an image's structures is wrong, the image is refused, reported or read
// inside its file.
#include "tests/support/bit_flips.h"

#include <doctest/doctest.h>

#include "libvhd/check.h"
#include "libvhd/vhd_layer.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

using namespace std::string_view_literals;
using async::MemoryFile;
using tests::await;
using tests::flip_each_byte;
using tests::FlipRange;
using tests::VhdImage;

uint64_t finding_count(MemoryFile& file) { return tests::finding_count(file, check); }

void require_inside_file(MemoryFile file) {
  tests::require_inside_file(await(open_layer(std::make_unique<MemoryFile>(std::move(file)))));
}

VhdImage image_of(uint32_t type) {
  VhdImage image(type, 8 * MiB);
  if (type == tests::vhd_differencing) {
    image.header.put(tests::vhd_header::parent_id, 4, 7);
    image.locate(0, "W2ru", "p\0a\0r\0e\0n\0t\0.\0v\0h\0d\0"sv);
  }
  return image.place(1, 15, {0xf0, 0x0f}).place(3, 15 + 4096 + 8);
}

TEST_CASE("a flipped bit of a footer or header is reported") {
  for (const uint32_t type : {tests::vhd_dynamic, tests::vhd_differencing}) {
    VhdImage image = image_of(type);
    const auto whole = image.file();
    const FlipRange ranges[] = {
        {.structure = "footer copy", .file_offset = 0, .length = 512},
        {.structure = "header", .file_offset = 512, .length = 1024},
        {.structure = "footer", .file_offset = image.content_end, .length = 512},
    };
    for (const FlipRange& range : ranges) {
      CAPTURE(range.structure);
      flip_each_byte(*whole, range, [](MemoryFile damaged, uint64_t at) {
        CAPTURE(at);
        CHECK(finding_count(damaged) > 0);
        require_inside_file(std::move(damaged));
      });
    }
  }
}

TEST_CASE("a flipped bit of a BAT, bitmap or locator leads nowhere outside the file") {
  for (const uint32_t type : {tests::vhd_dynamic, tests::vhd_differencing}) {
    const auto whole = image_of(type).file();
    const FlipRange ranges[] = {
        {.structure = "BAT and locator data", .file_offset = 1536, .length = 15 * 512 - 1536},
        {.structure = "bitmap", .file_offset = 15 * 512, .length = 512},
    };
    for (const FlipRange& range : ranges) {
      CAPTURE(range.structure);
      flip_each_byte(*whole, range, [](MemoryFile damaged, uint64_t at) {
        CAPTURE(at);
        finding_count(damaged);
        require_inside_file(std::move(damaged));
      });
    }
  }
}

TEST_CASE("a flipped bit of a fixed disk's footer is reported") {
  MemoryFile whole("a.vhd");
  whole.store(1 * MiB, tests::vhd_footer_bytes(tests::vhd_fixed, 1 * MiB).bytes);
  const FlipRange footer{.structure = "footer", .file_offset = 1 * MiB, .length = 512};
  flip_each_byte(whole, footer, [](MemoryFile damaged, uint64_t at) {
    CAPTURE(at);
    CHECK(finding_count(damaged) > 0);
    require_inside_file(std::move(damaged));
  });
}

}  // namespace
}  // namespace vhdkit::libvhd
