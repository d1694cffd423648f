#include "vhdx/replay_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace vhdkit::vhdx {
namespace {

constexpr uint64_t region_tables_begin = region_table_offsets[0];
constexpr uint64_t region_tables_end = region_table_offsets[1] + region_table_bytes;

Update zeroes(uint64_t length) { return {.length = length}; }

Update update_of(const LogDescriptor& descriptor, const FileHeader& header) {
  if (descriptor.kind == LogDescriptor::Kind::zero) return zeroes(descriptor.length);
  return {.length = descriptor.length,
          .is_data = true,
          .sector_offset = header.log_offset + descriptor.sector_offset,
          .leading_bytes = descriptor.leading_bytes,
          .trailing_bytes = descriptor.trailing_bytes};
}

// Why an update may not go to [begin, begin + length); empty where it may.
std::string place_fault(const FileHeader& header, uint64_t begin, uint64_t length) {
  if (!range_fits(begin, length, max_file_bytes))
    return fmt::format("length {:#x} leads beyond what a VHDX can have ({:#x})", length,
                       max_file_bytes);
  const uint64_t end = begin + length;
  const bool in_region_tables = begin >= region_tables_begin && end <= region_tables_end;
  if (begin < header_section_bytes && !in_region_tables)
    return fmt::format("length {:#x} touches the header section", length);
  if (begin < header.log_offset + header.log_length && end > header.log_offset)
    return fmt::format("length {:#x} touches the log ({:#x} to {:#x})", length, header.log_offset,
                       header.log_offset + header.log_length);
  return "";
}

Result<void> put_entry(const LogEntry& entry, const FileHeader& header, const std::string& where,
                       ReplayPlan& plan) {
  for (size_t i = 0; i < entry.descriptors.size(); ++i) {
    const LogDescriptor& descriptor = entry.descriptors[i];
    if (descriptor.length == 0) continue;
    const std::string fault = place_fault(header, descriptor.file_offset, descriptor.length);
    if (!fault.empty())
      return fail(Errc::corrupt, fmt::format("{}: descriptor {}: FileOffset {:#x} with {}", where,
                                             i, descriptor.file_offset, fault));
    plan.updates.put(descriptor.file_offset, update_of(descriptor, header));
    plan.file_size_bytes =
        std::max(plan.file_size_bytes, descriptor.file_offset + descriptor.length);
  }
  return {};
}

std::string entry_place(const File& file, const FileHeader& header, const LogEntry& entry) {
  return fmt::format("{}: log entry {} at {:#x}", file.name(), entry.sequence_number,
                     header.log_offset + entry.log_offset);
}

Result<void> check_head(const File& file, const FileHeader& header, const LogEntry& head) {
  if (file.size_bytes() < head.flushed_file_offset)
    return fail(
        Errc::corrupt,
        fmt::format("{}: FlushedFileOffset {:#x}: the file was cut off, it ends at {:#x}",
                    entry_place(file, header, head), head.flushed_file_offset, file.size_bytes()));
  if (head.last_file_offset > max_file_bytes)
    return fail(
        Errc::corrupt,
        fmt::format("{}: LastFileOffset {:#x} is beyond what a VHDX can have ({:#x})",
                    entry_place(file, header, head), head.last_file_offset, max_file_bytes));
  return {};
}

// "no entry begins there", or what was wrong with the first that does.
std::string first_damage(const FileHeader& header, const LogContent& content) {
  if (!content.entries.empty())
    return fmt::format("of {} valid entries none is reached from its tail", content.entries.size());
  if (content.fragments.empty()) return "the log has no entry";
  const LogFragment& first = content.fragments.front();
  return fmt::format("the first entry, at {:#x}, is damaged: {}",
                     header.log_offset + first.log_offset, first.damage);
}

}  // namespace

void Updates::put(uint64_t file_offset, const Update& update) {
  const uint64_t end = file_offset + update.length;
  assert(update.length > 0 && end > file_offset);
  auto at = map_.lower_bound(file_offset);
  if (at != map_.begin() && std::prev(at)->first + std::prev(at)->second.length > file_offset) --at;
  while (at != map_.end() && at->first < end) {
    // Data is one sector and hidden as a whole; zeroes may stay on both sides.
    const uint64_t old_begin = at->first;
    const uint64_t old_end = old_begin + at->second.length;
    at = map_.erase(at);
    if (old_begin < file_offset) map_.emplace_hint(at, old_begin, zeroes(file_offset - old_begin));
    if (old_end > end) map_.emplace_hint(at, end, zeroes(old_end - end));
  }
  map_.emplace_hint(at, file_offset, update);
}

Updates::Map::const_iterator Updates::ending_after(uint64_t file_offset) const {
  const auto next = map_.upper_bound(file_offset);
  if (next == map_.begin()) return next;
  const auto before = std::prev(next);
  return before->first + before->second.length > file_offset ? before : next;
}

uint64_t ReplayPlan::sectors_written() const {
  return uint64_t(std::ranges::count_if(updates, [](const auto& u) { return u.second.is_data; }));
}

uint64_t ReplayPlan::bytes_zeroed() const {
  uint64_t sum = 0;
  for (const auto& [file_offset, update] : updates) sum += update.is_data ? 0 : update.length;
  return sum;
}

Result<ReplayPlan> plan_replay(const File& file, const FileHeader& header,
                               const LogContent& content) {
  if (!content.has_active_sequence())
    return fail(Errc::corrupt,
                fmt::format("{}: log at {:#x}: no complete sequence of entries with LogGuid {}: {}",
                            file.name(), header.log_offset, header.log_guid.to_string(),
                            first_damage(header, content)));
  TRY(check_head(file, header, content.head()));
  ReplayPlan plan;
  plan.file_size_bytes = std::max(file.size_bytes(), content.head().last_file_offset);
  for (const size_t index : content.active) {
    const LogEntry& entry = content.entries[index];
    TRY(put_entry(entry, header, entry_place(file, header, entry), plan));
  }
  return plan;
}

}  // namespace vhdkit::vhdx
