#include "fuse/partitions.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <memory>
#include <string_view>

#include "support/checked.h"

namespace vhdkit::fuse {
namespace {

constexpr uint64_t blkid_sector_bytes = 512;  // what libblkid counts in, whatever the disk has

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, FreeProbe>;

Result<Probe> begin_probe(int descriptor, uint64_t disk_offset, uint64_t length) {
  Probe probe(blkid_new_probe());
  if (probe == nullptr) return fail_errno(ENOMEM, "libblkid");
  if (blkid_probe_set_device(probe.get(), descriptor, blkid_loff_t(disk_offset),
                             blkid_loff_t(length)) != 0)
    return fail_errno(EIO, "libblkid cannot read the disk");
  return probe;
}

// Extended partitions of an MBR hold others.
bool is_container(blkid_partition partition) { return blkid_partition_is_extended(partition) != 0; }

}  // namespace

Result<std::vector<Partition>> find_partitions(int descriptor, uint32_t sector_bytes,
                                               std::vector<std::string>& complaints) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) return fail_errno(errno, "the disk");
  const auto disk_bytes = uint64_t(status.st_size);
  std::vector<Partition> found;
  TRY_LET(const Probe probe, begin_probe(descriptor, 0, 0));
  blkid_probe_set_sectorsize(probe.get(), sector_bytes);
  blkid_probe_enable_partitions(probe.get(), 1);
  blkid_probe_enable_superblocks(probe.get(), 0);
  const blkid_partlist list = blkid_probe_get_partitions(probe.get());
  const int count = list == nullptr ? 0 : blkid_partlist_numof_partitions(list);
  for (int i = 0; i < count; ++i) {
    const blkid_partition partition = blkid_partlist_get_partition(list, i);
    if (is_container(partition)) continue;
    const auto start = uint64_t(blkid_partition_get_start(partition));
    const auto size = uint64_t(blkid_partition_get_size(partition));
    const int number = blkid_partition_get_partno(partition);
    if (start > disk_bytes / blkid_sector_bytes || size > disk_bytes / blkid_sector_bytes - start ||
        size == 0) {
      complaints.push_back(
          fmt::format("partition {}: sectors [{}, +{}) of 512 bytes are not inside "
                      "the disk of {} bytes; it is left out",
                      number, start, size, disk_bytes));
      continue;
    }
    found.push_back({.number = unsigned(number),
                     .disk_offset = start * blkid_sector_bytes,
                     .length = size * blkid_sector_bytes});
  }
  return found;
}

Result<std::string> file_system_at(int descriptor, uint64_t disk_offset, uint64_t length) {
  TRY_LET(const Probe probe, begin_probe(descriptor, disk_offset, length));
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_filter_superblocks_usage(probe.get(), BLKID_FLTR_ONLYIN, BLKID_USAGE_FILESYSTEM);
  if (blkid_do_safeprobe(probe.get()) != 0) return std::string();
  const char* type = nullptr;
  if (blkid_probe_lookup_value(probe.get(), "TYPE", &type, nullptr) != 0) return std::string();
  return std::string(type);
}

}  // namespace vhdkit::fuse
