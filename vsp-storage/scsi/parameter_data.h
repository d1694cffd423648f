// Parameter data: what commands other than READ and WRITE move between device and guest.
#pragma once

#include <string_view>
#include <vector>

#include "vsp-storage/scsi/sense.h"

namespace vhdkit::scsi {

// Data on its way to the guest, built up front to back. Big-endian.
class ParameterData {
 public:
  void put8(uint64_t value) { put(value, 1); }
  void put16(uint64_t value) { put(value, 2); }
  void put24(uint64_t value) { put(value, 3); }
  void put32(uint64_t value) { put(value, 4); }
  void put64(uint64_t value) { put(value, 8); }
  void put_zeroes(size_t count) { bytes_.resize(bytes_.size() + count); }
  void put_bytes(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  // Printable ASCII, cut at `width` or filled up with spaces.
  void put_text(std::string_view text, size_t width);

  // Writes over what is there already. REQUIRES: it is.
  void set8(size_t at, uint64_t value) { set(at, value, 1); }
  void set16(size_t at, uint64_t value) { set(at, value, 2); }
  void set32(size_t at, uint64_t value) { set(at, value, 4); }
  void set64(size_t at, uint64_t value) { set(at, value, 8); }

  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  void put(uint64_t value, size_t width);
  void set(size_t at, uint64_t value, size_t width);

  std::vector<std::byte> bytes_;
};

// The part of a command's buffers that may be written (from_device) or read (to_device): none where
// the transport says another direction.
Buffers usable_data(const Command& command, Direction direction);

// Moves as much of the data to the guest as its allocation length and its buffers hold; a cut at
// the allocation length is no error (SPC-4 4.2.5.6), one at the buffers' end an overrun.
Outcome answer(const Command& command, std::span<const std::byte> data, uint64_t allocation_length);

// The guest's parameter list, copied once. REQUIRES: `length` comes from a field of 16 bits, or is
// bounded otherwise. Errors: PARAMETER LIST LENGTH ERROR where the buffers hold less.
Checked<std::vector<std::byte>> take_parameters(const Command& command, size_t length);

// Copies between the guest's buffers and bytes. REQUIRES: they hold data_offset + bytes.size().
void copy_to(Buffers data, uint64_t data_offset, std::span<const std::byte> bytes);
void copy_from(Buffers data, uint64_t data_offset, std::span<std::byte> bytes);
// Where buffers and bytes differ first, counted from data_offset. REQUIRES: as copy_from().
std::optional<size_t> first_difference(Buffers data, uint64_t data_offset,
                                       std::span<const std::byte> bytes);

// A field of a parameter list. REQUIRES: it is inside.
uint64_t field_of(std::span<const std::byte> bytes, size_t at, size_t width);

}  // namespace vhdkit::scsi
