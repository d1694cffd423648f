#include "image/qcow2_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "disk/recent_pieces.h"
#include "image/qcow2_cluster.h"
#include "image/qcow2_header.h"

namespace vhdkit::image {
namespace {

using disk::Extent;
using disk::ExtentKind;
using disk::ExtentList;
using disk::RecentPieces;
using namespace qcow2;

// Tables are read and kept in pieces of at most this.
constexpr uint64_t table_piece_bytes = 64 * KiB;
constexpr size_t kept_l1_pieces = 4;
constexpr size_t kept_l2_pieces = 64;
constexpr size_t kept_clusters = 8;
// resolve() stops once it has added this many extents, so that its answer stays small.
constexpr size_t enough_extents = 4096;

class Qcow2Layer final : public disk::Layer {
 public:
  Qcow2Layer(std::unique_ptr<File> file, ImageHeader header);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;
  Async<void> read_encoded(const Extent& extent, uint64_t disk_offset,
                           std::span<std::byte> buffer) override;
  Async<void> audit() override;
  uint64_t block_size_bytes() const override { return header_.cluster_bytes(); }
  disk::Description describe() const override;
  const disk::ParentReference* parent() const override { return parent_ ? &*parent_ : nullptr; }

 private:
  using Piece = RecentPieces::Piece;

  // Consecutive L2 entries, and the part of the disk that they stand for.
  struct Entries {
    Piece bytes;           // null: no L2 table, so all of it is unallocated
    uint64_t file_offset;  // of bytes
    uint64_t disk_offset;  // of the first entry's cluster
    uint64_t disk_end;     // behind the last entry's cluster
  };
  // One L2 entry, and where it stands, for messages.
  struct Entry {
    uint64_t value;
    uint64_t subclusters;  // the allocation bitmap; 0 without extended entries
    uint64_t file_offset;
  };
  // A part of one cluster.
  struct Part {
    uint64_t disk_offset;
    uint64_t length;
  };
  struct CompressedPlace {
    uint64_t file_offset;
    uint64_t length;  // bytes, whole sectors
  };

  Async<uint64_t> l2_table_of(uint64_t l1_index);
  Async<Entries> entries_at(uint64_t disk_offset);
  Result<void> check_l1_entry(uint64_t l1_index, uint64_t value) const;
  Async<void> check_l2_tables_apart();
  Entry entry_of(const Entries& entries, uint64_t disk_offset) const;
  Result<void> append_entries(const Entries& entries, Part range, ExtentList& extents) const;
  Result<void> append_entry(const Entry& entry, Part part, ExtentList& extents) const;
  Result<void> append_compressed(const Entry& entry, Part part, ExtentList& extents) const;
  Result<void> append_subclusters(const Entry& entry, Part part, ExtentList& extents) const;
  void append_data(uint64_t cluster_offset, Part part, ExtentList& extents) const;
  void append(ExtentKind kind, Part part, ExtentList& extents) const;
  Result<void> check_standard(const Entry& entry) const;
  Result<void> check_cluster_offset(const Entry& entry) const;
  Result<CompressedPlace> compressed_place(uint64_t descriptor) const;
  Async<Piece> read_cluster(uint64_t descriptor, uint64_t disk_offset);

  std::string where(const Entry& entry) const;

  std::unique_ptr<File> file_;
  ImageHeader header_;
  disk::Geometry geometry_;
  std::optional<disk::ParentReference> parent_;
  RecentPieces l1_pieces_{kept_l1_pieces};  // by file offset, each cache with one length for each
  RecentPieces l2_pieces_{kept_l2_pieces};
  RecentPieces clusters_{kept_clusters};  // decompressed; by descriptor
};

Qcow2Layer::Qcow2Layer(std::unique_ptr<File> file, ImageHeader header)
    : file_(std::move(file)), header_(std::move(header)) {
  geometry_.size_bytes = header_.size_bytes;
  if (!header_.backing_file) return;
  parent_.emplace();
  parent_->name = *header_.backing_file;
  parent_->format = header_.backing_format;
  parent_->paths.push_back(
      {.kind = disk::PathKind::native, .locator = "backing_file", .path = *header_.backing_file});
}

std::string Qcow2Layer::where(const Entry& entry) const {
  return fmt::format("{}: L2 entry {:#x} at offset {:#x}", file_->name(), entry.value,
                     entry.file_offset);
}

Result<void> Qcow2Layer::check_l1_entry(uint64_t l1_index, uint64_t value) const {
  const uint64_t table = value & offset_mask;
  const auto wrong = [&](std::string_view what) {
    return fail(Errc::corrupt,
                fmt::format("{}: L1 entry {} at offset {:#x}: {:#x} {}", file_->name(), l1_index,
                            header_.l1_table_offset + l1_index * sizeof(be64), value, what));
  };
  if ((value & l1_reserved) != 0) return wrong("has reserved bits set (0-8, 56-62)");
  if (!is_aligned(table, header_.cluster_bytes()))
    return wrong(fmt::format("is not aligned to the clusters of {:#x}", header_.cluster_bytes()));
  if (!range_fits(table, header_.cluster_bytes(), file_->size_bytes()))
    return wrong(
        fmt::format("puts the L2 table past the end of the file ({:#x})", file_->size_bytes()));
  return {};
}

// The L2 table's file offset; 0 where there is none.
Async<uint64_t> Qcow2Layer::l2_table_of(uint64_t l1_index) {
  const uint64_t in_table = l1_index * sizeof(be64);
  const uint64_t piece_start = align_down(in_table, table_piece_bytes);
  const uint64_t l1_bytes = header_.l1_entries_used() * sizeof(be64);
  const uint64_t length = std::min(table_piece_bytes, l1_bytes - piece_start);
  CO_TRY_LET(const Piece piece,
             co_await l1_pieces_.read(*file_, header_.l1_table_offset + piece_start, length));
  const uint64_t value = *load<be64>(*piece, in_table - piece_start);
  CO_TRY(check_l1_entry(l1_index, value));
  const uint64_t table = value & offset_mask;
  co_return table;
}

// The entries that lie in one piece of the L2 table with that of the cluster at disk_offset.
Async<Qcow2Layer::Entries> Qcow2Layer::entries_at(uint64_t disk_offset) {
  const uint64_t span = header_.l2_span_bytes();
  const uint64_t table_start = align_down(disk_offset, span);
  CO_TRY_LET(const uint64_t table, co_await l2_table_of(disk_offset / span));
  Entries entries{.bytes = nullptr,
                  .file_offset = 0,
                  .disk_offset = table_start,
                  .disk_end = table_start + span};
  if (table == 0) co_return entries;
  const uint64_t length = std::min(table_piece_bytes, header_.cluster_bytes());
  const uint64_t piece_span = (length / header_.l2_entry_bytes()) << header_.cluster_bits;
  const uint64_t index = (disk_offset - table_start) / piece_span;
  entries.file_offset = table + index * length;
  entries.disk_offset = table_start + index * piece_span;
  entries.disk_end = entries.disk_offset + piece_span;
  CO_TRY_LET(entries.bytes, co_await l2_pieces_.read(*file_, entries.file_offset, length));
  co_return entries;
}

Qcow2Layer::Entry Qcow2Layer::entry_of(const Entries& entries, uint64_t disk_offset) const {
  const uint64_t index = (disk_offset - entries.disk_offset) >> header_.cluster_bits;
  const uint64_t at = index * header_.l2_entry_bytes();
  const bool extended = header_.has(incompatible::extended_l2);
  return {.value = *load<be64>(*entries.bytes, at),
          .subclusters = extended ? uint64_t{*load<be64>(*entries.bytes, at + sizeof(be64))} : 0,
          .file_offset = entries.file_offset + at};
}

Async<void> Qcow2Layer::resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  const uint64_t end = disk_offset + length;
  const size_t enough = extents.size() + enough_extents;
  while (disk_offset < end && extents.size() < enough) {
    CO_TRY_LET(const Entries entries, co_await entries_at(disk_offset));
    const uint64_t stop = std::min(end, entries.disk_end);
    const Part range{.disk_offset = disk_offset, .length = stop - disk_offset};
    CO_TRY(append_entries(entries, range, extents));
    disk_offset = stop;
  }
  co_return Result<void>();
}

Result<void> Qcow2Layer::append_entries(const Entries& entries, Part range,
                                        ExtentList& extents) const {
  if (entries.bytes == nullptr) {
    append(ExtentKind::parent, range, extents);
    return {};
  }
  const uint64_t end = range.disk_offset + range.length;
  uint64_t at = range.disk_offset;
  while (at < end) {
    const uint64_t cluster_end = align_down(at, header_.cluster_bytes()) + header_.cluster_bytes();
    const Part part{.disk_offset = at, .length = std::min(end, cluster_end) - at};
    TRY(append_entry(entry_of(entries, at), part, extents));
    at += part.length;
  }
  return {};
}

Result<void> Qcow2Layer::append_entry(const Entry& entry, Part part, ExtentList& extents) const {
  if ((entry.value & l2_compressed) != 0) return append_compressed(entry, part, extents);
  TRY(check_standard(entry));
  if (header_.has(incompatible::extended_l2)) return append_subclusters(entry, part, extents);
  const uint64_t cluster_offset = entry.value & offset_mask;
  if ((entry.value & l2_zero) != 0) {
    append(ExtentKind::zero, part, extents);
  } else if (cluster_offset == 0) {
    append(ExtentKind::parent, part, extents);
  } else {
    TRY(check_cluster_offset(entry));
    append_data(cluster_offset, part, extents);
  }
  return {};
}

// What holds for every entry of a standard cluster, whatever its offset is used for.
Result<void> Qcow2Layer::check_standard(const Entry& entry) const {
  const bool zero_bit_exists = header_.version == 3 && !header_.has(incompatible::extended_l2);
  const uint64_t reserved = l2_reserved | (zero_bit_exists ? 0 : l2_zero);
  const uint64_t cluster_offset = entry.value & offset_mask;
  if ((entry.value & reserved) != 0)
    return fail(Errc::corrupt, fmt::format("{} has reserved bits set ({:#x})", where(entry),
                                           entry.value & reserved));
  if (cluster_offset == 0 && (entry.value & entry_copied) != 0)
    return fail(Errc::corrupt, where(entry) + ": the cluster at offset 0 is the header's");
  if (!is_aligned(cluster_offset, header_.cluster_bytes()))
    return fail(Errc::corrupt, fmt::format("{} is not aligned to the clusters of {:#x}",
                                           where(entry), header_.cluster_bytes()));
  return {};
}

// The file may end inside its last cluster: the rest was never written.
Result<void> Qcow2Layer::check_cluster_offset(const Entry& entry) const {
  const uint64_t cluster_offset = entry.value & offset_mask;
  if (cluster_offset < file_->size_bytes()) return {};
  return fail(Errc::corrupt, fmt::format("{} puts the cluster past the end of the file ({:#x})",
                                         where(entry), file_->size_bytes()));
}

Result<void> Qcow2Layer::append_compressed(const Entry& entry, Part part,
                                           ExtentList& extents) const {
  const uint64_t descriptor = entry.value & compressed_descriptor_mask;
  if ((entry.value & entry_copied) != 0)
    return fail(Errc::corrupt, where(entry) + ": bit 63 is set on a compressed cluster");
  if (auto place = compressed_place(descriptor); !place)
    return std::unexpected(with_context(std::move(place).error(), where(entry)));
  extents.append({.disk_offset = part.disk_offset,
                  .length = part.length,
                  .kind = ExtentKind::encoded,
                  .file_offset = descriptor});
  return {};
}

Result<void> Qcow2Layer::append_subclusters(const Entry& entry, Part part,
                                            ExtentList& extents) const {
  const uint32_t allocated = uint32_t(entry.subclusters);
  const uint32_t zero = uint32_t(entry.subclusters >> 32);
  const uint64_t cluster_offset = entry.value & offset_mask;
  if ((allocated & zero) != 0)
    return fail(Errc::corrupt, fmt::format("{}: its bitmap {:#x} has subclusters that are "
                                           "allocated and zero",
                                           where(entry), entry.subclusters));
  if (allocated != 0 && cluster_offset == 0)
    return fail(Errc::corrupt, fmt::format("{}: its bitmap {:#x} has allocated subclusters, but "
                                           "there is no cluster",
                                           where(entry), entry.subclusters));
  if (allocated != 0) TRY(check_cluster_offset(entry));
  const uint64_t subcluster_bytes = header_.cluster_bytes() / subclusters_per_cluster;
  const uint64_t end = part.disk_offset + part.length;
  uint64_t at = part.disk_offset;
  while (at < end) {
    const uint64_t index = at % header_.cluster_bytes() / subcluster_bytes;
    const uint64_t stop = std::min(end, align_down(at, subcluster_bytes) + subcluster_bytes);
    const Part piece{.disk_offset = at, .length = stop - at};
    if ((allocated >> index & 1) != 0) {
      append_data(cluster_offset, piece, extents);
    } else {
      append((zero >> index & 1) != 0 ? ExtentKind::zero : ExtentKind::parent, piece, extents);
    }
    at = stop;
  }
  return {};
}

void Qcow2Layer::append_data(uint64_t cluster_offset, Part part, ExtentList& extents) const {
  const uint64_t file_offset = cluster_offset + part.disk_offset % header_.cluster_bytes();
  const uint64_t file_end = std::max(file_offset, file_->size_bytes());
  const uint64_t length = std::min(part.length, file_end - file_offset);
  if (length > 0)
    extents.append({.disk_offset = part.disk_offset,
                    .length = length,
                    .kind = ExtentKind::data,
                    .file_offset = file_offset});
  if (length < part.length)
    append(ExtentKind::zero,
           {.disk_offset = part.disk_offset + length, .length = part.length - length}, extents);
}

void Qcow2Layer::append(ExtentKind kind, Part part, ExtentList& extents) const {
  extents.append({.disk_offset = part.disk_offset, .length = part.length, .kind = kind});
}

// Spec "Compressed Clusters Descriptor". The last sector may be cut off by the file's end.
Result<Qcow2Layer::CompressedPlace> Qcow2Layer::compressed_place(uint64_t descriptor) const {
  const uint32_t offset_bits = 62 - (header_.cluster_bits - 8);
  const uint64_t file_offset = descriptor & ((uint64_t{1} << offset_bits) - 1);
  const uint64_t sectors = (descriptor >> offset_bits) + 1;
  if (file_offset >> max_host_offset_bits != 0)
    return fail(Errc::corrupt, fmt::format("host offset {:#x} has bits above 55", file_offset));
  if (file_offset >= file_->size_bytes())
    return fail(Errc::corrupt, fmt::format("host offset {:#x} is past the end of the file ({:#x})",
                                           file_offset, file_->size_bytes()));
  const uint64_t length = sectors * compressed_sector_bytes - file_offset % compressed_sector_bytes;
  return CompressedPlace{.file_offset = file_offset,
                         .length = std::min(length, file_->size_bytes() - file_offset)};
}

Async<Qcow2Layer::Piece> Qcow2Layer::read_cluster(uint64_t descriptor, uint64_t disk_offset) {
  if (Piece kept = clusters_.find(descriptor)) co_return kept;
  std::string name = fmt::format("{}: compressed cluster of disk offset {:#x}", file_->name(),
                                 align_down(disk_offset, header_.cluster_bytes()));
  CO_TRY_LET(const CompressedPlace place, with_context(compressed_place(descriptor), name));
  name += fmt::format(", {:#x} bytes at offset {:#x}", place.length, place.file_offset);
  std::vector<std::byte> compressed(place.length);
  CO_TRY(co_await file_->read(place.file_offset, compressed));
  auto cluster = std::make_shared<std::vector<std::byte>>(header_.cluster_bytes());
  CO_TRY(decompress_cluster(header_.compression, compressed, *cluster, name));
  Piece piece = std::move(cluster);
  clusters_.keep(descriptor, piece);
  co_return piece;
}

Async<void> Qcow2Layer::read_encoded(const Extent& extent, uint64_t disk_offset,
                                     std::span<std::byte> buffer) {
  const uint64_t in_cluster = disk_offset % header_.cluster_bytes();
  assert(range_fits(in_cluster, buffer.size(), header_.cluster_bytes()));
  CO_TRY_LET(const Piece cluster, co_await read_cluster(extent.file_offset, disk_offset));
  std::memcpy(buffer.data(), cluster->data() + in_cluster, buffer.size());
  co_return Result<void>();
}

// No writer lets one disk use an L2 table twice, and it would let a small file ask for any amount
// of work.
Async<void> Qcow2Layer::check_l2_tables_apart() {
  std::vector<uint64_t> tables;
  for (uint64_t l1_index = 0; l1_index < header_.l1_entries_used(); ++l1_index) {
    CO_TRY_LET(const uint64_t table, co_await l2_table_of(l1_index));
    if (table != 0) tables.push_back(table);
  }
  std::ranges::sort(tables);
  const auto twice = std::ranges::adjacent_find(tables);
  if (twice != tables.end())
    co_return fail(Errc::corrupt,
                   fmt::format("{}: L1 table at offset {:#x}: two entries name the L2 table at "
                               "{:#x}",
                               file_->name(), header_.l1_table_offset, *twice));
  co_return Result<void>();
}

Async<void> Qcow2Layer::audit() {
  CO_TRY(co_await check_l2_tables_apart());
  ExtentList extents;
  uint64_t at = 0;
  while (at < header_.size_bytes) {
    extents.clear();
    CO_TRY(co_await resolve(at, header_.size_bytes - at, extents));
    const Extent& last = extents[extents.size() - 1];
    at = last.disk_offset + last.length;
  }
  co_return Result<void>();
}

// The keys that qemu-img has too are spelled as it spells them.
disk::Description Qcow2Layer::describe() const {
  disk::Description description;
  description.add("compat", std::string(header_.version == 2 ? "0.10" : "1.1"));
  description.add("cluster-size", disk::Bytes{header_.cluster_bytes()});
  description.add("compression-type",
                  std::string(header_.compression == CompressionType::zstd ? "zstd" : "zlib"));
  description.add("extended-l2", header_.has(incompatible::extended_l2));
  description.add("lazy-refcounts",
                  (header_.compatible_features & compatible::lazy_refcounts) != 0);
  description.add("refcount-bits", uint64_t{header_.refcount_bits});
  // The refcounts may be wrong; what the guest reads is not.
  description.add("dirty", header_.has(incompatible::dirty));
  // Not read: the disk is the active one.
  description.add("internal-snapshots", uint64_t{header_.snapshot_count});
  if (header_.backing_file) description.add("backing-filename", *header_.backing_file);
  if (!header_.backing_format.empty())
    description.add("backing-filename-format", header_.backing_format);
  return description;
}

}  // namespace

Async<std::unique_ptr<disk::Layer>> open_qcow2_layer(std::unique_ptr<File> file) {
  CO_TRY_LET(ImageHeader header, co_await read_header(*file));
  std::unique_ptr<disk::Layer> layer =
      std::make_unique<Qcow2Layer>(std::move(file), std::move(header));
  co_return layer;
}

}  // namespace vhdkit::image
