// Dirty logs, Hyper-V's own and others, replayed here and by QEMU.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/replay.h"
#include "vhdx/replayed_file.h"
#include "vhdx/test_log.h"

namespace vhdkit::vhdx {
namespace {

using async::SystemFile;
using tests::TemporaryFolder;

void skip(const std::string& reason) {
  std::printf("skipped: %s: %s\n", doctest::getContextOptions()->currentTest->m_name,
              reason.c_str());
}

bool run(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

constexpr const char* sample = "iotest-dirtylog-10G-4M.vhdx.bz2";

// The unpacked sample; empty where it is not on this machine.
std::string unpacked_sample(const TemporaryFolder& folder) {
  const char* samples = std::getenv("VHDKIT_SAMPLES");
  const std::string packed = std::string(samples ? samples : "../shared/samples") + "/" + sample;
  const std::string path = folder.path("sample.vhdx");
  return run("bzip2 -dc '" + packed + "' > " + path) ? path : "";
}

std::vector<std::byte> bytes_at(async::Loop& loop, File& file, uint64_t file_offset,
                                uint64_t length) {
  std::vector<std::byte> bytes(length);
  REQUIRE_OK(loop.run(file.read(file_offset, bytes)));
  return bytes;
}

std::unique_ptr<SystemFile> opened(async::Loop& loop, const std::string& path) {
  auto file = SystemFile::open(loop, path, SystemFile::Access::read_only);
  REQUIRE_OK(file);
  return std::move(*file);
}

// Region tables, and everything behind the log.
void check_same(async::Loop& loop, File& a, File& b) {
  REQUIRE(a.size_bytes() == b.size_bytes());
  CHECK(bytes_at(loop, a, 192 * KiB, 128 * KiB) == bytes_at(loop, b, 192 * KiB, 128 * KiB));
  const uint64_t behind_log = a.size_bytes() - 2 * MiB;
  CHECK(bytes_at(loop, a, 2 * MiB, behind_log) == bytes_at(loop, b, 2 * MiB, behind_log));
}

// Figures: the samples' README.
TEST_CASE("the log of Hyper-V's dirty image has one valid entry, at 0xc000") {
  const TemporaryFolder folder;
  const std::string path = unpacked_sample(folder);
  if (path.empty()) return skip(std::string("no sample ") + sample + " (VHDKIT_SAMPLES)");
  auto loop = async::Loop::create();
  const auto file = opened(**loop, path);
  const auto headers = (*loop)->run(read_headers(*file));
  REQUIRE_OK(headers);
  const auto content = (*loop)->run(read_log(*file, headers->current));
  REQUIRE_OK(content);
  REQUIRE(content->entries.size() == 1);
  CHECK(content->entries[0].log_offset == 0xc000);
  CHECK(content->active == std::vector<size_t>{0});
  // The six before it are of earlier sessions.
  REQUIRE(content->fragments.size() == 6);
  for (const LogFragment& fragment : content->fragments)
    CHECK(fragment.damage.find("another log's") != std::string::npos);
}

TEST_CASE("bug class 1: Hyper-V's dirty image becomes the file that QEMU makes of it") {
  const TemporaryFolder folder;
  const std::string path = unpacked_sample(folder);
  if (path.empty()) return skip(std::string("no sample ") + sample + " (VHDKIT_SAMPLES)");
  const std::string by_qemu = folder.path("by-qemu.vhdx");
  std::filesystem::copy_file(path, by_qemu);
  if (!run("qemu-img check -r all " + by_qemu)) return skip("no qemu-img");
  auto loop = async::Loop::create();
  const auto expected = opened(**loop, by_qemu);

  auto before = opened(**loop, path);
  const auto headers = (*loop)->run(read_headers(*before));
  REQUIRE_OK(headers);
  auto replayed = (*loop)->run(replay_in_memory(std::move(before), headers->current));
  REQUIRE_OK(replayed);
  check_same(**loop, **replayed, *expected);

  const std::string here = folder.path("here.vhdx");
  std::filesystem::copy_file(path, here);
  {
    auto file = SystemFile::open(**loop, here, SystemFile::Access::read_write);
    REQUIRE_OK(file);
    REQUIRE_OK((*loop)->run(replay_on_disk(**file)));
    check_same(**loop, **file, *expected);
  }
  CHECK(run("qemu-img check " + here));
  CHECK(run("qemu-img compare " + here + " " + by_qemu));
}

// An image whose log holds entries of data and zeroes, the later upon the earlier: from tail on,
// bytes from the log's start.
void write_dirty_image(async::Loop& loop, const std::string& path, unsigned entry_count,
                       uint32_t tail, unsigned seed) {
  std::mt19937 random(seed);
  tests::VhdxImage image;
  image.header.log_guid = testing::log_guid;
  image.entries = {{0, make_bat_entry(BlockState::fully_present, 4 * MiB)},
                   {1, make_bat_entry(BlockState::fully_present, 5 * MiB)}};
  image.file_bytes = 8 * MiB;
  auto memory = image.build();
  memory->store(4 * MiB, std::vector<std::byte>(64 * KiB, std::byte{0x66}));
  uint64_t at = tail;
  for (uint64_t number = 100; number < 100 + entry_count; ++number) {
    testing::TestEntry entry{.sequence_number = number, .tail = tail};
    for (unsigned i = 0; i < 12; ++i) {
      const uint64_t place = 4 * MiB + random() % 32 * 4 * KiB;
      if (random() % 3 == 0)
        entry.zero(place, (1 + random() % 8) * 4 * KiB);
      else
        entry.data(place, testing::sector_of(unsigned(random())));
    }
    const auto bytes = entry.bytes();
    for (size_t part = 0; part < bytes.size(); part += 4096, at = (at + 4096) % (1 * MiB))
      memory->store(1 * MiB + at, std::span(bytes).subspan(part).first(4096));
  }
  std::ofstream(path).flush();
  auto file = SystemFile::open(loop, path, SystemFile::Access::read_write);
  REQUIRE_OK(file);
  REQUIRE_OK(loop.run((*file)->write(0, bytes_at(loop, *memory, 0, memory->size_bytes()))));
}

TEST_CASE("bug class 24: sequences of data and zeroes become the files that QEMU makes of them") {
  auto loop = async::Loop::create();
  struct Case {
    unsigned entry_count;
    uint32_t tail;
  };
  // QEMU keeps only the part behind offset 0 of a sequence that wraps around the log's end there,
  // so of those that wrap only one of a single entry can be compared.
  const Case cases[] = {{6, 0}, {10, 0x40000}, {1, 0xfe000}, {1, 0xff000}};
  for (unsigned seed = 0; seed < 4; ++seed) {
    const TemporaryFolder folder;
    const std::string here = folder.path("here.vhdx");
    const std::string by_qemu = folder.path("by-qemu.vhdx");
    write_dirty_image(**loop, here, cases[seed].entry_count, cases[seed].tail, seed);
    std::filesystem::copy_file(here, by_qemu);
    if (!run("qemu-img check -r all " + by_qemu)) return skip("no qemu-img");
    const auto expected = opened(**loop, by_qemu);
    auto file = SystemFile::open(**loop, here, SystemFile::Access::read_write);
    REQUIRE_OK(file);
    REQUIRE_OK((*loop)->run(replay_on_disk(**file)));
    check_same(**loop, **file, *expected);
  }
}

}  // namespace
}  // namespace vhdkit::vhdx
