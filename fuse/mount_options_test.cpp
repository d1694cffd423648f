#include "fuse/mount_options.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"

namespace vhdkit::fuse {
namespace {

TEST_CASE("every word behind -o goes to whom it concerns") {
  std::string name;
  bool layers = false;
  const OwnOptions own = {{"name",
                           [&name](const std::string& value) -> Result<void> {
                             name = value;
                             return {};
                           }},
                          {"layers", [&layers](const std::string&) -> Result<void> {
                             layers = true;
                             return {};
                           }}};
  MountOptions options;
  REQUIRE_OK(parse_mount_options(
      "rw,uid=12,gid=34,umask=027,noauto,nofail,_netdev,x-systemd.automount,name=a\\,b,layers", own,
      options));
  REQUIRE_OK(
      parse_mount_options("allow_other,fsname=x\\,y=z,nodev,,ro,nonempty,debug", own, options));
  CHECK(options.read_only == true);  // the last one counts
  CHECK(options.uid == 12U);
  CHECK(options.gid == 34U);
  CHECK(options.umask == 027U);
  CHECK(options.allows_not_empty);
  CHECK(options.debug);
  CHECK(name == "a,b");
  CHECK(layers);
  CHECK(options.others == std::vector<std::string>{"allow_other", "fsname=x\\,y=z", "nodev"});
}

TEST_CASE("the rw of mount(8) and its helper is not the user's") {
  struct Case {
    std::string text;
    std::optional<bool> read_only;
  };
  const Case cases[] = {
      {"rw,fs,dev,suid", std::nullopt},
      {"rw,noexec,nosuid,nodev,user=somebody", std::nullopt},
      {"rw,nosuid,fs,dev", std::nullopt},
      {"ro,fs,dev,suid", true},
      {"rw,writable,dev,suid", false},
      {"rw", false},
      {"rw,nodev", false},
      {"writable", false},
  };
  for (const Case& one : cases) {
    CAPTURE(one.text);
    MountOptions options;
    const OwnOptions own = {{"fs", [](const std::string&) { return Result<void>(); }}};
    REQUIRE_OK(parse_mount_options(one.text, own, options));
    CHECK(options.read_only == one.read_only);
  }
}

TEST_CASE("numbers that are none are named") {
  const OwnOptions own;
  MountOptions options;
  REQUIRE_FAILS(Errc::invalid_argument, "-o uid=root: its value is no number",
                parse_mount_options("uid=root", own, options));
  REQUIRE_FAILS(Errc::invalid_argument, "-o umask=8: its value is no octal number",
                parse_mount_options("ro,umask=8", own, options));
  REQUIRE_FAILS(Errc::invalid_argument, "-o gid=: its value",
                parse_mount_options("gid=", own, options));
  REQUIRE_FAILS(Errc::invalid_argument, "-o gid: its value",
                parse_mount_options("gid", own, options));
}

}  // namespace
}  // namespace vhdkit::fuse
