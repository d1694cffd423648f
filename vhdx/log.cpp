#include "vhdx/log.h"

#include <fmt/format.h>

#include <algorithm>

#include "vhdx/log_entry.h"

namespace vhdkit::vhdx {
namespace {

constexpr size_t piece_bytes = 256 * KiB;

// The log's bytes, counted from its start and going on there behind its end.
class LogBytes {
 public:
  LogBytes(File& file, const FileHeader& header) : file_(file), header_(header) {}

  // log_offset, buffer: inside the log's length; may wrap around its end.
  Async<void> read(uint64_t log_offset, std::span<std::byte> buffer) {
    const size_t before_end = std::min<uint64_t>(buffer.size(), header_.log_length - log_offset);
    CO_TRY(co_await file_.read(header_.log_offset + log_offset, buffer.first(before_end)));
    if (before_end < buffer.size())
      CO_TRY(co_await file_.read(header_.log_offset, buffer.subspan(before_end)));
    co_return Result<void>();
  }

  // The next bytes at or after log_offset that may be other than zero, whole sectors, at most a
  // piece.
  Result<std::optional<async::FileRange>> next_data(uint64_t log_offset) {
    TRY_LET(const auto data, file_.next_data(header_.log_offset + log_offset,
                                             header_.log_offset + header_.log_length));
    if (!data) return std::nullopt;
    const uint64_t begin = align_down(data->file_offset, log_sector_bytes);
    const uint64_t end = align_up(data->file_offset + data->length, log_sector_bytes);
    return async::FileRange{begin - header_.log_offset,
                            std::min<uint64_t>(end - begin, piece_bytes)};
  }

 private:
  File& file_;
  const FileHeader& header_;
};

void find_signatures(std::span<const std::byte> piece, uint64_t log_offset,
                     std::vector<EntryCandidate>& candidates) {
  for (size_t at = 0; at < piece.size(); at += log_sector_bytes) {
    const LogEntryHeader raw = *load<LogEntryHeader>(piece, at);
    if (raw.signature == log_entry_signature)
      candidates.push_back({.log_offset = log_offset + at, .room = 0, .raw = raw});
  }
}

Async<std::vector<EntryCandidate>> find_candidates(LogBytes& log, uint64_t log_length) {
  std::vector<EntryCandidate> candidates;
  std::vector<std::byte> buffer(piece_bytes);
  for (uint64_t at = 0; at < log_length;) {
    CO_TRY_LET(const auto data, log.next_data(at));
    if (!data) break;
    const std::span<std::byte> piece(buffer.data(), data->length);
    CO_TRY(co_await log.read(data->file_offset, piece));
    find_signatures(piece, data->file_offset, candidates);
    at = data->file_offset + data->length;
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    const bool is_last = i + 1 == candidates.size();
    const uint64_t next =
        is_last ? candidates.front().log_offset + log_length : candidates[i + 1].log_offset;
    candidates[i].room = next - candidates[i].log_offset;
  }
  co_return std::move(candidates);
}

// What is wrong with the parser's entry; nothing where it is valid.
Async<std::optional<std::string>> read_entry(LogBytes& log, uint64_t log_offset,
                                             uint64_t log_length, EntryParser& parser) {
  std::vector<std::byte> buffer(std::min<uint64_t>(piece_bytes, parser.length()));
  for (uint64_t done = 0; done < parser.length(); done += buffer.size()) {
    const std::span<std::byte> piece =
        std::span(buffer).first(std::min<uint64_t>(buffer.size(), parser.length() - done));
    CO_TRY(co_await log.read((log_offset + done) % log_length, piece));
    for (size_t at = 0; at < piece.size(); at += log_sector_bytes) {
      const auto sector = piece.subspan(at).first<log_sector_bytes>();
      if (auto damage = parser.take(sector)) co_return std::move(damage);
    }
  }
  co_return parser.finish();
}

Async<void> judge(LogBytes& log, const EntryCandidate& candidate, const FileHeader& header,
                  LogContent& content) {
  std::optional<std::string> damage = entry_header_damage(candidate, header);
  if (!damage) {
    EntryParser parser(candidate, header.log_length);
    CO_TRY_LET(damage, co_await read_entry(log, candidate.log_offset, header.log_length, parser));
    if (!damage) content.entries.push_back(parser.take_entry());
  }
  if (damage)
    content.fragments.push_back({.log_offset = candidate.log_offset,
                                 .sequence_number = candidate.raw.sequence_number,
                                 .damage = std::move(*damage)});
  co_return Result<void>();
}

// Which entry follows which: the one that begins where the other ends and has the next number.
// [MS-VHDX] 2.3.2. Entries lie apart, so each follows one at most, and the numbers only grow.
struct Succession {
  static constexpr size_t none = SIZE_MAX;
  std::vector<size_t> before;
  std::vector<bool> has_next;

  Succession(const std::vector<LogEntry>& entries, uint64_t log_length)
      : before(entries.size(), none), has_next(entries.size(), false) {
    for (size_t i = 0; i < entries.size(); ++i) {
      const uint64_t end = (entries[i].log_offset + entries[i].length) % log_length;
      const auto next = std::ranges::lower_bound(entries, end, {}, &LogEntry::log_offset);
      if (next == entries.end() || next->log_offset != end ||
          next->sequence_number != entries[i].sequence_number + 1)
        continue;
      before[size_t(next - entries.begin())] = i;
      has_next[i] = true;
    }
  }
};

// From the head's tail to the head; empty where the tail is not among the entries before the head.
std::vector<size_t> sequence_of(const std::vector<LogEntry>& entries, const Succession& succession,
                                size_t head) {
  std::vector<size_t> sequence;
  for (size_t i = head; i != Succession::none; i = succession.before[i]) {
    sequence.push_back(i);
    if (entries[i].log_offset == entries[head].tail) {
      std::ranges::reverse(sequence);
      return sequence;
    }
  }
  return {};
}

// [MS-VHDX] 2.3.3. A head is an entry that no other follows: a sequence goes on as long as it can.
std::vector<size_t> find_active(const std::vector<LogEntry>& entries, uint64_t log_length) {
  const Succession succession(entries, log_length);
  std::vector<size_t> active;
  for (size_t head = 0; head < entries.size(); ++head) {
    if (succession.has_next[head]) continue;
    if (!active.empty() && entries[head].sequence_number <= entries[active.back()].sequence_number)
      continue;
    if (auto sequence = sequence_of(entries, succession, head); !sequence.empty())
      active = std::move(sequence);
  }
  return active;
}

Result<void> check_place(const File& file, const FileHeader& header) {
  if (header.log_length > 0 &&
      is_aligned(header.log_length | header.log_offset, log_sector_bytes) &&
      range_fits(header.log_offset, header.log_length, file.size_bytes()))
    return {};
  return fail(Errc::corrupt,
              fmt::format("{}: log at {:#x} with length {:#x} does not lie on whole "
                          "sectors inside the file ({:#x})",
                          file.name(), header.log_offset, header.log_length, file.size_bytes()));
}

}  // namespace

Async<LogContent> read_log(File& file, const FileHeader& header) {
  LogContent content;
  if (header.log_is_empty()) co_return std::move(content);
  CO_TRY(check_place(file, header));
  LogBytes log(file, header);
  CO_TRY_LET(const std::vector<EntryCandidate> candidates,
             co_await find_candidates(log, header.log_length));
  for (const EntryCandidate& candidate : candidates)
    CO_TRY(co_await judge(log, candidate, header, content));
  content.active = find_active(content.entries, header.log_length);
  co_return std::move(content);
}

}  // namespace vhdkit::vhdx
