// The log: found, validated, laid over the file and replayed on it, against a replay of the
// plainest kind.
//
// The input is a list of entries. Each is built whole and lies behind the one before, with the next
// sequence number, unless its first bytes ask for something else; one byte of it may be changed,
// with or without its checksum made right again.
#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "async/memory_file.h"
#include "vhdx/replay.h"
#include "vhdx/replayed_file.h"
#include "vhdx/test_log.h"

namespace {

using namespace vhdkit::vhdx;  // NOLINT(google-build-using-namespace): it is what is tested
using testing::TestEntry;
using testing::TestLog;
using vhdkit::KiB;
using vhdkit::MiB;
using vhdkit::async::Loop;
using vhdkit::async::MemoryFile;

constexpr size_t most_entries = 64;
constexpr size_t most_descriptors = 300;
constexpr uint64_t most_bytes_to_compare = 1 * MiB;
constexpr uint64_t usual_updates_bytes = (64 + 32) * 4 * KiB;  // behind 2 MiB, see place_of()

class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  // Zero behind the end.
  template <class T>
  T next() {
    T value{};
    const size_t size = std::min(sizeof value, rest_.size());
    std::memcpy(&value, rest_.data(), size);
    rest_ = rest_.subspan(size);
    return value;
  }

 private:
  std::span<const std::byte> rest_;
};

enum Flags : uint8_t {
  own_place = 1,
  own_sequence_number = 2,
  own_tail = 4,
  own_file_sizes = 8,
  change_byte = 16,
  keep_checksum = 32,
  other_log = 64,
};

// Where an update goes: mostly inside the file, upon the others.
uint64_t place_of(Input& input) {
  const uint8_t kind = input.next<uint8_t>();
  if (kind < 192) return 2 * MiB + kind % 64 * 4 * KiB;
  if (kind < 224) return input.next<uint16_t>() * 4 * KiB;
  return input.next<uint64_t>();
}

uint64_t zero_length_of(Input& input) {
  const uint8_t kind = input.next<uint8_t>();
  if (kind < 224) return (1 + kind % 32) * 4 * KiB;
  return std::max<uint64_t>(1, input.next<uint64_t>());
}

TestEntry next_entry(Input& input, uint8_t flags, const TestEntry& before) {
  TestEntry entry{.sequence_number = before.sequence_number + 1, .tail = before.tail};
  if (flags & own_sequence_number) entry.sequence_number = input.next<uint64_t>();
  if (flags & own_tail) entry.tail = input.next<uint8_t>() * uint32_t{4096};
  if (flags & other_log) entry.guid = testing::other_guid;
  if (flags & own_file_sizes) {
    entry.flushed_file_offset = input.next<uint64_t>();
    entry.last_file_offset = input.next<uint64_t>();
  }
  const size_t count = std::min<size_t>(input.next<uint16_t>() % 512, most_descriptors);
  for (size_t i = 0; i < count && !input.empty(); ++i) {
    const uint8_t kind = input.next<uint8_t>();
    const uint64_t place = place_of(input);
    if (kind % 2 == 0)
      entry.data(place, testing::sector_of(kind));
    else
      entry.zero(place, zero_length_of(input));
  }
  return entry;
}

void lay_entries(Input input, TestLog& log) {
  uint64_t at = 0;
  TestEntry entry{.sequence_number = 0};
  for (size_t i = 0; i < most_entries && !input.empty(); ++i) {
    const uint8_t flags = input.next<uint8_t>();
    if (flags & own_place) at = input.next<uint8_t>() * uint64_t{4096};
    entry = next_entry(input, flags, entry);
    std::vector<std::byte> bytes = entry.bytes();
    // An entry may be longer than its log: what it writes last stays.
    if (flags & change_byte)
      bytes[input.next<uint32_t>() % bytes.size()] ^= std::byte(input.next<uint8_t>());
    if (flags & change_byte && !(flags & keep_checksum)) TestEntry::seal(bytes);
    log.put(at, bytes);
    at = (at + bytes.size()) % TestLog::log_length;
  }
}

void lay_headers(TestLog& log) {
  FileTypeIdentifier identifier{};
  identifier.signature = file_signature;
  log.file.store(0, vhdkit::bytes_of(identifier));
  FileHeader older = log.header;
  --older.sequence_number;
  log.file.store(header_offsets[0], vhdkit::bytes_of(build_header(log.header)));
  log.file.store(header_offsets[1], vhdkit::bytes_of(build_header(older)));
}

void lay(Input input, TestLog& log) {
  lay_headers(log);
  log.file.store(2 * MiB, std::vector<std::byte>(64 * KiB, std::byte{0x5a}));
  lay_entries(input, log);
}

// Every update, one after the other, onto the file itself.
void replay_plainly(const LogContent& content, uint64_t size_bytes, MemoryFile& file) {
  std::ignore = file.resize(size_bytes);
  for (const size_t index : content.active) {
    for (const LogDescriptor& descriptor : content.entries[index].descriptors) {
      if (descriptor.kind == LogDescriptor::Kind::zero) {
        std::ignore = file.punch_hole(descriptor.file_offset, descriptor.length);
        continue;
      }
      std::vector<std::byte> sector(log_sector_bytes);
      file.fetch(TestLog::log_offset + descriptor.sector_offset, sector);
      std::ranges::copy(descriptor.leading_bytes, sector.begin());
      std::ranges::copy(descriptor.trailing_bytes, sector.end() - 4);
      file.store(descriptor.file_offset, sector);
    }
  }
}

void compare(Loop& loop, vhdkit::File& file, const MemoryFile& model, uint64_t begin,
             uint64_t length) {
  // Kept from run to run: sanitizers make large allocations dear.
  static std::array<std::byte, 64 * KiB> got;
  static std::array<std::byte, 64 * KiB> expected;
  for (const uint64_t end = begin + length; begin < end; begin += got.size()) {
    const size_t count = std::min<uint64_t>(got.size(), end - begin);
    assert(loop.run(file.read(begin, std::span(got).first(count))).has_value());
    model.fetch(begin, std::span(expected).first(count));
    assert(std::memcmp(got.data(), expected.data(), count) == 0);
  }
}

// The beginning, the places of updates with what lies around them, the end.
void compare_places(Loop& loop, vhdkit::File& file, const MemoryFile& model,
                    const LogContent& content) {
  const uint64_t size = file.size_bytes();
  assert(size == model.size_bytes());
  compare(loop, file, model, region_table_offsets[0], 128 * KiB);
  compare(loop, file, model, 2 * MiB - 100, usual_updates_bytes + 200);
  uint64_t left = most_bytes_to_compare;
  for (const size_t index : content.active) {
    for (const LogDescriptor& descriptor : content.entries[index].descriptors) {
      for (const uint64_t edge :
           {descriptor.file_offset, descriptor.file_offset + descriptor.length}) {
        const uint64_t begin = edge - std::min<uint64_t>(edge, 10);
        if (begin < region_table_offsets[0] || begin >= size || left < 30) continue;
        compare(loop, file, model, begin, std::min<uint64_t>(30, size - begin));
        left -= 30;
      }
    }
  }
}

// Data comes in order, inside the file; whatever lies between is zero in the model.
void compare_holes(vhdkit::File& file, const MemoryFile& model) {
  uint64_t at = 0;
  std::vector<std::byte> hole(100);
  while (at < file.size_bytes()) {
    const auto data = file.next_data(at, file.size_bytes());
    assert(data.has_value());
    const uint64_t begin = *data ? (*data)->file_offset : file.size_bytes();
    assert(begin >= at && begin <= file.size_bytes());
    hole.assign(std::min<uint64_t>(100, begin - at), std::byte{1});
    if (at > 1 * MiB) {
      model.fetch(at, hole);
      assert(vhdkit::is_zero(hole));
    }
    if (!*data) break;
    assert((*data)->length > 0);
    at = begin + (*data)->length;
    assert(at <= file.size_bytes());
  }
}

void run(Loop& loop, Input input) {
  TestLog log;
  lay(input, log);
  const auto content = loop.run(read_log(log.file, log.header));
  assert(content.has_value());
  auto plan = plan_replay(log.file, log.header, *content);
  if (!plan) {
    assert(!loop.run(replay_on_disk(log.file)).has_value());
    assert(log.file.write_count() == 0);
    return;
  }
  TestLog model;
  lay(input, model);
  replay_plainly(*content, plan->file_size_bytes, model.file);
  {
    ReplayedFile replayed(log.file, std::move(*plan));
    compare_places(loop, replayed, model.file, *content);
    compare_holes(replayed, model.file);
  }
  const auto done = loop.run(replay_on_disk(log.file));
  assert(done.has_value() && *done);
  compare_places(loop, log.file, model.file, *content);
  const auto headers = loop.run(read_headers(log.file));
  assert(headers.has_value() && headers->current.log_is_empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto loop = Loop::create({.engine = vhdkit::async::Engine::synchronous});
  run(**loop, Input(std::as_bytes(std::span(data, size))));
  return 0;
}
