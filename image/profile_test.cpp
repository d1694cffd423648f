#include "image/profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "support/checked.h"

namespace vhdkit::image {
namespace {

ImageFacts fixed_vhd() {
  return {.format = Format::vhd,
          .subformat = Subformat::fixed,
          .disk_bytes = 64 * MiB,
          .file_bytes = 64 * MiB + 512,
          .block_bytes = 0,
          .logical_sector_bytes = 512,
          .physical_sector_bytes = 512,
          .log_is_dirty = false,
          .has_file_holes = false,
          .creator_host_os = "Wi2k",
          .creator_application = "win ",
          .file_name = "disk.vhd"};
}

ImageFacts dynamic_vhd() {
  ImageFacts facts = fixed_vhd();
  facts.subformat = Subformat::dynamic;
  facts.block_bytes = 2 * MiB;
  return facts;
}

ImageFacts dynamic_vhdx() {
  return {.format = Format::vhdx,
          .subformat = Subformat::dynamic,
          .disk_bytes = 64 * MiB,
          .file_bytes = 4 * MiB,
          .block_bytes = 32 * MiB,
          .logical_sector_bytes = 512,
          .physical_sector_bytes = 4096,
          .log_is_dirty = false,
          .has_file_holes = false,
          .creator_host_os = "",
          .creator_application = "",
          .file_name = "disk.VHDX"};
}

std::vector<std::string> codes_of(Profile profile, const ImageFacts& facts) {
  disk::Findings findings;
  check_profile(profile, facts, findings);
  std::vector<std::string> codes;
  for (const disk::Finding& finding : findings.kept()) {
    codes.push_back(finding.code);
    CHECK(finding.message.find('(') != std::string::npos);  // its source
  }
  return codes;
}

TEST_CASE("names lead to profiles and back") {
  for (const char* name : {"azure", "hyperv", "qemu", "wsl", "virtualbox", "xcp"}) {
    const auto profile = parse_profile(name);
    CHECK(profile.has_value());
    CHECK(profile_name(*profile) == name);
    CHECK(profile_names().find(name) != std::string_view::npos);
  }
  CHECK_FALSE(parse_profile("vmware"));
}

TEST_CASE("what each program takes breaks no rule") {
  CHECK(codes_of(Profile::azure, fixed_vhd()).empty());
  CHECK(codes_of(Profile::hyperv, fixed_vhd()).empty());
  CHECK(codes_of(Profile::hyperv, dynamic_vhd()).empty());
  CHECK(codes_of(Profile::hyperv, dynamic_vhdx()).empty());
  CHECK(codes_of(Profile::qemu, dynamic_vhd()).empty());
  CHECK(codes_of(Profile::qemu, dynamic_vhdx()).empty());
  CHECK(codes_of(Profile::wsl, dynamic_vhdx()).empty());
  CHECK(codes_of(Profile::virtualbox, dynamic_vhd()).empty());
  CHECK(codes_of(Profile::xcp, dynamic_vhd()).empty());
}

TEST_CASE("each rule is broken by the one thing that it is about") {
  struct Case {
    Profile profile;
    ImageFacts facts;
    std::function<void(ImageFacts&)> change;
    std::vector<std::string> codes;
  };
  using F = ImageFacts&;
  const Case cases[] = {
      {Profile::azure, dynamic_vhdx(), [](F) {}, {"azure-format"}},
      {Profile::azure, dynamic_vhd(), [](F) {}, {"azure-subformat"}},
      {Profile::azure,
       fixed_vhd(),
       [](F f) { f.disk_bytes += 512, f.file_bytes += 512; },
       {"azure-size-unit"}},
      {Profile::azure,
       fixed_vhd(),
       [](F f) { f.disk_bytes = 19 * MiB, f.file_bytes = 19 * MiB + 512; },
       {"azure-size-range"}},
      {Profile::azure,
       fixed_vhd(),
       [](F f) { f.disk_bytes = 33 * TiB, f.file_bytes = 33 * TiB + 512; },
       {"azure-size-range"}},
      {Profile::azure, fixed_vhd(), [](F f) { f.file_bytes += 2 * MiB; }, {"azure-file-size"}},
      {Profile::azure, fixed_vhd(), [](F f) { f.creator_host_os = "Mac "; }, {"azure-creator-os"}},
      {Profile::azure, fixed_vhd(), [](F f) { f.creator_application = "vpc "; }, {"azure-creator"}},
      {Profile::hyperv,
       fixed_vhd(),
       [](F f) { f.format = Format::raw, f.file_name = ""; },
       {"hyperv-format"}},
      {Profile::hyperv,
       dynamic_vhdx(),
       [](F f) { f.file_name = "disk.vhd"; },
       {"hyperv-extension"}},
      {Profile::hyperv, fixed_vhd(), [](F f) { f.disk_bytes = 2041 * GiB; }, {"hyperv-size"}},
      {Profile::hyperv,
       dynamic_vhd(),
       [](F f) { f.parent_bytes = f.disk_bytes - 512; },
       {"hyperv-parent-size"}},
      {Profile::hyperv, dynamic_vhd(), [](F f) { f.block_bytes = MiB; }, {"hyperv-block-size"}},
      {Profile::hyperv,
       dynamic_vhdx(),
       [](F f) { f.has_file_holes = true; },
       {"hyperv-sparse-file"}},
      {Profile::qemu,
       dynamic_vhdx(),
       [](F f) { f.logical_sector_bytes = 4096; },
       {"qemu-sector-size"}},
      {Profile::qemu,
       dynamic_vhd(),
       [](F f) { f.subformat = Subformat::differencing; },
       {"qemu-differencing"}},
      {Profile::qemu, dynamic_vhd(), [](F f) { f.disk_bytes = 2041 * GiB; }, {"qemu-size"}},
      {Profile::qemu, fixed_vhd(), [](F) {}, {"qemu-fixed-vhd"}},
      {Profile::qemu, dynamic_vhdx(), [](F f) { f.log_is_dirty = true; }, {"qemu-log"}},
      {Profile::wsl, dynamic_vhd(), [](F) {}, {"wsl-format"}},
      {Profile::wsl,
       dynamic_vhdx(),
       [](F f) { f.subformat = Subformat::fixed; },
       {"wsl-subformat"}},
      {Profile::wsl, dynamic_vhdx(), [](F f) { f.file_name = "disk.img"; }, {"wsl-extension"}},
      {Profile::wsl, dynamic_vhdx(), [](F f) { f.has_file_holes = true; }, {"wsl-sparse-file"}},
      {Profile::virtualbox, dynamic_vhdx(), [](F) {}, {"virtualbox-read-only"}},
      {Profile::virtualbox,
       dynamic_vhdx(),
       [](F f) { f.subformat = Subformat::differencing; },
       {"virtualbox-differencing", "virtualbox-read-only"}},
      {Profile::virtualbox,
       dynamic_vhdx(),
       [](F f) { f.log_is_dirty = true; },
       {"virtualbox-log", "virtualbox-read-only"}},
      {Profile::xcp, dynamic_vhdx(), [](F) {}, {"xcp-format"}},
      {Profile::xcp, dynamic_vhd(), [](F f) { f.disk_bytes = 2041 * GiB; }, {"xcp-size"}},
      {Profile::xcp, dynamic_vhd(), [](F f) { f.block_bytes = MiB; }, {"xcp-block-size"}},
      {Profile::xcp, fixed_vhd(), [](F) {}, {"xcp-subformat"}},
  };
  for (const Case& test : cases) {
    ImageFacts facts = test.facts;
    test.change(facts);
    CAPTURE(test.codes.front());
    CHECK(codes_of(test.profile, facts) == test.codes);
  }
}

}  // namespace
}  // namespace vhdkit::image
