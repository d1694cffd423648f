#include "image/compare.h"

#include <doctest/doctest.h>

#include "async/memory_file.h"
#include "tests/support/image_place.h"
#include "tests/support/watched_file.h"

namespace vhdkit::image {
namespace {

using tests::Content;
using tests::ImagePlace;

std::unique_ptr<Image> image_of(const Content& content) {
  return Image::from_raw(std::make_unique<async::MemoryFile>("raw", content));
}

// The content with every page of zeroes as a hole.
std::unique_ptr<Image> sparse_image_of(const Content& content) {
  auto file = std::make_unique<async::MemoryFile>("sparse");
  for (size_t at = 0; at < content.size(); at += 4096) {
    const auto page = std::span(content).subspan(at, std::min<size_t>(4096, content.size() - at));
    if (!is_zero(page)) file->store(at, page);
  }
  REQUIRE_OK(file->resize(content.size()));
  return Image::from_raw(std::move(file));
}

Comparison compared(Image& a, Image& b, bool strict = false) {
  const auto result = tests::await(compare(a, b, strict, nullptr));
  REQUIRE_OK(result);
  CHECK(result->size_a == a.disk().geometry().size_bytes);
  CHECK(result->size_b == b.disk().geometry().size_bytes);
  CHECK((!result->same || !result->first_difference));
  return *result;
}

TEST_CASE("the first difference is given to the byte, wherever it is") {
  constexpr size_t size = 1 * MiB + 64 * KiB + 512;
  for (const size_t at :
       {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{MiB - 1}, size_t{MiB}, size - 1}) {
    CAPTURE(at);
    for (const bool on_zeroes : {false, true}) {
      Content content = on_zeroes ? Content(size) : tests::random_bytes(size, 1);
      const auto dense = image_of(content);
      const auto sparse = sparse_image_of(content);
      CHECK(compared(*dense, *sparse).same);
      content[at] ^= std::byte{1};
      content[size - 1] ^= std::byte{0x80};  // a later one, or another bit of the same byte
      const auto changed = image_of(content);
      const auto changed_sparse = sparse_image_of(content);
      for (Image* const a : {dense.get(), sparse.get()})
        for (Image* const b : {changed.get(), changed_sparse.get()}) {
          const Comparison forward = compared(*a, *b);
          CHECK_FALSE(forward.same);
          CHECK(forward.first_difference == at);
          CHECK(compared(*b, *a, true).first_difference == at);
        }
    }
  }
}

TEST_CASE("one disk may be longer if the rest is zeroes, unless strict") {
  const Content content = tests::random_bytes(1 * MiB, 1);
  Content longer = content;
  longer.resize(5 * MiB + 512);
  const auto a = image_of(content);
  for (const auto& b : {image_of(longer), sparse_image_of(longer)})
    for (const bool swapped : {false, true}) {
      Image& first = swapped ? *b : *a;
      Image& second = swapped ? *a : *b;
      CHECK(compared(first, second).same);
      const Comparison strict = compared(first, second, true);
      CHECK_FALSE(strict.same);
      CHECK_FALSE(strict.first_difference.has_value());
    }
  longer[4 * MiB + 5] = std::byte{1};
  const auto c = image_of(longer);
  CHECK(compared(*a, *c).first_difference == 4 * MiB + 5);
  CHECK(compared(*c, *a).first_difference == 4 * MiB + 5);
  const auto empty = image_of(Content());
  CHECK(compared(*empty, *empty).same);
  CHECK(compared(*empty, *image_of(Content(1 * MiB))).same);
  CHECK(compared(*a, *empty).first_difference == tests::difference(content, Content(1 * MiB)));
}

TEST_CASE("the same content is the same in every format") {
  ImagePlace place;
  const Content content = tests::scattered(7 * MiB + 512, 20, 1);
  tests::put_file(place.path("0"), content);
  const CreateOptions targets[] = {
      {.format = Format::vhd, .subformat = Subformat::fixed},
      {.format = Format::vhd},
      {.format = Format::vhd, .size_bytes = 20 * MiB, .block_size_bytes = 512 * KiB},
  };
  std::vector<std::unique_ptr<Image>> images;
  images.push_back(std::move(*place.open("0")));
  for (const CreateOptions& target : targets) {
    const ConvertOptions options{.target = target};
    const std::string name = std::to_string(images.size());
    REQUIRE_OK(place.convert("0", name, options));
    images.push_back(std::move(*place.open(name)));
  }
  for (const auto& a : images)
    for (const auto& b : images) {
      const auto result = place.loop().run(compare(*a, *b, false, nullptr));
      REQUIRE_OK(result);
      CHECK(result->same);
    }
}

TEST_CASE("what cannot be read is an error, on either side") {
  const Content content = tests::random_bytes(8 * MiB, 1);
  for (const bool swapped : {false, true})
    for (const uint64_t failing : {0, 3, 7}) {
      auto file = std::make_unique<tests::WatchedFile>(
          std::make_unique<async::MemoryFile>("broken", content));
      file->failing_read = failing;
      const auto broken = Image::from_raw(std::move(file));
      const auto whole = image_of(content);
      Image& first = swapped ? *whole : *broken;
      Image& second = swapped ? *broken : *whole;
      REQUIRE_FAILS(Errc::io, "broken: reading",
                    tests::await(compare(first, second, false, nullptr)));
    }
}

TEST_CASE("holes on both sides are not read") {
  constexpr uint64_t size = 6 * TiB;
  auto file_a = std::make_unique<tests::WatchedFile>(std::make_unique<async::MemoryFile>("a"));
  auto file_b = std::make_unique<tests::WatchedFile>(std::make_unique<async::MemoryFile>("b"));
  for (tests::WatchedFile* const file : {file_a.get(), file_b.get()}) {
    REQUIRE_OK(file->resize(size));
    const Content page(4096, std::byte{1});
    REQUIRE_OK(tests::await(file->write(3 * TiB, page)));
  }
  const tests::WatchedFile& watched = *file_a;
  const auto a = Image::from_raw(std::move(file_a));
  const auto b = Image::from_raw(std::move(file_b));
  CHECK(compared(*a, *b).same);
  CHECK(watched.read_count == 1);
}

}  // namespace
}  // namespace vhdkit::image
