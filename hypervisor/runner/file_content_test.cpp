#include "hypervisor/runner/file_content.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;

std::string text_of(const BootFile& file) {
  const auto content = file.content();
  REQUIRE_OK(content);
  const auto bytes = content->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST_CASE("a file stays the one that was opened, when its path leads to another or to none") {
  const tests::TemporaryFolder folder;
  const std::string path = folder.path("kernel");
  std::ofstream(path) << "the old one";
  const auto file = BootFile::open(path);
  REQUIRE_OK(file);
  CHECK((*file)->path() == path);
  CHECK(text_of(**file) == "the old one");
  std::ofstream(folder.path("next")) << "a new one";
  fs::rename(folder.path("next"), path);
  CHECK(text_of(**file) == "the old one");
  fs::remove(path);
  CHECK(text_of(**file) == "the old one");
}

TEST_CASE("an empty file has no content") {
  const tests::TemporaryFolder folder;
  std::ofstream(folder.path("initrd")).flush();
  const auto file = BootFile::open(folder.path("initrd"));
  REQUIRE_OK(file);
  CHECK(text_of(**file).empty());
}

TEST_CASE("what is no file is refused at once, and by its name") {
  const tests::TemporaryFolder folder;
  REQUIRE(mkfifo(folder.path("fifo").c_str(), 0600) == 0);
  REQUIRE_FAILS(Errc::unsupported, folder.path("fifo"), BootFile::open(folder.path("fifo")));
  REQUIRE_FAILS(Errc::unsupported, "/dev/null: is no file", BootFile::open("/dev/null"));
  REQUIRE_FAILS(Errc::io, "Is a directory", BootFile::open(folder.path("")));
  REQUIRE_FAILS(Errc::not_found, folder.path("none"), BootFile::open(folder.path("none")));
}

}  // namespace
}  // namespace vhdkit::hypervisor
