#include "hypervisor/devices/ports.h"

#include <algorithm>
#include <cassert>
#include <iterator>

namespace vhdkit::hypervisor {
namespace {

constexpr uint32_t port_count = 0x10000;

uint32_t all_ones(unsigned size) {
  assert(size == 1 || size == 2 || size == 4);
  return UINT32_MAX >> (32 - 8 * size);
}

}  // namespace

uint32_t ByteDevice::read(uint16_t offset, unsigned size) {
  uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= uint32_t{read_byte(uint16_t(offset + i))} << (8 * i);
  return value;
}

void ByteDevice::write(uint16_t offset, unsigned size, uint32_t value) {
  for (unsigned i = 0; i < size; ++i) write_byte(uint16_t(offset + i), uint8_t(value >> (8 * i)));
}

void Ports::add(uint16_t first, uint16_t count, PortDevice& device) {
  assert(count > 0 && uint32_t{first} + count <= port_count);
  const auto next = std::ranges::upper_bound(ranges_, first, {}, &Range::first);
  assert(next == ranges_.end() || uint32_t{first} + count <= next->first);
  assert(next == ranges_.begin() ||
         uint32_t{std::prev(next)->first} + std::prev(next)->count <= first);
  ranges_.insert(next, Range{.first = first, .count = count, .device = &device});
}

const Ports::Range* Ports::find(uint16_t port) const {
  const auto next = std::ranges::upper_bound(ranges_, port, {}, &Range::first);
  if (next == ranges_.begin()) return nullptr;
  const Range& range = *std::prev(next);
  return port - range.first < range.count ? &range : nullptr;
}

uint32_t Ports::read(uint16_t port, unsigned size) const {
  const uint32_t nobody = all_ones(size);
  const Range* const range = find(port);
  if (range == nullptr) return nobody;
  const auto offset = uint16_t(port - range->first);
  const auto own_count = unsigned(range->count - offset);
  if (size <= own_count) return range->device->read(offset, size) & nobody;
  uint32_t value = nobody << (8 * own_count) & nobody;
  for (unsigned i = 0; i < own_count; ++i)
    value |= (range->device->read(uint16_t(offset + i), 1) & 0xff) << (8 * i);
  return value;
}

void Ports::write(uint16_t port, unsigned size, uint32_t value) const {
  const uint32_t all = all_ones(size);
  const Range* const range = find(port);
  if (range == nullptr) return;
  const auto offset = uint16_t(port - range->first);
  const auto own_count = unsigned(range->count - offset);
  if (size <= own_count) return range->device->write(offset, size, value & all);
  for (unsigned i = 0; i < own_count; ++i)
    range->device->write(uint16_t(offset + i), 1, value >> (8 * i) & 0xff);
}

}  // namespace vhdkit::hypervisor
