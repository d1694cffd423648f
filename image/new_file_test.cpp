#include "image/new_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <vector>

#include "support/bytes.h"
#include "tests/support/await.h"
#include "tests/support/programs.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

struct Place {
  tests::TemporaryFolder folder;
  std::unique_ptr<async::Loop> loop = std::move(*async::Loop::create());

  void put(const std::string& name, const std::string& text) {
    std::ofstream(folder.path(name)) << text;
  }
  std::string content(const std::string& name) {
    std::ifstream stream(folder.path(name));
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  size_t file_count() {
    return size_t(std::distance(fs::directory_iterator(folder.path("")), fs::directory_iterator()));
  }
  Result<void> write(NewFile& file, std::string_view text) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
    return loop->run(file.file().write(0, bytes));
  }
};

TEST_CASE("a new file has its name only after commit") {
  Place place;
  auto file = NewFile::begin(*place.loop, place.folder.path("a"), false);
  REQUIRE_OK(file);
  REQUIRE_OK(place.write(**file, "whole"));
  CHECK_FALSE(fs::exists(place.folder.path("a")));
  REQUIRE_OK(place.loop->run((*file)->commit()));
  file->reset();
  CHECK(place.content("a") == "whole");
  CHECK(place.file_count() == 1);
}

TEST_CASE("what is not committed leaves the target as it was and nothing beside it") {
  Place place;
  place.put("a", "old");
  auto file = NewFile::begin(*place.loop, place.folder.path("a"), true);
  REQUIRE_OK(file);
  REQUIRE_OK(place.write(**file, "half"));
  file->reset();
  CHECK(place.content("a") == "old");
  CHECK(place.file_count() == 1);
}

TEST_CASE("an existing target is refused, or replaced with its permissions kept") {
  Place place;
  place.put("a", "old");
  REQUIRE(chmod(place.folder.path("a").c_str(), 0600) == 0);
  REQUIRE_FAILS(Errc::exists, "/a: exists already",
                NewFile::begin(*place.loop, place.folder.path("a"), false));
  CHECK(place.file_count() == 1);

  auto file = NewFile::begin(*place.loop, place.folder.path("a"), true);
  REQUIRE_OK(file);
  REQUIRE_OK(place.write(**file, "new"));
  REQUIRE_OK(place.loop->run((*file)->commit()));
  CHECK(place.content("a") == "new");
  CHECK(fs::status(place.folder.path("a")).permissions() == fs::perms(0600));
}

TEST_CASE("a file that somebody has open is not replaced, and nobody opens one that will be") {
  using Access = async::SystemFile::Access;
  Place place;
  place.put("a", "old");
  const std::string path = place.folder.path("a");
  for (const Access access : {Access::read_only, Access::read_write}) {
    const auto other = async::SystemFile::open(*place.loop, path, access);
    REQUIRE_OK(other);
    const std::string who = "/a: in use by process " + std::to_string(getpid());
    REQUIRE_FAILS(Errc::busy, who, NewFile::begin(*place.loop, path, true));
    REQUIRE_FAILS(Errc::busy, who, NewFile::begin_successor(*place.loop, path));
    CHECK(place.file_count() == 1);
  }
  auto file = NewFile::begin(*place.loop, path, true);
  REQUIRE_OK(file);
  REQUIRE_FAILS(Errc::busy, "/a: in use",
                async::SystemFile::open(*place.loop, path, Access::read_only));
  REQUIRE_OK(place.loop->run((*file)->commit()));
  file->reset();
  REQUIRE_OK(async::SystemFile::open(*place.loop, path, Access::read_write));
}

TEST_CASE("a successor has its predecessor's owner, permissions and attributes") {
  Place place;
  REQUIRE_FAILS(Errc::not_found, "/a: No such file",
                NewFile::begin_successor(*place.loop, place.folder.path("a")));
  place.put("a", "old");
  const std::string path = place.folder.path("a");
  if (geteuid() == 0) {
    REQUIRE(chown(path.c_str(), 1234, 1235) == 0);
  } else {
    tests::skip("only root has files of several owners");
  }
  REQUIRE(chmod(path.c_str(), 0640) == 0);
  const bool has_attributes = setxattr(path.c_str(), "user.note", "kept", 4, 0) == 0;
  struct stat before;
  REQUIRE(stat(path.c_str(), &before) == 0);
  for (const bool succeeds : {true, false}) {
    auto file = succeeds ? NewFile::begin_successor(*place.loop, path)
                         : NewFile::begin(*place.loop, path, true);
    REQUIRE_OK(file);
    REQUIRE_OK(place.write(**file, "new"));
    REQUIRE_OK(place.loop->run((*file)->commit()));
    struct stat after;
    REQUIRE(stat(path.c_str(), &after) == 0);
    CHECK(after.st_uid == before.st_uid);
    CHECK(after.st_gid == before.st_gid);
    CHECK(after.st_mode == before.st_mode);
    char note[8] = {};
    CHECK((getxattr(path.c_str(), "user.note", note, sizeof note) == 4) == has_attributes);
  }
}

// Of a file that shows the one named "shown", at the moment when it begins.
mode_t mode_beside_shown(Place& place) {
  const Permissions permissions = permissions_beside(place.folder.path("shown"));
  const auto file = NewFile::begin(*place.loop, place.folder.path("new"), false, permissions);
  REQUIRE_OK(file);
  struct stat status;
  REQUIRE(fstat((*file)->file().descriptor(0, 0), &status) == 0);
  return status.st_mode & 07777;
}

class Umask {
 public:
  explicit Umask(mode_t mode) : before_(umask(mode)) {}
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;
  ~Umask() { umask(before_); }

 private:
  mode_t before_;
};

TEST_CASE("what shows a file is for those who may read that one, less the umask") {
  Place place;
  place.put("shown", "private");
  const struct {
    mode_t shown;
    mode_t umask;
    mode_t expected;
  } cases[] = {{0600, 022, 0600}, {0640, 022, 0640}, {0644, 022, 0644}, {0444, 022, 0644},
               {0666, 0, 0644},   {0755, 0, 0644},   {0660, 0, 0640},   {0604, 0, 0604},
               {0644, 077, 0600}, {0644, 027, 0640}, {0400, 0, 0600},   {04000, 0, 0600}};
  for (const auto& [shown, mask, expected] : cases) {
    CAPTURE(shown);
    REQUIRE(chmod(place.folder.path("shown").c_str(), shown) == 0);
    const Umask umask(mask);
    CHECK(mode_beside_shown(place) == expected);
  }
  const Umask umask(0);
  fs::remove(place.folder.path("shown"));
  CHECK(mode_beside_shown(place) == 0600);
}

TEST_CASE("what shows a file of another group is for that group only") {
  if (geteuid() != 0) return tests::skip("only root has files of several groups");
  Place place;
  place.put("shown", "private");
  REQUIRE(chown(place.folder.path("shown").c_str(), 0, 1235) == 0);
  const auto mode_beside = [&place](mode_t shown) {
    REQUIRE(chmod(place.folder.path("shown").c_str(), shown) == 0);
    const Umask umask(0);
    return mode_beside_shown(place);
  };
  CHECK(mode_beside(0640) == 0600);
  CHECK(mode_beside(0604) == 0600);
  CHECK(mode_beside(0644) == 0644);
  REQUIRE(chown(place.folder.path("").c_str(), 0, 1235) == 0);
  REQUIRE(chmod(place.folder.path("").c_str(), 02700) == 0);
  CHECK(mode_beside(0640) == 0640);
}

// rw-, another user's r--, ---, a mask of r--, ---: as <linux/posix_acl_xattr.h> has it. Its file's
// mode looks like 0640.
constexpr unsigned char access_list[] = {2,   0,   0,   0,    1,   0,    6,    0,   255, 255, 255,
                                         255, 2,   0,   4,    0,   0xd2, 4,    0,   0,   4,   0,
                                         0,   0,   255, 255,  255, 255,  0x10, 0,   4,   0,   255,
                                         255, 255, 255, 0x20, 0,   0,    0,    255, 255, 255, 255};

TEST_CASE("where access control lists say who may read, what shows a file is for its owner only") {
  Place place;
  place.put("shown", "private");
  const std::string shown = place.folder.path("shown");
  const Umask umask(0);
  const auto give = [](const std::string& path, const char* attribute) {
    return setxattr(path.c_str(), attribute, access_list, sizeof access_list, 0) == 0;
  };
  REQUIRE(chmod(shown.c_str(), 0640) == 0);
  if (!give(place.folder.path(""), "system.posix_acl_default"))
    return tests::skip("this file system has no access control lists");
  CHECK(mode_beside_shown(place) == 0600);
  REQUIRE(removexattr(place.folder.path("").c_str(), "system.posix_acl_default") == 0);
  CHECK(mode_beside_shown(place) == 0640);
  REQUIRE(give(shown, "system.posix_acl_access"));
  struct stat status;
  REQUIRE(stat(shown.c_str(), &status) == 0);
  REQUIRE((status.st_mode & 0777) == 0640);
  CHECK(mode_beside_shown(place) == 0600);
}

TEST_CASE("a target that came into being meanwhile stays") {
  Place place;
  auto file = NewFile::begin(*place.loop, place.folder.path("a"), false);
  REQUIRE_OK(file);
  place.put("a", "theirs");
  REQUIRE_FAILS(Errc::exists, "exists already", place.loop->run((*file)->commit()));
  file->reset();
  CHECK(place.content("a") == "theirs");
  CHECK(place.file_count() == 1);
}

TEST_CASE("directories, FIFOs, devices and missing folders are refused") {
  Place place;
  fs::create_directory(place.folder.path("folder"));
  REQUIRE(mkfifo(place.folder.path("fifo").c_str(), 0600) == 0);
  fs::create_symlink("loop", place.folder.path("loop"));
  struct Case {
    std::string path;
    Errc code;
    std::string text;
  };
  const Case cases[] = {
      {place.folder.path("folder"), Errc::unsupported, "is a directory"},
      {place.folder.path("folder/"), Errc::unsupported, "not of a file"},
      {place.folder.path("fifo"), Errc::unsupported, "no regular file"},
      {"/dev/null", Errc::unsupported, "no regular file"},
      {place.folder.path("absent/a"), Errc::not_found, "opening its folder"},
      {place.folder.path("loop"), Errc::io, "Too many levels"},
      {"", Errc::unsupported, "not of a file"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.path);
    REQUIRE_FAILS(test.code, test.text, NewFile::begin(*place.loop, test.path, true));
  }
}

TEST_CASE("a symbolic link is followed, dangling or not") {
  Place place;
  place.put("real", "old");
  fs::create_symlink("real", place.folder.path("link"));
  fs::create_symlink("absent", place.folder.path("dangling"));
  REQUIRE_FAILS(Errc::exists, "link: exists",
                NewFile::begin(*place.loop, place.folder.path("link"), false));
  for (const std::string name : {"link", "dangling"}) {
    auto file = NewFile::begin(*place.loop, place.folder.path(name), name == "link");
    REQUIRE_OK(file);
    REQUIRE_OK(place.write(**file, "new"));
    REQUIRE_OK(place.loop->run((*file)->commit()));
    CHECK(fs::is_symlink(place.folder.path(name)));
  }
  CHECK(place.content("real") == "new");
  CHECK(place.content("absent") == "new");
}

TEST_CASE("a name of 255 bytes leaves room for the temporary one") {
  Place place;
  const std::string path = place.folder.path(std::string(255, 'n'));
  auto file = NewFile::begin(*place.loop, path, false);
  REQUIRE_OK(file);
  REQUIRE_OK(place.loop->run((*file)->commit()));
  CHECK(fs::exists(path));
}

TEST_CASE("a full disk leaves no trace") {
  Place place;
  place.put("a", "old");
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 4096;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  {
    auto file = NewFile::begin(*place.loop, place.folder.path("a"), true);
    REQUIRE_OK(file);
    const std::vector<std::byte> bytes(64 * 1024, std::byte{1});
    const auto written = place.loop->run((*file)->file().write(0, bytes));
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    std::signal(SIGXFSZ, old_handler);
    REQUIRE_FAILS(Errc::no_space, "/a: writing at offset 4096", written);
  }
  CHECK(place.content("a") == "old");
  CHECK(place.file_count() == 1);
}

}  // namespace
}  // namespace vhdkit::image
