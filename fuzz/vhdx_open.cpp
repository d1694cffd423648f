// Opens, audits and resolves a VHDX. The input: flags (one byte), the file's size in 64 KiB (le16),
// then chunks as input.h has them.
#include "fuzz/input.h"
#include "fuzz/write.h"
#include "support/crc32c.h"
#include "vhdx/headers.h"
#include "vhdx/region_table.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit {
namespace {

// Bits of the flags.
constexpr unsigned keep_checksums = 0;  // four: headers, region tables; else they are repaired
constexpr unsigned ignore_log = 4;
constexpr unsigned write = 5;  // write to it as well

constexpr uint64_t checked_blocks = 256;

void repair_checksum(async::MemoryFile& file, uint64_t file_offset, size_t length) {
  static_assert(offsetof(vhdx::Header, checksum) == offsetof(vhdx::RegionTableHeader, checksum));
  std::vector<std::byte> bytes(length);
  file.fetch(file_offset, bytes);
  const le32 checksum = crc32c_without(bytes, offsetof(vhdx::Header, checksum));
  file.store(file_offset + offsetof(vhdx::Header, checksum), bytes_of(checksum));
}

std::unique_ptr<async::MemoryFile> file_of(fuzz::Input& input, unsigned flags) {
  auto file = std::make_unique<async::MemoryFile>("fuzz.vhdx");
  const uint64_t size = input.take_value<le16>() * 64 * KiB;
  fuzz::store_chunks(input, *file);
  for (unsigned i = 0; i < 2; ++i) {
    if ((flags >> (keep_checksums + i) & 1) == 0)
      repair_checksum(*file, vhdx::header_offsets[i], sizeof(vhdx::Header));
    if ((flags >> (keep_checksums + 2 + i) & 1) == 0)
      repair_checksum(*file, vhdx::region_table_offsets[i], vhdx::region_table_bytes);
  }
  std::ignore = file->resize(size);
  return file;
}

// What every caller relies on: the extents tile the range from its start, and data lies in the file
// behind the header section.
void check_extents(disk::Layer& layer, const disk::ExtentList& extents, uint64_t disk_offset,
                   uint64_t end) {
  fuzz::require(!extents.empty(), "a range has extents");
  for (const disk::Extent& extent : extents) {
    fuzz::require(extent.disk_offset == disk_offset && extent.length > 0, "extents tile");
    fuzz::require(extent.length <= end - disk_offset, "extents end with the range");
    disk_offset += extent.length;
    if (extent.kind != disk::ExtentKind::data) continue;
    fuzz::require(range_fits(extent.file_offset, extent.length, layer.file().size_bytes()),
                  "data lies in the file");
    fuzz::require(extent.file_offset >= vhdx::header_section_bytes, "data is no header");
  }
}

void resolve(disk::Layer& layer, uint64_t disk_offset, bool is_sound) {
  const uint64_t size = layer.geometry().size_bytes;
  if (disk_offset >= size) return;
  const uint64_t length = std::min(size - disk_offset, checked_blocks * layer.block_size_bytes());
  disk::ExtentList extents;
  const auto done = fuzz::run(layer.resolve(disk_offset, length, extents));
  fuzz::require(done.has_value() || !is_sound, "what an audit passed can be resolved");
  if (done) check_extents(layer, extents, disk_offset, disk_offset + length);
}

void examine(disk::Layer& layer) {
  const bool is_sound = fuzz::run(layer.audit()).has_value();
  const uint64_t size = layer.geometry().size_bytes;
  const uint64_t last_block = size - std::min(size, layer.block_size_bytes());
  for (const uint64_t disk_offset : {uint64_t{0}, uint64_t{4097}, 4 * GiB - 512, last_block})
    resolve(layer, disk_offset, is_sound);
  std::ignore = layer.describe();
  const bool has_parent = layer.parent() != nullptr;
  fuzz::require(!has_parent || !layer.parent()->identities.empty(), "a parent is named");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const auto flags = std::to_integer<unsigned>(input.take_value<std::byte>());
  auto file = file_of(input, flags);
  if ((flags >> write & 1) != 0) {
    auto copy = std::make_unique<async::MemoryFile>(*file);
    auto writable = fuzz::run(vhdx::open_layer(std::move(copy), {.writable = true}));
    if (writable) fuzz::write_sectors(std::move(*writable));
  }
  const vhdx::OpenOptions options{.ignore_log = (flags >> ignore_log & 1) != 0};
  const auto layer = fuzz::run(vhdx::open_layer(std::move(file), options));
  if (layer) examine(**layer);
  return 0;
}

}  // namespace vhdkit
