#include "vhdx/vhdx_layer.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using tests::await;
using tests::VhdxImage;

// Counts what is read of a file.
class CountingFile final : public File {
 public:
  CountingFile(std::unique_ptr<MemoryFile> base, uint64_t& bytes_read)
      : base_(std::move(base)), bytes_read_(bytes_read) {}

  const std::string& name() const override { return base_->name(); }
  uint64_t size_bytes() const override { return base_->size_bytes(); }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override {
    for (const iovec& buffer : buffers) bytes_read_ += buffer.iov_len;
    co_return co_await base_->readv(file_offset, buffers);
  }
  Async<void> writev(uint64_t, Buffers, Durability) override {
    co_return fail(Errc::read_only, name());
  }
  Async<void> flush() override { co_return Result<void>(); }
  Result<void> resize(uint64_t) override { return fail(Errc::read_only, name()); }
  Result<std::optional<async::FileRange>> next_data(uint64_t file_offset, uint64_t end) override {
    return base_->next_data(file_offset, end);
  }
  Result<void> punch_hole(uint64_t, uint64_t) override { return fail(Errc::read_only, name()); }
  int descriptor(uint64_t, uint64_t) const override { return -1; }

 private:
  std::unique_ptr<MemoryFile> base_;
  uint64_t& bytes_read_;
};

Result<std::unique_ptr<disk::Layer>> open(const VhdxImage& image, OpenOptions options = {}) {
  return await(open_layer(image.build(), options));
}

std::string field(const disk::Description& description, std::string_view key) {
  for (const auto& [name, value] : description.fields()) {
    if (name != key) continue;
    if (const auto* text = std::get_if<std::string>(&value)) return *text;
    if (const auto* number = std::get_if<uint64_t>(&value)) return std::to_string(*number);
    if (const auto* bytes = std::get_if<disk::Bytes>(&value)) return std::to_string(bytes->value);
    if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
      std::string all;
      for (const std::string& one : *texts) all += "[" + one + "]";
      return all;
    }
  }
  return "(none)";
}

TEST_CASE("a layer tells size, sectors, block size and identity") {
  VhdxImage image;
  image.metadata.logical_sector_bytes = 4096;
  const auto layer = open(image);
  REQUIRE_OK(layer);
  CHECK((*layer)->geometry().size_bytes == 8 * MiB);
  CHECK((*layer)->geometry().logical_sector_bytes == 4096);
  CHECK((*layer)->geometry().physical_sector_bytes == 4096);
  CHECK((*layer)->geometry().read_only);
  CHECK((*layer)->block_size_bytes() == 1 * MiB);
  CHECK((*layer)->identity() == image.header.data_write_guid);
  CHECK_FALSE((*layer)->time_stamp().has_value());
  CHECK((*layer)->parent() == nullptr);
}

TEST_CASE("a child tells its parent, whatever the flag of fixed disks says") {
  VhdxImage image;
  image.make_differencing();
  image.metadata.leave_blocks_allocated = true;
  const auto layer = open(image);
  REQUIRE_OK(layer);
  const disk::ParentReference* parent = (*layer)->parent();
  REQUIRE(parent != nullptr);
  CHECK(parent->identities ==
        std::vector<Guid>{Guid::literal("fedcba98-7654-3210-fedc-ba9876543210")});
  REQUIRE(parent->paths.size() == 1);
  CHECK(parent->paths[0].path == R"(.\base.vhdx)");
  CHECK(field((*layer)->describe(), "type") == "differencing");
  CHECK(field((*layer)->describe(), "parent-linkage") == "{fedcba98-7654-3210-fedc-ba9876543210}");
  CHECK(field((*layer)->describe(), "parent-locators") == R"([relative_path: .\base.vhdx])");
}

TEST_CASE("a disk of no bytes is a disk: QEMU makes them") {
  VhdxImage image;
  image.metadata.disk_size_bytes = 0;
  const auto layer = open(image);
  REQUIRE_OK(layer);
  REQUIRE_OK(await((*layer)->audit()));
}

TEST_CASE("a description has its keys in their order") {
  VhdxImage image;
  image.metadata.leave_blocks_allocated = true;
  const auto layer = open(image);
  REQUIRE_OK(layer);
  const disk::Description description = (*layer)->describe();
  std::vector<std::string> keys;
  for (const auto& one : description.fields()) keys.push_back(one.key);
  CHECK(keys == std::vector<std::string>{
                    "type", "block-size", "logical-sector-size", "physical-sector-size", "disk-id",
                    "data-write-guid", "file-write-guid", "log-state", "log-offset", "log-size",
                    "bat-offset", "bat-size", "metadata-offset", "metadata-size", "creator"});
  CHECK(field(description, "type") == "fixed");
  CHECK(field(description, "block-size") == "1048576");
  CHECK(field(description, "disk-id") == "89abcdef-0123-4567-89ab-cdef01234567");
  CHECK(field(description, "data-write-guid") == "01234567-89ab-cdef-0123-456789abcdef");
  CHECK(field(description, "log-state") == "clean");
  CHECK(field(description, "log-offset") == "1048576");
  CHECK(field(description, "bat-offset") == "3145728");
  CHECK(field(description, "metadata-offset") == "2097152");
}

TEST_CASE("damage that leaves the content readable is a warning") {
  const auto file = [] {
    auto built = VhdxImage().build();
    built->store(header_offsets[0], tests::from_hex("00"));
    built->store(region_table_offsets[0], tests::from_hex("00"));
    return built;
  };
  const auto layer = await(open_layer(file(), {}));
  REQUIRE_OK(layer);
  CHECK(field((*layer)->describe(), "type") == "dynamic");
  CHECK(field((*layer)->describe(), "warnings") ==
        "[header 1 at offset 0x10000: signature 0x64616500 is not \"head\"]"
        "[region table 1 at offset 0x30000: signature 0x69676500 is not \"regi\"]");
}

TEST_CASE("a log that is not empty is said to be ignored where that was asked for") {
  VhdxImage image;
  image.header.log_guid = Guid::literal("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
  const auto layer = open(image, {.ignore_log = true});
  REQUIRE_OK(layer);
  CHECK(field((*layer)->describe(), "log-state") == "dirty");
  CHECK(field((*layer)->describe(), "log-replay") == "ignored");
  CHECK(
      field((*layer)->describe(), "warnings").starts_with("[the log is not empty and was ignored"));
}

TEST_CASE("corrupt: a BAT region that is shorter than the disk's BAT") {
  VhdxImage image;
  image.metadata.disk_size_bytes = 131041 * MiB;  // with 31 bitmap entries: 131,072
  REQUIRE_OK(open(image));
  image.metadata.disk_size_bytes += 512;
  REQUIRE_FAILS(
      Errc::corrupt,
      "a.vhdx: BAT region at offset 0x300000: length 0x100000 has room for 131072 entries, "
      "the disk has 131073",
      open(image));
  // A child's BAT goes on to the last bitmap entry: 32 chunks of 4,097.
  image.make_differencing();
  image.metadata.disk_size_bytes = 131041 * MiB;
  REQUIRE_FAILS(Errc::corrupt, "the disk has 131104", open(image));
}

TEST_CASE("bug class 21: truncated at every structure, an image is refused or whole") {
  const uint64_t ends[] = {520,       64 * KiB,  68 * KiB, 128 * KiB, 132 * KiB,          192 * KiB,
                           256 * KiB, 320 * KiB, 1 * MiB,  2 * MiB,   2 * MiB + 64 * KiB, 3 * MiB,
                           4 * MiB};
  for (const uint64_t end : ends) {
    for (const uint64_t file_bytes : {end - 1, end}) {
      VhdxImage image;
      image.file_bytes = file_bytes;
      CAPTURE(file_bytes);
      if (file_bytes == 4 * MiB) {
        REQUIRE_OK(open(image));
      } else {
        REQUIRE_FAILS(Errc::corrupt, "a.vhdx: ", open(image));
      }
    }
  }
}

TEST_CASE("bug class 25: an image that was never mounted opens, and nothing is written") {
  VhdxImage image;
  image.header.sequence_number = 1;
  auto file = image.build();
  MemoryFile& watched = *file;
  const auto layer = await(open_layer(std::move(file), {}));
  REQUIRE_OK(layer);
  REQUIRE_OK(await((*layer)->audit()));
  CHECK(watched.write_count() == 0);
}

TEST_CASE("a 64 TiB disk costs what is allocated of it: holes of the BAT are not read") {
  VhdxImage image;
  image.metadata.disk_size_bytes = 64 * TiB;
  image.bat.length = 513 * MiB;
  image.file_bytes = 600 * MiB;
  image.entries = {{0, 520 * MiB | 6}, {67125246, 521 * MiB | 6}};  // the first and the last
  uint64_t bytes_read = 0;
  const auto layer =
      await(open_layer(std::make_unique<CountingFile>(image.build(), bytes_read), {}));
  REQUIRE_OK(layer);
  CHECK(bytes_read < 512 * KiB);
  bytes_read = 0;
  REQUIRE_OK(await((*layer)->audit()));
  CHECK(bytes_read <= 128 * KiB);
  bytes_read = 0;
  disk::ExtentList extents;
  REQUIRE_OK(await((*layer)->resolve(64 * TiB - 2 * MiB, 2 * MiB, extents)));
  CHECK(extents.size() == 2);
  CHECK(extents[1].file_offset == 521 * MiB);
  CHECK(bytes_read == 0);
  extents.clear();
  REQUIRE_OK(await((*layer)->resolve(1 * MiB + 512, 64 * TiB - 1 * MiB - 512, extents)));
  REQUIRE(extents.size() == 2);
  CHECK(extents[0].kind == disk::ExtentKind::zero);
  CHECK(extents[0].disk_offset == 1 * MiB + 512);
  CHECK(extents[1].disk_offset == 64 * TiB - 1 * MiB);
  CHECK(bytes_read == 0);
}

}  // namespace
}  // namespace vhdkit::vhdx
