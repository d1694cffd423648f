#include "image/transfer.h"

#include <doctest/doctest.h>

#include "async/memory_file.h"
#include "disk/raw_layer.h"
#include "disk/raw_writer.h"
#include "libvhd/create.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/content.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/watched_file.h"

namespace vhdkit::image {
namespace {

using async::MemoryFile;
using async::SystemFile;
using tests::Content;
using tests::WatchedFile;

std::unique_ptr<disk::LayeredDisk> disk_of(std::unique_ptr<disk::Layer> layer) {
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(layer));
  return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

std::unique_ptr<disk::LayeredDisk> raw_disk(const Content& content) {
  return disk_of(std::make_unique<disk::RawLayer>(std::make_unique<MemoryFile>("raw", content)));
}

std::unique_ptr<disk::BulkWriter> dynamic_writer(File& file, uint64_t size_bytes) {
  const libvhd::CreateOptions options{.size_bytes = size_bytes,
                                      .block_size_bytes = 512 * KiB,
                                      .unique_id = Guid::random(),
                                      .time_stamp = 1,
                                      .parent = std::nullopt};
  auto writer = libvhd::create(file, options);
  REQUIRE_OK(writer);
  return std::move(*writer);
}

Result<ConvertReport> moved(disk::LayeredDisk& source, disk::BulkWriter& writer,
                            async::Loop& loop) {
  const ConvertOptions options;
  ConvertReport report;
  TRY(loop.run(transfer(source, writer, options, nullptr, report)));
  TRY(loop.run(writer.finish()));
  return report;
}

TEST_CASE("runs of zeroes from 16 KiB on are left out, and no page of data is") {
  // A letter for each page: data, its end inside the page; zero; data up to the page's end.
  const std::string_view layouts[] = {"",        "d",     ".",     ".d.",         "d...d",
                                      "d....d",  "....d", "d....", "d.....d...d", "........",
                                      "dddddddd"};
  const size_t written_pages[] = {0, 1, 0, 1, 5, 2, 1, 1, 6, 0, 8};
  for (size_t i = 0; i < std::size(layouts); ++i) {
    CAPTURE(layouts[i]);
    Content content(4096 * layouts[i].size());
    for (size_t page = 0; page < layouts[i].size(); ++page)
      if (layouts[i][page] == 'd') content[page * 4096 + 99] = std::byte{1};
    const auto loop = std::move(*async::Loop::create());
    const auto source = raw_disk(content);
    MemoryFile target("target");
    disk::RawWriter writer(target, content.size());
    const auto report = moved(*source, writer, *loop);
    REQUIRE_OK(report);
    CHECK(report->copied_bytes == written_pages[i] * 4096);
    CHECK(report->zero_bytes == content.size() - report->copied_bytes);
    Content got(content.size());
    target.fetch(0, got);
    REQUIRE_EQUAL(got, content);
  }
}

TEST_CASE("writes are as many as pieces, however scattered they are") {
  constexpr size_t piece_count = 300;
  Content content(64 * MiB);
  for (size_t i = 0; i < piece_count; ++i) content[i * 200 * KiB] = std::byte{1};
  const auto loop = std::move(*async::Loop::create());
  const auto source = raw_disk(content);
  WatchedFile target(std::make_unique<MemoryFile>("target"));
  disk::RawWriter writer(target, content.size());
  REQUIRE_OK(moved(*source, writer, *loop));
  CHECK(target.write_count == piece_count);
  CHECK(target.read_count == 0);
}

TEST_CASE("bug class 5: a write that fails fails the conversion, whichever it is") {
  const Content content = tests::random_bytes(24 * 512 * KiB, 1);
  tests::TemporaryFolder folder;
  const auto loop = std::move(*async::Loop::create());
  tests::put_file(folder.path("source"), content);
  for (uint64_t failing = 0; failing < 24; ++failing) {
    CAPTURE(failing);
    auto from = SystemFile::open(*loop, folder.path("source"), SystemFile::Access::read_only);
    REQUIRE_OK(from);
    const auto source = disk_of(std::make_unique<disk::RawLayer>(std::move(*from)));
    const std::string name = "target" + std::to_string(failing);
    tests::put_file(folder.path(name), Content());
    auto to = SystemFile::open(*loop, folder.path(name), SystemFile::Access::read_write);
    REQUIRE_OK(to);
    WatchedFile target(std::move(*to));
    target.failing_write = failing;
    const auto writer = dynamic_writer(target, content.size());
    const ConvertOptions options;
    ConvertReport report;
    REQUIRE_FAILS(Errc::no_space, name + ": writing",
                  loop->run(transfer(*source, *writer, options, nullptr, report)));
    CHECK(target.write_count > failing);
    // It stops soon after: at most what was in flight is still written.
    CHECK(target.write_count <= failing + 1 + 2 * options.request_count);
  }
}

TEST_CASE("a read that fails fails the conversion, whichever it is") {
  const Content content = tests::random_bytes(8 * MiB, 1);
  const auto loop = std::move(*async::Loop::create());
  for (uint64_t failing = 0; failing < 8; ++failing) {
    auto from = std::make_unique<WatchedFile>(std::make_unique<MemoryFile>("source", content));
    from->failing_read = failing;
    const auto source = disk_of(std::make_unique<disk::RawLayer>(std::move(from)));
    MemoryFile target("target");
    disk::RawWriter writer(target, content.size());
    REQUIRE_FAILS(Errc::io, "source: reading", moved(*source, writer, *loop));
  }
}

TEST_CASE("blocks are placed where there is data, and where it is only zeroes they are not") {
  Content content(16 * 512 * KiB);
  content[3 * 512 * KiB + 7] = std::byte{1};
  content[3 * 512 * KiB + 100 * KiB] = std::byte{1};
  content[15 * 512 * KiB + 512 * KiB - 1] = std::byte{1};
  const auto loop = std::move(*async::Loop::create());
  const auto source = raw_disk(content);
  MemoryFile target("target");
  const auto writer = dynamic_writer(target, content.size());
  const auto placed = loop->run(place_blocks(*source, *writer, nullptr));
  REQUIRE_OK(placed);
  CHECK(std::ranges::count(*placed, true) == 2);
  CHECK((*placed)[3]);
  CHECK((*placed)[15]);
  const uint64_t size = writer->file_size_bytes();
  MemoryFile copied("copied");
  const auto copier = dynamic_writer(copied, content.size());
  REQUIRE_OK(moved(*source, *copier, *loop));
  CHECK(copied.size_bytes() == size);
}

}  // namespace
}  // namespace vhdkit::image
