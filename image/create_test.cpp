#include "image/create.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>

#include "async/memory_file.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::image {
namespace {

const Guid parent_id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");

ParentForCreation parent_of(Format format) {
  return {.format = format,
          .identity = parent_id,
          .time_stamp = 5,
          .size_bytes = 1 * GiB,
          .logical_sector_bytes = 512,
          .physical_sector_bytes = format == Format::vhdx ? 4096u : 512u,
          .relative_path = R"(.\parent)",
          .absolute_path = ""};
}

Result<CreateOptions> settled(const CreateOptions& options) {
  const ParentForCreation parent = parent_of(options.format);
  return settle(options, options.parent_path ? &parent : nullptr);
}

TEST_CASE("defaults are those that Windows accepts") {
  struct Case {
    CreateOptions options;
    uint64_t block_bytes;
    uint32_t logical;
    uint32_t physical;
  };
  const Case cases[] = {
      {{.format = Format::vhd, .size_bytes = 1 * GiB}, 2 * MiB, 512, 512},
      {{.format = Format::vhdx, .size_bytes = 1 * GiB}, 32 * MiB, 512, 4096},
      {{.format = Format::vhdx, .size_bytes = 1 * GiB, .guest = GuestKind::linux},
       1 * MiB,
       512,
       4096},
      {{.format = Format::vhdx, .size_bytes = 1 * GiB, .profile = Profile::wsl},
       1 * MiB,
       512,
       4096},
      {{.format = Format::vhdx, .size_bytes = 1 * GiB, .logical_sector_bytes = 4096},
       32 * MiB,
       4096,
       4096},
      {{.format = Format::vhdx, .parent_path = "p.vhdx"}, 32 * MiB, 512, 4096},
      {{.format = Format::vhd, .parent_path = "p.vhd"}, 2 * MiB, 512, 512},
  };
  for (const Case& test : cases) {
    const auto result = settled(test.options);
    REQUIRE_OK(result);
    CHECK(result->block_size_bytes == test.block_bytes);
    CHECK(result->logical_sector_bytes == test.logical);
    CHECK(result->physical_sector_bytes == test.physical);
    CHECK(result->size_bytes == 1 * GiB);
    CHECK(result->subformat ==
          (test.options.parent_path ? Subformat::differencing : Subformat::dynamic));
    CHECK_FALSE(result->disk_id->is_zero());
    CHECK(result->data_write_guid.has_value() == (result->format == Format::vhdx));
    const auto again = settled(*result);
    REQUIRE_OK(again);
    CHECK(again->disk_id == result->disk_id);
    CHECK(again->block_size_bytes == result->block_size_bytes);
  }
}

TEST_CASE("azure makes fixed VHDs of whole MiB") {
  const auto result =
      settled({.format = Format::vhd, .size_bytes = 64 * MiB, .profile = Profile::azure});
  REQUIRE_OK(result);
  CHECK(result->subformat == Subformat::fixed);
  CHECK(disk_size_unit_bytes(Profile::azure) == 1 * MiB);
}

TEST_CASE("options that contradict each other are refused by name") {
  constexpr auto raw = Format::raw;
  constexpr auto vhd = Format::vhd;
  constexpr auto vhdx = Format::vhdx;
  struct Case {
    CreateOptions options;
    const char* text;
  };
  const Case cases[] = {
      {{.format = Format::qcow2, .size_bytes = MiB}, "qcow2 is read, not written"},
      {{.format = raw}, "the size of the disk is missing"},
      {{.format = vhd}, "the size of the disk is missing"},
      {{.format = vhdx}, "the size of the disk is missing"},
      {{.format = raw, .subformat = Subformat::fixed, .size_bytes = MiB}, "no subformat"},
      {{.format = raw, .size_bytes = MiB, .block_size_bytes = MiB}, "no block size"},
      {{.format = raw, .size_bytes = MiB, .logical_sector_bytes = 512}, "no sector sizes"},
      {{.format = raw, .size_bytes = MiB, .disk_id = parent_id}, "no disk identifier"},
      {{.format = raw, .size_bytes = MiB, .data_write_guid = parent_id}, "only VHDX has"},
      {{.format = raw, .parent_path = "p"}, "only vhd and vhdx can be made with a parent, not raw"},
      {{.format = raw, .size_bytes = 1000}, "size 1000 is no multiple of the sector size, 512"},
      {{.format = vhd, .size_bytes = MiB + 1}, "no multiple of the sector size, 512"},
      {{.format = vhd, .size_bytes = MiB, .logical_sector_bytes = 4096}, "VHD has sectors of 512"},
      {{.format = vhd, .size_bytes = MiB, .physical_sector_bytes = 4096}, "VHD has sectors of 512"},
      {{.format = vhd, .size_bytes = MiB, .data_write_guid = parent_id}, "only VHDX has"},
      {{.format = vhd, .subformat = Subformat::fixed, .size_bytes = MiB, .block_size_bytes = MiB},
       "a fixed VHD has no block size"},
      {{.format = vhd, .size_bytes = 2040 * GiB + 512}, "is more than 2190433320960 (2040 GiB)"},
      {{.format = vhd, .subformat = Subformat::fixed, .size_bytes = 65 * TiB}, "(64 TiB)"},
      {{.format = vhd, .size_bytes = MiB, .block_size_bytes = 256 * KiB}, "block size 262144"},
      {{.format = vhd, .size_bytes = MiB, .block_size_bytes = 3 * MiB}, "no power of two"},
      {{.format = vhd, .size_bytes = MiB, .block_size_bytes = 512 * MiB}, "to 268435456"},
      {{.format = vhdx, .size_bytes = MiB, .block_size_bytes = 512 * KiB}, "from 1048576"},
      {{.format = vhdx, .size_bytes = MiB, .block_size_bytes = 512 * MiB}, "to 268435456"},
      {{.format = vhdx, .size_bytes = 64 * TiB + 512}, "(64 TiB)"},
      {{.format = vhdx, .size_bytes = MiB, .logical_sector_bytes = 1024}, "neither 512 nor 4096"},
      {{.format = vhdx, .size_bytes = MiB, .physical_sector_bytes = 8192}, "neither 512 nor 4096"},
      {{.format = vhdx,
        .size_bytes = MiB,
        .logical_sector_bytes = 4096,
        .physical_sector_bytes = 512},
       "physical sector size 512 is less than the logical 4096"},
      {{.format = vhdx, .size_bytes = MiB + 512, .logical_sector_bytes = 4096},
       "no multiple of the sector size, 4096"},
      {{.format = vhdx, .subformat = Subformat::differencing, .size_bytes = MiB},
       "a differencing image needs a parent"},
      {{.format = vhdx, .size_bytes = MiB, .windows_parent_path = R"(C:\p.vhdx)"}, "but no parent"},
      {{.format = vhdx, .subformat = Subformat::fixed, .parent_path = "p"},
       "an image with a parent is differencing, not fixed"},
      {{.format = vhd, .subformat = Subformat::dynamic, .parent_path = "p"},
       "an image with a parent is differencing, not dynamic"},
      {{.format = vhdx, .size_bytes = MiB, .parent_path = "p"}, "is less than the parent's"},
      {{.format = vhdx, .logical_sector_bytes = 4096, .parent_path = "p"},
       "differs from the parent's, 512"},
      {{.format = vhdx, .parent_path = "p", .windows_parent_path = "p.vhdx"},
       "no absolute Windows path"},
      {{.format = vhdx, .size_bytes = 64 * MiB, .profile = Profile::azure}, "Azure takes VHD only"},
      {{.format = raw, .size_bytes = 64 * MiB, .profile = Profile::azure}, "Azure takes VHD only"},
      {{.format = vhd,
        .subformat = Subformat::dynamic,
        .size_bytes = 64 * MiB,
        .profile = Profile::azure},
       "Azure takes fixed VHDs only"},
      {{.format = vhd, .size_bytes = 64 * MiB + 512, .profile = Profile::azure}, "whole MiB"},
      {{.format = vhd, .size_bytes = 19 * MiB, .profile = Profile::azure}, "20 MiB to 32 TiB"},
      {{.format = vhdx, .size_bytes = MiB, .logical_sector_bytes = 4096, .profile = Profile::qemu},
       "512-byte sectors only"},
      {{.format = vhdx, .parent_path = "p", .profile = Profile::qemu}, "refuses differencing"},
      {{.format = vhdx, .parent_path = "p", .profile = Profile::virtualbox}, "no differencing"},
      {{.format = vhd, .size_bytes = MiB, .profile = Profile::wsl}, "WSL keeps its disks as VHDX"},
      {{.format = vhd, .size_bytes = MiB, .block_size_bytes = MiB, .profile = Profile::xcp},
       "blocks of 2 MiB"},
      {{.format = vhdx, .size_bytes = MiB, .profile = Profile::xcp}, "VHD, not VHDX"},
      {{.format = raw, .size_bytes = MiB, .profile = Profile::hyperv}, "takes VHD and VHDX"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.text);
    REQUIRE_FAILS(Errc::invalid_argument, test.text, settled(test.options));
  }
}

TEST_CASE("a child has its parent's format") {
  const ParentForCreation parent = parent_of(Format::vhd);
  const CreateOptions options{.format = Format::vhdx, .parent_path = "p.vhd"};
  REQUIRE_FAILS(Errc::invalid_argument, "p.vhd: the parent is vhd, its child would be vhdx",
                settle(options, &parent));
}

struct Place {
  tests::TemporaryFolder folder;
  std::unique_ptr<async::Loop> loop = std::move(*async::Loop::create());

  Result<void> make(const std::string& name, const CreateOptions& options, bool replace = false) {
    return loop->run(create(*loop, folder.path(name), options, OpenOptions(), replace));
  }
  Result<std::unique_ptr<Image>> open(const std::string& name) {
    const OpenOptions options;
    return loop->run(Image::open(*loop, folder.path(name), options));
  }
  size_t file_count() {
    namespace fs = std::filesystem;
    return size_t(std::distance(fs::directory_iterator(folder.path("")), fs::directory_iterator()));
  }
};

TEST_CASE("every kind of empty image opens again as it was asked for") {
  struct Case {
    CreateOptions options;
    const char* name;
  };
  const Case cases[] = {
      {{.format = Format::raw, .size_bytes = 5 * MiB + 512}, "raw"},
      {{.format = Format::vhd, .subformat = Subformat::fixed, .size_bytes = 5 * MiB + 512},
       "fixed"},
      {{.format = Format::vhd, .size_bytes = 5 * MiB + 512, .block_size_bytes = 512 * KiB},
       "dynamic"},
      {{.format = Format::vhd, .size_bytes = 2040 * GiB}, "largest"},
      {{.format = Format::vhdx, .size_bytes = 5 * MiB + 512, .block_size_bytes = MiB}, "dynamic"},
      {{.format = Format::vhdx, .subformat = Subformat::fixed, .size_bytes = 5 * MiB}, "fixed"},
      {{.format = Format::vhdx, .size_bytes = 64 * TiB}, "largest"},
      {{.format = Format::vhdx, .size_bytes = 8 * MiB, .logical_sector_bytes = 4096}, "4096"},
  };
  for (const Case& test : cases) {
    CAPTURE(format_name(test.options.format));
    CAPTURE(test.name);
    Place place;
    REQUIRE_OK(place.make("disk", test.options));
    CHECK(place.file_count() == 1);
    const auto image = place.open("disk");
    REQUIRE_OK(image);
    CHECK((*image)->format() == test.options.format);
    CHECK((*image)->disk().geometry().size_bytes == test.options.size_bytes);
    if (test.options.logical_sector_bytes != 0)
      CHECK((*image)->disk().geometry().logical_sector_bytes == test.options.logical_sector_bytes);
    if (test.options.block_size_bytes != 0)
      CHECK((*image)->disk().layer(0).block_size_bytes() == test.options.block_size_bytes);
    REQUIRE_OK(place.loop->run((*image)->disk().layer(0).audit()));
  }
}

TEST_CASE("what cannot be made leaves nothing, and the parent as it was") {
  Place place;
  const CreateOptions base{.format = Format::vhd, .size_bytes = MiB};
  REQUIRE_OK(place.make("base.vhd", base));
  REQUIRE_FAILS(Errc::exists, "base.vhd: exists already", place.make("base.vhd", base));
  const CreateOptions child{.format = Format::vhd, .parent_path = place.folder.path("base.vhd")};
  REQUIRE_FAILS(Errc::invalid_argument, "its parent's place", place.make("base.vhd", child, true));
  std::filesystem::create_symlink("base.vhd", place.folder.path("link.vhd"));
  REQUIRE_FAILS(Errc::invalid_argument, "its parent's place", place.make("link.vhd", child, true));
  CreateOptions orphan = child;
  orphan.parent_path = place.folder.path("absent.vhd");
  REQUIRE_FAILS(Errc::not_found, "absent.vhd", place.make("child.vhd", orphan));
  CHECK(place.file_count() == 2);
  REQUIRE_OK(place.open("base.vhd"));
}

}  // namespace
}  // namespace vhdkit::image
