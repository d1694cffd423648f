#include "vhdx/edit.h"

#include <doctest/doctest.h>

#include "async/sim_file.h"
#include "tests/support/await.h"
#include "tests/support/vhdx_check.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

// Its file ends between two MiB.
tests::VhdxImage differencing_image() {
  tests::VhdxImage image;
  image.make_differencing();
  image.file_bytes += 512;
  return image;
}

ParentLocator locator(const std::string& path) {
  return {.entries = {{key_linkage, "{0e9a3c1b-6f2d-4b7e-9a11-c0ffee123456}"},
                      {key_relative_path, path}}};
}

std::string first_path(std::unique_ptr<File> file) {
  const auto layer = tests::await(open_layer(std::move(file), {}));
  REQUIRE_OK(layer);
  return (*layer)->parent()->paths.front().path;
}

TEST_CASE("a longer locator goes behind the other items, a shorter one stays in its place") {
  auto file = differencing_image().build();
  const std::string longer = R"(..\a folder\with a longer name\base.vhdx)";
  REQUIRE_OK(tests::await(change_metadata(*file, {.parent_locator = locator(longer)})));
  CHECK(first_path(std::make_unique<async::MemoryFile>(*file)) == longer);
  const tests::Report report = tests::checked(*file);
  CHECK(report.findings.count(disk::Severity::corruption) == 0);
  // [MS-VHDX] 2.3.1.1: both ends are multiples of 1 MiB.
  LogEntryHeader entry{};
  file->fetch(1 * MiB, writable_bytes_of(entry));
  CHECK(entry.flushed_file_offset == 33 * MiB);
  CHECK(entry.last_file_offset == 33 * MiB);
  REQUIRE_OK(tests::await(change_metadata(*file, {.parent_locator = locator(R"(.\b.vhdx)")})));
  CHECK(first_path(std::make_unique<async::MemoryFile>(*file)) == R"(.\b.vhdx)");
  CHECK(tests::checked(*file).findings.count(disk::Severity::corruption) == 0);
}

TEST_CASE("changes that the image cannot have change nothing") {
  auto file = tests::VhdxImage().build();
  const uint64_t writes = file->write_count();
  REQUIRE_FAILS(Errc::invalid_argument, "has no parent",
                tests::await(change_metadata(*file, {.parent_locator = locator("x")})));
  REQUIRE_FAILS(Errc::invalid_argument, "a physical sector of 1024 bytes",
                tests::await(change_metadata(*file, {.physical_sector_bytes = 1024})));
  REQUIRE_OK(tests::await(change_metadata(*file, {})));
  CHECK(file->write_count() == writes);
}

TEST_CASE("after a crash the locator is the old or the new one, and the identity too") {
  const std::string old_path = R"(.\base.vhdx)";
  const std::string new_path = R"(..\a folder\with a longer name\base.vhdx)";
  bool saw_old = false;
  bool saw_new = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    async::SimLoop loop(seed);
    async::SimFile file(loop, *differencing_image().build());
    loop.set_observer([&] {
      for (int i = 0; i < 4; ++i) {
        const std::string path =
            first_path(std::make_unique<async::MemoryFile>(file.crash_state(loop.random())));
        REQUIRE((path == old_path || path == new_path));
        (path == old_path ? saw_old : saw_new) = true;
      }
    });
    REQUIRE_OK(loop.run(change_metadata(file, {.parent_locator = locator(new_path)})));
    const Guid identity = Guid::random();
    REQUIRE_OK(loop.run(set_data_write_guid(file, identity)));
    CHECK(first_path(std::make_unique<async::MemoryFile>(file.content())) == new_path);
  }
  CHECK((saw_old && saw_new));
}

}  // namespace
}  // namespace vhdkit::vhdx
