#include "libvhd/repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "libvhd/footer.h"
#include "libvhd/table_reader.h"
#include "libvhd/used_space.h"

namespace vhdkit::libvhd {
namespace {

using FooterBytes = std::array<std::byte, sizeof(Footer)>;

Async<DynamicDiskHeader> read_header(File& file, const FoundFooter& found) {
  co_return co_await read_dynamic_header(file, found.footer.data_offset, found.content_end);
}

Async<BlockLayout> read_layout(File& file, const FoundFooter& found) {
  const HardDiskFooter& footer = found.footer;
  CO_TRY_LET(const DynamicDiskHeader header, co_await read_header(file, found));
  std::vector<LocatedParent> located;
  if (footer.type == DiskType::differencing) {
    CO_TRY_LET(located, co_await read_parent_locators(file, header, found.content_end));
  }
  const BlockLayout layout =
      layout_of(footer.size_bytes(), footer.data_offset, header, located, found.content_end);
  if (layout.table_entries < header.max_table_entries)
    co_return fail(Errc::corrupt,
                   fmt::format("{}: it is not sure where the footer belongs: the BAT at offset "
                               "{:#x} has {} entries, the file room for {}",
                               file.name(), header.table_offset, header.max_table_entries,
                               layout.table_entries));
  co_return layout;
}

uint64_t last_end(const std::vector<UsedRange>& used) {
  return used.empty() ? 0 : std::ranges::max(used, {}, &UsedRange::end).end;
}

// Where the entry's block ends, whole: old QEMU cut the last one off, and the file may grow.
Result<uint64_t> end_of_block(const File& file, const BlockLayout& layout, uint64_t block_index,
                              uint32_t entry) {
  if (entry == unused_bat_entry) return 0;
  const uint64_t end = begin_of(entry) + layout.bitmap_bytes() + layout.block_bytes;
  // Nobody vouches for entries beyond the disk's end.
  if (block_index >= layout.block_count()) return std::min(end, layout.content_end);
  if (const auto fault = entry_fault(layout, block_index, entry))
    return fail(Errc::corrupt, fmt::format("{}: it is not sure where the footer belongs: {}: {}",
                                           file.name(), entry_name(layout, block_index),
                                           fault_text(layout, block_index, entry, *fault)));
  return end;
}

// Where the last structure or block ends.
Async<uint64_t> find_end_of_use(File& file, const BlockLayout& layout) {
  CO_TRY_LET(const std::vector<UsedRange> batmap, co_await used_by_batmap(file, layout));
  uint64_t end = std::max(last_end(used_by_structures(layout)), last_end(batmap));
  TableReader table(file, layout);
  std::span<const be32> entries;
  do {
    CO_TRY_LET(entries, co_await table.next());
    for (size_t i = 0; i < entries.size(); ++i) {
      CO_TRY_LET(const uint64_t end_here,
                 end_of_block(file, layout, table.first_index() + i, entries[i]));
      end = std::max(end, end_here);
    }
  } while (!entries.empty());
  co_return end;
}

Async<void> write_footer(File& file, uint64_t file_offset, const FooterBytes& bytes) {
  const std::span<const std::byte> view(bytes);
  CO_TRY(co_await file.write(file_offset, view));
  co_return co_await file.flush();
}

Async<std::vector<std::string>> mend_tail(File& file, const FoundFooter& found) {
  CO_TRY_LET(const BlockLayout layout, co_await read_layout(file, found));
  CO_TRY_LET(const uint64_t end_of_use, co_await find_end_of_use(file, layout));
  // In the last sector, where the damaged one was; behind the last use where that reaches so far.
  const uint64_t last_sector = align_up(file.size_bytes(), sector_bytes) - sizeof(Footer);
  const uint64_t file_offset = std::max(last_sector, align_up(end_of_use, sector_bytes));
  FooterBytes bytes;
  const std::span<std::byte> buffer(bytes);
  CO_TRY(co_await file.read(0, buffer));
  CO_TRY(co_await write_footer(file, file_offset, bytes));
  std::vector<std::string> done;
  done.push_back(
      fmt::format("wrote the footer at offset {:#x} from its copy at offset 0", file_offset));
  co_return done;
}

Async<std::vector<std::string>> mend_copy(File& file, const FoundFooter& found) {
  std::vector<std::string> done;
  FooterBytes copy;
  const std::span<std::byte> copy_buffer(copy);
  CO_TRY(co_await file.read(0, copy_buffer));
  if (is_footer(copy)) co_return done;
  // The header proves that the image is one whose first sector is the copy's.
  CO_TRY(co_await read_header(file, found));
  FooterBytes bytes{};
  const auto buffer = std::span<std::byte>(bytes).first(file.size_bytes() - found.content_end);
  CO_TRY(co_await file.read(found.content_end, buffer));
  CO_TRY(co_await write_footer(file, 0, bytes));
  done.push_back(
      fmt::format("wrote the copy of the footer at offset 0 from the footer at offset "
                  "{:#x}",
                  found.content_end));
  co_return done;
}

}  // namespace

Async<std::vector<std::string>> repair_footers(File& file) {
  CO_TRY_LET(const FoundFooter found, co_await find_footer(file));
  if (found.place == FooterPlace::head) co_return co_await mend_tail(file, found);
  if (found.copy == FooterCopy::missing || found.copy == FooterCopy::different)
    co_return co_await mend_copy(file, found);
  co_return std::vector<std::string>();
}

}  // namespace vhdkit::libvhd
