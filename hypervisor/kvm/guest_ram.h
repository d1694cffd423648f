// The guest's RAM: where it lies in the guest's address space, and in this process.
#pragma once

#include <array>
#include <memory>

#include "vmbus/guest_memory.h"

namespace vhdkit::hypervisor {

// Guest physical addresses that are not RAM: devices, and what ACPI says of them, live there.
inline constexpr uint64_t mmio_gap_begin = 0xc000'0000;
inline constexpr uint64_t mmio_gap_end = 0x1'0000'0000;

// Thread-safe; the guest changes the bytes whenever it likes. RAM begins at 0 and leaves the gap
// out. Pages are taken from the machine as the guest touches them, in huge pages where it has them.
class GuestRam final : public vmbus::GuestMemory {
 public:
  static constexpr uint64_t smallest_bytes = uint64_t{16} << 20;

  struct Region {
    uint64_t address = 0;  // guest physical
    uint64_t byte_count = 0;
    std::byte* bytes = nullptr;

    uint64_t end() const { return address + byte_count; }
  };

  // Where hardly any of it is used, small pages cost less: the machine clears what it gives.
  enum class Pages { huge, small };

  // byte_count: a multiple of 2 MiB, at least smallest_bytes. Errors: invalid_argument; io with
  // ENOMEM (the machine has less to give).
  static Result<std::unique_ptr<GuestRam>> create(uint64_t byte_count, Pages pages = Pages::huge);
  ~GuestRam() override;

  std::byte* page(uint64_t page_number) override;
  // One or two, in ascending order.
  std::span<const Region> regions() const { return std::span(regions_).first(region_count_); }
  uint64_t byte_count() const { return byte_count_; }

  // The bytes at a guest physical address; empty where they are not all RAM, or not in one region.
  std::span<std::byte> range(uint64_t address, uint64_t length);
  // Errors: out_of_range.
  Result<void> write(uint64_t address, std::span<const std::byte> bytes);

  // As when the machine is switched on: all zeroes. REQUIRES: no guest runs.
  Result<void> clear();
  // The same for a part. Errors: out_of_range.
  Result<void> clear(uint64_t address, uint64_t length);

 private:
  explicit GuestRam(uint64_t byte_count) : byte_count_(byte_count) {}

  Result<void> map(Pages pages);
  Result<std::span<std::byte>> existing_range(uint64_t address, uint64_t length);

  uint64_t byte_count_;
  std::byte* mapping_ = nullptr;
  uint64_t mapping_bytes_ = 0;
  std::array<Region, 2> regions_;
  size_t region_count_ = 0;
};

}  // namespace vhdkit::hypervisor
