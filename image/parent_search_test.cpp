#include "image/parent_search.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace vhdkit::image {
namespace {

using disk::ParentReference;
using disk::PathKind;
using Paths = std::vector<std::string>;

const Guid some_id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");

TEST_CASE("candidates come best first and none twice") {
  const PathMapping mappings[] = {{R"(C:\vm)", "/mnt/vm"}, {R"(\\?\Volume{01})", "/mnt/one"}};
  const ParentReference reference{
      .identities = {some_id},
      .paths = {{PathKind::absolute, "absolute_win32_path", R"(C:\vm\base\root.vhdx)"},
                {PathKind::volume, "volume_path", R"(\\?\Volume{01}\base\root.vhdx)"},
                {PathKind::relative, "relative_path", R"(..\base\root.vhdx)"}}};
  CHECK(parent_candidates("/data/vms/child.vhdx", reference, mappings) ==
        Paths{"/data/vms/../base/root.vhdx", "/data/vms/root.vhdx", "/mnt/vm/base/root.vhdx",
              "/mnt/one/base/root.vhdx"});
  CHECK(parent_candidates("child.vhdx", reference, {}) == Paths{"../base/root.vhdx", "root.vhdx"});
}

TEST_CASE("one path of each kind") {
  struct Case {
    PathKind kind;
    std::string path;
    Paths wanted;
  };
  const Case cases[] = {
      {PathKind::relative, R"(.\p.vhd)", {"/d/p.vhd"}},
      {PathKind::relative, R"(.\.\\p.vhd)", {"/d/p.vhd"}},
      {PathKind::relative, R"(sub/p.vhd)", {"/d/sub/p.vhd", "/d/p.vhd"}},
      {PathKind::relative, "p.vhd", {"/d/p.vhd"}},
      {PathKind::relative, "", {}},
      {PathKind::relative, R"(..)", {"/d/.."}},
      // Never an absolute path of this system.
      {PathKind::relative, "/etc/shadow", {"/d/etc/shadow", "/d/shadow"}},
      {PathKind::relative, R"(\\etc\shadow)", {"/d/shadow"}},
      {PathKind::relative, R"(C:\vm\p.vhd)", {"/d/p.vhd"}},
      {PathKind::absolute, "/etc/shadow", {"/d/shadow"}},
      {PathKind::absolute, R"(C:\vm\p.vhd)", {"/d/p.vhd"}},
      {PathKind::volume, R"(\\?\Volume{01}\p.vhd)", {"/d/p.vhd"}},
      {PathKind::native, "p.qcow2", {"/d/p.qcow2"}},
      {PathKind::native, "../p.qcow2", {"/d/../p.qcow2"}},
      {PathKind::native, "/srv/p.qcow2", {"/srv/p.qcow2"}},
      {PathKind::native, std::string("/srv/p\0.qcow2", 13), {}},
      {PathKind::other, "file:///srv/p.vhd", {}},
  };
  for (const Case& test : cases) {
    CAPTURE(test.path);
    const ParentReference reference{.paths = {{test.kind, "locator", test.path}}};
    CHECK(parent_candidates("/d/child.vhd", reference, {}) == test.wanted);
  }
}

TEST_CASE("the display name is the last resort, where an identifier proves the parent") {
  ParentReference reference{.name = R"(C:\vm\p.vhd)"};
  CHECK(parent_candidates("/d/child.vhd", reference, {}).empty());
  reference.identities = {some_id};
  CHECK(parent_candidates("/d/child.vhd", reference, {}) == Paths{"/d/p.vhd"});
}

TEST_CASE("a linked child lies in two folders, the link's first") {
  tests::TemporaryFolder folder;
  std::filesystem::create_directory(folder.path("real"));
  std::ofstream(folder.path("real/child.vhd")) << "x";
  std::filesystem::create_symlink("real/child.vhd", folder.path("link.vhd"));
  const ParentReference reference{.paths = {{PathKind::relative, "W2ru", R"(.\p.vhd)"}}};
  const std::string real = std::filesystem::canonical(folder.path("real")).string();
  CHECK(parent_candidates(folder.path("link.vhd"), reference, {}) ==
        Paths{folder.path("p.vhd"), real + "/p.vhd"});
}

}  // namespace
}  // namespace vhdkit::image
