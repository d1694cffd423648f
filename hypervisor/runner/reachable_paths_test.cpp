#include "hypervisor/runner/reachable_paths.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/images_on_disk.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;

DiskPlan plan_of(const std::string& path, bool writable = true) {
  return {.path = path, .open = {.writable = writable}, .limits = {}};
}

bool has(const std::vector<AllowedPath>& paths, const std::string& path, PathUse use) {
  return std::ranges::find(paths, AllowedPath{.path = path, .use = use}) != paths.end();
}
std::vector<AllowedPath> paths_of(const MachinePlan& plan, const RunnerPaths& runner = {}) {
  auto paths = reachable_paths(plan, runner);
  REQUIRE_OK(paths);
  return std::move(*paths);
}
bool changes_a_folder(const std::vector<AllowedPath>& paths) {
  return std::ranges::any_of(paths, [](const AllowedPath& one) {
    return one.use == PathUse::change && fs::is_directory(one.path);
  });
}

struct Place {
  Place() {
    tests::make_image(folder.path("disk.vhdx"), image::Format::vhdx);
    fs::create_directory(folder.path("elsewhere"));
    fs::create_symlink(folder.path("disk.vhdx"), folder.path("elsewhere/link"));
  }
  std::string path(const char* name) const { return folder.path(name); }

  tests::TemporaryFolder folder;
};

TEST_CASE("a disk alone: its file is written, its folder is read") {
  const Place place;
  const std::string disk = place.path("disk.vhdx");
  const std::string folder = fs::path(disk).parent_path();
  const auto paths = paths_of({.disks = {plan_of(disk)}});
  CHECK(has(paths, disk, PathUse::change));
  CHECK(has(paths, folder, PathUse::read));
  CHECK_FALSE(changes_a_folder(paths));
  const auto reading = paths_of({.disks = {plan_of(disk, false)}});
  CHECK(has(reading, disk, PathUse::read));
  CHECK_FALSE(has(reading, disk, PathUse::change));
}

TEST_CASE("where children may come and go, they do in the folders of the path and of the file") {
  const Place place;
  const std::string link = place.path("elsewhere/link");
  const std::string folder = fs::path(place.path("disk.vhdx")).parent_path();
  const auto with_undo = paths_of({.disks = {plan_of(link)}, .undo = UndoEnd::merge});
  const auto controlled = paths_of(
      {.disks = {plan_of(link)}},
      {.sockets = {"/run/guest.ctl"}, .folders = {place.path("elsewhere")}, .is_controlled = true});
  for (const auto& paths : {with_undo, controlled}) {
    CHECK(has(paths, place.path("elsewhere"), PathUse::change));
    CHECK(has(paths, fs::canonical(folder), PathUse::change));
  }
  CHECK(has(controlled, "/run", PathUse::remove));
  CHECK_FALSE(has(with_undo, link, PathUse::change));
}

TEST_CASE("parents are read, wherever they are") {
  const Place place;
  const std::string child = place.path("elsewhere/child.avhdx");
  tests::make_image(child, image::Format::vhdx, place.path("disk.vhdx"));
  const auto paths = paths_of({.disks = {plan_of(child)}});
  CHECK(std::ranges::any_of(paths, [&](const AllowedPath& one) {
    return one.use == PathUse::read && fs::path(one.path).filename() == "disk.vhdx";
  }));
}

TEST_CASE("a file that a child names, and that is not its parent, does not come into reach") {
  const Place place;
  const std::string child = place.path("elsewhere/child.avhdx");
  tests::make_image(child, image::Format::vhdx, place.path("disk.vhdx"));
  fs::remove(place.path("disk.vhdx"));
  const MachinePlan plan{.disks = {plan_of(child)}};
  SUBCASE("another image") {
    tests::make_image(place.path("disk.vhdx"), image::Format::vhdx);
    REQUIRE_FAILS(Errc::wrong_parent, "disk.vhdx", reachable_paths(plan, {}));
  }
  SUBCASE("no image") {
    std::ofstream(place.path("disk.vhdx")) << std::string(4096, 'x');
    REQUIRE_FAILS(Errc::wrong_parent, "disk.vhdx", reachable_paths(plan, {}));
  }
  SUBCASE("nothing") { REQUIRE_FAILS(Errc::not_found, "disk.vhdx", reachable_paths(plan, {})); }
}

TEST_CASE("what is wrong with a disk itself is for the machine to find") {
  const Place place;
  REQUIRE_OK(check_disks_are_free({.disks = {plan_of(place.path("none.vhdx"))}}));
  REQUIRE_OK(check_disks_are_free({.disks = {plan_of(place.path("elsewhere"))}}));
  CHECK(has(paths_of({.disks = {plan_of(place.path("none.vhdx"))}}), place.path("none.vhdx"),
            PathUse::change));
}

TEST_CASE("a disk that somebody writes is found out, and nothing is left open") {
  const Place place;
  const MachinePlan plan{.disks = {plan_of(place.path("disk.vhdx"))}};
  CHECK(check_disks_are_free(plan));
  CHECK(check_disks_are_free(plan));
  const auto loop = async::Loop::create();
  REQUIRE(loop);
  const auto held = async::SystemFile::open(**loop, place.path("disk.vhdx"),
                                            async::SystemFile::Access::read_write);
  REQUIRE(held);
  const auto taken = check_disks_are_free(plan);
  REQUIRE_FALSE(taken);
  CHECK(taken.error().code == Errc::busy);
}

}  // namespace
}  // namespace vhdkit::hypervisor
