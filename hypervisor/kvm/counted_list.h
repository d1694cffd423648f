// KVM's structures that are a count and as many items: kvm_cpuid2, kvm_msrs, kvm_irq_routing.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace vhdkit::hypervisor {

// The kernel's header gives them another size in C++ than in C, and so another number to their
// ioctls: here they are laid out as the kernel has them.
template <class Item>
class CountedList {
 public:
  // All items zero; the count is that of the room.
  explicit CountedList(size_t room) : bytes_(header_bytes + room * sizeof(Item)) {
    const auto count = uint32_t(room);
    std::memcpy(bytes_.data(), &count, sizeof count);
  }
  explicit CountedList(std::span<const Item> items) : CountedList(items.size()) {
    std::memcpy(bytes_.data() + header_bytes, items.data(), items.size_bytes());
  }

  std::byte* data() { return bytes_.data(); }
  // As many as the count says by now.
  std::span<Item> items() {
    uint32_t count;
    std::memcpy(&count, bytes_.data(), sizeof count);
    return {reinterpret_cast<Item*>(bytes_.data() + header_bytes), count};
  }

  // An ioctl that takes such a list.
  static constexpr unsigned long request(unsigned long number) {
    const unsigned long size_bits = static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT;
    return (number & ~size_bits) | header_bytes << _IOC_SIZESHIFT;
  }

 private:
  static constexpr size_t header_bytes = 8;
  std::vector<std::byte> bytes_;
};

}  // namespace vhdkit::hypervisor
