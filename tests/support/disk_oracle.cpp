#include "tests/support/disk_oracle.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "support/mixed.h"

namespace vhdkit::tests {
namespace {

constexpr size_t word_count = DiskOracle::sector_bytes / sizeof(uint64_t);
using Words = std::array<uint64_t, word_count>;

Words words_of(DiskOracle::Value value, uint64_t sector) {
  Words words;
  words[0] = value;
  words[1] = sector;
  uint64_t state = mixed(value) ^ sector;
  // So that no two sectors of two writes have a word in common.
  for (size_t i = 2; i < word_count; ++i) words[i] = state = mixed(state);
  return words;
}

}  // namespace

size_t DiskOracle::begin(Value value, uint64_t first, uint64_t count) {
  assert(first + count <= sectors_.size());
  const size_t change = changes_.size();
  changes_.push_back({.value = value, .first = first, .count = count, .began = clock_++});
  for (uint64_t i = first; i < first + count; ++i) sectors_[i].changes.push_back(change);
  return change;
}

size_t DiskOracle::begin_write(uint64_t first, uint64_t count) {
  return begin(changes_.size() + 1, first, count);
}

size_t DiskOracle::begin_zero(uint64_t first, uint64_t count) { return begin(zero, first, count); }

void DiskOracle::complete(size_t change) {
  changes_[change].ended = changes_[change].completed = clock_++;
  undurable_.push_back(change);
}

void DiskOracle::complete_durably(size_t index) {
  Change& change = changes_[index];
  change.ended = change.completed = change.durable = clock_++;
  for (uint64_t i = change.first; i < change.first + change.count; ++i) forget_hidden(i);
}

// It hides nothing, and its value stays right until something hides it.
void DiskOracle::fail(size_t change) { changes_[change].ended = clock_++; }

size_t DiskOracle::begin_flush() {
  flushes_.push_back(clock_++);
  return flushes_.size() - 1;
}

void DiskOracle::complete_flush(size_t flush) {
  std::vector<size_t> covered;
  std::erase_if(undurable_, [&](size_t change) {
    const bool is_covered = changes_[change].completed < flushes_[flush];
    if (is_covered) covered.push_back(change);
    return is_covered;
  });
  for (const size_t index : covered) changes_[index].durable = clock_;
  ++clock_;
  for (const size_t index : covered) {
    const Change& change = changes_[index];
    for (uint64_t i = change.first; i < change.first + change.count; ++i) forget_hidden(i);
  }
}

// Drops the changes that no read will ever find again.
void DiskOracle::forget_hidden(uint64_t index) {
  Sector& sector = sectors_[index];
  uint64_t hidden_before = 0;
  for (const size_t change : sector.changes)
    if (changes_[change].durable != never)
      hidden_before = std::max(hidden_before, changes_[change].began);
  std::erase_if(sector.changes,
                [&](size_t change) { return changes_[change].ended < hidden_before; });
}

bool DiskOracle::admits(const Sector& sector, Value value, bool after_crash) const {
  const auto is_hidden = [&](uint64_t ended) {
    return std::ranges::any_of(sector.changes, [&](size_t index) {
      const Change& later = changes_[index];
      const bool counts = (after_crash ? later.durable : later.completed) != never;
      return counts && later.began > ended;
    });
  };
  if (sector.base.value == value && !is_hidden(sector.base.completed)) return true;
  return std::ranges::any_of(sector.changes, [&](size_t index) {
    return changes_[index].value == value && !is_hidden(changes_[index].ended);
  });
}

void DiskOracle::fill(size_t change, uint64_t first, std::span<std::byte> bytes) const {
  for (uint64_t sector = first; !bytes.empty(); ++sector, bytes = bytes.subspan(sector_bytes)) {
    const Words words = words_of(changes_[change].value, sector);
    std::memcpy(bytes.data(), words.data(), sector_bytes);
  }
}

std::optional<DiskOracle::Value> DiskOracle::value_of(uint64_t sector,
                                                      std::span<const std::byte> bytes) {
  Words words;
  std::memcpy(words.data(), bytes.data(), sector_bytes);
  if (std::ranges::all_of(words, [](uint64_t word) { return word == 0; })) return zero;
  if (words != words_of(words[0], sector)) return std::nullopt;
  return words[0];
}

std::string DiskOracle::judge(uint64_t sector, std::span<const std::byte> bytes,
                              bool after_crash) const {
  const std::optional<Value> value = value_of(sector, bytes);
  if (value && admits(sectors_[sector], *value, after_crash)) return {};
  std::string text = "sector " + std::to_string(sector) + " holds ";
  if (!value) {
    Words words;
    std::memcpy(words.data(), bytes.data(), sector_bytes);
    text += "foreign bytes (write " + std::to_string(words[0]) + ", sector " +
            std::to_string(words[1]) + "?)";
  } else {
    text += *value == zero ? "zeroes" : "write " + std::to_string(*value);
  }
  text += "; right would be: ";
  const Sector& known = sectors_[sector];
  if (admits(known, known.base.value, after_crash)) text += std::to_string(known.base.value) + " ";
  for (const size_t index : known.changes)
    if (admits(known, changes_[index].value, after_crash))
      text += std::to_string(changes_[index].value) + " ";
  return text;
}

void DiskOracle::settle(uint64_t first, std::span<const std::byte> bytes) {
  for (uint64_t sector = first; !bytes.empty(); ++sector, bytes = bytes.subspan(sector_bytes)) {
    const std::optional<Value> value = value_of(sector, bytes.first(sector_bytes));
    assert(value);
    sectors_[sector] = {.base = {.value = *value, .completed = clock_}, .changes = {}};
  }
  ++clock_;
}

}  // namespace vhdkit::tests
