// SCSI commands as a hostile guest sends them: to a small disk, an optical drive and LUNs that are
// not there.
//
// The input: a byte of options, then commands, each: a byte that says whom it is for, in which
// direction and by whom, a byte for the CDB's length, the CDB, a le16 for the data's length and, to
// the device, that many bytes. Data lies in pieces of uneven length, each of them its own piece of
// the heap, so that the sanitizers see whatever is touched beside it.
#include <memory>
#include <vector>

#include "disk/ram_disk.h"
#include "fuzz/input.h"
#include "vsp-storage/scsi/disk_unit.h"
#include "vsp-storage/scsi/optical_unit.h"
#include "vsp-storage/scsi/target.h"

namespace vhdkit {
namespace {

using scsi::Command;
using scsi::Direction;
using scsi::Outcome;
using scsi::Status;

constexpr size_t max_command_count = 64;

disk::Geometry disk_geometry(uint8_t options) {
  const uint32_t block_bytes = (options & 1) != 0 ? 4096 : 512;
  return {.size_bytes = uint64_t{256} * block_bytes,
          .logical_sector_bytes = block_bytes,
          .physical_sector_bytes = 4096};
}

scsi::DiskUnitOptions unit_options(uint8_t options) {
  scsi::DiskUnitOptions chosen;
  chosen.write_cache = (options & 2) != 0;
  chosen.is_removable = (options & 4) != 0;
  chosen.trim_granularity_bytes = (options & 8) != 0 ? 32768 : 0;
  return chosen;
}

// A guest's buffer.
class Data {
 public:
  Data(size_t length, std::span<const std::byte> content) {
    for (size_t at = 0, next = 13; at < length; next = next * 3 + 1) {
      const size_t part = std::min(next, length - at);
      pieces_.push_back(std::make_unique<std::byte[]>(part));
      for (size_t i = 0; i < part && at + i < content.size(); ++i)
        pieces_.back()[i] = content[at + i];
      vectors_.push_back({pieces_.back().get(), part});
      at += part;
    }
  }
  Buffers buffers() const { return vectors_; }

 private:
  std::vector<std::unique_ptr<std::byte[]>> pieces_;
  std::vector<iovec> vectors_;
};

void check(const Outcome& outcome, uint64_t data_bytes) {
  fuzz::require(outcome.transferred_bytes <= data_bytes, "no more moves than the buffers hold");
  const bool has_sense = outcome.sense_length != 0;
  fuzz::require(has_sense == (outcome.status == Status::check_condition),
                "sense comes with CHECK CONDITION only");
  fuzz::require(!has_sense || outcome.sense_length == scsi::sense_bytes, "sense is whole");
  fuzz::require(outcome.status != Status::busy, "nothing runs that it would wait for");
}

struct World {
  explicit World(uint8_t options)
      : ram(disk_geometry(options)),
        iso({.size_bytes = 64 * 2048}),
        disk(std::make_shared<scsi::DiskUnit>(unit_options(options))),
        drive(std::make_shared<scsi::OpticalUnit>(scsi::OpticalUnitOptions())) {
    fuzz::require(target.attach(0, disk).has_value(), "there is room for the disk");
    fuzz::require(target.attach(1, drive).has_value(), "there is room for the drive");
    if ((options & 16) != 0) insert();
  }
  void insert() {
    fuzz::require(drive->insert(iso.geometry()).has_value(), "the medium is a good one");
  }
  // What the host does meanwhile.
  void happen(uint8_t what) {
    switch (what & 7) {
      case 0:
        disk->reset();
        break;
      case 1:
        drive->reset();
        break;
      case 2:
        disk->capacity_changed();
        break;
      case 3:
        insert();
        break;
      case 4:
        drive->eject();
        break;
      case 5:
        drive->request_eject();
        break;
      default:
        if (target.detach(1)) break;
        fuzz::require(target.attach(1, drive).has_value(), "its place is free");
    }
  }

  disk::RamDisk ram;
  disk::RamDisk iso;
  std::shared_ptr<scsi::DiskUnit> disk;
  std::shared_ptr<scsi::OpticalUnit> drive;
  scsi::Target target;
};

void send_one(World& world, fuzz::Input& input) {
  enum Receiver : uint8_t { disk = 0, drive = 1, nobody = 2, host = 3 };
  const auto how = uint8_t(input.take_value<std::byte>());
  const auto cdb_length = uint8_t(input.take_value<std::byte>());
  if ((how & 3) == host) return world.happen(cdb_length);
  const auto cdb_bytes = input.take(cdb_length % 20);
  const std::vector<std::byte> cdb(cdb_bytes.begin(), cdb_bytes.end());
  const auto direction = Direction((how >> 2 & 3) % 3);
  const size_t length = input.take_value<le16>();
  const auto content = input.take(direction == Direction::to_device ? length : 0);
  const Data data(length, content);
  const Command command{.cdb = cdb,
                        .direction = direction,
                        .data = data.buffers(),
                        .initiator = uint64_t{how} >> 4 & 3};
  Outcome outcome;
  if ((how & 3) == disk) outcome = fuzz::run(world.disk->execute(world.ram, command));
  if ((how & 3) == drive) outcome = fuzz::run(world.drive->execute(world.iso, command));
  if ((how & 3) == nobody) {
    const scsi::Address address{
        .path = uint8_t(how >> 6), .target = uint8_t(how >> 7), .lun = uint8_t(how >> 3)};
    outcome = world.target.execute_absent(address, command);
  }
  check(outcome, length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  World world(uint8_t(input.take_value<std::byte>()));
  for (size_t count = 0; count < max_command_count && !input.empty(); ++count)
    send_one(world, input);
  return 0;
}

}  // namespace vhdkit
