// Chains of real files, as people move and damage them.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "async/task_group.h"
#include "image/create.h"
#include "image/image.h"
#include "image/new_file.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/programs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/unseen_lock.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t disk_bytes = 4 * MiB;

const Guid id_a = Guid::literal("aaaaaaaa-0000-4000-8000-000000000001");
const Guid id_b = Guid::literal("bbbbbbbb-0000-4000-8000-000000000002");

// Images of one format in a folder.
class Place {
 public:
  explicit Place(Format format) : format_(format) {}

  std::string path(const std::string& name) const { return folder_.path(name); }

  // The identifier is the one that children remember.
  CreateOptions options(const Guid& identity) const {
    CreateOptions options{.format = format_, .size_bytes = disk_bytes};
    if (format_ == Format::vhd) options.disk_id = identity;
    if (format_ == Format::vhdx) options.data_write_guid = identity;
    if (format_ == Format::vhdx) options.block_size_bytes = 1 * MiB;
    return options;
  }

  CreateOptions child_options(const std::string& parent, const Guid& identity) const {
    CreateOptions child = options(identity);
    child.parent_path = path(parent);
    return child;
  }

  // An image whose block at disk_offset is full of one byte; none where that is zero. `change` may
  // alter what the child remembers of its parent.
  void make(const std::string& name, const CreateOptions& wanted, uint64_t disk_offset = 0,
            uint8_t fill = 0, const std::function<void(ParentForCreation&)>& change = {}) {
    std::optional<ParentForCreation> parent;
    if (wanted.parent_path) {
      const OpenOptions shallow{.open_parents = false};
      auto image = loop_->run(Image::open(*loop_, *wanted.parent_path, shallow));
      REQUIRE_OK(image);
      auto description = describe_parent(**image, path(name), wanted);
      REQUIRE_OK(description);
      parent = *description;
      if (change) change(*parent);
    }
    const auto settled = settle(wanted, parent ? &*parent : nullptr);
    REQUIRE_OK(settled);
    auto file = NewFile::begin(*loop_, path(name), false);
    REQUIRE_OK(file);
    auto writer = make_writer((*file)->file(), *settled, parent ? &*parent : nullptr);
    REQUIRE_OK(writer);
    if (fill != 0) {
      const std::vector<std::byte> bytes((*writer)->block_size_bytes(), std::byte{fill});
      const auto file_offset = (*writer)->place(disk_offset, bytes.size());
      REQUIRE_OK(file_offset);
      REQUIRE_OK(loop_->run((*file)->file().write(*file_offset, bytes)));
    }
    REQUIRE_OK(loop_->run((*writer)->finish()));
    REQUIRE_OK(loop_->run((*file)->commit()));
  }

  Result<std::unique_ptr<Image>> open(const std::string& name, const OpenOptions& options = {}) {
    return loop_->run(Image::open(*loop_, path(name), options));
  }

  // The link with which the chain ends.
  ChainLink last_link(const std::string& name, const OpenOptions& options = {}) {
    auto image = loop_->run(Image::inspect(*loop_, path(name), options));
    REQUIRE_OK(image);
    return (*image)->links().back();
  }

  uint8_t byte_at(Image& image, uint64_t disk_offset) {
    std::vector<std::byte> sector(512);
    REQUIRE_OK(loop_->run(image.disk().read(disk_offset, sector)));
    return std::to_integer<uint8_t>(sector[0]);
  }

  // The usual chain: a base with a block of 1 at 0, a child with a block of 2 at 2 MiB.
  void make_pair() {
    make("base", options(id_a), 0, 1);
    make("child", child_options("base", id_b), 2 * MiB, 2);
  }
  void check_pair(Image& image) {
    CHECK(image.links().size() == 2);
    CHECK(byte_at(image, 0) == 1);
    CHECK(byte_at(image, 2 * MiB) == 2);
    CHECK(image.warnings().empty());
  }

  async::Loop& loop() { return *loop_; }
  const Format format_;

 private:
  tests::TemporaryFolder folder_;
  std::unique_ptr<async::Loop> loop_ = std::move(*async::Loop::create());
};

std::string content_of(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

constexpr Format formats[] = {Format::vhd, Format::vhdx};

TEST_CASE("a child finds its parent by the relative path, and neither file changes") {
  for (const Format format : formats) {
    Place place(format);
    place.make_pair();
    const std::string base = content_of(place.path("base"));
    const std::string child = content_of(place.path("child"));
    {
      auto image = place.open("child");
      REQUIRE_OK(image);
      place.check_pair(**image);
      CHECK((*image)->links()[1].tried == std::vector{place.path("base")});
      CHECK((*image)->contains_file(place.path("base")));
      CHECK_FALSE((*image)->contains_file(place.path("absent")));
    }
    CHECK(content_of(place.path("base")) == base);
    CHECK(content_of(place.path("child")) == child);
  }
}

TEST_CASE("a moved chain is found: other folders, one folder, a linked child") {
  for (const Format format : formats) {
    Place place(format);
    fs::create_directories(place.path("one/two"));
    fs::create_directories(place.path("bases"));
    place.make("bases/base", place.options(id_a), 0, 1);
    place.make("one/two/child", place.child_options("bases/base", id_b), 2 * MiB, 2);
    fs::rename(place.path("one"), place.path("three"));
    auto same_shape = place.open("three/two/child");
    REQUIRE_OK(same_shape);
    place.check_pair(**same_shape);

    fs::create_symlink("three/two/child", place.path("link"));
    auto through_link = place.open("link");
    REQUIRE_OK(through_link);
    place.check_pair(**through_link);

    fs::rename(place.path("bases/base"), place.path("three/two/base"));
    auto one_folder = place.open("three/two/child");
    REQUIRE_OK(one_folder);
    place.check_pair(**one_folder);
  }
}

TEST_CASE("a Windows path is found through a mapping, and no other way") {
  for (const Format format : formats) {
    Place place(format);
    place.make("base", place.options(id_a), 0, 1);
    CreateOptions child = place.child_options("base", id_b);
    child.windows_parent_path = R"(D:\VMs\Bases\renamed.disk)";
    place.make("child", child, 2 * MiB, 2);
    fs::create_directory(place.path("elsewhere"));
    fs::rename(place.path("base"), place.path("elsewhere/renamed.disk"));
    REQUIRE_FAILS(Errc::not_found, R"(D:\VMs\Bases\renamed.disk)", place.open("child"));
    const OpenOptions mapped{.path_mappings = {{R"(d:\vms\bases)", place.path("elsewhere")}}};
    auto image = place.open("child", mapped);
    REQUIRE_OK(image);
    place.check_pair(**image);
  }
}

TEST_CASE("--parent is taken at its word, but must prove itself") {
  for (const Format format : formats) {
    Place place(format);
    place.make_pair();
    place.make("stranger", place.options(id_b));
    fs::create_directory(place.path("elsewhere"));
    fs::rename(place.path("base"), place.path("elsewhere/other"));
    OpenOptions options{.parent_path = place.path("elsewhere/other")};
    auto image = place.open("child", options);
    REQUIRE_OK(image);
    place.check_pair(**image);

    options.parent_path = place.path("stranger");
    REQUIRE_FAILS(Errc::wrong_parent, "/child: its parent: ", place.open("child", options));
    REQUIRE_FAILS(Errc::wrong_parent, id_a.to_string(), place.open("child", options));
    options.parent_path = place.path("absent");
    REQUIRE_FAILS(Errc::not_found, "/absent", place.open("child", options));
    options.parent_path = place.path("elsewhere/other");
    REQUIRE_FAILS(Errc::invalid_argument, "has no parent", place.open("stranger", options));
  }
}

TEST_CASE("the parent's own parent is taken at its word too, and must prove itself") {
  const Guid id_c = Guid::literal("cccccccc-0000-4000-8000-000000000003");
  for (const Format format : formats) {
    Place place(format);
    place.make_pair();
    place.make("grandchild", place.child_options("child", id_c));
    place.make("stranger", place.options(id_b));
    fs::create_directory(place.path("elsewhere"));
    fs::rename(place.path("base"), place.path("elsewhere/other"));
    OpenOptions options;
    REQUIRE_FAILS(Errc::not_found, "its parent was not found", place.open("grandchild", options));
    options.grandparent_path = place.path("elsewhere/other");
    const auto image = place.open("grandchild", options);
    REQUIRE_OK(image);
    CHECK((*image)->links().size() == 3);
    CHECK(place.byte_at(**image, 0) == 1);
    CHECK(place.byte_at(**image, 2 * MiB) == 2);

    options.grandparent_path = place.path("stranger");
    REQUIRE_FAILS(Errc::wrong_parent, "/child: its parent: ", place.open("grandchild", options));
    options.parent_path = place.path("elsewhere/other");
    REQUIRE_FAILS(Errc::invalid_argument, "/other: has no parent, but",
                  place.open("child", options));
  }
}

TEST_CASE("what lies where the parent should be and is not it") {
  struct Case {
    const char* name;
    std::function<void(const std::string& path)> put;
    LinkVerdict verdict;
    Errc code;
  };
  const Case cases[] = {
      {"nothing", [](const std::string&) {}, LinkVerdict::missing, Errc::not_found},
      {"a directory", [](const std::string& path) { fs::create_directory(path); },
       LinkVerdict::unreadable, Errc::unsupported},
      {"a FIFO", [](const std::string& path) { REQUIRE(mkfifo(path.c_str(), 0600) == 0); },
       LinkVerdict::unreadable, Errc::unsupported},
      {"a device", [](const std::string& path) { fs::create_symlink("/dev/zero", path); },
       LinkVerdict::unreadable, Errc::unsupported},
      {"a link to nowhere", [](const std::string& path) { fs::create_symlink("nowhere", path); },
       LinkVerdict::missing, Errc::not_found},
      {"a link to itself", [](const std::string& path) { fs::create_symlink("base", path); },
       LinkVerdict::unreadable, Errc::io},
      {"text", [](const std::string& path) { std::ofstream(path) << "root:x:0:0"; },
       LinkVerdict::wrong_identity, Errc::wrong_parent},
      {"what may unpack to anything",
       [](const std::string& path) { std::ofstream(path) << "\x1f\x8b\x08"; },
       LinkVerdict::unreadable, Errc::unsupported},
      {"a damaged VHDX", [](const std::string& path) { std::ofstream(path) << "vhdxfile"; },
       LinkVerdict::unreadable, Errc::corrupt},
  };
  for (const Format format : formats) {
    for (const Case& test : cases) {
      CAPTURE(format_name(format));
      CAPTURE(test.name);
      Place place(format);
      place.make_pair();
      fs::remove(place.path("base"));
      test.put(place.path("base"));
      REQUIRE_FAILS(test.code, "/child: its parent", place.open("child"));
      const ChainLink link = place.last_link("child");
      CHECK(link.verdict == test.verdict);
      CHECK(link.path == place.path("base"));
      CHECK(link.tried == std::vector{place.path("base")});
      CHECK(link.message.find("/base") != std::string::npos);
    }
  }
}

TEST_CASE("a wrong file in the best place does not hide the right one in the next") {
  for (const Format format : formats) {
    Place place(format);
    fs::create_directory(place.path("bases"));
    place.make("bases/base", place.options(id_a), 0, 1);
    place.make("child", place.child_options("bases/base", id_b), 2 * MiB, 2);
    fs::rename(place.path("bases/base"), place.path("base"));
    std::ofstream(place.path("bases/base")) << "another file";
    auto image = place.open("child");
    REQUIRE_OK(image);
    place.check_pair(**image);
    CHECK((*image)->links()[1].tried == std::vector{place.path("bases/base"), place.path("base")});
  }
}

TEST_CASE("a locator that leads out of the folder opens nothing that is not the parent") {
  for (const Format format : formats) {
    for (const char* relative : {R"(..\..\..\..\..\..\..\etc\shadow)", R"(\etc\shadow)",
                                 R"(\\?\..\..\etc\shadow)", "/etc/passwd"}) {
      CAPTURE(relative);
      Place place(format);
      place.make("base", place.options(id_a));
      place.make("child", place.child_options("base", id_b), 0, 0,
                 [relative](ParentForCreation& parent) { parent.relative_path = relative; });
      fs::remove(place.path("base"));
      const auto image = place.open("child");
      REQUIRE_FALSE(image.has_value());
      const bool is_expected = image.error().code == Errc::wrong_parent ||
                               image.error().code == Errc::not_found ||
                               image.error().code == Errc::permission;
      CHECK_MESSAGE(is_expected, image.error().message);
    }
  }
}

TEST_CASE("a child that names itself, and two that name each other") {
  for (const Format format : formats) {
    Place place(format);
    place.make("base", place.options(id_a));
    place.make("self", place.child_options("base", id_a));
    fs::rename(place.path("self"), place.path("base"));
    REQUIRE_FAILS(Errc::corrupt, "is in the chain already", place.open("base"));
    CHECK(place.last_link("base").verdict == LinkVerdict::cycle);

    place.make("a", place.options(id_a));
    place.make("b", place.child_options("a", id_b));
    place.make("c", place.child_options("b", id_a));
    fs::rename(place.path("c"), place.path("a"));
    REQUIRE_FAILS(Errc::corrupt, "/b: its parent: " + place.path("a"), place.open("a"));
    CHECK(place.last_link("a").verdict == LinkVerdict::cycle);
    fs::create_symlink("a", place.path("another-name"));
    CHECK(place.last_link("another-name").verdict == LinkVerdict::cycle);

    // The chain's own lock is nobody else's.
    const OpenOptions writable{.writable = true};
    REQUIRE_FAILS(Errc::corrupt, "is in the chain already", place.open("base", writable));
    REQUIRE_FAILS(Errc::corrupt, "is in the chain already", place.open("a", writable));
  }
}

TEST_CASE("a lost parent with its child's name is no cycle") {
  for (const Format format : formats) {
    Place place(format);
    fs::create_directory(place.path("bases"));
    place.make("bases/disk", place.options(id_a));
    place.make("disk", place.child_options("bases/disk", id_b));
    fs::remove(place.path("bases/disk"));
    CHECK(place.last_link("disk").verdict == LinkVerdict::wrong_identity);
    const OpenOptions writable{.writable = true};
    CHECK(place.last_link("disk", writable).verdict == LinkVerdict::wrong_identity);
  }
}

TEST_CASE("a child may be larger than its parent and reads zeroes beyond it") {
  for (const Format format : formats) {
    Place place(format);
    place.make("base", place.options(id_a), 2 * MiB, 1);
    CreateOptions child = place.child_options("base", id_b);
    child.size_bytes = 2 * disk_bytes;
    place.make("child", child);
    auto image = place.open("child");
    REQUIRE_OK(image);
    CHECK((*image)->disk().geometry().size_bytes == 2 * disk_bytes);
    CHECK(place.byte_at(**image, 2 * MiB) == 1);
    CHECK(place.byte_at(**image, disk_bytes) == 0);
  }
}

TEST_CASE("a parent's other time stamp is a warning that says how much") {
  Place place(Format::vhd);
  place.make("base", place.options(id_a));
  place.make("child", place.child_options("base", id_b), 0, 0,
             [](ParentForCreation& parent) { parent.time_stamp -= 3600; });
  auto image = place.open("child");
  REQUIRE_OK(image);
  REQUIRE((*image)->warnings().size() == 1);
  CHECK((*image)->warnings()[0].find("/child: its parent's time stamp is 3600 seconds later") !=
        std::string::npos);
}

TEST_CASE("a parent with other logical sectors is none") {
  Place place(Format::vhdx);
  CreateOptions base = place.options(id_a);
  base.logical_sector_bytes = 4096;
  place.make("base", base);
  place.make("child", place.child_options("base", id_b), 0, 0,
             [](ParentForCreation& parent) { parent.logical_sector_bytes = 512; });
  REQUIRE_FAILS(Errc::corrupt, "logical sectors of 4096 bytes, and the child of 512",
                place.open("child"));
}

// What else a loop has to do: it lets the lock go, in the end.
Async<void> release_later(async::Loop& loop, tests::UnseenLock& lock) {
  for (int i = 0; i < 5; ++i) co_await loop.sleep(std::chrono::milliseconds(10));
  lock.release();
  co_return Result<void>();
}

Async<void> open_beside(async::Loop& loop, std::string path, tests::UnseenLock& lock) {
  async::TaskGroup group;
  group.start(release_later(loop, lock));
  const OpenOptions options;
  const auto image = co_await Image::open(loop, path, options);
  CO_TRY(co_await group.finish());
  if (!image) co_return std::unexpected(image.error());
  co_return Result<void>();
}

TEST_CASE("a locked image keeps nothing else on its loop waiting") {
  Place place(Format::vhdx);
  place.make_pair();
  if (place.loop().engine() != async::Engine::io_uring) {
    tests::skip("there is no io_uring, and everything waits for everything");
    return;
  }
  for (const char* locked : {"child", "base"}) {
    CAPTURE(locked);
    tests::UnseenLock lock(place.path(locked));
    REQUIRE_OK(place.loop().run(open_beside(place.loop(), place.path("child"), lock)));
  }
}

TEST_CASE("a chain that is not asked for is not looked for") {
  for (const Format format : formats) {
    Place place(format);
    place.make_pair();
    fs::remove(place.path("base"));
    const OpenOptions shallow{.open_parents = false};
    auto image = place.open("child", shallow);
    REQUIRE_OK(image);
    CHECK((*image)->links().size() == 1);
    CHECK(place.byte_at(**image, 2 * MiB) == 2);
    CHECK(place.byte_at(**image, 0) == 0);
  }
}

TEST_CASE("bug class 27: a thousand and twenty-four images are a chain, one more is none") {
  for (const Format format : formats) {
    CAPTURE(format_name(format));
    Place place(format);
    place.make("0", place.options(id_a), 0, 7);
    for (size_t i = 1; i <= max_chain_length; ++i)
      place.make(std::to_string(i), place.child_options(std::to_string(i - 1), Guid::random()));
    auto image = place.open(std::to_string(max_chain_length - 1));
    REQUIRE_OK(image);
    CHECK((*image)->links().size() == max_chain_length);
    CHECK(place.byte_at(**image, 0) == 7);
    image->reset();
    REQUIRE_FAILS(Errc::unsupported, "1024 images long already",
                  place.open(std::to_string(max_chain_length)));
    CHECK(place.last_link(std::to_string(max_chain_length)).verdict == LinkVerdict::too_deep);
  }
}

}  // namespace
}  // namespace vhdkit::image
