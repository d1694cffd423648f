// Ring buffers in the guest's memory: the host's end of both.
#pragma once

#include <atomic>
#include <optional>
#include <span>
#include <vector>

#include "vmbus/guest_memory.h"
#include "vmbus/ring_format.h"

namespace vhdkit::vmbus {

// The pages of one ring. Whoever reads or writes it keeps its own index to itself: what stands in
// the control page is for the other side, which may overwrite it. That page's first line goes from
// one side's processor to the other's whenever both touch it, so it is touched no more often than
// has to be.
class Ring {
 public:
  // The control page, then data pages. Errors: invalid_argument (fewer than two pages, or more than
  // an index of 31 bits reaches).
  static Result<Ring> create(PageList pages);

  uint32_t data_bytes() const { return data_bytes_; }
  // Word of the control page.
  std::atomic_ref<uint32_t> control(size_t offset) const;
  // length: a multiple of 8, at most data_bytes(); goes on at the beginning after the end.
  void copy_out(uint32_t index, std::span<std::byte> to) const;
  void copy_in(uint32_t index, std::span<const std::byte> from) const;

  // An index that the other side wrote. Errors: corrupt: not below data_bytes(), or no multiple
  // of 8.
  Result<uint32_t> index_at(size_t control_offset) const;
  // How far it is from one index to the other, forwards.
  uint32_t distance(uint32_t from, uint32_t to) const {
    return to >= from ? to - from : data_bytes_ - from + to;
  }
  uint32_t advanced(uint32_t index, uint32_t by) const {
    return by < data_bytes_ - index ? index + by : by - (data_bytes_ - index);
  }

 private:
  Ring(PageList pages, uint32_t data_bytes) : pages_(std::move(pages)), data_bytes_(data_bytes) {}
  PageList pages_;
  uint32_t data_bytes_;
};

// A packet as it was copied out of a ring.
struct Packet {
  PacketType type;  // may be a number that has no name
  uint16_t flags;
  uint64_t transaction_id;
  std::span<const std::byte> descriptor;  // between the header and the payload: page lists
  std::span<const std::byte> payload;
};

// Reads what the guest sends. Thread-bound.
class RingReader {
 public:
  // max_packet_bytes: larger packets are corrupt; the ring's own size bounds it as well.
  // read_index: where the next packet begins, below the ring's size; not 0 only where a channel
  // goes on that was served before.
  RingReader(Ring ring, uint32_t max_packet_bytes, uint32_t read_index = 0);

  // The next packet, in memory that the next call uses again; nothing where the ring is empty.
  // Errors: corrupt (an index outside the ring, a length beyond what was written); then the channel
  // is done for.
  Result<std::optional<Packet>> next();

  uint32_t read_index() const { return read_index_; }

  // Lets the guest have the space of the packets that were read. True: it waits for that, so signal
  // it.
  bool give_back();

  // Signals off while the ring is being emptied; on again. After that the guest may have written
  // without a signal: false where there is something to read.
  void mask_signals();
  bool unmask_signals();

 private:
  bool is_empty();

  Ring ring_;
  std::vector<std::byte> buffer_;
  uint32_t read_index_;
  uint32_t returned_index_;  // what the guest knows
  uint32_t unread_ = 0;      // bytes; looked for anew only when there are none
};

// Writes what the guest receives. Thread-bound.
class RingWriter {
 public:
  // write_index: as RingReader's read_index.
  explicit RingWriter(Ring ring, uint32_t write_index = 0);

  uint32_t write_index() const { return write_index_; }

  // One packet; payload: padded with zeroes to a multiple of 8. False: there is no room; then the
  // guest was asked to signal when there is. Errors: corrupt, as RingReader; invalid_argument
  // (larger than the ring could ever hold).
  Result<bool> write(PacketType type, uint64_t transaction_id, std::span<const std::byte> payload);

  // Lets the guest see the packets that were written. True: it sleeps, so signal it.
  bool publish();

 private:
  Result<bool> finds_room(uint32_t needed);
  Result<bool> has_or_waits_for_room(uint32_t needed);

  Ring ring_;
  std::vector<std::byte> packet_;  // as it is put together
  uint32_t write_index_;
  uint32_t published_index_;
  uint32_t free_ = 0;           // bytes; looked for anew when too few, and after each publish()
  bool waits_for_room_ = true;  // or who wrote it before did
};

}  // namespace vhdkit::vmbus
