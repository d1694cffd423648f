#include "libvhd/edit.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <utility>

#include "async/sim_file.h"
#include "libvhd/check.h"
#include "libvhd/footer.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/vhd_image.h"

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

constexpr uint64_t disk_bytes = 8 * MiB;

async::MemoryFile child() {
  async::MemoryFile file("child.vhd");
  const CreateOptions options{.type = DiskType::differencing,
                              .size_bytes = disk_bytes,
                              .unique_id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef"),
                              .parent = link(old_identity, R"(.\base.vhd)")};
  const auto writer = create(file, options);
  REQUIRE_OK(writer);
  REQUIRE_OK(tests::await((*writer)->finish()));
  return file;
}

// Its copy of the footer is whole too, but says another size.
async::MemoryFile child_with_other_copy() {
  async::MemoryFile file = child();
  tests::VhdBytes copy{std::vector<std::byte>(512)};
  file.fetch(0, copy.bytes);
  copy.put(tests::vhd_footer::current_size, 8, disk_bytes / 2).seal(tests::vhd_footer::checksum);
  file.store(0, copy.bytes);
  return file;
}

std::vector<std::byte> bytes_of_file(const async::MemoryFile& file) {
  std::vector<std::byte> bytes(file.size_bytes());
  file.fetch(0, bytes);
  return bytes;
}

// The parent's path and identity that the image names, both of them old or both new.
bool names_new_parent(const async::MemoryFile& state) {
  const auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(state)));
  REQUIRE_OK(layer);
  CHECK((*layer)->geometry().size_bytes == disk_bytes);
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
    async::SimFile file(loop, seed % 2 == 0 ? child() : child_with_other_copy());
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

TEST_CASE("the file ends with a whole footer all the time") {
  async::SimLoop loop(1);
  async::SimFile file(loop, child());
  uint64_t moments = 0;
  loop.set_observer([&] {
    async::MemoryFile now = file.content();
    const auto found = tests::await(find_footer(now));
    REQUIRE_OK(found);
    CHECK(found->place == FooterPlace::tail);
    ++moments;
  });
  REQUIRE_OK(loop.run(change_parent(file, link(new_identity, R"(..\elsewhere\base.vhd)"))));
  CHECK(moments > 8);  // as many writes, and their flushes
}

TEST_CASE("where the file system is full the child stays as it was, or is new and whole") {
  // Behind the old end: the old footer, the header, a locator, the new footer; and that once more
  // when the header is in its own place again.
  constexpr uint64_t writes_that_count = 4;
  constexpr uint64_t all_writes = 5;
  const async::MemoryFile before = child();
  const ParentLink new_link = link(new_identity, R"(..\elsewhere\base.vhd)");
  for (uint64_t room = 0; room <= all_writes; ++room) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      CAPTURE(room);
      CAPTURE(seed);
      async::SimLoop loop(seed);
      async::SimFile file(loop, before);
      uint64_t left = room;
      file.set_fault([&](async::SimFile::Access access, uint64_t file_offset, uint64_t) {
        if (access != async::SimFile::Access::write || file_offset < before.size_bytes()) return 0;
        return left-- == 0 ? ENOSPC : 0;
      });
      const auto changed = loop.run(change_parent(file, new_link));
      CHECK(changed.has_value() == (room == all_writes));
      if (!changed) CHECK(changed.error().code == Errc::no_space);
      CHECK(names_new_parent(file.content()) == (room >= writes_that_count));
      if (room < writes_that_count) CHECK(bytes_of_file(file.content()) == bytes_of_file(before));
    }
  }
}

TEST_CASE("whatever fails, the child names the old or the new parent, with its path") {
  const ParentLink new_link = link(new_identity, R"(..\elsewhere\base.vhd)");
  bool is_through = false;
  for (uint64_t failing = 0; !is_through; ++failing) {
    CAPTURE(failing);
    REQUIRE(failing < 100);
    async::SimLoop loop(failing);
    async::SimFile file(loop, child_with_other_copy());
    uint64_t count = 0;
    file.set_fault(
        [&](async::SimFile::Access, uint64_t, uint64_t) { return count++ == failing ? EIO : 0; });
    is_through = loop.run(change_parent(file, new_link)).has_value();
    file.set_fault(nullptr);
    names_new_parent(file.content());
  }
}

TEST_CASE("a child that gets one parent after the other has its length, and no leak") {
  async::MemoryFile file = child();
  const uint64_t file_bytes = file.size_bytes();
  for (const char* path :
       {R"(..\elsewhere\base.vhd)", R"(.\base.vhd)", R"(..\elsewhere\base.vhd)"}) {
    REQUIRE_OK(tests::await(change_parent(file, link(new_identity, path))));
    CHECK(file.size_bytes() == file_bytes);
  }
  CHECK(names_new_parent(file));
  // 256 UTF-16 units have the locator's sector, one more has not.
  REQUIRE_OK(tests::await(change_parent(file, link(new_identity, std::string(256, 'a')))));
  CHECK(file.size_bytes() == file_bytes);
  REQUIRE_OK(tests::await(change_parent(file, link(new_identity, std::string(257, 'a')))));
  const uint64_t long_bytes = file.size_bytes();
  CHECK(long_bytes == file_bytes + 512 + 1024 + 1024);
  for (const size_t length : {1, 257, 256, 512, 1}) {
    REQUIRE_OK(tests::await(change_parent(file, link(new_identity, std::string(length, 'a')))));
    CHECK(file.size_bytes() == long_bytes);
  }
  REQUIRE_OK(tests::await(change_parent(file, link(new_identity, R"(..\elsewhere\base.vhd)"))));
  CHECK(file.size_bytes() == long_bytes);
  CHECK(names_new_parent(file));
}

TEST_CASE("of two rooms the shorter path takes the smaller one") {
  async::MemoryFile file = child();
  ParentLink new_link = link(new_identity, std::string(300, 'a'));
  new_link.absolute_path = R"(D:\base.vhd)";
  REQUIRE_OK(tests::await(change_parent(file, new_link)));
  const uint64_t file_bytes = file.size_bytes();
  for (int i = 0; i < 4; ++i) {
    std::swap(new_link.relative_path, new_link.absolute_path);
    REQUIRE_OK(tests::await(change_parent(file, new_link)));
    CHECK(file.size_bytes() == file_bytes);
  }
}

// 512 KiB to a block, each with a place of its own behind the file's end.
tests::VhdImage image_with_many_entries() {
  constexpr uint64_t entry_count = 4'000'000;
  constexpr uint32_t block_bytes = 512 * KiB;
  tests::VhdImage image(tests::vhd_differencing, entry_count * block_bytes, block_bytes);
  image.locate(0, "W2ru", std::string_view("b\0a\0s\0e\0", 8));
  for (size_t i = 0; i < entry_count; ++i) image.table[i] = uint32_t(40'000 + i * 1026);
  return image;
}

TEST_CASE("millions of entries that name places behind the end cost one look at each") {
  const auto file = image_with_many_entries().file();
  const uint64_t file_bytes = file->size_bytes();
  REQUIRE_OK(tests::await(change_parent(*file, link(new_identity, R"(.\base.vhd)"))));
  CHECK(file->size_bytes() == file_bytes);
}

TEST_CASE("no entry is read any more when no room is left") {
  tests::VhdImage image = image_with_many_entries();
  image.table[1] = uint32_t(image.content_end / 512 - 2);  // upon the locator's sector
  const auto content = image.file();
  async::SimLoop loop(1);
  async::SimFile file(loop, *content);
  uint64_t reads = 0;
  file.set_fault([&reads](async::SimFile::Access access, uint64_t, uint64_t) {
    reads += access == async::SimFile::Access::read ? 1 : 0;
    return 0;
  });
  REQUIRE_OK(loop.run(change_parent(file, link(new_identity, R"(.\base.vhd)"))));
  CHECK(reads < 40);  // the entries alone are as many times six
  CHECK(file.size_bytes() > content->size_bytes());
}

TEST_CASE("a locator's room that a block has too is left to the block") {
  tests::VhdImage image(tests::vhd_differencing, 4 * MiB);
  const std::string_view path("b\0a\0s\0e\0", 8);
  image.locate(0, "W2ru", path);  // at offset 2048
  image.place(0, 5);
  image.put_locator(0, "W2ru", 2048, 4096, 8);  // bytes of room: the block begins there
  const auto file = image.file();
  const std::vector<std::byte> data(2 * MiB, std::byte{7});
  file->store(5 * 512 + 512, data);
  std::vector<std::byte> bitmap(512);
  file->fetch(5 * 512, bitmap);
  REQUIRE_OK(tests::await(change_parent(*file, link(new_identity, std::string(300, 'a')))));
  std::vector<std::byte> kept(512);
  file->fetch(5 * 512, kept);
  CHECK(kept == bitmap);
}

TEST_CASE("a locator without room, at an odd offset, has none for another") {
  tests::VhdImage image(tests::vhd_differencing, 4 * MiB);
  image.locate(0, "W2ru", std::string_view("b\0a\0s\0e\0", 8));  // at offset 2048
  image.place(0, 5);
  image.put_locator(0, "W2ru", 2049, 0, 8);
  const auto file = image.file();
  std::vector<std::byte> before(512);
  file->fetch(5 * 512, before);
  REQUIRE_OK(tests::await(change_parent(*file, link(new_identity, R"(.\base.vhd)"))));
  std::vector<std::byte> kept(512);
  file->fetch(5 * 512, kept);
  CHECK(kept == before);
}

TEST_CASE("an identifier changes and nothing else of the footer does") {
  async::MemoryFile file = child();
  tests::VhdBytes footer{std::vector<std::byte>(512)};
  file.fetch(0, footer.bytes);
  footer.put(tests::vhd_footer::saved_state, 1, 2).put(tests::vhd_footer::reserved, 1, 1);
  footer.seal(tests::vhd_footer::checksum);
  file.store(0, footer.bytes);
  file.store(file.size_bytes() - 512, footer.bytes);
  REQUIRE_OK(tests::await(set_unique_id(file, new_identity)));
  footer.put(tests::vhd_footer::unique_id, 8, 0x0e9a3c1b6f2d4b7e);
  footer.put(tests::vhd_footer::unique_id + 8, 8, 0x9a11c0ffee123456);
  footer.seal(tests::vhd_footer::checksum);
  for (const uint64_t file_offset : {uint64_t{0}, file.size_bytes() - 512}) {
    std::vector<std::byte> bytes(512);
    file.fetch(file_offset, bytes);
    CHECK(bytes == footer.bytes);
  }
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
