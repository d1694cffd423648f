#include "hypervisor/runner/firmware_drives.h"

#include <algorithm>

#include "hypervisor/bios/disk_services.h"

namespace vhdkit::hypervisor {
namespace {

// A transfer keeps its thread until it is done; it goes straight between file and memory.
class StorageDrive final : public Drive {
 public:
  explicit StorageDrive(Storage::Entrance entrance)
      : entrance_(std::move(entrance)),
        sector_count_(entrance_.disk->geometry().size_bytes / sector_bytes) {}

  uint64_t sector_count() const override { return sector_count_; }
  bool may_begin(uint64_t bytes) override {
    return entrance_.limit == nullptr || entrance_.limit->admit_at_once(bytes);
  }
  Result<void> read(uint64_t sector, std::span<std::byte> bytes) override {
    return entrance_.worker->await(
        [&] { return entrance_.disk->read(sector * sector_bytes, bytes); });
  }
  Result<void> write(uint64_t sector, std::span<const std::byte> bytes) override {
    return entrance_.worker->await(
        [&] { return entrance_.disk->write(sector * sector_bytes, bytes); });
  }

 private:
  Storage::Entrance entrance_;
  // A disk that gets another size is bound to its worker then, and this is asked for elsewhere.
  uint64_t sector_count_;
};

static_assert(Storage::max_disks <= DiskServices::max_disks);

}  // namespace

Result<std::vector<std::unique_ptr<Drive>>> firmware_drives(Storage& storage,
                                                            const std::string& first) {
  auto entrances = storage.entrances();
  const auto boots = std::ranges::find(entrances, first, &Storage::Entrance::path);
  if (boots == entrances.end())
    return fail(Errc::not_found, "the disk that the guest boots from was taken away");
  std::rotate(entrances.begin(), boots, boots + 1);
  std::vector<std::unique_ptr<Drive>> drives;
  bool is_first = true;
  for (Storage::Entrance& entrance : entrances) {
    const uint32_t sector_bytes = entrance.disk->geometry().logical_sector_bytes;
    const bool is_usable = sector_bytes == Drive::sector_bytes;
    if (!is_usable && is_first)
      return fail(Errc::not_found, "a BIOS boots from disks with sectors of 512 bytes, not of " +
                                       std::to_string(sector_bytes));
    if (is_usable) drives.push_back(std::make_unique<StorageDrive>(std::move(entrance)));
    is_first = false;
  }
  return drives;
}

}  // namespace vhdkit::hypervisor
