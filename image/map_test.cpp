#include "image/map.h"

#include <doctest/doctest.h>

#include "async/memory_file.h"
#include "image/create.h"
#include "image/new_file.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::image {
namespace {

struct Collector final : MapVisitor {
  void visit(const MapEntry& entry) override { entries.push_back(entry); }
  std::vector<MapEntry> entries;
};

std::vector<MapEntry> map_of(async::Loop& loop, Image& image, bool refine) {
  Collector collector;
  REQUIRE_OK(loop.run(map(image, refine, collector)));
  uint64_t end = 0;
  for (const MapEntry& entry : collector.entries) {
    CHECK(entry.disk_offset == end);
    end += entry.length;
  }
  CHECK(end == image.disk().geometry().size_bytes);
  return collector.entries;
}

// The fields that qemu-img prints, in its order: start, length, depth, present, zero, offset.
std::string text_of(const MapEntry& entry) {
  std::string text = std::to_string(entry.disk_offset) + "+" + std::to_string(entry.length) +
                     " depth " + std::to_string(entry.depth);
  if (entry.present) text += " present";
  if (entry.zero) text += " zero";
  if (entry.file_offset) text += " at " + std::to_string(*entry.file_offset);
  return text;
}

std::vector<std::string> texts_of(const std::vector<MapEntry>& entries) {
  std::vector<std::string> texts;
  for (const MapEntry& entry : entries) texts.push_back(text_of(entry));
  return texts;
}
using Texts = std::vector<std::string>;

std::unique_ptr<Image> sparse_raw() {
  auto file = std::make_unique<async::MemoryFile>("raw");
  const std::vector<std::byte> bytes(8192, std::byte{1});
  file->store(4096, bytes);
  file->store(65536, bytes);
  REQUIRE_OK(file->resize(1 * MiB));
  return Image::from_raw(std::move(file));
}

TEST_CASE("a raw file is one piece of data, or its data and holes") {
  const auto image = sparse_raw();
  const auto loop = std::move(*async::Loop::create());
  CHECK(texts_of(map_of(*loop, *image, false)) == Texts{"0+1048576 depth 0 present at 0"});
  CHECK(texts_of(map_of(*loop, *image, true)) ==
        Texts{"0+4096 depth 0 present zero at 0", "4096+8192 depth 0 present at 4096",
              "12288+53248 depth 0 present zero at 12288", "65536+8192 depth 0 present at 65536",
              "73728+974848 depth 0 present zero at 73728"});
}

TEST_CASE("a chain's map says which image answers, the last one for what none of them allocates") {
  for (const Format format : {Format::vhd, Format::vhdx}) {
    CAPTURE(format_name(format));
    tests::TemporaryFolder folder;
    const auto loop = std::move(*async::Loop::create());
    const OpenOptions open_options;
    CreateOptions options{.format = format, .size_bytes = 8 * MiB, .block_size_bytes = 2 * MiB};
    uint64_t places[2];
    for (const uint64_t index : {0, 1}) {
      std::unique_ptr<Image> parent_image;
      std::optional<ParentForCreation> parent;
      const std::string path = folder.path(std::to_string(index));
      if (index == 1) {
        options.parent_path = folder.path("0");
        auto opened = loop->run(Image::open(*loop, *options.parent_path, open_options));
        REQUIRE_OK(opened);
        parent = *describe_parent(**opened, path, options);
      }
      const auto settled = settle(options, parent ? &*parent : nullptr);
      REQUIRE_OK(settled);
      const auto file = NewFile::begin(*loop, path, false);
      REQUIRE_OK(file);
      const auto writer = make_writer((*file)->file(), *settled, parent ? &*parent : nullptr);
      REQUIRE_OK(writer);
      const auto place = (*writer)->place((index + 1) * 2 * MiB, 2 * MiB);
      REQUIRE_OK(place);
      places[index] = *place;
      const std::vector<std::byte> bytes(2 * MiB, std::byte{1});
      REQUIRE_OK(loop->run((*file)->file().write(*place, bytes)));
      REQUIRE_OK(loop->run((*writer)->finish()));
      REQUIRE_OK(loop->run((*file)->commit()));
    }
    const auto image = loop->run(Image::open(*loop, folder.path("1"), open_options));
    REQUIRE_OK(image);
    CHECK(texts_of(map_of(*loop, **image, true)) ==
          Texts{"0+2097152 depth 1 present zero",
                "2097152+2097152 depth 1 present at " + std::to_string(places[0]),
                "4194304+2097152 depth 0 present at " + std::to_string(places[1]),
                "6291456+2097152 depth 1 present zero"});
  }
}

}  // namespace
}  // namespace vhdkit::image
