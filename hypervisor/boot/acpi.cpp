#include "hypervisor/boot/acpi.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <dsdt.hex>  // made of dsdt.asl by iasl: dsdt_aml_code
#include <span>
#include <string_view>
#include <utility>

#include "hypervisor/boot/acpi_format.h"
#include "hypervisor/boot/platform.h"
#include "hypervisor/boot/table_checksum.h"
#include "support/checked.h"

namespace vhdkit::hypervisor {
namespace {

// The RSDP has to lie at a multiple of 16; the others lie as well there.
constexpr size_t table_alignment = 16;

constexpr std::array<char, 6> oem_id = {'V', 'H', 'D', 'K', 'I', 'T'};

std::array<char, 4> signature(std::string_view text) {
  std::array<char, 4> result;
  std::ranges::copy(text.substr(0, result.size()), result.begin());
  return result;
}

acpi::TableHeader header_of(std::string_view name, uint8_t revision, size_t table_bytes) {
  return {.signature = signature(name),
          .length = uint32_t(table_bytes),
          .revision = revision,
          .checksum = 0,
          .oem_id = oem_id,
          .oem_table_id = {'V', 'H', 'D', '-', 'R', 'U', 'N', ' '},
          .oem_revision = 1,
          .creator_id = {'V', 'H', 'D', 'K'},
          .creator_revision = 1};
}

acpi::GenericAddress byte_port(uint16_t port) {
  return {.address_space = acpi::system_io_space,
          .bit_width = 8,
          .bit_offset = 0,
          .access_size = acpi::byte_access,
          .address = port};
}

acpi::Fadt fadt(uint64_t dsdt_address) {
  using namespace acpi::fadt_flags;
  acpi::Fadt table{};
  table.header = header_of("FACP", 6, sizeof table);
  table.boot_architecture_flags =
      acpi::boot_architecture_flags::no_vga | acpi::boot_architecture_flags::no_cmos_rtc;
  table.flags = wbinvd_works | c1_on_all_processors | no_fixed_power_button |
                no_fixed_sleep_button | no_fixed_rtc_wake | has_reset_register | hardware_reduced;
  table.reset_register = byte_port(platform::reset_port);
  table.reset_value = platform::reset_value;
  table.minor_version = 5;
  table.dsdt = uint32_t(dsdt_address);
  table.extended_dsdt = dsdt_address;
  table.sleep_control_register = byte_port(platform::sleep_control_port);
  table.sleep_status_register = byte_port(platform::sleep_status_port);
  return table;
}

void append(std::vector<std::byte>& bytes, std::span<const std::byte> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

std::vector<std::byte> madt(unsigned vp_count) {
  const size_t byte_count =
      sizeof(acpi::Madt) + vp_count * sizeof(acpi::LocalApic) + sizeof(acpi::IoApic);
  std::vector<std::byte> table;
  append(table, bytes_of(acpi::Madt{.header = header_of("APIC", 6, byte_count),
                                    .local_apic_address = uint32_t(platform::local_apic_address),
                                    .flags = 0}));
  for (unsigned vp = 0; vp < vp_count; ++vp)
    append(table, bytes_of(acpi::LocalApic{.type = acpi::local_apic_type,
                                           .length = sizeof(acpi::LocalApic),
                                           .processor_uid = uint8_t(vp),
                                           .apic_id = uint8_t(vp),
                                           .flags = acpi::local_apic_enabled}));
  append(table, bytes_of(acpi::IoApic{.type = acpi::io_apic_type,
                                      .length = sizeof(acpi::IoApic),
                                      .io_apic_id = 0,
                                      .reserved = 0,
                                      .address = uint32_t(platform::io_apic_address),
                                      .first_interrupt = 0}));
  assert(table.size() == byte_count);
  return table;
}

// 5.2.7 "Root System Description Table (RSDT)" and 5.2.8 "Extended System Description Table
// (XSDT)": addresses of 4 and of 8 bytes.
template <OnDisk Address, size_t count>
std::vector<std::byte> root_table(std::string_view name, const std::array<Address, count>& tables) {
  std::vector<std::byte> table;
  append(table, bytes_of(header_of(name, 1, sizeof(acpi::TableHeader) + sizeof tables)));
  append(table, std::as_bytes(std::span(tables)));
  return table;
}

acpi::Rsdp rsdp(uint64_t rsdt_address, uint64_t xsdt_address) {
  acpi::Rsdp pointer{.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
                     .checksum = 0,
                     .oem_id = oem_id,
                     .revision = 2,
                     .rsdt_address = uint32_t(rsdt_address),
                     .length = sizeof pointer,
                     .xsdt_address = xsdt_address,
                     .extended_checksum = 0,
                     .reserved = {}};
  pointer.checksum = table_checksum(bytes_of(pointer).first(acpi::rsdp_checksummed_bytes));
  pointer.extended_checksum = table_checksum(bytes_of(pointer));
  return pointer;
}

// Tables one behind the other, and where each will lie.
class Tables {
 public:
  explicit Tables(uint64_t address) : address_(address), bytes_(sizeof(acpi::Rsdp)) {}

  uint64_t add(std::span<const std::byte> table) {
    const size_t offset = align_up(bytes_.size(), table_alignment);
    bytes_.resize(offset);
    append(bytes_, table);
    std::byte& stored = bytes_[offset + offsetof(acpi::TableHeader, checksum)];
    stored = std::byte{0};
    stored = std::byte{table_checksum(std::span(bytes_).subspan(offset))};
    return address_ + offset;
  }
  std::vector<std::byte> finish(const acpi::Rsdp& pointer) && {
    std::ranges::copy(bytes_of(pointer), bytes_.begin());
    return std::move(bytes_);
  }

 private:
  uint64_t address_;
  std::vector<std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> acpi_tables(uint64_t address, unsigned vp_count) {
  assert(is_aligned(address, table_alignment) && address < UINT32_MAX);
  assert(vp_count >= 1 && vp_count <= platform::max_vp_count);
  Tables tables(address);
  const uint64_t dsdt_address = tables.add(std::as_bytes(std::span(dsdt_aml_code)));
  const uint64_t fadt_address = tables.add(bytes_of(fadt(dsdt_address)));
  const uint64_t madt_address = tables.add(madt(vp_count));
  // GRUB follows the old ones alone, wherever they lead.
  const std::array<le32, 2> narrow = {uint32_t(fadt_address), uint32_t(madt_address)};
  const std::array<le64, 2> wide = {fadt_address, madt_address};
  const uint64_t rsdt_address = tables.add(root_table("RSDT", narrow));
  const uint64_t xsdt_address = tables.add(root_table("XSDT", wide));
  return std::move(tables).finish(rsdp(rsdt_address, xsdt_address));
}

}  // namespace vhdkit::hypervisor
