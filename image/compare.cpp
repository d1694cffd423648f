#include "image/compare.h"

#include <algorithm>
#include <cstring>

#include "image/content.h"
#include "image/transfer.h"
#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

// A reader with the part of its chunk that nobody looked at yet.
struct Side {
  ReadAhead& reader;
  Chunk rest;
  bool at_end = false;

  Async<void> fill() {
    if (rest.length > 0 || at_end) co_return Result<void>();
    CO_TRY_LET(rest, co_await reader.next());
    at_end = rest.length == 0;
    co_return Result<void>();
  }

  void take(uint64_t length) {
    rest.disk_offset += length;
    rest.length -= length;
    if (!rest.bytes.empty()) rest.bytes = rest.bytes.subspan(length);
  }
};

// The first byte in which two parts of equal length differ; an empty span stands for zeroes.
std::optional<uint64_t> first_difference(std::span<const std::byte> a,
                                         std::span<const std::byte> b) {
  if (a.empty()) std::swap(a, b);
  if (a.empty()) return std::nullopt;
  if (b.empty()) {
    if (is_zero(a)) return std::nullopt;
    const auto found = std::ranges::find_if(a, [](std::byte byte) { return byte != std::byte{0}; });
    return uint64_t(found - a.begin());
  }
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return std::nullopt;
  return uint64_t(std::ranges::mismatch(a, b).in1 - a.begin());
}

// Where the disks differ; what lies beyond the end of the shorter one counts as zero.
Async<std::optional<uint64_t>> find_difference(Side& a, Side& b, uint64_t total,
                                               Progress* progress) {
  while (true) {
    CO_TRY(co_await a.fill());
    CO_TRY(co_await b.fill());
    if (a.at_end && b.at_end) co_return std::nullopt;
    const Side& longer = a.at_end ? b : a;
    const uint64_t disk_offset = longer.rest.disk_offset;
    CO_TRY(report_progress(progress, disk_offset, total));
    uint64_t length = longer.rest.length;
    if (!a.at_end && !b.at_end) length = std::min(a.rest.length, b.rest.length);
    const auto part = [length](const Side& side) {
      return side.rest.bytes.empty() ? std::span<const std::byte>() : side.rest.bytes.first(length);
    };
    if (const auto difference = first_difference(part(a), part(b)))
      co_return disk_offset + *difference;
    if (!a.at_end) a.take(length);
    if (!b.at_end) b.take(length);
  }
}

}  // namespace

Async<Comparison> compare(Image& a, Image& b, bool strict, Progress* progress) {
  CO_TRY(co_await a.disk().audit());
  CO_TRY(co_await b.disk().audit());
  Comparison comparison{.size_a = a.disk().geometry().size_bytes,
                        .size_b = b.disk().geometry().size_bytes};
  if (strict && comparison.size_a != comparison.size_b) co_return comparison;
  const ReadAhead::Options options{.request_count = 4};
  ContentCursor cursor_a(a.disk());
  ContentCursor cursor_b(b.disk());
  ReadAhead reader_a(a.disk(), cursor_a, options);
  ReadAhead reader_b(b.disk(), cursor_b, options);
  Side side_a{.reader = reader_a, .rest = {}};
  Side side_b{.reader = reader_b, .rest = {}};
  const uint64_t total = std::max(comparison.size_a, comparison.size_b);
  const auto difference = co_await find_difference(side_a, side_b, total, progress);
  const auto closed_a = co_await reader_a.close();
  const auto closed_b = co_await reader_b.close();
  CO_TRY(difference);
  CO_TRY(closed_a);
  CO_TRY(closed_b);
  comparison.first_difference = *difference;
  comparison.same = !comparison.first_difference;
  co_return comparison;
}

}  // namespace vhdkit::image
