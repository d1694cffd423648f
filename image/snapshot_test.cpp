#include "image/snapshot.h"

#include <doctest/doctest.h>

namespace vhdkit::image {
namespace {

constexpr Guid guid = Guid::literal("0e9a3c1b-6f2d-4b7e-9a11-c0ffee123456");

TEST_CASE(
    "checkpoints are named after the disk, in its folder, without an older checkpoint's GUID") {
  const std::string end = "_0E9A3C1B-6F2D-4B7E-9A11-C0FFEE123456";
  CHECK(checkpoint_path("/vm/disk.vhdx", Format::vhdx, guid) == "/vm/disk" + end + ".avhdx");
  CHECK(checkpoint_path("disk.vhd", Format::vhd, guid) == "disk" + end + ".avhd");
  CHECK(checkpoint_path("vm/my.disk.vhdx", Format::vhdx, guid) == "vm/my.disk" + end + ".avhdx");
  CHECK(checkpoint_path("disk_11111111-2222-3333-4444-555555555555.avhdx", Format::vhdx, guid) ==
        "disk" + end + ".avhdx");
  CHECK(checkpoint_path("disk_11111111-2222.avhdx", Format::vhdx, guid) ==
        "disk_11111111-2222" + end + ".avhdx");
}

}  // namespace
}  // namespace vhdkit::image
