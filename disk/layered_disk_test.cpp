#include "disk/layered_disk.h"

#include <doctest/doctest.h>

#include <vector>

#include "async/memory_file.h"
#include "disk/raw_layer.h"
#include "support/bytes.h"
#include "tests/support/await.h"

namespace vhdkit::disk {
namespace {

// A layer that holds every second block of 1 KiB and leaves the others to its parent.
class StripedLayer final : public Layer {
 public:
  StripedLayer(uint64_t size_bytes, uint64_t phase, std::byte fill)
      : phase_(phase), file_("striped") {
    geometry_.size_bytes = size_bytes;
    const std::vector<std::byte> content(size_bytes, fill);
    file_.store(0, content);
  }
  const Geometry& geometry() const override { return geometry_; }
  File& file() override { return file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) override {
    const uint64_t end = std::min(disk_offset + length, disk_offset + 16 * 1024);  // stops early
    while (disk_offset < end) {
      const uint64_t next = std::min(end, (disk_offset / 1024 + 1) * 1024);
      const bool here = disk_offset / 1024 % 2 == phase_;
      const Extent extent{.disk_offset = disk_offset,
                          .length = next - disk_offset,
                          .kind = here ? ExtentKind::data : ExtentKind::parent,
                          .file_offset = here ? disk_offset : 0};
      extents.append(extent);
      disk_offset = next;
    }
    co_return Result<void>();
  }
  Async<void> audit() override { co_return Result<void>(); }
  uint64_t block_size_bytes() const override { return 1024; }
  Description describe() const override { return {}; }

 private:
  uint64_t phase_;
  async::MemoryFile file_;
  Geometry geometry_;
};

std::unique_ptr<Layer> raw(uint64_t size_bytes, std::byte fill) {
  const std::vector<std::byte> content(size_bytes, fill);
  return std::make_unique<RawLayer>(std::make_unique<async::MemoryFile>("raw", content));
}

TEST_CASE("a child larger than its parent reads zeroes beyond the parent's end") {
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<StripedLayer>(64 * 1024, 0, std::byte{1}));
  layers.push_back(raw(10 * 1024 + 512, std::byte{2}));
  LayeredDisk disk(std::move(layers));
  std::vector<std::byte> got(64 * 1024);
  REQUIRE_OK(tests::await(disk.read(0, got)));
  for (size_t at = 0; at < got.size(); at += 512) {
    const std::byte wanted = at / 1024 % 2 == 0
                                 ? std::byte{1}
                                 : std::byte{at < 10 * 1024 + 512 ? uint8_t{2} : uint8_t{0}};
    CHECK(got[at] == wanted);
  }
}

TEST_CASE("extents of a chain tile the range, name their depth and merge") {
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<StripedLayer>(32 * 1024, 0, std::byte{1}));
  layers.push_back(
      std::make_unique<StripedLayer>(32 * 1024, 0, std::byte{2}));  // hides nothing new
  layers.push_back(raw(32 * 1024, std::byte{3}));
  LayeredDisk disk(std::move(layers));
  ExtentList extents;
  REQUIRE_OK(tests::await(disk.extents(0, 32 * 1024, extents)));
  REQUIRE(extents.size() == 32);
  uint64_t at = 0;
  for (const Extent& extent : extents) {
    CHECK(extent.disk_offset == at);
    CHECK(extent.depth == (at / 1024 % 2 == 0 ? 0 : 2));
    at += extent.length;
  }
  CHECK(at == 32 * 1024);
}

TEST_CASE("a thousand transparent layers resolve without recursion") {
  std::vector<std::unique_ptr<Layer>> layers;
  for (int i = 0; i < 1023; ++i)
    layers.push_back(std::make_unique<StripedLayer>(4096, 0, std::byte{1}));
  layers.push_back(raw(4096, std::byte{9}));
  LayeredDisk disk(std::move(layers));
  std::vector<std::byte> got(512);
  REQUIRE_OK(tests::await(disk.read(1024, got)));
  CHECK(got[0] == std::byte{9});
}

TEST_CASE("a raw file's torn last sector is padded with zeroes") {
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(raw(700, std::byte{5}));
  LayeredDisk disk(std::move(layers));
  CHECK(disk.geometry().size_bytes == 1024);
  std::vector<std::byte> got(1024);
  REQUIRE_OK(tests::await(disk.read(0, got)));
  CHECK(got[699] == std::byte{5});
  CHECK(is_zero(std::span(got).subspan(700)));
  REQUIRE_FAILS(Errc::read_only, "reading only", tests::await(disk.write(0, got)));
}

}  // namespace
}  // namespace vhdkit::disk
