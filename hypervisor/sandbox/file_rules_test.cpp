#include "hypervisor/sandbox/file_rules.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "hypervisor/sandbox/test_process.h"
#include "tests/support/await.h"
#include "tests/support/programs.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;

constexpr int cannot_be_enforced = 200;

// 0, or the error with which the path cannot be opened so.
int open_error(const std::string& path, int flags) {
  const Descriptor file(open(path.c_str(), flags | O_CLOEXEC, 0644));
  return file.is_open() ? 0 : errno;
}

struct Place {
  Place() {
    for (const char* name : {"mine", "others", "links"}) fs::create_directory(folder.path(name));
    for (const char* name : {"mine/disk", "mine/other", "others/disk", "others/parent"})
      std::ofstream(folder.path(name)) << name;
    fs::create_symlink(folder.path("others/disk"), folder.path("mine/link"));
  }
  std::string path(const char* name) const { return folder.path(name); }

  // What the work returns where these are the rules.
  int under(const std::vector<AllowedPath>& rules, const std::function<int()>& work) const {
    const Death death = in_a_process([&] {
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      auto made = FileRules::create(rules);
      if (!made || !made->enforce()) return cannot_be_enforced;
      return work();
    });
    CHECK(death.signal == 0);
    return death.code;
  }

  tests::TemporaryFolder folder;
};

bool is_missing() {
  if (landlock_version()) return false;
  tests::skip("this kernel has no Landlock");
  return true;
}

TEST_CASE("a file that may be read can be read, and nothing else") {
  if (is_missing()) return;
  const Place place;
  const std::vector<AllowedPath> rules = {{place.path("mine/disk"), PathUse::read}};
  const auto error = [&](const char* name, int flags) {
    return place.under(rules, [&] { return open_error(place.path(name), flags); });
  };
  CHECK(error("mine/disk", O_RDONLY) == 0);
  CHECK(error("mine/disk", O_RDWR) == EACCES);
  CHECK(error("mine/other", O_RDONLY) == EACCES);
  CHECK(error("mine", O_RDONLY) == EACCES);
  CHECK(error("mine/new", O_RDWR | O_CREAT) == EACCES);
  CHECK(error("mine/missing", O_RDONLY) == ENOENT);
}

// 0, or the error with which a device that was opened for reading does not say how large it is.
int size_error(const std::string& device) {
  const Descriptor opened(open(device.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.is_open()) return errno;
  uint64_t size_bytes = 0;
  if (ioctl(opened.number(), BLKGETSIZE64, &size_bytes) != 0) return errno;
  return size_bytes == 1 << 20 ? 0 : ERANGE;
}

TEST_CASE("a block device that may be read says how large it is") {
  if (is_missing()) return;
  const Place place;
  fs::resize_file(place.path("mine/disk"), 1 << 20);
  const tests::LoopDevice device(place.path("mine/disk"));
  if (device.path().empty()) return tests::skip("no loop device can be made");
  for (const std::string& path : {device.path(), std::string("/dev")}) {
    CAPTURE(path);
    CHECK(place.under({{path, PathUse::read}}, [&] { return size_error(device.path()); }) == 0);
  }
  CHECK(place.under({{place.path("mine"), PathUse::read}},
                    [&] { return size_error(device.path()); }) == EACCES);
}

TEST_CASE("a folder whose files change: they come, go and move in it, and links lead nowhere") {
  if (is_missing()) return;
  const Place place;
  const std::vector<AllowedPath> rules = {{place.path("mine"), PathUse::change},
                                          {place.path("others/parent"), PathUse::read}};
  CHECK(place.under(rules, [&] {
    if (open_error(place.path("mine/new"), O_RDWR | O_CREAT | O_EXCL) != 0) return 1;
    if (rename(place.path("mine/new").c_str(), place.path("mine/newer").c_str()) != 0) return 2;
    if (open_error(place.path("mine/disk"), O_RDWR | O_TRUNC) != 0) return 3;
    if (unlink(place.path("mine/newer").c_str()) != 0) return 4;
    if (open_error(place.path("mine"), O_RDONLY | O_DIRECTORY) != 0) return 5;
    if (open_error(place.path("mine/link"), O_RDONLY) != EACCES) return 6;
    if (open_error(place.path("others/parent"), O_RDONLY) != 0) return 7;
    if (open_error(place.path("others/parent"), O_WRONLY) != EACCES) return 8;
    if (unlink(place.path("others/parent").c_str()) == 0) return 9;
    if (rename(place.path("mine/disk").c_str(), place.path("others/disk").c_str()) == 0) return 10;
    if (link(place.path("mine/disk").c_str(), place.path("others/new").c_str()) == 0) return 11;
    if (mkdir(place.path("mine/folder").c_str(), 0700) == 0) return 12;
    if (symlink("x", place.path("mine/new-link").c_str()) == 0) return 13;
    return 0;
  }) == 0);
}

TEST_CASE("where files may only disappear") {
  if (is_missing()) return;
  const Place place;
  CHECK(place.under({{place.path("mine"), PathUse::remove}}, [&] {
    if (open_error(place.path("mine/disk"), O_RDONLY) != EACCES) return 1;
    if (open_error(place.path("mine/new"), O_RDWR | O_CREAT) != EACCES) return 2;
    return unlink(place.path("mine/disk").c_str()) == 0 ? 0 : 3;
  }) == 0);
}

TEST_CASE("what is open already stays usable, and paths that are not there are no error") {
  if (is_missing()) return;
  const Place place;
  const Descriptor held(open(place.path("others/disk").c_str(), O_RDWR | O_CLOEXEC));
  CHECK(place.under({{place.path("nowhere/at/all"), PathUse::change}}, [&] {
    if (write(held.number(), "x", 1) != 1) return 1;
    return open_error(place.path("others/disk"), O_RDONLY) == EACCES ? 0 : 2;
  }) == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
