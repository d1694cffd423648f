#include "hypervisor/bios/disk_services.h"

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include "hypervisor/bios/edd_format.h"
#include "hypervisor/bios/low_memory.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

// RBIL, "INT 13".
enum Function : uint8_t {
  reset = 0x00,
  last_status = 0x01,
  read = 0x02,
  write = 0x03,
  verify = 0x04,
  geometry = 0x08,
  initialize = 0x09,
  seek = 0x0c,
  reset_fixed = 0x0d,
  is_ready = 0x10,
  recalibrate = 0x11,
  diagnose = 0x14,
  disk_type = 0x15,
  check_extensions = 0x41,
  extended_read = 0x42,
  extended_write = 0x43,
  extended_verify = 0x44,
  extended_seek = 0x47,
  parameters = 0x48,
};

constexpr uint8_t fixed_disk = 0x03;  // AH of disk_type
constexpr uint16_t extensions_asked = 0x55aa;
constexpr uint16_t extensions_there = 0xaa55;
constexpr uint8_t max_sectors_by_place = 0x80;
constexpr uint16_t flat_address_follows = 0xffff;

BiosDiskStatus status_of(const Result<void>& result) {
  if (result) return BiosDiskStatus::success;
  return result.error().code == Errc::read_only ? BiosDiskStatus::write_protected
                                                : BiosDiskStatus::controller_failed;
}

// CX and DH, as most functions name a sector.
struct Place {
  uint32_t cylinder;
  uint32_t head;
  uint32_t sector;  // from 1 on

  static Place of(const BiosCall& call) {
    return {.cylinder = high_byte(call.ecx) | (uint32_t{low_byte(call.ecx)} & 0xc0) << 2,
            .head = call.dh(),
            .sector = low_byte(call.ecx) & 0x3fU};
  }
};

std::optional<uint64_t> sector_at(const Place& place, const DriveGeometry& disk) {
  const bool is_there = place.cylinder < disk.cylinders && place.head < disk.heads &&
                        place.sector >= 1 && place.sector <= DriveGeometry::sectors_per_track;
  if (!is_there) return std::nullopt;
  return (uint64_t{place.cylinder} * disk.heads + place.head) * DriveGeometry::sectors_per_track +
         place.sector - 1;
}

}  // namespace

DriveGeometry DriveGeometry::of(uint64_t sector_count) {
  constexpr uint64_t most_per_head = uint64_t{max_cylinders} * sectors_per_track;
  DriveGeometry geometry;
  while (geometry.heads < max_heads && geometry.heads * most_per_head < sector_count)
    geometry.heads = std::min(geometry.heads * 2, max_heads);
  const uint64_t cylinders = sector_count / (uint64_t{geometry.heads} * sectors_per_track);
  geometry.cylinders = uint32_t(std::clamp(cylinders, uint64_t{1}, uint64_t{max_cylinders}));
  return geometry;
}

DiskServices::DiskServices(GuestRam& ram, std::vector<std::unique_ptr<Drive>> drives) : ram_(ram) {
  assert(drives.size() <= max_disks);
  for (auto& drive : drives) {
    const DriveGeometry geometry = DriveGeometry::of(drive->sector_count());
    disks_.push_back({.drive = std::move(drive), .geometry = geometry});
  }
}

DiskServices::Disk* DiskServices::find(uint8_t number) {
  if (number < first_disk || number - first_disk >= int(disks_.size())) return nullptr;
  return &disks_[number - first_disk];
}

BiosAnswer DiskServices::answer(BiosCall& call) {
  Disk* const disk = find(call.dl());
  if (call.ah() == disk_type && disk == nullptr) {
    set_high_byte(call.eax, 0);  // no such drive, which is no error
    call.set_carry(false);
    return BiosAnswer::done;
  }
  const uint8_t function = call.ah();
  const auto status = disk == nullptr ? BiosDiskStatus::invalid : serve(call, *disk);
  if (!status) return BiosAnswer::again;
  // Of these two the answer is in AH already.
  const bool has_answered = function == disk_type || function == check_extensions;
  if (!has_answered || status != BiosDiskStatus::success)
    set_high_byte(call.eax, std::to_underlying(*status));
  call.set_carry(status != BiosDiskStatus::success);
  last_ = function == last_status ? BiosDiskStatus::success : *status;
  (void)ram_.write(bios_data::disk_status, bytes_of(std::to_underlying(last_)));
  return BiosAnswer::done;
}

std::optional<BiosDiskStatus> DiskServices::serve(BiosCall& call, Disk& disk) {
  switch (call.ah()) {
    case reset:
    case initialize:
    case reset_fixed:
    case is_ready:
    case recalibrate:
    case diagnose:
      return BiosDiskStatus::success;
    case last_status:
      return last_;
    case read:
      return transfer_by_place(call, disk, Direction::read);
    case write:
      return transfer_by_place(call, disk, Direction::write);
    case verify:
      return transfer_by_place(call, disk, Direction::verify);
    case geometry:
      return tell_geometry(call, disk);
    case seek:
      return sector_at(Place::of(call), disk.geometry) ? BiosDiskStatus::success
                                                       : BiosDiskStatus::not_found;
    case disk_type:
      return tell_type(call, disk);
    case check_extensions:
      return tell_extensions(call);
    case extended_read:
      return transfer_by_number(call, disk, Direction::read);
    case extended_write:
      return transfer_by_number(call, disk, Direction::write);
    case extended_verify:
      return transfer_by_number(call, disk, Direction::verify);
    case extended_seek:
      return seek_by_number(call, disk);
    case parameters:
      return tell_parameters(call, disk);
    default:
      return BiosDiskStatus::invalid;
  }
}

// --- transfers ---

// AL: the count, answered with what was transferred; ES:BX: the buffer.
std::optional<BiosDiskStatus> DiskServices::transfer_by_place(BiosCall& call, Disk& disk,
                                                              Direction direction) {
  const uint8_t count = call.al();
  const auto first = sector_at(Place::of(call), disk.geometry);
  std::optional<BiosDiskStatus> status = BiosDiskStatus::invalid;
  if (count > 0 && count <= max_sectors_by_place) {
    status = !first ? BiosDiskStatus::not_found
                    : transfer(disk, {.direction = direction,
                                      .first_sector = *first,
                                      .sector_count = count,
                                      .address = real_mode_address(call.es, call.bx())});
  }
  if (status && status != BiosDiskStatus::success) set_low_byte(call.eax, 0);
  return status;
}

// EDD 3.0, "Disk address packet". It allows counts up to 127, and other BIOSes take all that 16
// bits can say: so does this one. A count of 0 transfers nothing, and is no error.
std::optional<BiosDiskStatus> DiskServices::transfer_by_number(BiosCall& call, Disk& disk,
                                                               Direction direction) {
  const uint64_t address = real_mode_address(call.ds, call.si());
  auto packet = load<edd::AddressPacket>(ram_.range(address, sizeof(edd::AddressPacket)));
  if (!packet || packet->byte_count < sizeof *packet) return BiosDiskStatus::invalid;
  Transfer wanted{.direction = direction,
                  .first_sector = packet->first_block,
                  .sector_count = packet->block_count,
                  .address = real_mode_address(packet->segment, packet->offset)};
  const bool is_flat =
      packet->segment == flat_address_follows && packet->offset == flat_address_follows;
  if (is_flat && packet->byte_count >= edd::packet_bytes_with_flat_address) {
    const auto flat =
        load<edd::FlatAddress>(ram_.range(address + sizeof *packet, sizeof(edd::FlatAddress)));
    if (!flat) return BiosDiskStatus::invalid;
    wanted.address = flat->address;
  }
  const auto status = transfer(disk, wanted);
  if (status && status != BiosDiskStatus::success) {
    packet->block_count = uint16_t{0};
    (void)ram_.write(address + offsetof(edd::AddressPacket, block_count),
                     bytes_of(packet->block_count));
  }
  return status;
}

BiosDiskStatus DiskServices::seek_by_number(const BiosCall& call, const Disk& disk) {
  const auto packet = load<edd::AddressPacket>(
      ram_.range(real_mode_address(call.ds, call.si()), sizeof(edd::AddressPacket)));
  if (!packet || packet->byte_count < sizeof *packet) return BiosDiskStatus::invalid;
  return packet->first_block < disk.drive->sector_count() ? BiosDiskStatus::success
                                                          : BiosDiskStatus::not_found;
}

std::optional<BiosDiskStatus> DiskServices::transfer(Disk& disk, const Transfer& wanted) {
  if (!range_fits(wanted.first_sector, wanted.sector_count, disk.drive->sector_count()))
    return BiosDiskStatus::not_found;
  if (wanted.direction == Direction::verify || wanted.sector_count == 0)
    return BiosDiskStatus::success;
  const auto buffer =
      ram_.range(wanted.address, uint64_t{wanted.sector_count} * Drive::sector_bytes);
  if (buffer.empty()) return BiosDiskStatus::boundary;
  if (!disk.drive->may_begin(buffer.size())) return std::nullopt;
  return status_of(wanted.direction == Direction::read
                       ? disk.drive->read(wanted.first_sector, buffer)
                       : disk.drive->write(wanted.first_sector, buffer));
}

// --- what the disks are ---

BiosDiskStatus DiskServices::tell_geometry(BiosCall& call, const Disk& disk) const {
  const uint32_t last_cylinder = disk.geometry.cylinders - 1;
  set_low_byte(call.eax, 0);
  set_word(call.ecx, uint16_t((last_cylinder & 0xff) << 8 | (last_cylinder & 0x300) >> 2 |
                              DriveGeometry::sectors_per_track));
  set_high_byte(call.edx, uint8_t(disk.geometry.heads - 1));
  set_low_byte(call.edx, uint8_t(disks_.size()));
  return BiosDiskStatus::success;
}

// CX:DX: sectors.
BiosDiskStatus DiskServices::tell_type(BiosCall& call, const Disk& disk) const {
  const auto sectors = uint32_t(disk.geometry.sector_count());
  set_high_byte(call.eax, fixed_disk);
  set_word(call.ecx, uint16_t(sectors >> 16));
  set_word(call.edx, uint16_t(sectors));
  return BiosDiskStatus::success;
}

BiosDiskStatus DiskServices::tell_extensions(BiosCall& call) const {
  if (call.bx() != extensions_asked) return BiosDiskStatus::invalid;
  set_high_byte(call.eax, edd::version_3);
  set_word(call.ebx, extensions_there);
  set_word(call.ecx, edd::has_packet_access | edd::has_parameters);
  return BiosDiskStatus::success;
}

BiosDiskStatus DiskServices::tell_parameters(const BiosCall& call, const Disk& disk) {
  const uint64_t address = real_mode_address(call.ds, call.si());
  const auto room = load<le16>(ram_.range(address, sizeof(le16)));
  if (!room || *room < edd::parameters_bytes_1) return BiosDiskStatus::invalid;
  const uint16_t length =
      *room < edd::parameters_bytes_2 ? edd::parameters_bytes_1 : edd::parameters_bytes_2;
  const uint64_t sectors = disk.drive->sector_count();
  // But for a last cylinder that is not whole.
  const uint64_t cylinder_sectors = disk.geometry.heads * DriveGeometry::sectors_per_track;
  const bool is_covered = sectors < disk.geometry.sector_count() + cylinder_sectors;
  const edd::Parameters answer{
      .byte_count = length,
      .flags = uint16_t(edd::crosses_dma_boundaries | (is_covered ? edd::geometry_is_valid : 0)),
      .cylinders = disk.geometry.cylinders,
      .heads = disk.geometry.heads,
      .sectors_per_track = DriveGeometry::sectors_per_track,
      .sector_count = sectors,
      .bytes_per_sector = uint16_t{Drive::sector_bytes},
      .configuration = edd::no_configuration};
  return ram_.write(address, bytes_of(answer).first(length)) ? BiosDiskStatus::success
                                                             : BiosDiskStatus::invalid;
}

}  // namespace vhdkit::hypervisor
