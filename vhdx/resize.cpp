#include "vhdx/resize.h"

#include <fmt/format.h>

#include <algorithm>

#include "async/forwarding_file.h"
#include "disk/layered_disk.h"
#include "disk/zero_range.h"
#include "vhdx/block_layer.h"
#include "vhdx/edit.h"

namespace vhdkit::vhdx {
namespace {

constexpr uint64_t copy_bytes = 1 * MiB;

Async<OpenedImage> read_image(File& file) {
  OpenedImage image;
  CO_TRY_LET(image.headers, co_await read_headers(file));
  CO_TRY_LET(image.regions, co_await read_region_table(file, image.headers.current));
  CO_TRY_LET(image.metadata, co_await read_metadata(file, image.regions.metadata));
  co_return std::move(image);
}

Result<std::unique_ptr<BlockLayer>> layer_of(std::unique_ptr<File> file, OpenedImage image,
                                             uint64_t file_bytes) {
  TRY_LET(ImageLayout layout,
          with_context(layout_of(image.headers.current, image.regions, image.metadata, file_bytes),
                       file->name()));
  return std::make_unique<BlockLayer>(std::move(file), std::move(image), std::move(layout));
}

// The image for writing as it will be, or was: its file does not say so, and its children stay.
Async<std::unique_ptr<disk::LayeredDisk>> open_as(std::unique_ptr<File> file, OpenedImage image) {
  const uint64_t file_bytes = file->size_bytes();
  CO_TRY_LET(auto layer, layer_of(std::move(file), std::move(image), file_bytes));
  CO_TRY(co_await layer->make_writable(true));
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(layer));
  co_return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

// Makes what the image itself holds of [begin, end) zero; blocks that lie in it are given back.
Async<void> zero_data(disk::LayeredDisk& disk, uint64_t begin, uint64_t end) {
  disk::Layer& layer = disk.layer(0);
  const uint64_t block_bytes = layer.block_size_bytes();
  const uint64_t whole_blocks = align_up(begin, block_bytes);
  disk::ExtentList extents;
  while (begin < end) {
    extents.clear();
    CO_TRY(co_await layer.resolve(begin, end - begin, extents));
    for (const disk::Extent& extent : extents) {
      begin = extent.disk_offset + extent.length;
      if (extent.kind != disk::ExtentKind::data) continue;
      const bool in_whole = extent.disk_offset >= whole_blocks;
      const uint64_t first =
          in_whole ? align_down(extent.disk_offset, block_bytes) : extent.disk_offset;
      const uint64_t last =
          begin > whole_blocks ? std::min(align_up(begin, block_bytes), end) : begin;
      CO_TRY(co_await disk.zero(first, last - first));
    }
  }
  co_return Result<void>();
}

// --- growing ---

BatLayout bat_of(const OpenedImage& image, uint64_t disk_bytes) {
  return {.disk_bytes = disk_bytes,
          .block_bytes = image.metadata.block_size_bytes,
          .logical_sector_bytes = image.metadata.logical_sector_bytes,
          .has_parent = image.metadata.has_parent};
}

// Makes the entries zero that only the larger of two disks has.
Async<void> clear_entries(File& file, const Region& bat, const BatLayout& smaller,
                          const BatLayout& larger) {
  const auto clear = [&](uint64_t index, uint64_t end) {
    const uint64_t length = (std::max(end, index) - index) * sizeof(le64);
    return disk::zero_range(file, bat.file_offset + index * sizeof(le64), length);
  };
  const uint64_t blocks = smaller.payload_block_count();
  uint64_t index = blocks == 0 ? 0 : smaller.payload_index(blocks - 1) + 1;
  if (smaller.has_parent && blocks > 0) {
    // The last chunk's blocks have their bitmap's entry behind them.
    const uint64_t bitmap = smaller.bitmap_index(smaller.bitmap_block_count() - 1);
    CO_TRY(co_await clear(index, bitmap));
    index = bitmap + 1;
  }
  co_return co_await clear(index, larger.entry_count());
}

// Gets the file and its tables ready for the larger disk, where nobody looks yet.
class Growth {
 public:
  // The file and the image outlive it. The image becomes what it will be.
  Growth(File& file, OpenedImage& image, uint64_t size_bytes)
      : file_(file),
        image_(image),
        now_(bat_of(image, image.metadata.disk_size_bytes)),
        then_(bat_of(image, size_bytes)) {}

  Async<void> run() {
    CO_TRY(check_sequence_room(file_, image_.headers));
    image_.headers.current.file_write_guid = Guid::random();
    CO_TRY(co_await write_headers(file_, image_.headers));
    CO_TRY(co_await complete_last_block());
    image_.metadata.disk_size_bytes = then_.disk_bytes;
    if (then_.entry_count() * sizeof(le64) > image_.regions.bat.length) {
      CO_TRY(co_await move_bat());
    }
    // Whoever made the disk smaller may have left entries behind.
    CO_TRY(co_await clear_entries(file_, image_.regions.bat, now_, then_));
    if (image_.metadata.is_fixed()) {
      CO_TRY(co_await place_new_blocks());
    }
    co_return co_await file_.flush();
  }

 private:
  uint64_t entry_offset(uint64_t index) const {
    return image_.regions.bat.file_offset + index * sizeof(le64);
  }
  // QEMU ends a file where the disk ends.
  Async<void> complete_last_block() {
    if (now_.disk_bytes == 0) co_return Result<void>();
    const uint64_t last = now_.payload_index(now_.payload_block_count() - 1);
    le64 entry;
    const auto buffer = writable_bytes_of(entry);
    CO_TRY(co_await file_.read(entry_offset(last), buffer));
    if (!is_allocated(entry)) co_return Result<void>();
    const uint64_t end = bat_file_offset_of(entry) + now_.block_bytes;
    if (end <= file_.size_bytes()) co_return Result<void>();
    co_return file_.resize(end);
  }

  // A longer region with the same entries. The old one stays as it is, and in use.
  Async<void> move_bat() {
    const Region old = image_.regions.bat;
    Region& bat = image_.regions.bat;
    bat.file_offset = align_up(file_.size_bytes(), alignment_bytes);
    bat.length = align_up(then_.entry_count() * sizeof(le64), alignment_bytes);
    image_.regions.unknown.push_back(old);
    CO_TRY(file_.resize(bat.file_offset + bat.length));
    std::vector<std::byte> bytes(copy_bytes);
    const uint64_t end = old.file_offset + now_.entry_count() * sizeof(le64);
    for (uint64_t at = old.file_offset; at < end;) {
      CO_TRY_LET(const auto data, file_.next_data(at, end));
      if (!data) break;
      const auto piece = std::span(bytes).first(std::min(data->length, copy_bytes));
      CO_TRY(co_await file_.read(data->file_offset, piece));
      const std::span<const std::byte> copy(piece);
      CO_TRY(co_await file_.write(bat.file_offset + data->file_offset - old.file_offset, copy));
      at = data->file_offset + piece.size();
    }
    co_return Result<void>();
  }

  // One behind the other at the end of the file.
  Async<void> place_new_blocks() {
    const uint64_t first_block = now_.payload_block_count();
    const uint64_t end_block = then_.payload_block_count();
    const uint64_t first_place = align_up(file_.size_bytes(), alignment_bytes);
    CO_TRY(file_.resize(first_place + (end_block - first_block) * then_.block_bytes));
    std::vector<le64> piece;
    uint64_t piece_index = then_.payload_index(first_block);
    for (uint64_t block = first_block; block < end_block; ++block) {
      piece.resize(then_.payload_index(block) - piece_index);  // a bitmap entry is zero
      const uint64_t place = first_place + (block - first_block) * then_.block_bytes;
      piece.push_back(make_bat_entry(BlockState::fully_present, place));
      if (piece.size() < entries_per_piece && block + 1 < end_block) continue;
      const auto bytes = std::as_bytes(std::span(piece));
      CO_TRY(co_await file_.write(entry_offset(piece_index), bytes));
      piece_index += piece.size();
      piece.clear();
    }
    co_return Result<void>();
  }

  File& file_;
  OpenedImage& image_;
  BatLayout now_;
  BatLayout then_;
};

// Whether the last block can have the bytes that the disk gets in it. Old QEMU cut it off where the
// disk ended, and put the next block there.
Async<void> check_room_to_grow(File& file, OpenedImage image, uint64_t size_bytes) {
  const uint64_t block_bytes = image.metadata.block_size_bytes;
  uint64_t& disk_bytes = image.metadata.disk_size_bytes;
  disk_bytes = std::min(size_bytes, align_up(disk_bytes, block_bytes));
  auto view = std::make_unique<async::ForwardingFile>(file);
  // At the file's end there is room.
  CO_TRY_LET(const auto layer,
             layer_of(std::move(view), std::move(image), file.size_bytes() + block_bytes));
  const auto audited = co_await layer->audit();
  if (audited || audited.error().code != Errc::corrupt) co_return audited;
  co_return fail(Errc::unsupported,
                 fmt::format("{}: the disk's last block has no room to grow in the file; convert "
                             "it instead ({})",
                             file.name(), audited.error().message));
}

Async<void> grow(std::unique_ptr<File> file, OpenedImage image, ResizeOptions options) {
  CO_TRY(co_await check_room_to_grow(*file, image, options.size_bytes));
  const uint64_t old_bytes = image.metadata.disk_size_bytes;
  const bool has_parent = image.metadata.has_parent;
  const Region old_bat = image.regions.bat;
  Growth growth(*file, image, options.size_bytes);
  CO_TRY(co_await growth.run());
  const Region bat = image.regions.bat;
  CO_TRY_LET(const auto disk, co_await open_as(std::move(file), std::move(image)));
  const uint64_t end_of_block = align_up(old_bytes, disk->layer(0).block_size_bytes());
  CO_TRY(co_await zero_data(*disk, old_bytes, std::min(end_of_block, options.size_bytes)));
  const uint64_t end_of_parent = std::min(options.parent_bytes, options.size_bytes);
  if (has_parent && end_of_parent > old_bytes)
    CO_TRY(co_await disk->zero(old_bytes, end_of_parent - old_bytes));
  CO_TRY(co_await disk->close());

  File& inside = disk->layer(0).file();
  CO_TRY(co_await inside.flush());
  MetadataChange change{.disk_size_bytes = options.size_bytes};
  const bool has_moved = bat.file_offset != old_bat.file_offset;
  if (has_moved) change.bat = bat;
  CO_TRY(co_await change_metadata(inside, change));
  if (has_moved) CO_TRY(co_await disk::zero_range(inside, old_bat.file_offset, old_bat.length));
  co_return co_await inside.flush();
}

// --- shrinking ---

Async<void> cut_to_content(File& file) {
  CO_TRY_LET(OpenedImage image, co_await read_image(file));
  auto view = std::make_unique<async::ForwardingFile>(file);
  CO_TRY_LET(const auto layer, layer_of(std::move(view), std::move(image), file.size_bytes()));
  co_return co_await layer->cut_to_content();
}

Async<void> shrink(std::unique_ptr<File> file, OpenedImage image, ResizeOptions options) {
  MetadataChange change{.disk_size_bytes = options.size_bytes};
  if (!options.keep_identity) change.data_write_guid = Guid::random();
  CO_TRY(co_await change_metadata(*file, change));
  // As the disk was, so that what it has behind its new end can be given back.
  CO_TRY_LET(image.headers, co_await read_headers(*file));
  const uint64_t old_bytes = image.metadata.disk_size_bytes;
  const Region bat = image.regions.bat;
  const BatLayout larger = bat_of(image, old_bytes);
  const BatLayout smaller = bat_of(image, options.size_bytes);
  CO_TRY_LET(const auto disk, co_await open_as(std::move(file), std::move(image)));
  CO_TRY(co_await zero_data(*disk, options.size_bytes, old_bytes));
  CO_TRY(co_await disk->close());
  File& inside = disk->layer(0).file();
  // Then nothing names sector bitmap blocks of chunks behind the end, nor a fixed disk's blocks.
  CO_TRY(co_await clear_entries(inside, bat, smaller, larger));
  CO_TRY(co_await inside.flush());
  co_return co_await cut_to_content(inside);
}

}  // namespace

Async<void> resize(std::unique_ptr<File> file, ResizeOptions options) {
  CO_TRY(co_await make_sound(*file));
  CO_TRY_LET(OpenedImage image, co_await read_image(*file));
  CO_TRY(check_new_disk_size(*file, image.metadata, options.size_bytes));
  if (image.headers.current.log_length < alignment_bytes)
    co_return fail(Errc::unsupported,
                   fmt::format("{}: a log of {:#x} bytes is too short to change the image with",
                               file->name(), image.headers.current.log_length));
  if (options.size_bytes > image.metadata.disk_size_bytes)
    co_return co_await grow(std::move(file), std::move(image), options);
  if (options.size_bytes < image.metadata.disk_size_bytes)
    co_return co_await shrink(std::move(file), std::move(image), options);
  co_return Result<void>();
}

}  // namespace vhdkit::vhdx
