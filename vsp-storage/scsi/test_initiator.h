// What the tests of this room share: CDBs, an initiator that sends them, and a disk that can be
// watched and made to fail.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "disk/ram_disk.h"
#include "vsp-storage/scsi/disk_unit.h"

namespace vhdkit::scsi {

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of_values(std::initializer_list<unsigned> values) {
  Bytes bytes;
  for (const unsigned value : values) bytes.push_back(std::byte(value));
  return bytes;
}

inline void store(Bytes& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i)
    bytes[at + i] = std::byte(value >> (8 * (width - 1 - i)) & 0xff);
}

inline uint64_t value_at(const Bytes& bytes, size_t at, size_t width) {
  REQUIRE(at + width <= bytes.size());
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) value = value << 8 | uint8_t(bytes[at + i]);
  return value;
}

inline std::string text_at(const Bytes& bytes, size_t at, size_t width) {
  REQUIRE(at + width <= bytes.size());
  return {reinterpret_cast<const char*>(bytes.data()) + at, width};
}

// CDBs of READ, WRITE and their kin, by the layouts of SBC-3.
struct Blocks {
  uint64_t lba = 0;
  uint64_t count = 0;
  uint8_t flags = 0;  // byte 1
};
inline Bytes cdb6(uint8_t opcode, const Blocks& blocks) {
  Bytes cdb(6);
  store(cdb, 1, blocks.lba, 3);
  store(cdb, 4, blocks.count, 1);
  cdb[0] = std::byte(opcode);
  return cdb;
}
inline Bytes cdb10(uint8_t opcode, const Blocks& blocks) {
  Bytes cdb(10);
  store(cdb, 0, opcode, 1);
  store(cdb, 1, blocks.flags, 1);
  store(cdb, 2, blocks.lba, 4);
  store(cdb, 7, blocks.count, 2);
  return cdb;
}
inline Bytes cdb12(uint8_t opcode, const Blocks& blocks) {
  Bytes cdb(12);
  store(cdb, 0, opcode, 1);
  store(cdb, 1, blocks.flags, 1);
  store(cdb, 2, blocks.lba, 4);
  store(cdb, 6, blocks.count, 4);
  return cdb;
}
inline Bytes cdb16(uint8_t opcode, const Blocks& blocks) {
  Bytes cdb(16);
  store(cdb, 0, opcode, 1);
  store(cdb, 1, blocks.flags, 1);
  store(cdb, 2, blocks.lba, 8);
  store(cdb, 10, blocks.count, 4);
  return cdb;
}
// By the group of the operation code.
inline Bytes block_cdb(uint8_t opcode, const Blocks& blocks) {
  if (opcode >> 5 == 0) return cdb6(opcode, blocks);
  if (opcode >> 5 == 4) return cdb16(opcode, blocks);
  if (opcode >> 5 == 5) return cdb12(opcode, blocks);
  return cdb10(opcode, blocks);
}

// Passes everything on to a RAM disk; counts, and fails or holds what it is told to.
class WatchedDisk final : public disk::Disk {
 public:
  explicit WatchedDisk(const disk::Geometry& geometry)
      : ram_({.size_bytes = geometry.size_bytes,
              .logical_sector_bytes = geometry.logical_sector_bytes,
              .physical_sector_bytes = geometry.physical_sector_bytes}),
        geometry_(geometry) {}

  const disk::Geometry& geometry() const override { return geometry_; }
  disk::Disk& ram() { return ram_; }
  void set_size(uint64_t size_bytes) { geometry_.size_bytes = size_bytes; }

  uint64_t reads = 0, cached_writes = 0, durable_writes = 0, flushes = 0, zeroings = 0;
  std::optional<Errc> failing_reads, failing_writes, failing_flushes, failing_zeroings,
      failing_extents;
  std::optional<uint64_t> damaged_offset;  // its byte is read inverted, whatever was written
  bool holds_reads = false;
  std::deque<std::coroutine_handle<>> held;  // reads that wait for their data

 private:
  struct Hold {
    WatchedDisk& disk;
    bool await_ready() const noexcept { return !disk.holds_reads; }
    void await_suspend(std::coroutine_handle<> waiter) { disk.held.push_back(waiter); }
    void await_resume() const noexcept {}
  };

  static Result<void> verdict(std::optional<Errc> error) {
    if (error) return fail(*error, "as the test wants it");
    return {};
  }
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override {
    ++reads;
    Hold hold{*this};
    co_await hold;
    CO_TRY(verdict(failing_reads));
    CO_TRY(co_await ram_.read(disk_offset, buffers));
    if (damaged_offset && *damaged_offset >= disk_offset)
      damage(*damaged_offset - disk_offset, buffers);
    co_return Result<void>();
  }
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override {
    ++(durability == Durability::durable ? durable_writes : cached_writes);
    CO_TRY(verdict(failing_writes));
    co_return co_await ram_.write(disk_offset, buffers, durability);
  }
  Async<void> do_flush() override {
    ++flushes;
    co_return verdict(failing_flushes);
  }
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override {
    ++zeroings;
    CO_TRY(verdict(failing_zeroings));
    co_return co_await ram_.zero(disk_offset, length);
  }
  Async<void> do_extents(uint64_t disk_offset, uint64_t length,
                         disk::ExtentList& extents) override {
    CO_TRY(verdict(failing_extents));
    co_return co_await ram_.extents(disk_offset, length, extents);
  }

  static void damage(uint64_t at, Buffers buffers) {
    for (const iovec& vector : buffers) {
      if (at < vector.iov_len) {
        static_cast<std::byte*>(vector.iov_base)[at] ^= std::byte{0xff};
        return;
      }
      at -= vector.iov_len;
    }
  }

  disk::RamDisk ram_;
  disk::Geometry geometry_;
};

// Lets that many pieces pass.
class CountedPace final : public Pace {
 public:
  explicit CountedPace(size_t most) : most_(most) {}
  async::Task<bool> admit(uint64_t bytes) override {
    asked.push_back(bytes);
    co_return asked.size() <= most_;
  }
  std::vector<uint64_t> asked;

 private:
  size_t most_;
};

// Sends commands with buffers of uneven pieces, and looks at the bytes around them.
class TestInitiator {
 public:
  TestInitiator(LogicalUnit& unit, disk::Disk& disk, uint64_t number = 0)
      : unit_(unit), disk_(disk), number_(number) {}

  Pace* pace = nullptr;  // of what is sent from now on

  // Every unit attention is told.
  void settle() {
    while (test_unit_ready().sense[2] == std::byte{6}) {
    }
  }

  Outcome none(const Bytes& cdb) { return send(cdb, Direction::none, {}); }
  Outcome in(const Bytes& cdb, size_t size) {
    data_ = Bytes(size, std::byte{0xa5});
    return send(cdb, Direction::from_device, data_);
  }
  Outcome out(const Bytes& cdb, const Bytes& data) {
    data_ = data;
    return send(cdb, Direction::to_device, data_);
  }
  // Of the last command; behind what it moved there is 0xa5.
  const Bytes& data() const { return data_; }

  Outcome read(const Blocks& blocks) {
    return in(cdb16(0x88, blocks), blocks.count * disk_.geometry().logical_sector_bytes);
  }
  Outcome write(const Blocks& blocks, const Bytes& data) { return out(cdb16(0x8a, blocks), data); }
  Outcome test_unit_ready() { return none(bytes_of_values({0, 0, 0, 0, 0, 0})); }

  Outcome send(const Bytes& cdb, Direction direction, std::span<std::byte> data) {
    constexpr size_t guard_bytes = 32;
    constexpr std::byte guard{0x5a};
    // Pieces lie apart, with guards between them.
    std::vector<Bytes> pieces;
    for (size_t at = 0, next = 7; at < data.size(); next = next * 5 + 3) {
      const size_t length = std::min(next, data.size() - at);
      Bytes piece(length + 2 * guard_bytes, guard);
      std::memcpy(piece.data() + guard_bytes, data.data() + at, length);
      pieces.push_back(std::move(piece));
      at += length;
    }
    std::vector<iovec> vectors;
    for (Bytes& piece : pieces)
      vectors.push_back({piece.data() + guard_bytes, piece.size() - 2 * guard_bytes});
    const Command command{.cdb = cdb,
                          .direction = direction,
                          .data = vectors,
                          .initiator = number_,
                          .resumer = &resumer_,
                          .pace = pace};
    auto task = unit_.execute(disk_, command);
    task.start();
    REQUIRE(task.done());
    const Outcome outcome = task.take();
    size_t at = 0;
    for (const Bytes& piece : pieces) {
      for (size_t i = 0; i < guard_bytes; ++i)
        REQUIRE((piece[i] == guard && piece[piece.size() - 1 - i] == guard));
      const size_t length = piece.size() - 2 * guard_bytes;
      if (direction == Direction::from_device)
        std::memcpy(data.data() + at, piece.data() + guard_bytes, length);
      at += length;
    }
    CHECK(outcome.transferred_bytes <= data.size());
    CHECK((outcome.sense_length == sense_bytes) == (outcome.status == Status::check_condition));
    return outcome;
  }

 private:
  LogicalUnit& unit_;
  disk::Disk& disk_;
  uint64_t number_;
  ResumeHere resumer_;
  Bytes data_;
};

// "5/24/00", "good", "busy", …: what a test compares an outcome with.
inline std::string said(const Outcome& outcome) {
  switch (outcome.status) {
    case Status::good:
      return outcome.overrun ? "overrun" : "good";
    case Status::busy:
      return "busy";
    case Status::reservation_conflict:
      return "conflict";
    case Status::check_condition: {
      static constexpr char digits[] = "0123456789ABCDEF";
      const auto hex = [](std::byte byte) {
        return std::string{digits[uint8_t(byte) >> 4], digits[uint8_t(byte) & 15]};
      };
      CHECK(outcome.sense[0] == (outcome.sense[0] & std::byte{0xf0}));
      CHECK(outcome.sense[7] == std::byte{10});
      return std::string{digits[uint8_t(outcome.sense[2]) & 15]} + "/" + hex(outcome.sense[12]) +
             "/" + hex(outcome.sense[13]);
    }
    default:
      return "another status";
  }
}

// "cdb 1.7": the field that the sense points at.
inline std::string field(const Outcome& outcome) {
  const auto flags = uint8_t(outcome.sense[15]);
  if ((flags & 0x80) == 0) return "none";
  std::string text = (flags & 0x40) != 0 ? "cdb " : "data ";
  text += std::to_string(uint8_t(outcome.sense[16]) << 8 | uint8_t(outcome.sense[17]));
  if ((flags & 0x08) != 0) text += "." + std::to_string(flags & 7);
  return text;
}

// A writable disk of 1024 blocks that can unmap, whose first initiator is past its power-on.
struct TestDisk {
  explicit TestDisk(const DiskUnitOptions& options = default_options(), uint32_t block_size = 512,
                    uint32_t physical = 512)
      : block_bytes(block_size),
        disk({.size_bytes = uint64_t{1024} * block_size,
              .logical_sector_bytes = block_size,
              .physical_sector_bytes = physical,
              .read_only = false}),
        unit(options),
        initiator(unit, disk) {
    initiator.settle();
  }
  static DiskUnitOptions default_options() {
    DiskUnitOptions options;
    options.trim_granularity_bytes = 4096;
    return options;
  }
  // Blocks of the byte `value`.
  Bytes blocks(uint64_t count, unsigned value) const {
    return Bytes(count * block_bytes, std::byte(value));
  }
  Bytes content(uint64_t lba, uint64_t count) {
    const Outcome outcome = initiator.read({.lba = lba, .count = count});
    REQUIRE(said(outcome) == "good");
    return initiator.data();
  }

  uint32_t block_bytes;
  WatchedDisk disk;
  DiskUnit unit;
  TestInitiator initiator;
};

}  // namespace vhdkit::scsi
