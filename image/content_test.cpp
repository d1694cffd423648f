#include "image/content.h"

#include <doctest/doctest.h>

#include "async/memory_file.h"
#include "disk/raw_layer.h"
#include "tests/support/await.h"
#include "tests/support/content.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/watched_file.h"

namespace vhdkit::image {
namespace {

using disk::Extent;
using disk::ExtentKind;
using disk::ExtentList;
using tests::Content;
using tests::WatchedFile;

constexpr uint64_t sector = 512;

// A layer that answers with the extents it is given, a few at a time.
class TableLayer final : public disk::Layer {
 public:
  TableLayer(std::unique_ptr<WatchedFile> file, std::vector<Extent> table, size_t at_once = 100)
      : file_(std::move(file)), table_(std::move(table)), at_once_(at_once) {
    geometry_.size_bytes = table_.back().disk_offset + table_.back().length;
  }

  const disk::Geometry& geometry() const override { return geometry_; }
  WatchedFile& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) override {
    const uint64_t end = disk_offset + length;
    if (disk_offset >= failing_from) co_return fail(Errc::corrupt, "the table is damaged");
    size_t count = 0;
    for (Extent extent : table_) {
      const uint64_t start = std::max(disk_offset, extent.disk_offset);
      const uint64_t stop = std::min(end, extent.disk_offset + extent.length);
      if (start >= stop) continue;
      if (count++ == at_once_) break;
      if (extent.kind == ExtentKind::data) extent.file_offset += start - extent.disk_offset;
      extent.disk_offset = start;
      extent.length = stop - start;
      extents.append(extent);
    }
    co_return Result<void>();
  }
  Async<void> read_encoded(const Extent& extent, uint64_t, std::span<std::byte> buffer) override {
    std::ranges::fill(buffer, std::byte(extent.file_offset));
    co_return Result<void>();
  }
  Async<void> audit() override { co_return Result<void>(); }
  uint64_t block_size_bytes() const override { return 0; }
  disk::Description describe() const override { return {}; }

  uint64_t failing_from = UINT64_MAX;  // disk offset

 private:
  std::unique_ptr<WatchedFile> file_;
  std::vector<Extent> table_;
  size_t at_once_;
  disk::Geometry geometry_;
};

Extent data(uint64_t disk_offset, uint64_t length, uint64_t file_offset) {
  return {.disk_offset = disk_offset,
          .length = length,
          .kind = ExtentKind::data,
          .file_offset = file_offset};
}
Extent hole(uint64_t disk_offset, uint64_t length, ExtentKind kind = ExtentKind::zero) {
  return {.disk_offset = disk_offset, .length = length, .kind = kind};
}

// A file in memory with a byte for each page, '.' for a hole.
std::unique_ptr<WatchedFile> file_of(std::string_view pages) {
  auto file = std::make_unique<async::MemoryFile>("file");
  REQUIRE_OK(file->resize(pages.size() * 4096));
  for (size_t i = 0; i < pages.size(); ++i) {
    if (pages[i] == '.') continue;
    const Content page(4096, std::byte(pages[i]));
    file->store(i * 4096, page);
  }
  return std::make_unique<WatchedFile>(std::move(file));
}

std::vector<std::unique_ptr<disk::Layer>> layers_of(std::unique_ptr<disk::Layer> child,
                                                    std::unique_ptr<disk::Layer> parent = nullptr) {
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(child));
  if (parent) layers.push_back(std::move(parent));
  return layers;
}

Async<std::vector<Extent>> all_parts(disk::LayeredDisk& disk, uint64_t max_bytes) {
  ContentCursor cursor(disk);
  std::vector<Extent> parts;
  while (true) {
    CO_TRY_LET(const Part part, co_await cursor.next(max_bytes));
    if (part.at_end) co_return parts;
    parts.push_back(part.extent);
  }
}

// Each part in pages: where, how many, and what: "0+2 data 0@5" is depth 0, page 5 of its file.
std::string text_of(disk::LayeredDisk& disk, uint64_t max_bytes = 1 * MiB) {
  const auto parts = tests::await(all_parts(disk, max_bytes));
  REQUIRE_OK(parts);
  std::string text;
  uint64_t end = 0;
  for (const Extent& part : *parts) {
    REQUIRE(part.disk_offset == end);
    end += part.length;
    if (!text.empty()) text += ", ";
    text += std::to_string(part.disk_offset / 4096) + "+" + std::to_string(part.length / 4096);
    if (part.kind == ExtentKind::encoded) text += " encoded " + std::to_string(part.file_offset);
    if (part.kind == ExtentKind::data)
      text += " data " + std::to_string(part.depth) + "@" + std::to_string(part.file_offset / 4096);
  }
  CHECK(end == disk.geometry().size_bytes);
  return text;
}

TEST_CASE("the front of an extent ends at a multiple, unless it is zero") {
  Extent extent = data(3 * sector, 10 * sector, 100 * sector);
  Extent front = take_front(extent, 8 * sector);
  CHECK(front.disk_offset == 3 * sector);
  CHECK(front.length == 5 * sector);
  CHECK(front.file_offset == 100 * sector);
  CHECK(extent.file_offset == 105 * sector);
  front = take_front(extent, 8 * sector);
  CHECK(front.disk_offset == 8 * sector);
  CHECK(front.length == 5 * sector);
  CHECK(extent.length == 0);

  Extent encoded{.disk_offset = 0, .length = 9, .kind = ExtentKind::encoded, .file_offset = 77};
  take_front(encoded, 4);
  CHECK(encoded.file_offset == 77);  // the layer's key, no place
  CHECK(encoded.disk_offset == 4);

  Extent zero = hole(3, 1 * TiB);
  CHECK(take_front(zero, 512).length == 1 * TiB);
}

TEST_CASE("holes inside allocated blocks are taken out") {
  disk::LayeredDisk disk(layers_of(std::make_unique<disk::RawLayer>(file_of("..aa.b..."))));
  CHECK(text_of(disk) == "0+2, 2+2 data 0@2, 4+1, 5+1 data 0@5, 6+3");
  disk::LayeredDisk full(layers_of(std::make_unique<disk::RawLayer>(file_of("aaaaa"))));
  CHECK(text_of(full, 2 * 4096) == "0+2 data 0@0, 2+2 data 0@2, 4+1 data 0@4");
  disk::LayeredDisk nothing(layers_of(std::make_unique<disk::RawLayer>(file_of("...."))));
  CHECK(text_of(nothing) == "0+4");
  disk::LayeredDisk empty(layers_of(std::make_unique<disk::RawLayer>(file_of(""))));
  CHECK(text_of(empty).empty());
}

TEST_CASE("a layer that answers a little at a time is asked again") {
  const std::vector<Extent> table = {data(0, 4096, 8192), hole(4096, 4096), data(8192, 8192, 0),
                                     hole(16384, 4096)};
  disk::LayeredDisk disk(layers_of(std::make_unique<TableLayer>(file_of("abc"), table, 1)));
  CHECK(text_of(disk) == "0+1 data 0@2, 1+1, 2+2 data 0@0, 4+1");
}

TEST_CASE("what is known of one file's holes is not believed of another's") {
  // The same file offsets in both: the child's are data where the parent's are holes.
  const std::vector<Extent> child = {
      data(0, 2 * 4096, 0), hole(2 * 4096, 2 * 4096, ExtentKind::parent),
      data(4 * 4096, 2 * 4096, 2 * 4096), hole(6 * 4096, 2 * 4096, ExtentKind::parent)};
  const std::vector<Extent> parent = {hole(0, 2 * 4096), data(2 * 4096, 6 * 4096, 0)};
  disk::LayeredDisk disk(layers_of(std::make_unique<TableLayer>(file_of("aaaa"), child),
                                   std::make_unique<TableLayer>(file_of("..bb.c"), parent)));
  CHECK(text_of(disk) == "0+2 data 0@0, 2+2, 4+2 data 0@2, 6+1, 7+1 data 1@5");
}

TEST_CASE("an encoded extent keeps its key and has no holes") {
  const std::vector<Extent> table = {
      {.disk_offset = 0, .length = 4 * 4096, .kind = ExtentKind::encoded, .file_offset = 7},
      hole(4 * 4096, 4096)};
  auto layer = std::make_unique<TableLayer>(file_of(".."), table);
  WatchedFile& file = layer->file();
  disk::LayeredDisk disk(layers_of(std::move(layer)));
  CHECK(text_of(disk, 2 * 4096) == "0+2 encoded 7, 2+2 encoded 7, 4+1");
  CHECK(file.next_data_count == 0);
}

TEST_CASE("the file system is asked once for each of its holes, not for each block or chunk") {
  // Blocks in the order of the file, then in the reverse order.
  for (const bool reversed : {false, true}) {
    std::vector<Extent> table;
    for (uint64_t i = 0; i < 64; ++i) {
      const uint64_t place = reversed ? 63 - i : i;
      table.push_back(data(i * 4 * 4096, 4 * 4096, place * 5 * 4096));
    }
    auto layer = std::make_unique<TableLayer>(file_of(std::string(64 * 5, 'a')), table);
    WatchedFile& file = layer->file();
    disk::LayeredDisk disk(layers_of(std::move(layer)));
    REQUIRE_OK(tests::await(all_parts(disk, 4096)));
    CHECK(file.next_data_count == (reversed ? 64 : 1));
  }
  std::string pages;
  for (int i = 0; i < 100; ++i) pages += "a...";
  auto layer = std::make_unique<disk::RawLayer>(file_of(pages));
  const auto& file = static_cast<WatchedFile&>(layer->file());
  disk::LayeredDisk disk(layers_of(std::move(layer)));
  CHECK(tests::await(all_parts(disk, 1 * MiB))->size() == 200);
  CHECK(file.next_data_count <= 101);
}

// --- ReadAhead ---

Async<void> drain(ReadAhead& reader, Content& content, size_t& chunk_count) {
  while (true) {
    CO_TRY_LET(const Chunk chunk, co_await reader.next());
    if (chunk.length == 0) co_return Result<void>();
    ++chunk_count;
    if (chunk.bytes.empty())
      content.resize(content.size() + chunk.length);
    else
      content.insert(content.end(), chunk.bytes.begin(), chunk.bytes.end());
  }
}

// A file of the system, so that transfers are in flight at once.
struct RealDisk {
  explicit RealDisk(const Content& content) {
    tests::put_file(folder.path("raw"), content);
    auto file =
        async::SystemFile::open(*loop, folder.path("raw"), async::SystemFile::Access::read_only);
    REQUIRE_OK(file);
    auto watched_file = std::make_unique<WatchedFile>(std::move(*file));
    watched = watched_file.get();
    disk = std::make_unique<disk::LayeredDisk>(
        layers_of(std::make_unique<disk::RawLayer>(std::move(watched_file))));
  }

  tests::TemporaryFolder folder;
  std::unique_ptr<async::Loop> loop = std::move(*async::Loop::create());
  WatchedFile* watched;
  std::unique_ptr<disk::LayeredDisk> disk;
};

TEST_CASE("chunks are the disk, whatever their size and how many are read at once") {
  for (const size_t length :
       {size_t{0}, size_t{1}, size_t{511}, size_t{513}, size_t{3 * MiB}, size_t{3 * MiB + 777}}) {
    const Content content =
        length == 0 ? Content() : tests::scattered(length, 20, unsigned(length));
    for (const unsigned request_count : {1u, 3u, 16u}) {
      CAPTURE(length);
      CAPTURE(request_count);
      RealDisk real(content);
      ContentCursor cursor(*real.disk);
      const ReadAhead::Options options{.chunk_bytes = 64 * KiB, .request_count = request_count};
      ReadAhead reader(*real.disk, cursor, options);
      Content got;
      size_t chunk_count = 0;
      REQUIRE_OK(real.loop->run(drain(reader, got, chunk_count)));
      REQUIRE_OK(real.loop->run(reader.close()));
      Content wanted = content;
      wanted.resize(align_up(length, sector));
      REQUIRE_EQUAL(got, wanted);
    }
  }
}

TEST_CASE("reads are as many as pieces, however scattered they are") {
  Content content(64 * MiB);
  constexpr size_t piece_count = 500;
  for (size_t i = 0; i < piece_count; ++i) content[i * 128 * KiB] = std::byte{1};
  RealDisk real(content);
  ContentCursor cursor(*real.disk);
  const ReadAhead::Options options;
  ReadAhead reader(*real.disk, cursor, options);
  Content got;
  size_t chunk_count = 0;
  REQUIRE_OK(real.loop->run(drain(reader, got, chunk_count)));
  REQUIRE_OK(real.loop->run(reader.close()));
  CHECK(real.watched->read_count == piece_count);
  CHECK(real.watched->next_data_count <= piece_count + 1);
  CHECK(chunk_count <= 2 * piece_count + 1);
}

TEST_CASE("a chunk's bytes stay for as many calls as there are requests") {
  const Content content = tests::random_bytes(100 * 4096, 1);
  RealDisk real(content);
  ContentCursor cursor(*real.disk);
  const ReadAhead::Options options{.chunk_bytes = 4096, .request_count = 4};
  ReadAhead reader(*real.disk, cursor, options);
  std::deque<Chunk> kept;
  while (true) {
    const auto chunk = real.loop->run(reader.next());
    REQUIRE_OK(chunk);
    for (const Chunk& old : kept)
      REQUIRE_EQUAL(old.bytes, std::span(content).subspan(old.disk_offset, old.length));
    if (chunk->length == 0) break;
    kept.push_back(*chunk);
    if (kept.size() > options.request_count) kept.pop_front();
  }
  REQUIRE_OK(real.loop->run(reader.close()));
}

TEST_CASE("a read that fails is the chunk's error, and nothing is left in flight") {
  const Content content = tests::random_bytes(40 * 4096, 1);
  for (const uint64_t failing : {0, 1, 7, 8, 20, 39}) {
    CAPTURE(failing);
    RealDisk real(content);
    real.watched->failing_read = failing;
    ContentCursor cursor(*real.disk);
    const ReadAhead::Options options{.chunk_bytes = 4096, .request_count = 8};
    ReadAhead reader(*real.disk, cursor, options);
    Content got;
    size_t chunk_count = 0;
    REQUIRE_FAILS(Errc::io, "raw: reading", real.loop->run(drain(reader, got, chunk_count)));
    CHECK(chunk_count == failing);
    REQUIRE_FAILS(Errc::io, "raw: reading", real.loop->run(reader.close()));
  }
}

TEST_CASE("a table that is damaged in the middle ends the reading") {
  std::vector<Extent> table;
  for (uint64_t i = 0; i < 40; ++i) table.push_back(data(i * 4096, 4096, (39 - i) * 4096));
  auto layer = std::make_unique<TableLayer>(file_of(std::string(40, 'a')), table, 1);
  layer->failing_from = 20 * 4096;
  disk::LayeredDisk disk(layers_of(std::move(layer)));
  ContentCursor cursor(disk);
  const ReadAhead::Options options{.chunk_bytes = 4096, .request_count = 8};
  ReadAhead reader(disk, cursor, options);
  Content got;
  size_t chunk_count = 0;
  REQUIRE_FAILS(Errc::corrupt, "the table is damaged",
                tests::await(drain(reader, got, chunk_count)));
  REQUIRE_OK(tests::await(reader.close()));
}

Async<void> fail_later(File& file, std::span<std::byte> scratch) {
  CO_TRY(co_await file.read(0, scratch));
  co_return fail(Errc::no_space, "no room for it");
}

// Gives every chunk a user; the one of chunk number `failing` fails.
Async<void> use_all(ReadAhead& reader, File& file, size_t failing, std::span<std::byte> scratch) {
  for (size_t i = 0;; ++i) {
    CO_TRY_LET(const Chunk chunk, co_await reader.next());
    if (chunk.length == 0) co_return Result<void>();
    if (i == failing) chunk.users->start(fail_later(file, scratch));
  }
}

TEST_CASE("a user that fails is an error when its buffer is needed again, or at the end") {
  const Content content = tests::random_bytes(40 * 4096, 1);
  for (const size_t failing : {0, 20, 23, 24, 39}) {
    CAPTURE(failing);
    RealDisk real(content);
    ContentCursor cursor(*real.disk);
    const ReadAhead::Options options{.chunk_bytes = 4096, .request_count = 8};
    ReadAhead reader(*real.disk, cursor, options);
    Content scratch(4096);
    const auto used = real.loop->run(use_all(reader, *real.watched, failing, scratch));
    CHECK(used.has_value() == (failing + 16 >= 40));
    if (!used) CHECK(used.error().code == Errc::no_space);
    REQUIRE_FAILS(Errc::no_space, "no room for it", real.loop->run(reader.close()));
  }
}

TEST_CASE("a reader that is closed early waits for what it began") {
  RealDisk real(tests::random_bytes(40 * 4096, 1));
  ContentCursor cursor(*real.disk);
  const ReadAhead::Options options{.chunk_bytes = 4096, .request_count = 8};
  ReadAhead reader(*real.disk, cursor, options);
  REQUIRE_OK(real.loop->run(reader.next()));
  REQUIRE_OK(real.loop->run(reader.close()));
  CHECK(real.watched->read_count == 8);
}

}  // namespace
}  // namespace vhdkit::image
