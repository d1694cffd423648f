#include "libvhd/edit.h"

#include <doctest/doctest.h>

#include "async/sim_file.h"
#include "libvhd/check.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"

namespace vhdkit::libvhd {
namespace {

constexpr Guid old_identity = Guid::literal("fedcba98-7654-3210-fedc-ba9876543210");
constexpr Guid new_identity = Guid::literal("0e9a3c1b-6f2d-4b7e-9a11-c0ffee123456");

ParentLink link(const Guid& identity, const std::string& path) {
  return {.unique_id = identity,
          .time_stamp = 7,
          .relative_path = path,
          .absolute_path = "",
          .name = "base.vhd"};
}

async::MemoryFile child() {
  async::MemoryFile file("child.vhd");
  const CreateOptions options{.type = DiskType::differencing,
                              .size_bytes = 8 * MiB,
                              .unique_id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef"),
                              .parent = link(old_identity, R"(.\base.vhd)")};
  const auto writer = create(file, options);
  REQUIRE_OK(writer);
  REQUIRE_OK(tests::await((*writer)->finish()));
  return file;
}

// The parent's path and identity that the image names, both of them old or both new.
bool names_new_parent(const async::MemoryFile& state) {
  const auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(state)));
  REQUIRE_OK(layer);
  const disk::ParentReference& parent = *(*layer)->parent();
  const bool is_new = parent.identities.front() == new_identity;
  CHECK(parent.paths.front().path == (is_new ? R"(..\elsewhere\base.vhd)" : R"(.\base.vhd)"));
  if (!is_new) CHECK(parent.identities.front() == old_identity);
  return is_new;
}

TEST_CASE("after a crash the child names the old or the new parent, with its path") {
  bool saw_old = false;
  bool saw_new = false;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    async::SimLoop loop(seed);
    async::SimFile file(loop, child());
    loop.set_observer([&] {
      for (int i = 0; i < 4; ++i)
        (names_new_parent(file.crash_state(loop.random())) ? saw_new : saw_old) = true;
    });
    const ParentLink new_link = link(new_identity, R"(..\elsewhere\base.vhd)");
    REQUIRE_OK(loop.run(change_parent(file, new_link)));
    REQUIRE(names_new_parent(file.content()));
  }
  CHECK((saw_old && saw_new));
}

TEST_CASE("what was changed is clean, and an identifier changes in both footers") {
  async::MemoryFile file = child();
  const ParentLink new_link = link(new_identity, R"(..\elsewhere\base.vhd)");
  REQUIRE_OK(tests::await(change_parent(file, new_link)));
  REQUIRE_OK(tests::await(set_unique_id(file, new_identity)));
  disk::Findings findings;
  disk::BlockUsage usage;
  REQUIRE_OK(tests::await(check(file, findings, usage)));
  CHECK(findings.count(disk::Severity::corruption) == 0);
  CHECK(findings.count(disk::Severity::warning) == 0);
  const auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(file)));
  REQUIRE_OK(layer);
  CHECK((*layer)->identity() == new_identity);
}

}  // namespace
}  // namespace vhdkit::libvhd
