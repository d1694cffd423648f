#include "image/hash.h"

#include <doctest/doctest.h>

#include "async/memory_file.h"
#include "tests/support/image_place.h"
#include "tests/support/programs.h"

namespace vhdkit::image {
namespace {

using tests::Content;
using tests::ImagePlace;

std::string hash_of(Image& image, HashAlgorithm algorithm) {
  const auto text = tests::await(hash(image, algorithm, nullptr));
  REQUIRE_OK(text);
  return *text;
}

std::string hash_of(const Content& content, HashAlgorithm algorithm) {
  const auto image = Image::from_raw(std::make_unique<async::MemoryFile>("raw", content));
  return hash_of(*image, algorithm);
}

TEST_CASE("hashes are those that xxh128sum, sha256sum, sha1sum and md5sum print") {
  // What those programs printed (xxhash 0.8.1, coreutils 9.1) for these bytes.
  struct Case {
    HashAlgorithm algorithm;
    const char* of_nothing;
    const char* of_pattern;
  };
  const Case cases[] = {
      {HashAlgorithm::xxh3_128, "99aa06d3014798d86001c324468d497f",
       "035effbeccfdbb57ae93c4ae673aafaf"},
      {HashAlgorithm::sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
       "f6084ba6df91237da226130594882464946328ca18ca2e6ff1f82e80f13e20c5"},
      {HashAlgorithm::sha1, "da39a3ee5e6b4b0d3255bfef95601890afd80709",
       "342267e1bc1813a6d3b0115e61a056e5884b1472"},
      {HashAlgorithm::md5, "d41d8cd98f00b204e9800998ecf8427e", "436c26faaf289ab108370a21c2610451"},
  };
  Content pattern(3 * MiB + 512);
  for (size_t i = 0; i < pattern.size(); ++i) pattern[i] = std::byte((i * 7 + (i >> 9)) % 251);
  for (const Case& test : cases) {
    CHECK(hash_of(Content(), test.algorithm) == test.of_nothing);
    CHECK(hash_of(pattern, test.algorithm) == test.of_pattern);
  }
}

TEST_CASE("holes count as the zeroes that they are") {
  const Content zeroes(1 * MiB);
  auto file = std::make_unique<async::MemoryFile>("sparse");
  REQUIRE_OK(file->resize(1 * MiB));
  const auto sparse = Image::from_raw(std::move(file));
  const char* const xxh128sum = "b6ef17a3448492b6918780b90550bf34";
  CHECK(hash_of(*sparse, HashAlgorithm::xxh3_128) == xxh128sum);
  CHECK(hash_of(zeroes, HashAlgorithm::xxh3_128) == xxh128sum);
  CHECK(hash_of(Content(512), HashAlgorithm::xxh3_128) == "3258ca92e0a00944b2987a9d949e807c");
}

TEST_CASE("the same content has the same hash in every format, and it is sha256sum's") {
  ImagePlace place;
  tests::put_file(place.path("raw"), tests::scattered(7 * MiB + 512, 20, 1));
  const CreateOptions targets[] = {
      {.format = Format::vhd, .subformat = Subformat::fixed},
      {.format = Format::vhd},
      {.format = Format::vhd, .block_size_bytes = 512 * KiB},
  };
  const auto raw = place.open("raw");
  REQUIRE_OK(raw);
  const auto wanted = place.loop().run(hash(**raw, HashAlgorithm::sha256, nullptr));
  REQUIRE_OK(wanted);
  CHECK(tests::run("echo '" + *wanted + "  " + place.path("raw") + "' | sha256sum -c"));
  for (const CreateOptions& target : targets) {
    const ConvertOptions options{.target = target, .replace = true};
    REQUIRE_OK(place.convert("raw", "image", options));
    const auto image = place.open("image");
    REQUIRE_OK(image);
    for (const auto algorithm : {HashAlgorithm::sha256, HashAlgorithm::xxh3_128}) {
      const auto of_raw = place.loop().run(hash(**raw, algorithm, nullptr));
      const auto of_image = place.loop().run(hash(**image, algorithm, nullptr));
      REQUIRE_OK(of_raw);
      REQUIRE_OK(of_image);
      CHECK(*of_image == *of_raw);
    }
  }
}

TEST_CASE("a raw file that ends inside a sector is hashed with its padding") {
  Content content = tests::random_bytes(1000, 1);
  const std::string hashed = hash_of(content, HashAlgorithm::sha256);
  content.resize(1024);
  CHECK(hashed == hash_of(content, HashAlgorithm::sha256));
}

TEST_CASE("algorithms have the names that people type") {
  CHECK(parse_hash_algorithm("xxh3") == HashAlgorithm::xxh3_128);
  CHECK(parse_hash_algorithm("xxh128") == HashAlgorithm::xxh3_128);
  CHECK(parse_hash_algorithm("sha256") == HashAlgorithm::sha256);
  CHECK(parse_hash_algorithm("sha1") == HashAlgorithm::sha1);
  CHECK(parse_hash_algorithm("md5") == HashAlgorithm::md5);
  CHECK_FALSE(parse_hash_algorithm("crc32").has_value());
  CHECK_FALSE(parse_hash_algorithm("").has_value());
}

}  // namespace
}  // namespace vhdkit::image
