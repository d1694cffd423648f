#include "hypervisor/kvm/guest_ram.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t huge_page_bytes = uint64_t{2} << 20;

}  // namespace

Result<std::unique_ptr<GuestRam>> GuestRam::create(uint64_t byte_count, Pages pages) {
  if (byte_count < smallest_bytes || byte_count % huge_page_bytes != 0)
    return fail(Errc::invalid_argument, std::to_string(byte_count) +
                                            " bytes of memory: a guest has at least 16 MiB, and a "
                                            "multiple of 2 MiB");
  std::unique_ptr<GuestRam> ram(new GuestRam(byte_count));
  TRY(ram->map(pages));
  return ram;
}

Result<void> GuestRam::map(Pages pages) {
  if (byte_count_ > std::numeric_limits<size_t>::max() / 2) return fail_errno(ENOMEM, "memory");
  // The kernel gives huge pages only where addresses are multiples of theirs.
  mapping_bytes_ = byte_count_ + huge_page_bytes;
  void* const mapping =
      mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return fail_errno(errno, std::to_string(byte_count_ >> 20) + " MiB of memory for the guest");
  mapping_ = static_cast<std::byte*>(mapping);
  const uint64_t beyond = reinterpret_cast<uintptr_t>(mapping_) % huge_page_bytes;
  std::byte* const bytes = mapping_ + (huge_page_bytes - beyond) % huge_page_bytes;
  // Both only where the kernel knows them: a guest runs without, too.
  madvise(bytes, byte_count_, pages == Pages::huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  madvise(bytes, byte_count_, MADV_DONTDUMP);

  const uint64_t low = std::min(byte_count_, mmio_gap_begin);
  regions_[region_count_++] = {.address = 0, .byte_count = low, .bytes = bytes};
  if (low < byte_count_)
    regions_[region_count_++] = {
        .address = mmio_gap_end, .byte_count = byte_count_ - low, .bytes = bytes + low};
  return {};
}

GuestRam::~GuestRam() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

std::byte* GuestRam::page(uint64_t page_number) {
  if (page_number > std::numeric_limits<uint64_t>::max() / page_bytes) return nullptr;
  const auto bytes = range(page_number * page_bytes, page_bytes);
  return bytes.empty() ? nullptr : bytes.data();
}

std::span<std::byte> GuestRam::range(uint64_t address, uint64_t length) {
  for (const Region& region : regions()) {
    const bool begins_here = address >= region.address && address < region.end();
    if (begins_here && length <= region.end() - address)
      return {region.bytes + (address - region.address), size_t(length)};
  }
  return {};
}

Result<void> GuestRam::write(uint64_t address, std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  TRY_LET(const auto place, existing_range(address, bytes.size()));
  std::memcpy(place.data(), bytes.data(), bytes.size());
  return {};
}

Result<std::span<std::byte>> GuestRam::existing_range(uint64_t address, uint64_t length) {
  const auto place = range(address, length);
  if (place.empty())
    return fail(Errc::out_of_range, std::to_string(length) + " bytes at guest address " +
                                        std::to_string(address) + " are not all RAM");
  return place;
}

Result<void> GuestRam::clear() {
  for (const Region& region : regions()) {
    TRY(clear(region.address, region.byte_count));
  }
  return {};
}

// Whole pages are given back to the machine.
Result<void> GuestRam::clear(uint64_t address, uint64_t length) {
  TRY_LET(const auto bytes, existing_range(address, length));
  const size_t before =
      std::min<size_t>((page_bytes - address % page_bytes) % page_bytes, bytes.size());
  const auto rest = bytes.subspan(before);
  const auto pages = rest.first(rest.size() / page_bytes * page_bytes);
  std::ranges::fill(bytes.first(before), std::byte{0});
  std::ranges::fill(rest.subspan(pages.size()), std::byte{0});
  if (!pages.empty() && madvise(pages.data(), pages.size(), MADV_DONTNEED) != 0)
    return fail_errno(errno, "the guest's memory cannot be cleared");
  return {};
}

}  // namespace vhdkit::hypervisor
