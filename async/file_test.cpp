#include "async/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "async/memory_file.h"
#include "async/task_group.h"
#include "support/bytes.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/programs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/unseen_lock.h"

namespace vhdkit::async {
namespace {

std::vector<std::byte> pattern(size_t size, uint8_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(uint8_t(i * 7 + i / 251 + seed));
  return bytes;
}

Result<std::unique_ptr<SystemFile>> new_file(Loop& loop, const std::string& path) {
  std::ofstream(path).flush();
  return SystemFile::open(loop, path, SystemFile::Access::read_write);
}

Async<void> write_pieces(File& file, uint64_t piece_count) {
  TaskGroup group;
  std::vector<std::vector<std::byte>> pieces;
  for (uint64_t i = 0; i < piece_count; ++i) pieces.push_back(pattern(1000, uint8_t(i)));
  for (uint64_t i = 0; i < piece_count; ++i) {
    const std::span<const std::byte> piece(pieces[i]);
    group.start(file.write(i * 1000, piece));
  }
  co_return co_await group.finish();
}

void check_pieces(Loop& loop, File& file, uint64_t piece_count) {
  std::vector<std::byte> got(1000);
  for (uint64_t i = 0; i < piece_count; ++i) {
    REQUIRE_OK(loop.run(file.read(i * 1000, got)));
    CHECK(got == pattern(1000, uint8_t(i)));
  }
}

TEST_CASE("many transfers at once, more than the loop has slots, on every engine") {
  const tests::TemporaryFolder folder;
  for (const Engine engine : {Engine::automatic, Engine::synchronous}) {
    auto loop = Loop::create({.engine = engine, .slot_count = 4});
    REQUIRE_OK(loop);
    const std::string path = folder.path(engine == Engine::automatic ? "ring" : "sync");
    auto file = new_file(**loop, path);
    REQUIRE(file.has_value());
    REQUIRE_OK((*loop)->run(write_pieces(**file, 50)));
    CHECK((*file)->size_bytes() == 50'000);
    check_pieces(**loop, **file, 50);
    REQUIRE_OK((*loop)->run((*file)->flush()));
  }
}

TEST_CASE("scatter and gather move every vector, empty ones too") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  auto file = new_file(**loop, folder.path("file"));
  REQUIRE(file.has_value());
  auto bytes = pattern(5000, 1);
  std::vector<iovec> vectors;
  for (size_t at = 0; at < bytes.size(); at += 2)
    vectors.push_back({bytes.data() + at, 2});  // > IOV_MAX
  vectors.insert(vectors.begin() + 7, iovec{nullptr, 0});
  REQUIRE_OK((*loop)->run((*file)->writev(10, vectors, Durability::durable)));
  std::vector<std::byte> got(5000);
  REQUIRE_OK((*loop)->run((*file)->read(10, got)));
  CHECK(got == bytes);
}

TEST_CASE("reading past the end is out of range, on system and memory files") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  auto system = new_file(**loop, folder.path("file"));
  REQUIRE(system.has_value());
  MemoryFile memory("memory");
  std::vector<std::byte> buffer(10);
  for (File* file : {static_cast<File*>(system->get()), static_cast<File*>(&memory)}) {
    REQUIRE_OK((*loop)->run(file->write(0, pattern(5, 0))));
    REQUIRE_FAILS(Errc::out_of_range, "ends before", (*loop)->run(file->read(0, buffer)));
  }
}

TEST_CASE("files that are none are refused without waiting for them") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string fifo = folder.path("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  REQUIRE_FAILS(Errc::unsupported, "not a regular file",
                SystemFile::open(**loop, fifo, SystemFile::Access::read_only));
  REQUIRE_FAILS(Errc::unsupported, "not a regular file",
                SystemFile::open(**loop, folder.path(""), SystemFile::Access::read_only));
  REQUIRE_FAILS(Errc::not_found, "No such file",
                SystemFile::open(**loop, folder.path("none"), SystemFile::Access::read_only));
}

// Of every descriptor of this process that leads to the file.
std::vector<int> flags_of_descriptors(const std::string& path) {
  std::vector<int> found;
  for (int descriptor = 0; descriptor < 1024; ++descriptor) {
    std::error_code error;
    const auto target =
        std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor), error);
    if (!error && target == path) found.push_back(fcntl(descriptor, F_GETFL));
  }
  return found;
}

TEST_CASE("whoever opened a file waits for its transfers") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = std::filesystem::canonical(folder.path("")) / "file";
  std::ofstream(path) << "abcdef";
  for (const auto access : {SystemFile::Access::read_only, SystemFile::Access::read_write}) {
    for (const auto caching : {SystemFile::Caching::cached, SystemFile::Caching::direct}) {
      const auto file = SystemFile::open(**loop, path, access, {.caching = caching});
      if (!file && caching == SystemFile::Caching::direct) {
        tests::skip("the file system of TMPDIR has no transfers past the cache");
        continue;
      }
      REQUIRE_OK(file);
      const std::vector<int> all = flags_of_descriptors(path);
      CHECK(all.size() == (caching == SystemFile::Caching::direct ? 2 : 1));
      for (const int flags : all) {
        CHECK((flags & O_NONBLOCK) == 0);
        CHECK((flags & O_ACCMODE) == (access == SystemFile::Access::read_only ? O_RDONLY : O_RDWR));
      }
      CHECK(std::count_if(all.begin(), all.end(), [](int flags) {
              return (flags & O_DIRECT) != 0;
            }) == (caching == SystemFile::Caching::direct ? 1 : 0));
    }
  }
}

// Tells everybody to come again, a hundred times.
class BusyLoop final : public Loop {
 public:
  Engine engine() const override { return Engine::synchronous; }

 private:
  bool submit(Operation& operation) noexcept override {
    operation.result = ++count_ <= 100 ? -EAGAIN : -EIO;
    return false;
  }
  void wait() override { REQUIRE(false); }
  void look() override {}

  int count_ = 0;
};

TEST_CASE("a transfer that cannot be done now fails, and is not tried for ever") {
  const tests::TemporaryFolder folder;
  BusyLoop loop;
  std::ofstream(folder.path("file")) << "abcdef";
  auto file = SystemFile::open(loop, folder.path("file"), SystemFile::Access::read_write);
  REQUIRE_OK(file);
  std::vector<std::byte> bytes(6);
  const auto fails_once = [](const Result<void>& result) {
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().os_error == EAGAIN);
  };
  fails_once(loop.run((*file)->read(0, bytes)));
  fails_once(loop.run((*file)->write(0, bytes)));
  fails_once(loop.run((*file)->flush()));
}

TEST_CASE("a file opened for writing is changed in place and never made") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  REQUIRE_FAILS(Errc::not_found, "No such file",
                SystemFile::open(**loop, folder.path("file"), SystemFile::Access::read_write));
  std::ofstream(folder.path("file")) << "abcdef";
  auto file = SystemFile::open(**loop, folder.path("file"), SystemFile::Access::read_write);
  REQUIRE_OK(file);
  CHECK((*file)->size_bytes() == 6);
  const std::byte letter[] = {std::byte{'X'}};
  REQUIRE_OK((*loop)->run((*file)->write(2, letter)));
  std::string text;
  std::ifstream(folder.path("file")) >> text;
  CHECK(text == "abXdef");
}

TEST_CASE("two writers never meet: the second is told who the first is") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = folder.path("file");
  std::ofstream(path) << "abcdef";
  const std::string us = "file: in use by process " + std::to_string(getpid()) + " (async_test)";
  {
    auto first = SystemFile::open(**loop, path, SystemFile::Access::read_write);
    REQUIRE_OK(first);
    REQUIRE_FAILS(Errc::busy, us, SystemFile::open(**loop, path, SystemFile::Access::read_write));
    REQUIRE_FAILS(Errc::busy, us, SystemFile::open(**loop, path, SystemFile::Access::read_only));
    REQUIRE_OK(SystemFile::open(**loop, path, SystemFile::Access::read_only,
                                {.locking = SystemFile::Locking::none}));
  }
  REQUIRE_OK(SystemFile::open(**loop, path, SystemFile::Access::read_write));
}

TEST_CASE("transfers past the cache take any place, any length and any buffer") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = folder.path("file");
  const std::vector<std::byte> content = pattern(1 << 20, 3);
  {
    auto file = new_file(**loop, path);
    REQUIRE_OK(file);
    REQUIRE_OK((*loop)->run((*file)->write(0, content)));
  }
  auto file = SystemFile::open(**loop, path, SystemFile::Access::read_write,
                               {.caching = SystemFile::Caching::direct});
  if (!file && file.error().code == Errc::unsupported) {
    tests::skip("the file system of TMPDIR has none");
    return;
  }
  REQUIRE_OK(file);
  std::vector<std::byte> expected = content;
  std::vector<std::byte> buffer(800'000);
  uint8_t seed = 0;
  for (const size_t place : {size_t{0}, size_t{4096}, size_t{100}, size_t{512}, size_t{70'000}}) {
    for (const size_t length :
         {size_t{4096}, size_t{1}, size_t{8192}, size_t{5000}, size_t{700 * 1024}}) {
      for (const size_t skew : {size_t{0}, size_t{1}, size_t{512}}) {
        const std::vector<std::byte> bytes = pattern(length, ++seed);
        const std::span<std::byte> part = std::span(buffer).subspan(skew, length);
        std::ranges::copy(bytes, part.begin());
        // Two vectors, cut anywhere.
        const iovec vectors[2] = {{part.data(), length / 3},
                                  {part.data() + length / 3, length - length / 3}};
        REQUIRE_OK((*loop)->run((*file)->writev(place, vectors, Durability::cached)));
        std::ranges::copy(bytes, expected.begin() + ptrdiff_t(place));
        std::ranges::fill(part, std::byte{0});
        REQUIRE_OK((*loop)->run((*file)->readv(place, vectors)));
        CHECK(std::ranges::equal(part, bytes));
      }
    }
  }
  std::vector<std::byte> all(content.size());
  REQUIRE_OK((*loop)->run((*file)->read(0, all)));
  CHECK(all == expected);
}

TEST_CASE("readers share a file and keep a writer out") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = folder.path("file");
  std::ofstream(path) << "abcdef";
  {
    auto first = SystemFile::open(**loop, path, SystemFile::Access::read_only);
    REQUIRE_OK(first);
    REQUIRE_OK(SystemFile::open(**loop, path, SystemFile::Access::read_only));
    REQUIRE_FAILS(Errc::busy, "in use by process",
                  SystemFile::open(**loop, path, SystemFile::Access::read_write));
  }
  REQUIRE_OK(SystemFile::open(**loop, path, SystemFile::Access::read_write));
}

TEST_CASE("who replaces a file has it alone, without writing it") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = folder.path("file");
  std::ofstream(path) << "abcdef";
  const SystemFile::Options alone{.locking = SystemFile::Locking::alone};
  for (const auto access : {SystemFile::Access::read_write, SystemFile::Access::read_only}) {
    const auto other = SystemFile::open(**loop, path, access);
    REQUIRE_OK(other);
    REQUIRE_FAILS(Errc::busy, "in use by process",
                  SystemFile::open(**loop, path, SystemFile::Access::read_only, alone));
  }
  const auto file = SystemFile::open(**loop, path, SystemFile::Access::read_only, alone);
  REQUIRE_OK(file);
  REQUIRE_FAILS(Errc::busy, "in use by process",
                SystemFile::open(**loop, path, SystemFile::Access::read_only));
}

// What else a loop has to do.
Async<void> tick(Loop& loop, const bool& ends, int& count, const std::function<void()>& at_fifth) {
  while (!ends) {
    if (count++ == 5) at_fifth();
    co_await loop.sleep(std::chrono::milliseconds(10));
  }
  co_return Result<void>();
}

struct OpenedBeside {
  Result<void> opened;
  int ticks = 0;
};

Task<OpenedBeside> open_beside(Loop& loop, std::string path, std::function<void()> at_fifth) {
  OpenedBeside outcome;
  TaskGroup group;
  bool ends = false;
  group.start(tick(loop, ends, outcome.ticks, at_fifth));
  const SystemFile::Options options;
  const auto file =
      co_await SystemFile::open_async(loop, path, SystemFile::Access::read_write, options);
  if (!file) outcome.opened = std::unexpected(file.error());
  ends = true;
  (void)co_await group.finish();
  co_return outcome;
}

bool is_asynchronous(Loop& loop) {
  if (loop.engine() == Engine::io_uring) return true;
  tests::skip("there is no io_uring, and everything waits for everything");
  return false;
}

TEST_CASE("a holder whom nobody sees is waited for, and the loop goes on") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  if (!is_asynchronous(**loop)) return;
  const std::string path = folder.path("file");
  std::ofstream(path) << "abcdef";
  tests::UnseenLock lock(path);
  SUBCASE("for three seconds") {
    const OpenedBeside outcome = (*loop)->run(open_beside(**loop, path, [] {}));
    REQUIRE_FAILS(Errc::busy, "file: in use by another process", outcome.opened);
    CHECK(outcome.ticks >= 100);
  }
  SUBCASE("until it is gone") {
    const auto release = [&lock] { lock.release(); };
    const OpenedBeside outcome = (*loop)->run(open_beside(**loop, path, release));
    REQUIRE_OK(outcome.opened);
    CHECK(outcome.ticks >= 5);
  }
  SUBCASE("but not for the file that it puts there") {
    const auto replace = [&folder, &lock, &path] {
      std::ofstream(folder.path("other")) << "abcdef";
      std::filesystem::rename(folder.path("other"), path);
      lock.release();
    };
    const OpenedBeside outcome = (*loop)->run(open_beside(**loop, path, replace));
    REQUIRE_FAILS(Errc::busy, "file: was replaced by another file", outcome.opened);
  }
}

// As io_uring has it for a while after its last request.
TEST_CASE("a file that was closed is free, whoever still has its description") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = folder.path("file");
  std::ofstream(path) << "abcdef";
  for (const auto access : {SystemFile::Access::read_write, SystemFile::Access::read_only}) {
    auto first = SystemFile::open(**loop, path, access);
    REQUIRE_OK(first);
    const int same = fcntl((*first)->descriptor(0, 0), F_DUPFD_CLOEXEC, 0);
    first->reset();
    REQUIRE_OK(SystemFile::open(**loop, path, SystemFile::Access::read_write));
    close(same);
  }
}

TEST_CASE("a lock of a process on any byte keeps a writer out") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  const std::string path = folder.path("file");
  std::ofstream(path) << "abcdef";
  // This process's own lock of the older kind, which belongs to no description.
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
  REQUIRE(fcntl(descriptor, F_SETLK, &lock) == 0);
  REQUIRE_FAILS(Errc::busy, "in use by process " + std::to_string(getpid()),
                SystemFile::open(**loop, path, SystemFile::Access::read_write));
  close(descriptor);
  REQUIRE_OK(SystemFile::open(**loop, path, SystemFile::Access::read_write));
}

TEST_CASE("holes are found, made and cut, on system and memory files") {
  const tests::TemporaryFolder folder;
  auto loop = Loop::create();
  auto system = new_file(**loop, folder.path("file"));
  REQUIRE(system.has_value());
  MemoryFile memory("memory");
  for (File* file : {static_cast<File*>(system->get()), static_cast<File*>(&memory)}) {
    REQUIRE_OK((*loop)->run(file->write(64 * KiB, pattern(8 * KiB, 1))));
    REQUIRE_OK(file->resize(1 * MiB));
    auto data = file->next_data(0, file->size_bytes());
    REQUIRE_OK(data);
    REQUIRE(data->has_value());
    CHECK((*data)->file_offset == 64 * KiB);
    CHECK((*data)->length == 8 * KiB);
    CHECK_FALSE(file->next_data(72 * KiB, 1 * MiB)->has_value());
    REQUIRE_OK(file->punch_hole(64 * KiB, 4 * KiB));
    CHECK((*file->next_data(0, 1 * MiB))->file_offset == 68 * KiB);
    REQUIRE_OK(file->resize(70 * KiB));
    REQUIRE_OK(file->resize(1 * MiB));
    std::vector<std::byte> tail(4 * KiB);
    REQUIRE_OK((*loop)->run(file->read(70 * KiB, tail)));
    CHECK(is_zero(tail));
  }
}

}  // namespace
}  // namespace vhdkit::async
