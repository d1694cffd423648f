#include "image/gzip_file.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include <cstring>
#include <random>
#include <vector>

#include "async/memory_file.h"
#include "async/task_group.h"
#include "support/checked.h"
#include "tests/support/await.h"

namespace vhdkit::image {
namespace {

using async::MemoryFile;
using Content = std::vector<std::byte>;

Content text_like(size_t length, unsigned seed) {
  std::mt19937 random(seed);
  Content content(length);
  for (std::byte& byte : content) byte = std::byte('a' + random() % 7);
  return content;
}

// One gzip member, as zlib writes it.
Content gzip_member(const Content& content, int level = 6) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, level, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  Content packed(deflateBound(&stream, content.size()) + 64);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(content.data()));
  stream.avail_in = uInt(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = uInt(packed.size());
  const int result = deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  REQUIRE(result == Z_STREAM_END);
  return packed;
}

void append(Content& to, const Content& more) { to.insert(to.end(), more.begin(), more.end()); }

Result<std::unique_ptr<File>> open(const Content& packed) {
  return tests::await(open_gzip_file(std::make_unique<MemoryFile>("a.gz", packed)));
}

// Reads the pieces in the order given and compares each.
void check_reads(File& file, const Content& wanted, std::span<const uint64_t> offsets,
                 size_t length) {
  Content got(length);
  for (const uint64_t offset : offsets) {
    const size_t part = std::min<uint64_t>(length, wanted.size() - offset);
    const std::span<std::byte> buffer = std::span(got).first(part);
    REQUIRE_OK(tests::await(file.read(offset, buffer)));
    const bool equal = std::memcmp(buffer.data(), wanted.data() + offset, part) == 0;
    INFO("offset ", offset);
    REQUIRE(equal);
  }
}

void check_content(File& file, const Content& wanted) {
  REQUIRE(file.size_bytes() == wanted.size());
  constexpr size_t length = 100'000;
  std::vector<uint64_t> offsets;
  for (uint64_t at = 0; at < wanted.size(); at += length) offsets.push_back(at);
  check_reads(file, wanted, offsets, length);
}

TEST_CASE("a gzip file reads as its content, in order and at random") {
  const Content content = text_like(12 * MiB + 12345, 1);
  for (const int level : {0, 1, 6, 9}) {
    CAPTURE(level);
    auto file = open(gzip_member(content, level));
    REQUIRE_OK(file);
    check_content(**file, content);
    std::mt19937 random(2);
    std::vector<uint64_t> offsets(60);
    for (uint64_t& offset : offsets) offset = random() % content.size();
    check_reads(**file, content, offsets, 5000);
    CHECK((*file)->descriptor(0, 1) == -1);
    CHECK((*file)->name() == "a.gz");
  }
}

TEST_CASE("members one after another are one content") {
  Content content;
  Content packed;
  for (unsigned i = 0; i < 400; ++i) {  // each of one block, so that points lie at members
    const Content part = text_like(i % 3 == 0 ? 0 : 20'000 + i, i);
    append(content, part);
    append(packed, gzip_member(part));
  }
  append(packed, Content(1000));  // padding
  auto file = open(packed);
  REQUIRE_OK(file);
  check_content(**file, content);
  const std::vector<uint64_t> offsets = {content.size() - 10, 0, content.size() / 2, 5, 3'000'000};
  check_reads(**file, content, offsets, 70'000);
}

TEST_CASE("a read goes from a member entered in its middle into the next one") {
  const Content first = text_like(3 * MiB, 1);
  const Content second = text_like(2 * MiB, 2);
  Content content = first;
  append(content, second);
  Content packed = gzip_member(first);
  append(packed, gzip_member(second));
  auto file = open(packed);
  REQUIRE_OK(file);
  const std::vector<uint64_t> offsets = {4 * MiB, 2 * MiB + 500'000, 0};
  check_reads(**file, content, offsets, 2 * MiB);
}

TEST_CASE("an empty member is an empty file") {
  auto file = open(gzip_member({}));
  REQUIRE_OK(file);
  CHECK((*file)->size_bytes() == 0);
  CHECK_FALSE((*file)->next_data(0, 100)->has_value());
}

TEST_CASE("runs of zeroes are holes") {
  Content content(700 * MiB);  // far more restart points than are kept
  const std::pair<uint64_t, size_t> written[] = {
      {3 * MiB + 5, 1}, {300 * MiB - 1, 2}, {content.size() - 1, 1}};
  for (const auto& [offset, length] : written) std::memset(content.data() + offset, 7, length);
  auto file = open(gzip_member(content, 1));
  REQUIRE_OK(file);
  REQUIRE((*file)->size_bytes() == content.size());
  const std::pair<uint64_t, uint64_t> wanted[] = {
      {3 * MiB, MiB}, {299 * MiB, 2 * MiB}, {699 * MiB, MiB}};
  uint64_t at = 0;
  for (const auto& [offset, length] : wanted) {
    const auto range = (*file)->next_data(at, content.size());
    REQUIRE_OK(range);
    REQUIRE(range->has_value());
    CHECK((*range)->file_offset == offset);
    CHECK((*range)->length == length);
    at = offset + length;
  }
  CHECK_FALSE((*file)->next_data(at, content.size() + 1)->has_value());
  CHECK((*file)->next_data(3 * MiB + 7, 3 * MiB + 9)->value().length == 2);
  CHECK_FALSE((*file)->next_data(0, 3 * MiB)->has_value());
  const std::vector<uint64_t> offsets = {content.size() - 4096, 3 * MiB, 300 * MiB - 2048, 0};
  check_reads(**file, content, offsets, 4096);
}

TEST_CASE("several reads at once each get their own bytes") {
  const Content content = text_like(8 * MiB, 3);
  auto file = open(gzip_member(content));
  REQUIRE_OK(file);
  std::vector<Content> got(8, Content(MiB));
  async::TaskGroup group;
  for (size_t i = 0; i < got.size(); ++i)
    group.start((*file)->read((got.size() - 1 - i) * MiB, got[i]));
  REQUIRE_OK(tests::await(group.finish()));
  for (size_t i = 0; i < got.size(); ++i) {
    const bool equal =
        std::memcmp(got[i].data(), content.data() + (got.size() - 1 - i) * MiB, MiB) == 0;
    CHECK(equal);
  }
}

TEST_CASE("damaged gzip files are refused with their offset") {
  const Content whole = gzip_member(text_like(200'000, 4));
  struct Case {
    const char* name;
    void (*damage)(Content&);
    const char* message;
  };
  const Case cases[] = {
      {"no magic", [](Content& bytes) { bytes[1] = std::byte{0}; }, "incorrect header check"},
      {"method", [](Content& bytes) { bytes[2] = std::byte{7}; }, "unknown compression method"},
      {"reserved flags", [](Content& bytes) { bytes[3] = std::byte{0xe0}; },
       "unknown header flags"},
      {"CRC", [](Content& bytes) { bytes[bytes.size() - 8] ^= std::byte{1}; },
       "incorrect data check"},
      {"length", [](Content& bytes) { bytes[bytes.size() - 1] ^= std::byte{1}; },
       "incorrect length check"},
      {"something behind", [](Content& bytes) { bytes.push_back(std::byte{'x'}); },
       "the file ends inside it"},
      {"more behind", [](Content& bytes) { append(bytes, text_like(50, 5)); },
       "incorrect header check"},
      {"empty file", [](Content& bytes) { bytes.clear(); }, "the file is empty"},
      {"truncated trailer", [](Content& bytes) { bytes.resize(bytes.size() - 3); },
       "the file ends inside it"},
      {"truncated second member",
       [](Content& bytes) {
         Content half = bytes;
         half.resize(half.size() / 2);
         append(bytes, half);
       },
       "the file ends inside it"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.name);
    Content packed = whole;
    test.damage(packed);
    REQUIRE_FAILS(Errc::corrupt, test.message, open(packed));
    REQUIRE_FAILS(Errc::corrupt, " at offset 0x", open(packed));
  }
}

TEST_CASE("a gzip file cut off anywhere is refused") {
  const Content whole = gzip_member(text_like(3000, 6));
  for (size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    const Content cut(whole.begin(), whole.begin() + ptrdiff_t(length));
    REQUIRE_FAILS(Errc::corrupt, "a.gz: gzip member at offset 0x0", open(cut));
  }
}

TEST_CASE("a gzip file is read inside its content and never written") {
  const Content content = text_like(1000, 7);
  auto file = open(gzip_member(content));
  REQUIRE_OK(file);
  Content got(10);
  REQUIRE_FAILS(Errc::out_of_range, "ends at 0x3e8", tests::await((*file)->read(991, got)));
  REQUIRE_FAILS(Errc::out_of_range, "ends at 0x3e8", tests::await((*file)->read(UINT64_MAX, got)));
  REQUIRE_FAILS(Errc::read_only, "reading only", tests::await((*file)->write(0, got)));
  REQUIRE_FAILS(Errc::read_only, "reading only", (*file)->resize(0));
  REQUIRE_FAILS(Errc::read_only, "reading only", (*file)->punch_hole(0, 1));
  REQUIRE_OK(tests::await((*file)->flush()));
}

}  // namespace
}  // namespace vhdkit::image
