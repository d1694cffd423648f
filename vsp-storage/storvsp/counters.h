// What is counted of channels and logical units while they are served.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "vsp-storage/scsi/command.h"

namespace vhdkit::storvsp {

// Written by one thread, read by any.
class Counter {
 public:
  void add(uint64_t by) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

// How often something took from 2^(n-1) to 2^n - 1 of its unit; entry 0 counts zeroes, the last one
// all that is larger.
class Histogram {
 public:
  static constexpr size_t entry_count = 32;
  void add(uint64_t value) noexcept {
    counts_[std::min<size_t>(std::bit_width(value), entry_count - 1)].add(1);
  }
  uint64_t count(size_t entry) const noexcept { return counts_[entry].value(); }

 private:
  std::array<Counter, entry_count> counts_;
};

struct ChannelCounters {
  Counter packets;
  Counter signals;         // to the guest
  Counter wakes;           // after it had asked to be woken
  Counter spurious_wakes;  // with nothing to read and nothing to answer
  Counter ring_full;       // answers that had to wait for the guest
  Histogram batches;       // packets that were read at once
};

struct UnitCounters {
  Counter requests;
  Counter errors;  // with another status than GOOD
  Counter bytes_read;
  Counter bytes_written;
  // By where the data went: INQUIRY reads too.
  Histogram read_latency_us;
  Histogram write_latency_us;
  Histogram other_latency_us;  // of commands without data

  Histogram& latency_us(scsi::Direction direction) noexcept {
    switch (direction) {
      case scsi::Direction::from_device:
        return read_latency_us;
      case scsi::Direction::to_device:
        return write_latency_us;
      case scsi::Direction::none:
        break;
    }
    return other_latency_us;
  }
};

}  // namespace vhdkit::storvsp
