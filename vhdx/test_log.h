// Builds logs for tests, from the tables of [MS-VHDX] 2.3.1 alone.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "async/memory_file.h"
#include "support/crc32c.h"
#include "vhdx/headers.h"

namespace vhdkit::vhdx::testing {

inline constexpr Guid log_guid = Guid::literal("0f0e0d0c-0b0a-0908-0706-050403020100");
inline constexpr Guid other_guid = Guid::literal("10111213-1415-1617-1819-1a1b1c1d1e1f");

using Sector = std::vector<std::byte>;  // 4 KiB

// Bytes that differ from place to place and from seed to seed, none of them zero.
inline Sector sector_of(unsigned seed) {
  Sector sector(log_sector_bytes);
  for (size_t i = 0; i < sector.size(); ++i)
    sector[i] = std::byte(1 + (i * 31 + i / 256 * 7 + seed * 101) % 255);
  return sector;
}

struct TestEntry {
  uint64_t sequence_number = 1;
  uint32_t tail = 0;  // bytes from the log's start
  Guid guid = log_guid;
  uint64_t flushed_file_offset = 8 * MiB;
  uint64_t last_file_offset = 8 * MiB;
  struct Write {
    uint64_t file_offset;
    uint64_t zero_length;  // 0: data
    Sector data;
  };
  std::vector<Write> writes;

  TestEntry& data(uint64_t file_offset, Sector sector) {
    writes.push_back({file_offset, 0, std::move(sector)});
    return *this;
  }
  TestEntry& zero(uint64_t file_offset, uint64_t length) {
    writes.push_back({file_offset, length, {}});
    return *this;
  }

  // Sectors of descriptors: 126 fit beside the header, 128 into each further one.
  size_t descriptor_sectors() const { return 1 + (writes.size() + 1) / 128; }

  std::vector<std::byte> bytes() const {
    std::vector<std::byte> bytes(descriptor_sectors() * 4096);
    size_t descriptor_at = 64;
    for (const Write& write : writes) {
      put_descriptor(bytes, descriptor_at, write);
      descriptor_at += 32;
    }
    for (const Write& write : writes) {
      if (write.zero_length > 0) continue;
      LogDataSector stored{};
      stored.signature = data_sector_signature;
      stored.sequence_high = uint32_t(sequence_number >> 32);
      stored.sequence_low = uint32_t(sequence_number);
      std::copy_n(write.data.begin() + 8, 4084, stored.data.begin());
      std::ranges::copy(bytes_of(stored), std::back_inserter(bytes));
    }
    put_header(bytes);
    return bytes;
  }

 private:
  void put_header(std::vector<std::byte>& bytes) const {
    LogEntryHeader header{};
    header.signature = log_entry_signature;
    header.entry_length = uint32_t(bytes.size());
    header.tail = tail;
    header.sequence_number = sequence_number;
    header.descriptor_count = uint32_t(writes.size());
    header.log_guid = guid.stored();
    header.flushed_file_offset = flushed_file_offset;
    header.last_file_offset = last_file_offset;
    std::ranges::copy(bytes_of(header), bytes.begin());
    seal(bytes);
  }

  void put_descriptor(std::vector<std::byte>& bytes, size_t at, const Write& write) const {
    if (write.zero_length > 0) {
      ZeroDescriptor zero{};
      zero.signature = zero_descriptor_signature;
      zero.zero_length = write.zero_length;
      zero.file_offset = write.file_offset;
      zero.sequence_number = sequence_number;
      std::ranges::copy(bytes_of(zero), bytes.begin() + long(at));
      return;
    }
    DataDescriptor data{};
    data.signature = data_descriptor_signature;
    std::copy_n(write.data.begin(), 8, data.leading_bytes.begin());
    std::copy_n(write.data.begin() + 4092, 4, data.trailing_bytes.begin());
    data.file_offset = write.file_offset;
    data.sequence_number = sequence_number;
    std::ranges::copy(bytes_of(data), bytes.begin() + long(at));
  }

 public:
  // Gives an entry that a test changed its right checksum again.
  static void seal(std::vector<std::byte>& bytes) {
    const le32 checksum = crc32c_without(bytes, 4);
    std::ranges::copy(bytes_of(checksum), bytes.begin() + 4);
  }
};

// A file of 8 MiB with its log, 1 MiB, at 1 MiB; the header names log_guid.
class TestLog {
 public:
  static constexpr uint64_t log_offset = 1 * MiB;
  static constexpr uint64_t log_length = 1 * MiB;
  static constexpr uint64_t file_bytes = 8 * MiB;

  TestLog() { std::ignore = file.resize(file_bytes); }

  // log_offset_of_entry: bytes from the log's start; what does not fit goes on there.
  TestLog& put(uint64_t log_offset_of_entry, const std::vector<std::byte>& bytes) {
    for (size_t at = 0; at < bytes.size(); at += 4096)
      file.store(log_offset + (log_offset_of_entry + at) % log_length,
                 std::span(bytes).subspan(at).first(4096));
    return *this;
  }
  TestLog& put(uint64_t log_offset_of_entry, const TestEntry& entry) {
    return put(log_offset_of_entry, entry.bytes());
  }

  async::MemoryFile file{"disk.vhdx"};
  FileHeader header{.sequence_number = 5,
                    .file_write_guid = other_guid,
                    .data_write_guid = other_guid,
                    .log_guid = log_guid,
                    .log_offset = log_offset,
                    .log_length = log_length};
};

}  // namespace vhdkit::vhdx::testing
