#include "image/path_mapping.h"

#include "tests/support/await.h"

namespace vhdkit::image {
namespace {

TEST_CASE("Windows paths come apart into components") {
  struct Case {
    const char* path;
    std::vector<std::string> components;
  };
  const Case cases[] = {
      {R"(C:\vm\base.vhdx)", {"C:", "vm", "base.vhdx"}},
      {R"(C:/vm//base.vhdx)", {"C:", "vm", "base.vhdx"}},
      {R"(\\?\C:\vm\base.vhdx)", {"C:", "vm", "base.vhdx"}},
      {R"(\\.\C:\vm)", {"C:", "vm"}},
      {R"(\??\C:\vm)", {"C:", "vm"}},
      {R"(\\server\share\a)", {R"(\\server)", "share", "a"}},
      {R"(//server/share/a)", {R"(\\server)", "share", "a"}},
      {R"(\\?\UNC\server\share\a)", {R"(\\server)", "share", "a"}},
      {R"(\\?\unc\server\share\a)", {R"(\\server)", "share", "a"}},
      {R"(\\?\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\a)",
       {"Volume{26a21bda-a627-11d7-9931-806e6f6e6963}", "a"}},
      {R"(.\a.vhd)", {"a.vhd"}},
      {R"(C:\vm\.\x\..\a)", {"C:", "vm", "a"}},
      {R"(C:\..\..\a)", {"C:", "a"}},
      {"", {}},
      {R"(\\)", {}},
  };
  for (const Case& test : cases) {
    CAPTURE(test.path);
    CHECK(windows_components(test.path) == test.components);
  }
}

TEST_CASE("absolute paths are known by their beginning") {
  for (const char* path : {R"(C:\a)", "c:/a", R"(\\server\a)", R"(\\?\Volume{0}\a)", "//s/a"})
    CHECK_MESSAGE(is_absolute_windows_path(path), path);
  for (const char* path : {R"(.\a)", R"(..\a)", "a", R"(\a)", "/etc/shadow", "", "1:x"})
    CHECK_MESSAGE(!is_absolute_windows_path(path), path);
}

TEST_CASE("the longest mapping wins, on whole components, without regard to case") {
  const PathMapping mappings[] = {
      {R"(C:\)", "/mnt/c"},
      {R"(c:\VM)", "/srv/vm/"},
      {R"(\\nas\disks)", "/net/nas"},
      {R"(\\?\Volume{01}\)", "/mnt/one"},
  };
  struct Case {
    const char* path;
    std::optional<std::string> native;
  };
  const Case cases[] = {
      {R"(C:\vm\base.vhdx)", "/srv/vm/base.vhdx"},
      {R"(\\?\c:\Vm\x\base.vhdx)", "/srv/vm/x/base.vhdx"},
      {R"(C:\vmx\base.vhdx)", "/mnt/c/vmx/base.vhdx"},
      {R"(C:\vm)", "/srv/vm/"},
      {R"(\\NAS\disks\a)", "/net/nas/a"},
      {R"(\\?\UNC\nas\disks\a)", "/net/nas/a"},
      {R"(\\nas\disks2\a)", std::nullopt},
      {R"(D:\nas\disks\a)", std::nullopt},
      {R"(nas\disks\a)", std::nullopt},
      {R"(\\?\Volume{01}\vm\a)", "/mnt/one/vm/a"},
      {R"(C:\vm\..\..\..\etc\shadow)", "/mnt/c/etc/shadow"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.path);
    CHECK(map_windows_path(test.path, mappings) == test.native);
  }
}

TEST_CASE("a mapping has two sides") {
  const auto mapping = parse_path_mapping(R"(C:\vm=/mnt/a=b)");
  REQUIRE_OK(mapping);
  CHECK(mapping->windows == R"(C:\vm)");
  CHECK(mapping->native == "/mnt/a=b");
  for (const char* text : {"", "=", "C:\\vm", "C:\\vm=", "=/mnt", "\\=/mnt"}) {
    CAPTURE(text);
    REQUIRE_FAILS(Errc::invalid_argument, "WINDOWS=NATIVE", parse_path_mapping(text));
  }
}

}  // namespace
}  // namespace vhdkit::image
