#include "image/check.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "image/create.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::image {
namespace {

struct Place {
  tests::TemporaryFolder folder;
  std::unique_ptr<async::Loop> loop = std::move(*async::Loop::create());

  void make(const std::string& name, const CreateOptions& options) {
    const OpenOptions open_options;
    REQUIRE_OK(loop->run(create(*loop, folder.path(name), options, open_options, false)));
  }
  Result<CheckReport> check_file(const std::string& name,
                                 std::optional<Profile> profile = std::nullopt,
                                 const OpenOptions& options = {}) {
    return loop->run(check(*loop, folder.path(name), options, profile));
  }
  std::vector<std::string> codes(const std::string& name,
                                 std::optional<Profile> profile = std::nullopt,
                                 const OpenOptions& options = {}) {
    const auto report = check_file(name, profile, options);
    REQUIRE_OK(report);
    std::vector<std::string> found;
    for (const disk::Finding& finding : report->findings.kept()) found.push_back(finding.code);
    return found;
  }
};
using Codes = std::vector<std::string>;

TEST_CASE("new images of every kind are clean") {
  Place place;
  for (const Format format : {Format::vhd, Format::vhdx}) {
    const std::string name(format_name(format));
    place.make("fixed." + name,
               {.format = format, .subformat = Subformat::fixed, .size_bytes = MiB});
    place.make("dynamic." + name, {.format = format, .size_bytes = 100 * MiB});
    place.make("child." + name,
               {.format = format, .parent_path = place.folder.path("dynamic." + name)});
    for (const char* kind : {"fixed.", "dynamic.", "child."}) {
      CAPTURE(kind + name);
      const auto report = place.check_file(kind + name);
      REQUIRE_OK(report);
      CHECK(report->format == format);
      for (const disk::Finding& finding : report->findings.kept()) CHECK(finding.message == "");
      CHECK(report->findings.total() == 0);
    }
  }
}

TEST_CASE("a chain that breaks is corruption, unless it is not asked for") {
  Place place;
  for (const Format format : {Format::vhd, Format::vhdx}) {
    const std::string name(format_name(format));
    const std::string base = place.folder.path("base." + name);
    place.make("base." + name, {.format = format, .size_bytes = MiB});
    place.make("child." + name, {.format = format, .parent_path = base});
    std::filesystem::remove(base);
    CHECK(place.codes("child." + name) == Codes{"parent-missing"});
    const OpenOptions shallow{.open_parents = false};
    CHECK(place.codes("child." + name, std::nullopt, shallow) == Codes{});
    std::ofstream(base) << "something else";
    CHECK(place.codes("child." + name) == Codes{"parent-wrong-identity"});
  }
}

TEST_CASE("a profile's rules are checked with the rest") {
  Place place;
  place.make("disk.vhd", {.format = Format::vhd, .size_bytes = 40 * MiB, .profile = Profile::xcp});
  place.make("small.vhd", {.format = Format::vhd, .size_bytes = MiB + 512});
  place.make("disk.vhdx",
             {.format = Format::vhdx, .size_bytes = MiB, .logical_sector_bytes = 4096});
  place.make("fixed.vhd",
             {.format = Format::vhd, .size_bytes = 20 * MiB, .profile = Profile::azure});
  CHECK(place.codes("disk.vhd", Profile::xcp) == Codes{});
  CHECK(place.codes("fixed.vhd", Profile::azure) == Codes{});
  CHECK(place.codes("disk.vhd", Profile::azure) == Codes{"azure-subformat"});
  CHECK(place.codes("small.vhd", Profile::azure) ==
        Codes{"azure-subformat", "azure-size-unit", "azure-size-range"});
  CHECK(place.codes("disk.vhdx", Profile::qemu) == Codes{"qemu-sector-size"});
  CHECK(place.codes("fixed.vhd", Profile::hyperv) == Codes{"hyperv-sparse-file"});
}

TEST_CASE("raw and absent files cannot be checked") {
  Place place;
  place.make("raw", {.format = Format::raw, .size_bytes = MiB});
  REQUIRE_FAILS(Errc::unsupported, "raw images cannot be checked", place.check_file("raw"));
  REQUIRE_FAILS(Errc::not_found, "absent", place.check_file("absent"));
}

TEST_CASE("an image that does not open has a finding that says why") {
  Place place;
  std::ofstream(place.folder.path("cut.vhdx")) << "vhdxfile";
  std::ofstream(place.folder.path("cut.vhd")) << "conectix";
  for (const char* name : {"cut.vhdx", "cut.vhd"}) {
    CAPTURE(name);
    const auto report = place.check_file(name, Profile::hyperv);
    REQUIRE_OK(report);
    CHECK(report->findings.count(disk::Severity::corruption) > 0);
  }
}

}  // namespace
}  // namespace vhdkit::image
