#include "libvhd/dynamic_layer.h"

#include <fmt/format.h>

#include <algorithm>

#include "libvhd/describe.h"

namespace vhdkit::libvhd {
namespace {

using disk::Extent;
using disk::ExtentKind;
using disk::ExtentList;
using disk::RecentPieces;

constexpr uint64_t entries_per_piece = 16 * KiB;  // of the BAT: 64 KiB, 32 GiB of an ordinary disk
constexpr size_t table_pieces_kept = 16;
constexpr size_t bitmaps_kept = 16;
constexpr size_t extents_at_once = 4096;

bool bit_at(std::span<const std::byte> bitmap, uint64_t sector) {
  return (bitmap[sector / 8] & std::byte(0x80 >> sector % 8)) != std::byte{0};
}

// The first sector at or after `sector` whose bit differs from the one there, at most `end`.
uint64_t end_of_run(std::span<const std::byte> bitmap, uint64_t sector, uint64_t end) {
  const bool bit = bit_at(bitmap, sector);
  const std::byte uniform = bit ? std::byte{0xff} : std::byte{0};
  while (sector < end && bit_at(bitmap, sector) == bit) {
    const bool whole_byte = sector % 8 == 0 && bitmap[sector / 8] == uniform;
    sector += whole_byte ? 8 : 1;
  }
  return std::min(sector, end);
}

}  // namespace

DynamicLayer::DynamicLayer(std::unique_ptr<File> file, DynamicImage image)
    : file_(std::move(file)),
      image_(std::move(image)),
      layout_(layout_of(image_.found.footer.size_bytes(), image_.found.footer.data_offset,
                        image_.header, image_.located, image_.found.content_end)),
      clear_kind_(image_.found.footer.type == DiskType::differencing ? ExtentKind::parent
                                                                     : ExtentKind::zero),
      table_pieces_(table_pieces_kept),
      bitmaps_(bitmaps_kept) {
  geometry_.size_bytes = layout_.disk_bytes;
  if (image_.found.footer.type == DiskType::differencing)
    parent_ = parent_reference(image_.header, image_.located);
}

Async<void> DynamicLayer::resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  const uint64_t end = disk_offset + length;
  const size_t enough = extents.size() + extents_at_once;
  while (disk_offset < end && extents.size() < enough) {
    const uint64_t block_index = disk_offset / layout_.block_bytes;
    const Span span{.disk_offset = disk_offset,
                    .end = std::min(end, (block_index + 1) * layout_.block_bytes)};
    CO_TRY_LET(disk_offset, co_await resolve_block(span, extents, enough));
  }
  co_return Result<void>();
}

// Returns how far it came.
Async<uint64_t> DynamicLayer::resolve_block(Span span, ExtentList& extents, size_t enough) {
  const uint64_t block_index = span.disk_offset / layout_.block_bytes;
  const uint64_t block_start = block_index * layout_.block_bytes;
  CO_TRY_LET(const uint32_t entry, co_await bat_entry(block_index));
  if (entry == unused_bat_entry) {
    const Extent hole{.disk_offset = span.disk_offset,
                      .length = span.end - span.disk_offset,
                      .kind = clear_kind_};
    extents.append(hole);
    co_return span.end;
  }
  CO_TRY(check_entry(block_index, entry));
  const uint64_t bitmap_offset = uint64_t{entry} * sector_bytes;
  const uint64_t data_offset = bitmap_offset + layout_.bitmap_bytes();
  CO_TRY_LET(const RecentPieces::Piece bitmap,
             co_await bitmaps_.read(*file_, bitmap_offset, layout_.bitmap_bytes()));
  const uint64_t end_sector = ceil_div(span.end - block_start, sector_bytes);
  uint64_t at = span.disk_offset;
  while (at < span.end && extents.size() < enough) {
    const uint64_t sector = (at - block_start) / sector_bytes;
    const bool here = bit_at(*bitmap, sector);
    const uint64_t run_end =
        std::min(span.end, block_start + end_of_run(*bitmap, sector, end_sector) * sector_bytes);
    const Extent extent{.disk_offset = at,
                        .length = run_end - at,
                        .kind = here ? ExtentKind::data : clear_kind_,
                        .file_offset = here ? data_offset + (at - block_start) : 0};
    extents.append(extent);
    at = run_end;
  }
  co_return at;
}

// The piece of the BAT that holds the block's entry.
Async<RecentPieces::Piece> DynamicLayer::table_piece(uint64_t block_index) {
  if (block_index >= layout_.table_entries)
    co_return fail(Errc::corrupt,
                   fmt::format("{}: {} is missing: the BAT has {} entries, the file room for {}",
                               file_->name(), entry_name(layout_, block_index),
                               image_.header.max_table_entries, layout_.table_entries));
  const uint64_t first = align_down(block_index, entries_per_piece);
  const uint64_t count = std::min(entries_per_piece, layout_.table_entries - first);
  const uint64_t piece_offset = layout_.table_offset + first * sizeof(be32);
  co_return co_await table_pieces_.read(*file_, piece_offset, count * sizeof(be32));
}

Async<uint32_t> DynamicLayer::bat_entry(uint64_t block_index) {
  CO_TRY_LET(const RecentPieces::Piece piece, co_await table_piece(block_index));
  co_return uint32_t(*load<be32>(*piece, block_index % entries_per_piece * sizeof(be32)));
}

Result<void> DynamicLayer::check_entry(uint64_t block_index, uint32_t entry) const {
  const auto fault = entry_fault(layout_, block_index, entry);
  if (!fault) return {};
  return fail(Errc::corrupt, fmt::format("{}: {}: {}", file_->name(),
                                         entry_name(layout_, block_index), fault->message));
}

Async<void> DynamicLayer::audit() {
  BlockPlaces places(layout_);
  bool room = true;
  for (uint64_t first = 0; room && first < layout_.block_count(); first += entries_per_piece) {
    CO_TRY_LET(const RecentPieces::Piece piece, co_await table_piece(first));
    const uint64_t end = std::min(layout_.block_count(), first + piece->size() / sizeof(be32));
    for (uint64_t index = first; room && index < end; ++index) {
      const uint32_t entry = *load<be32>(*piece, (index - first) * sizeof(be32));
      if (entry == unused_bat_entry) continue;
      CO_TRY(check_entry(index, entry));
      room = places.add(index, entry);
    }
    // A BAT that ends early misses its next entry.
    if (end < std::min(layout_.block_count(), first + entries_per_piece))
      CO_TRY(co_await table_piece(end));
  }
  co_return check_apart(places);
}

Result<void> DynamicLayer::check_apart(BlockPlaces& places) const {
  const auto& sorted = places.sorted();
  for (size_t i = 1; i < sorted.size(); ++i) {
    const uint64_t begin = uint64_t{sorted[i].sector} * sector_bytes;
    const uint64_t end_before = end_of_place(layout_, sorted[i - 1]);
    if (begin < end_before)
      return fail(Errc::corrupt,
                  fmt::format("{}: {}: sector {:#x} puts the block upon block {} (to {:#x})",
                              file_->name(), entry_name(layout_, sorted[i].block_index),
                              sorted[i].sector, sorted[i - 1].block_index, end_before));
  }
  return {};
}

disk::Description DynamicLayer::describe() const {
  disk::Description description = describe_footer(image_.found);
  describe_header(image_, description);
  describe_warnings(image_.found, image_.located, description);
  return description;
}

}  // namespace vhdkit::libvhd
