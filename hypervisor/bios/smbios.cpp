#include "hypervisor/bios/smbios.h"

#include <algorithm>
#include <cassert>
#include <initializer_list>
#include <span>
#include <string_view>

#include "hypervisor/bios/smbios_format.h"
#include "hypervisor/boot/table_checksum.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

constexpr size_t table_offset = align_up(sizeof(smbios::EntryPoint), 16);

constexpr std::string_view maker = "Microsoft Corporation";
constexpr std::string_view product = "Virtual Machine";

// Structures one behind the other.
class Structures {
 public:
  template <OnDisk T>
  void add(T structure, uint8_t type, std::initializer_list<std::string_view> strings) {
    static_assert(offsetof(T, header) == 0);
    structure.header = header_of(type, sizeof structure);
    add_bytes(bytes_of(structure), strings);
  }
  void add_end() {
    add_bytes(bytes_of(header_of(smbios::end_of_table_type, sizeof(smbios::StructureHeader))), {});
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }
  uint16_t count() const { return count_; }
  uint16_t largest() const { return uint16_t(largest_); }

 private:
  // Their handles are their places.
  smbios::StructureHeader header_of(uint8_t type, size_t byte_count) const {
    return {.type = type, .length = uint8_t(byte_count), .handle = count_};
  }
  void add_bytes(std::span<const std::byte> structure,
                 std::initializer_list<std::string_view> strings) {
    const size_t begin = bytes_.size();
    bytes_.insert(bytes_.end(), structure.begin(), structure.end());
    for (const std::string_view text : strings) {
      std::ranges::copy(std::as_bytes(std::span(text)), std::back_inserter(bytes_));
      bytes_.push_back(std::byte{0});
    }
    // A structure without strings ends in two zeroes.
    bytes_.resize(bytes_.size() + (strings.size() == 0 ? 2 : 1));
    largest_ = std::max(largest_, bytes_.size() - begin);
    ++count_;
  }

  std::vector<std::byte> bytes_;
  uint16_t count_ = 0;
  size_t largest_ = 0;
};

Structures structures() {
  Structures result;
  smbios::BiosInformation bios{};
  bios.vendor = 1;
  bios.version = 2;
  bios.starting_segment = uint16_t{0xf000};
  bios.release_date = 3;
  bios.characteristics = smbios::supports_edd;
  bios.more_characteristics = {smbios::supports_acpi, smbios::is_virtual_machine};
  bios.major_release = bios.minor_release = UINT8_MAX;
  bios.controller_major_release = bios.controller_minor_release = UINT8_MAX;
  result.add(bios, smbios::bios_information_type, {"vhdkit", "1", "01/01/2026"});

  smbios::SystemInformation system{};
  system.manufacturer = 1;
  system.product = 2;
  system.wake_up_type = smbios::woken_by_power_switch;
  system.family = 2;
  result.add(system, smbios::system_information_type, {maker, product});

  smbios::Enclosure enclosure{};
  enclosure.manufacturer = 1;
  enclosure.type = smbios::desktop;
  enclosure.boot_up_state = enclosure.power_supply_state = smbios::state_safe;
  enclosure.thermal_state = smbios::state_safe;
  enclosure.security_status = smbios::security_none;
  result.add(enclosure, smbios::enclosure_type, {maker});

  result.add(smbios::BootInformation{}, smbios::boot_information_type, {});
  result.add_end();
  return result;
}

smbios::EntryPoint entry_point(const Structures& table, uint64_t table_address) {
  smbios::EntryPoint entry{.anchor = {'_', 'S', 'M', '_'},
                           .checksum = 0,
                           .length = sizeof entry,
                           .major_version = 2,
                           .minor_version = 8,
                           .max_structure_bytes = table.largest(),
                           .revision = 0,
                           .formatted_area = {},
                           .intermediate_anchor = {'_', 'D', 'M', 'I', '_'},
                           .intermediate_checksum = 0,
                           .table_bytes = uint16_t(table.bytes().size()),
                           .table_address = uint32_t(table_address),
                           .structure_count = table.count(),
                           .bcd_revision = 0x28};
  entry.intermediate_checksum =
      table_checksum(bytes_of(entry).subspan(offsetof(smbios::EntryPoint, intermediate_anchor)));
  entry.checksum = table_checksum(bytes_of(entry));
  return entry;
}

}  // namespace

std::vector<std::byte> smbios_tables(uint64_t address) {
  assert(is_aligned(address, 16) && address <= UINT32_MAX - table_offset);
  const Structures table = structures();
  std::vector<std::byte> bytes(table_offset + table.bytes().size());
  std::ranges::copy(bytes_of(entry_point(table, address + table_offset)), bytes.begin());
  std::ranges::copy(table.bytes(), bytes.begin() + table_offset);
  return bytes;
}

}  // namespace vhdkit::hypervisor
