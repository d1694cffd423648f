#include "tools/map_svg.h"

#include <doctest/doctest.h>

#include "support/checked.h"

namespace vhdkit::tools {
namespace {

using image::MapEntry;

MapEntry data(uint64_t disk_offset, uint64_t length, uint32_t depth = 0) {
  return {.disk_offset = disk_offset,
          .length = length,
          .depth = depth,
          .present = true,
          .zero = false,
          .encoded = false,
          .file_offset = disk_offset};
}

MapEntry nothing(uint64_t disk_offset, uint64_t length) {
  return {.disk_offset = disk_offset,
          .length = length,
          .depth = 0,
          .present = false,
          .zero = true,
          .encoded = false,
          .file_offset = std::nullopt};
}

size_t count_of(const std::string& text, std::string_view words) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(words, at)) != std::string::npos; at += words.size()) ++count;
  return count;
}

bool has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}

TEST_CASE("cells next to each other with the same content are one box in each row") {
  // 1 MiB in cells of 4 KiB: four rows of 256 KiB.
  AllocationPicture picture(MiB, {"disk.vhdx"});
  picture.visit(data(0, 512 * KiB));
  picture.visit(nothing(512 * KiB, 512 * KiB));
  const std::string svg = picture.svg();
  CHECK(has(svg, "1 MiB (1048576 bytes); a cell is 4 KiB, a row 256 KiB"));
  CHECK(count_of(svg, "data, depth 0: 262144 of 262144 bytes") == 2);
  CHECK(count_of(svg, "width=\"768\" height=\"12\" fill=\"#0072b2\"") == 2);
  CHECK(has(svg, "at 0x40000: data"));
  CHECK(has(svg, ">data, depth 0: 512 KiB (524288 bytes)  disk.vhdx</text>"));
  CHECK(has(svg, ">not allocated: 512 KiB (524288 bytes)</text>"));
}

TEST_CASE("a cell of several kinds shows each as wide as its part is") {
  AllocationPicture picture(4096, {"child.vhdx", "parent.vhdx"});
  picture.visit(data(0, 1024));
  picture.visit(data(1024, 3072, 1));
  const std::string svg = picture.svg();
  // 12 wide: each has 0.6, and its part of the other 10.8.
  CHECK(has(svg,
            "<rect x=\"90\" y=\"66\" width=\"3.3\" height=\"12\" fill=\"#0072b2\">"
            "<title>at 0x0: data, depth 0: 1024 of 4096 bytes</title>"));
  CHECK(has(svg,
            "<rect x=\"93.3\" y=\"66\" width=\"8.7\" height=\"12\" fill=\"#e69f00\">"
            "<title>at 0x0: data, depth 1: 3072 of 4096 bytes</title>"));
}

TEST_CASE("the least that there is of the largest disk is seen, in a small file") {
  AllocationPicture picture(64 * TiB, {"disk.vhdx"});
  picture.visit(data(0, 512));
  picture.visit(nothing(512, 64 * TiB - 1024));
  picture.visit(data(64 * TiB - 512, 512));
  const std::string svg = picture.svg();
  CHECK(count_of(svg, "data, depth 0: 512 of 34359738368 bytes") == 2);
  CHECK(count_of(svg, "width=\"0.6\"") == 2);
  CHECK(svg.size() < 32 * KiB);
}

TEST_CASE("a disk without a cell, and one whose last cell is shorter") {
  CHECK(has(AllocationPicture(0, {"empty.raw"}).svg(), "0 bytes"));
  AllocationPicture picture(4096 + 1024, {"odd.raw"});
  picture.visit(data(0, 4096 + 1024));
  CHECK(has(picture.svg(), "width=\"15\" height=\"12\" fill=\"#0072b2\""));
}

TEST_CASE("names are shown, however long, and steer nothing") {
  const std::string name = "</title><script>" + std::string(300, 'x') + "\x1b\xff.vhdx";
  AllocationPicture picture(4096, {name});
  picture.visit(data(0, 4096));
  const std::string svg = picture.svg();
  CHECK_FALSE(has(svg, "<script>"));
  CHECK_FALSE(has(svg, "\x1b"));
  CHECK(has(svg, "\xe2\x80\xa6xxx"));
}

TEST_CASE("what lies deeper than there are colours is one kind") {
  AllocationPicture picture(4096, std::vector<std::string>(12, "disk.vhdx"));
  picture.visit(data(0, 2048, 7));
  picture.visit(data(2048, 2048, 11));
  CHECK(has(picture.svg(), "data, depth 7 and deeper: 4096 of 4096 bytes"));
}

}  // namespace
}  // namespace vhdkit::tools
