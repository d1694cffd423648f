#include "vsp-storage/scsi/parameter_data.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace vhdkit::scsi {
namespace {

// Calls act(part of the buffers, where it lies in the range) for each piece of
// [data_offset, data_offset + length), until it returns false.
template <class Act>
void for_each_part(Buffers data, uint64_t data_offset, size_t length, Act act) {
  size_t done = 0;
  for (const iovec& vector : data) {
    if (done == length) return;
    if (data_offset >= vector.iov_len) {
      data_offset -= vector.iov_len;
      continue;
    }
    const size_t part = std::min<size_t>(vector.iov_len - data_offset, length - done);
    if (!act(static_cast<std::byte*>(vector.iov_base) + data_offset, part, done)) return;
    done += part;
    data_offset = 0;
  }
  assert(done == length);
}

}  // namespace

void ParameterData::put_text(std::string_view text, size_t width) {
  for (size_t i = 0; i < width; ++i) {
    const char character = i < text.size() ? text[i] : ' ';
    put8(character >= ' ' && character <= '~' ? uint8_t(character) : uint8_t{' '});
  }
}

void ParameterData::put(uint64_t value, size_t width) {
  put_zeroes(width);
  set(bytes_.size() - width, value, width);
}

void ParameterData::set(size_t at, uint64_t value, size_t width) {
  assert(at + width <= bytes_.size());
  for (size_t i = 0; i < width; ++i)
    bytes_[at + i] = std::byte(value >> (8 * (width - 1 - i)) & 0xff);
}

Buffers usable_data(const Command& command, Direction direction) {
  return command.direction == direction ? command.data : Buffers();
}

Outcome answer(const Command& command, std::span<const std::byte> data,
               uint64_t allocation_length) {
  const Buffers buffers = usable_data(command, Direction::from_device);
  const uint64_t wanted = std::min<uint64_t>(data.size(), allocation_length);
  const uint64_t moved = std::min(wanted, total_bytes(buffers));
  copy_to(buffers, 0, data.first(moved));
  return {.transferred_bytes = moved, .overrun = moved < wanted};
}

Checked<std::vector<std::byte>> take_parameters(const Command& command, size_t length) {
  const Buffers buffers = usable_data(command, Direction::to_device);
  if (total_bytes(buffers) < length)
    return std::unexpected(check_condition(sense::parameter_list_length));
  std::vector<std::byte> bytes(length);
  copy_from(buffers, 0, bytes);
  return bytes;
}

void copy_to(Buffers data, uint64_t data_offset, std::span<const std::byte> bytes) {
  for_each_part(data, data_offset, bytes.size(),
                [&bytes](std::byte* part, size_t length, size_t at) {
                  std::memcpy(part, bytes.data() + at, length);
                  return true;
                });
}

void copy_from(Buffers data, uint64_t data_offset, std::span<std::byte> bytes) {
  for_each_part(data, data_offset, bytes.size(),
                [&bytes](const std::byte* part, size_t length, size_t at) {
                  std::memcpy(bytes.data() + at, part, length);
                  return true;
                });
}

std::optional<size_t> first_difference(Buffers data, uint64_t data_offset,
                                       std::span<const std::byte> bytes) {
  std::optional<size_t> found;
  for_each_part(data, data_offset, bytes.size(),
                [&bytes, &found](const std::byte* part, size_t length, size_t at) {
                  if (std::memcmp(part, bytes.data() + at, length) == 0) return true;
                  // The guest may have made them equal meanwhile: they were not.
                  const auto end = std::mismatch(part, part + length - 1, bytes.data() + at).first;
                  found = at + size_t(end - part);
                  return false;
                });
  return found;
}

uint64_t field_of(std::span<const std::byte> bytes, size_t at, size_t width) {
  assert(at + width <= bytes.size());
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) value = value << 8 | uint8_t(bytes[at + i]);
  return value;
}

}  // namespace vhdkit::scsi
