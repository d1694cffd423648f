#include "libvhd/table_reader.h"

#include <algorithm>

namespace vhdkit::libvhd {
namespace {

constexpr uint64_t entries_at_once = 16 * KiB;

}  // namespace

Async<std::span<const be32>> TableReader::next() {
  first_index_ = next_index_;
  entries_.resize(std::min(entries_at_once, layout_.table_entries - first_index_));
  const auto buffer = std::as_writable_bytes(std::span(entries_));
  const uint64_t file_offset = layout_.table_offset + first_index_ * sizeof(be32);
  CO_TRY(co_await file_.read(file_offset, buffer));
  next_index_ += entries_.size();
  co_return std::span<const be32>(entries_);
}

}  // namespace vhdkit::libvhd
