#include "disk/table_pieces.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "async/memory_file.h"
#include "tests/support/await.h"
#include "tests/support/content.h"

namespace vhdkit::disk {
namespace {

constexpr size_t page_bytes = 512;
constexpr size_t piece_bytes = 4096;

struct Tables {
  tests::Content content = tests::random_bytes(16 * piece_bytes, 1);
  async::MemoryFile file{"tables", content};
  TablePieces pieces{2, page_bytes};

  TablePieces::Handle read(size_t index) {
    auto piece = tests::await(pieces.read(file, index * piece_bytes, piece_bytes));
    REQUIRE_OK(piece);
    return *piece;
  }
};

TEST_CASE("a piece is read once and found again") {
  Tables tables;
  CHECK(tables.pieces.find(0) == nullptr);
  const TablePieces::Handle piece = tables.read(0);
  CHECK(std::ranges::equal(piece->bytes, std::span(tables.content).first(piece_bytes)));
  CHECK(tables.pieces.find(0) == piece.get());
  CHECK(tables.read(0) == piece);
}

TEST_CASE("what nobody holds goes, what somebody holds or changed stays") {
  Tables tables;
  const TablePieces::Handle held = tables.read(0);
  tables.read(1);
  const std::byte one[] = {std::byte{1}};
  tables.pieces.change(1 * piece_bytes, 7, one);
  for (size_t i = 2; i < 16; ++i) tables.read(i);
  CHECK(tables.pieces.find(0) == held.get());
  REQUIRE(tables.pieces.find(1 * piece_bytes) != nullptr);
  CHECK(tables.pieces.find(1 * piece_bytes)->bytes[7] == std::byte{1});
  size_t kept = 0;
  for (size_t i = 2; i < 16; ++i) kept += tables.pieces.find(i * piece_bytes) != nullptr ? 1 : 0;
  CHECK(kept < 4);
}

TEST_CASE("changes are taken in pages, as they are when they are taken") {
  Tables tables;
  tables.read(3);
  const uint64_t begin = 3 * piece_bytes;
  const tests::Content first(600, std::byte{1});
  const tests::Content second(8, std::byte{2});
  tables.pieces.change(begin, 500, first);  // pages 0, 1 and 2
  tables.pieces.change(begin, 1000, second);
  CHECK(tables.pieces.changed_page_count() == 3);
  CHECK(tables.pieces.first_changed(0, begin) == std::nullopt);
  CHECK(tables.pieces.first_changed(0, begin + 1) == begin);
  CHECK(tables.pieces.first_changed(begin + 520, UINT64_MAX) == begin + 520);
  std::vector<ChangedPage> pages = tables.pieces.take_changes();
  REQUIRE(pages.size() == 3);
  CHECK(tables.pieces.changed_page_count() == 0);
  tests::Content expected(tables.content.begin() + ptrdiff_t(begin),
                          tables.content.begin() + ptrdiff_t(begin + piece_bytes));
  std::ranges::copy(first, expected.begin() + 500);
  std::ranges::copy(second, expected.begin() + 1000);
  for (size_t i = 0; i < pages.size(); ++i) {
    CHECK(pages[i].file_offset == begin + i * page_bytes);
    CHECK(std::ranges::equal(pages[i].bytes,
                             std::span(expected).subspan(i * page_bytes, page_bytes)));
  }
  // Later changes do not reach what was taken, and the file still has the old bytes.
  tables.pieces.change(begin, 500, second);
  CHECK(pages[0].bytes[500] == std::byte{1});
  tests::Content in_file(piece_bytes);
  tables.file.fetch(begin, in_file);
  CHECK(std::ranges::equal(in_file, std::span(tables.content).subspan(begin, piece_bytes)));
}

TEST_CASE("a new piece is zeroes, whatever was known of its place") {
  Tables tables;
  tables.read(4);
  tables.pieces.make(4 * piece_bytes, piece_bytes);
  CHECK(is_zero(tables.pieces.find(4 * piece_bytes)->bytes));
}

}  // namespace
}  // namespace vhdkit::disk
