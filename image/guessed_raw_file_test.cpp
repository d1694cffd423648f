#include "image/guessed_raw_file.h"

#include <algorithm>
#include <vector>

#include "async/memory_file.h"
#include "image/probe.h"
#include "support/checked.h"
#include "tests/support/await.h"

namespace vhdkit::image {
namespace {

using async::MemoryFile;

constexpr uint64_t sector = 512;

struct Guessed {
  explicit Guessed(uint64_t size_bytes) {
    auto file = std::make_unique<MemoryFile>("disk.raw");
    REQUIRE_OK(file->resize(size_bytes));
    inside = file.get();
    outside = std::make_unique<GuessedRawFile>(std::move(file));
  }
  Format format() const {
    const auto probed = tests::await(probe(*inside));
    REQUIRE_OK(probed);
    return probed->format;
  }
  std::vector<std::byte> content() const {
    std::vector<std::byte> bytes(size_t(inside->size_bytes()));
    inside->fetch(0, bytes);
    return bytes;
  }
  MemoryFile* inside;
  std::unique_ptr<GuessedRawFile> outside;
};

std::vector<std::byte> sector_with(std::string_view text, size_t at = 0) {
  std::vector<std::byte> bytes(sector, std::byte{'.'});
  std::ranges::copy(std::as_bytes(std::span(text)), bytes.begin() + ptrdiff_t(at));
  return bytes;
}

TEST_CASE("a write that would make another format of the file is refused, and changes nothing") {
  struct Case {
    const char* name;
    uint64_t file_bytes;
    uint64_t file_offset;
    std::string_view text;
    size_t at = 0;
  };
  const Case cases[] = {
      {"VHDX", 1 * MiB, 0, "vhdxfile"},
      {"qcow2", 1 * MiB, 0, "QFI\xfb"},
      {"gzip", 1 * MiB, 0, "\x1f\x8b\x08"},
      {"a VHD's copy at the head", 1 * MiB, 0, "conectix"},
      {"a VHD's footer", 1 * MiB, 1 * MiB - sector, "conectix"},
      {"one of 511 bytes", 1 * MiB, 1 * MiB - sector, "conectix", 1},
      {"a file of one sector", sector, 0, "conectix"},
      {"at the tail of a file whose size is odd", 1 * MiB + 100, 1 * MiB - sector, "conectix", 100},
      {"by a write that makes the file longer", 1 * MiB + 100, 1 * MiB, "conectix"},
  };
  for (const Case& one : cases) {
    INFO(one.name);
    const Guessed file(one.file_bytes);
    const std::vector<std::byte> before = file.content();
    REQUIRE_FAILS(
        Errc::permission, "format=raw",
        tests::await(file.outside->write(one.file_offset, sector_with(one.text, one.at))));
    CHECK(file.content() == before);
  }
}

TEST_CASE("what looks like a header elsewhere is content") {
  const Guessed file(1 * MiB);
  for (const uint64_t offset : {sector, uint64_t{4096}, 1 * MiB - 2 * sector})
    REQUIRE_OK(tests::await(file.outside->write(offset, sector_with("vhdxfile"))));
  REQUIRE_OK(tests::await(file.outside->write(1 * MiB - sector, sector_with("vhdxfile"))));
  REQUIRE_OK(tests::await(file.outside->write(0, sector_with("an ordinary boot sector"))));
  CHECK(file.content()[0] == std::byte{'a'});
  CHECK(file.format() == Format::raw);
}

TEST_CASE("a header in the middle of a long write, and across its buffers, is found") {
  const Guessed file(1 * MiB);
  std::vector<std::byte> bytes(64 * KiB);
  std::ranges::copy(std::as_bytes(std::span("conectix", 8)), bytes.end() - ptrdiff_t(sector));
  const size_t cut = bytes.size() - sector + 3;
  const iovec parts[] = {{bytes.data(), cut}, {bytes.data() + cut, bytes.size() - cut}};
  const Buffers buffers(parts);
  REQUIRE_FAILS(
      Errc::permission, "disk.raw",
      tests::await(file.outside->writev(1 * MiB - bytes.size(), buffers, Durability::cached)));
  REQUIRE_OK(tests::await(file.outside->writev(512 * KiB, buffers, Durability::cached)));
}

// The tail of such a file lies in two sectors: neither half is a cookie.
TEST_CASE("two halves of a header do not come together") {
  constexpr uint64_t file_bytes = 1 * MiB + sector - 4;
  constexpr uint64_t cookie = file_bytes - sector;  // 4 bytes before the end of a sector
  const Guessed file(file_bytes);
  REQUIRE_OK(
      tests::await(file.outside->write(cookie + 4 - sector, sector_with("cone", sector - 4))));
  const auto second = sector_with("ctix");
  const auto rest = std::span(second).first(sector - 4);
  REQUIRE_FAILS(Errc::permission, "disk.raw", tests::await(file.outside->write(cookie + 4, rest)));
  CHECK(file.format() == Format::raw);
}

}  // namespace
}  // namespace vhdkit::image
