#include "hypervisor/runner/undo_disk.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/images_on_disk.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;
using image::Format;
using tests::images_loop;
using tests::make_image;
using tests::run_on_images_loop;
using tests::value_in;
using tests::write_to;

const image::OpenOptions writing{.writable = true};

Result<UndoDisk> begin(const std::string& path, UndoEnd end,
                       const image::OpenOptions& options = writing) {
  return run_on_images_loop(begin_undo(images_loop(), path, options, end));
}

Result<void> finish(const std::string& child, UndoEnd end) {
  return run_on_images_loop(finish_undo(images_loop(), child, end));
}

Result<void> check(const std::string& path, const image::OpenOptions& options = writing,
                   UndoEnd end = UndoEnd::discard) {
  return run_on_images_loop(check_undo(images_loop(), path, options, end));
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

Async<void> write_as_a_merge(std::string path, uint64_t disk_offset, int value) {
  image::OpenOptions options = writing;
  options.keep_identity = true;
  CO_TRY_LET(const auto image, co_await image::Image::open(images_loop(), path, options));
  CO_TRY(co_await tests::write_sectors(image->disk(), disk_offset, value));
  co_return co_await image->disk().close();
}

struct Fixture {
  explicit Fixture(Format of = Format::vhdx) : format(of) {
    make_image(disk, format);
    write_to(disk, 0, 1);
  }
  // As a run does that ends, or is killed after its last flush.
  void run(UndoEnd end) {
    const auto undo = begin(disk, end);
    REQUIRE_OK(undo);
    CHECK(undo->path == child);
    write_to(undo->path, 4096, 2);
  }

  Format format;
  tests::TemporaryFolder folder;
  std::string name = format == Format::vhdx ? "disk.vhdx" : "disk.vhd";
  std::string disk = folder.path(name);
  std::string child = disk + (format == Format::vhdx ? ".undo.avhdx" : ".undo.avhd");
};

TEST_CASE("a child has the disk's name, and lies beside the file itself") {
  CHECK(undo_path("/vm/disk.vhdx", Format::vhdx) == "/vm/disk.vhdx.undo.avhdx");
  CHECK(undo_path("disk.vhd", Format::vhd) == "disk.vhd.undo.avhd");
  tests::TemporaryFolder folder;
  fs::create_directory(folder.path("there"));
  std::ofstream(folder.path("there/disk.vhdx")) << "x";
  fs::create_symlink("there/disk.vhdx", folder.path("link.vhdx"));
  CHECK(fs::equivalent(fs::path(undo_path(folder.path("link.vhdx"), Format::vhdx)).parent_path(),
                       folder.path("there")));
}

TEST_CASE("changes are kept, merged, discarded") {
  for (const Format format : {Format::vhdx, Format::vhd}) {
    Fixture fixture(format);
    SUBCASE("kept, and gone on with") {
      fixture.run(UndoEnd::keep);
      REQUIRE_OK(finish(fixture.child, UndoEnd::keep));
      CHECK(value_in(fixture.disk, 4096) == 0);
      const auto again = begin(fixture.disk, UndoEnd::keep);
      REQUIRE_OK(again);
      CHECK_FALSE(again->is_new);
      CHECK(again->notes.size() == 1);
      CHECK(value_in(again->path, 0) == 1);
      CHECK(value_in(again->path, 4096) == 2);
    }
    SUBCASE("merged") {
      fixture.run(UndoEnd::merge);
      REQUIRE_OK(finish(fixture.child, UndoEnd::merge));
      CHECK(value_in(fixture.disk, 0) == 1);
      CHECK(value_in(fixture.disk, 4096) == 2);
      CHECK(names_in(fixture.folder.path("")) == std::vector{fixture.name});
    }
    SUBCASE("discarded") {
      fixture.run(UndoEnd::discard);
      REQUIRE_OK(finish(fixture.child, UndoEnd::discard));
      CHECK(value_in(fixture.disk, 4096) == 0);
      CHECK(names_in(fixture.folder.path("")) == std::vector{fixture.name});
    }
  }
}

TEST_CASE("what a killed run has left is treated as asked at the next start") {
  Fixture fixture;
  fixture.run(UndoEnd::discard);
  SUBCASE("merged") {
    const auto undo = begin(fixture.disk, UndoEnd::merge);
    REQUIRE_OK(undo);
    CHECK(undo->is_new);
    CHECK(undo->notes.size() == 1);
    CHECK(value_in(fixture.disk, 4096) == 2);
    CHECK(value_in(undo->path, 4096) == 2);
  }
  SUBCASE("discarded") {
    const auto undo = begin(fixture.disk, UndoEnd::discard);
    REQUIRE_OK(undo);
    CHECK(undo->is_new);
    CHECK(value_in(undo->path, 0) == 1);
    CHECK(value_in(undo->path, 4096) == 0);
  }
  SUBCASE("warned of, where none is wanted") {
    const auto image = run_on_images_loop(image::Image::open(images_loop(), fixture.disk, writing));
    REQUIRE_OK(image);
    REQUIRE((*image)->warnings().size() == 1);
    CHECK((*image)->warnings()[0].find(fixture.child) != std::string::npos);
  }
}

TEST_CASE("a merge that was interrupted is finished, whatever is wanted later") {
  for (const Format format : {Format::vhdx, Format::vhd}) {
    Fixture fixture(format);
    fixture.run(UndoEnd::merge);
    const std::string merging = merging_path(fixture.child);
    fs::rename(fixture.child, merging);
    // A part of the content is in the disk; its identity is the one that the child names.
    REQUIRE_OK(run_on_images_loop(write_as_a_merge(fixture.disk, 0, 9)));
    write_to(merging, 0, 9);
    UndoEnd end = UndoEnd::keep;
    SUBCASE("keep") {}
    SUBCASE("merge") { end = UndoEnd::merge; }
    SUBCASE("discard") { end = UndoEnd::discard; }
    REQUIRE_OK(check(fixture.disk, writing, end));
    CHECK(value_in(fixture.disk, 4096) == 0);
    REQUIRE_FAILS(Errc::busy, "has a part of the changes in " + merging,
                  run_on_images_loop(check_is_whole(images_loop(), fixture.disk, writing)));
    const auto undo = begin(fixture.disk, end);
    REQUIRE_OK(undo);
    CHECK(undo->is_new);
    CHECK(undo->notes.size() == 1);
    CHECK_FALSE(fs::exists(merging));
    CHECK(value_in(fixture.disk, 0) == 9);
    CHECK(value_in(fixture.disk, 4096) == 2);
    REQUIRE_OK(finish(fixture.child, UndoEnd::discard));
    REQUIRE_OK(run_on_images_loop(check_is_whole(images_loop(), fixture.disk, writing)));
  }
}

TEST_CASE("a disk is whole where what has that name is none of its children") {
  Fixture fixture;
  std::ofstream(merging_path(fixture.child)) << "something else";
  REQUIRE_OK(run_on_images_loop(check_is_whole(images_loop(), fixture.disk, writing)));
}

// Whose content is all there, and of which nobody can tell.
void damage(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  for (const int header : {64 << 10, 128 << 10}) {
    file.seekp(header);
    file << std::string(512, '\xff');
  }
}

TEST_CASE("a disk is not taken for whole where what has that name cannot be opened") {
  Fixture fixture;
  fixture.run(UndoEnd::merge);
  const std::string merging = merging_path(fixture.child);
  fs::rename(fixture.child, merging);
  damage(merging);
  REQUIRE_FAILS(Errc::corrupt, merging,
                run_on_images_loop(check_is_whole(images_loop(), fixture.disk, writing)));
  REQUIRE_FAILS(Errc::corrupt, "may have changes of an earlier run", check(fixture.disk));
  REQUIRE_FAILS(Errc::corrupt, merging, begin(fixture.disk, UndoEnd::discard));
  CHECK(fs::exists(merging));
}

TEST_CASE("a VHD with an earlier run's changes is not written beside them") {
  Fixture fixture(Format::vhd);
  fixture.run(UndoEnd::keep);
  const auto check_whole = [&](bool writable) {
    const image::OpenOptions options{.writable = writable};
    return run_on_images_loop(check_is_whole(images_loop(), fixture.disk, options));
  };
  REQUIRE_FAILS(Errc::busy, "changes of an earlier run in " + fixture.child, check_whole(true));
  REQUIRE_OK(check_whole(false));
  SUBCASE("they were discarded") {
    REQUIRE_OK(begin(fixture.disk, UndoEnd::discard));
    REQUIRE_OK(finish(fixture.child, UndoEnd::discard));
    REQUIRE_OK(check_whole(true));
  }
  SUBCASE("they are another disk's") {
    fs::remove(fixture.child);
    make_image(fixture.folder.path("other.vhd"), Format::vhd);
    make_image(fixture.child, Format::vhd, fixture.folder.path("other.vhd"));
    REQUIRE_OK(check_whole(true));
  }
  SUBCASE("nobody can tell") {
    fs::remove(fixture.child);
    fs::create_directory(fixture.child);
    CHECK_FALSE(check_whole(true).has_value());
  }
}

TEST_CASE("a VHDX that was written is none whose changes an earlier run has left") {
  Fixture fixture;
  fixture.run(UndoEnd::keep);
  REQUIRE_OK(run_on_images_loop(check_is_whole(images_loop(), fixture.disk, writing)));
  write_to(fixture.disk, 4096, 3);
  REQUIRE_FAILS(Errc::exists, fixture.child, begin(fixture.disk, UndoEnd::merge));
}

TEST_CASE("what an earlier run has left is looked at before anything is done with it") {
  Fixture fixture;
  fixture.run(UndoEnd::keep);
  REQUIRE_OK(check(fixture.disk));
  SUBCASE("it is in use") {
    const auto other =
        run_on_images_loop(image::Image::open(images_loop(), fixture.child, writing));
    REQUIRE_OK(other);
    CHECK(check(fixture.disk).error().code == Errc::busy);
  }
  SUBCASE("it cannot be merged") {
    const std::string other = fixture.folder.path("other.avhdx");
    make_image(other, Format::vhdx, fixture.disk);
    REQUIRE_FAILS(Errc::invalid_argument, other, check(fixture.disk, writing, UndoEnd::merge));
  }
  SUBCASE("it is none") {
    std::ofstream(fixture.child) << "precious";
    REQUIRE_FAILS(Errc::exists, fixture.child, check(fixture.disk));
  }
  CHECK(fs::exists(fixture.child));
}

TEST_CASE("the disk of somebody who uses it is left alone") {
  Fixture fixture;
  fixture.run(UndoEnd::keep);
  const auto other = run_on_images_loop(image::Image::open(images_loop(), fixture.child, writing));
  REQUIRE_OK(other);
  for (const UndoEnd end : {UndoEnd::merge, UndoEnd::discard}) {
    CHECK(begin(fixture.disk, end).error().code == Errc::busy);
    CHECK(fs::exists(fixture.child));
  }
}

TEST_CASE("what only has the name of an undo disk stays") {
  Fixture fixture;
  SUBCASE("no image") { std::ofstream(fixture.child) << "precious"; }
  SUBCASE("an image without a parent") { make_image(fixture.child); }
  SUBCASE("another disk's child") {
    make_image(fixture.folder.path("other.vhdx"));
    make_image(fixture.child, Format::vhdx, fixture.folder.path("other.vhdx"));
  }
  SUBCASE("a child of what the disk was before it was written") {
    make_image(fixture.child, Format::vhdx, fixture.disk);
    write_to(fixture.disk, 0, 3);
  }
  const auto before = fs::file_size(fixture.child);
  for (const UndoEnd end : {UndoEnd::keep, UndoEnd::merge, UndoEnd::discard}) {
    REQUIRE_FAILS(Errc::exists, fixture.child, begin(fixture.disk, end));
    CHECK(fs::file_size(fixture.child) == before);
  }
}

TEST_CASE("disks that have no undo disk") {
  tests::TemporaryFolder folder;
  const std::string raw = folder.path("disk.raw");
  std::ofstream(raw) << std::string(4096, 'x');
  REQUIRE_FAILS(Errc::unsupported, "a raw disk has no undo disk", check(raw));
  Fixture fixture;
  REQUIRE_FAILS(Errc::unsupported, "a raw disk",
                check(fixture.disk, {.format = Format::raw, .writable = true}));
  REQUIRE_FAILS(Errc::not_found, "nothing", check(folder.path("nothing.vhdx")));
  REQUIRE_OK(check(fixture.disk));
  CHECK(names_in(fixture.folder.path("")) == std::vector{fixture.name});
}

TEST_CASE("a merge that would be refused at the end is refused at the start") {
  Fixture fixture;
  const std::string other = fixture.folder.path("other.avhdx");
  make_image(other, Format::vhdx, fixture.disk);
  REQUIRE_FAILS(Errc::invalid_argument, other, begin(fixture.disk, UndoEnd::merge));
  CHECK_FALSE(fs::exists(fixture.child));
  REQUIRE_OK(begin(fixture.disk, UndoEnd::discard));
}

TEST_CASE("what could not be merged stays, and is said to") {
  Fixture fixture;
  fixture.run(UndoEnd::merge);
  make_image(fixture.folder.path("other.avhdx"), Format::vhdx, fixture.disk);
  REQUIRE_FAILS(Errc::invalid_argument, "vhd merge", finish(fixture.child, UndoEnd::merge));
  CHECK(value_in(fixture.child, 4096) == 2);
}

}  // namespace
}  // namespace vhdkit::hypervisor
