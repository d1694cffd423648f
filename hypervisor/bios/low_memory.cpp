#include "hypervisor/bios/low_memory.h"

#include <array>
#include <cassert>
#include <string_view>

#include "hypervisor/bios/call.h"
#include "hypervisor/bios/smbios.h"
#include "hypervisor/boot/platform.h"
#include "support/bytes.h"
#include "support/checked.h"

// stub.S
extern "C" const std::byte bios_stub[];
extern "C" const std::byte bios_stub_end[];

namespace vhdkit::hypervisor {
namespace {

struct StubHeader {
  le16 power_on;
  le16 nothing;
  le16 timer;
  le16 interrupt;
  le16 slave_interrupt;
  le16 reset;
  le16 services;  // the first of them
  le16 service_bytes;
};
static_assert(OnDisk<StubHeader>);

struct Vector {
  le16 offset;
  le16 segment;
};
using VectorTable = std::array<Vector, 256>;
static_assert(OnDisk<Vector>);

// A PC's interrupt lines: RBIL, "INT 08" to "INT 0F" and "INT 70" to "INT 77".
constexpr unsigned first_vector = 0x09;
constexpr unsigned last_vector = 0x0f;
constexpr unsigned first_slave_vector = 0x70;
constexpr unsigned last_slave_vector = 0x77;

// RBIL, table 00509 "ROM configuration table".
struct ConfigurationTable {
  le16 byte_count;  // of what follows
  uint8_t model;
  uint8_t submodel;
  uint8_t revision;
  std::array<uint8_t, 5> features;
};
static_assert(OnDisk<ConfigurationTable>);
constexpr uint8_t model_at = 0xfc;
// A second interrupt controller, a real-time clock, an extended data area.
constexpr uint8_t feature_bits = 0x40 | 0x20 | 0x04;

// At reset_vector: a jump to the stub, the date of the BIOS, the model.
struct ResetVector {
  uint8_t far_jump;  // 0xea
  le16 offset;
  le16 segment;
  std::array<char, 8> date;
  uint8_t reserved;
  uint8_t model;
  uint8_t checksum;
};
static_assert(OnDisk<ResetVector> && sizeof(ResetVector) == 16);

std::span<const std::byte> stub() { return {bios_stub, bios_stub_end}; }

StubHeader stub_header() {
  const auto header = load<StubHeader>(stub());
  assert(header);
  return *header;
}

VectorTable vector_table(const StubHeader& code) {
  VectorTable table;
  for (unsigned vector = 0; vector < table.size(); ++vector) {
    le16 offset = code.nothing;
    if (vector == firmware_timer_vector) offset = code.timer;
    if (vector >= first_vector && vector <= last_vector) offset = code.interrupt;
    if (vector >= first_slave_vector && vector <= last_slave_vector) offset = code.slave_interrupt;
    if (vector >= first_service && vector <= last_service)
      offset = uint16_t(code.services + (vector - first_service) * code.service_bytes);
    table[vector] = {.offset = offset, .segment = bios_segment};
  }
  return table;
}

template <class T>
Result<void> put(GuestRam& ram, uint64_t address, T value) {
  return ram.write(address, bytes_of(value));
}

Result<void> write_variables(GuestRam& ram, uint8_t disk_count, uint32_t ticks) {
  using namespace bios_data;
  constexpr uint16_t keys_begin = 0x1e;  // from segment 40h on: sixteen words
  constexpr uint16_t keys_end = 0x3e;
  TRY(put(ram, serial_ports, le16(platform::com1_port)));
  TRY(put(ram, bios_data::extended_data_segment, le16(hypervisor::extended_data_segment)));
  TRY(put(ram, equipment, le16(equipment_word)));
  TRY(put(ram, memory_kib, le16(uint16_t(conventional_end / KiB))));
  TRY(put(ram, keyboard_head, le16(keys_begin)));
  TRY(put(ram, keyboard_tail, le16(keys_begin)));
  TRY(put(ram, keyboard_begin, le16(keys_begin)));
  TRY(put(ram, keyboard_end, le16(keys_end)));
  TRY(put(ram, bios_data::ticks, le32(ticks)));
  TRY(put(ram, bios_data::disk_count, disk_count));
  return put(ram, extended_data_address, uint8_t{1});  // its length in KiB
}

Result<void> write_tables(GuestRam& ram, const StubHeader& code) {
  const ConfigurationTable configuration{.byte_count = sizeof configuration - sizeof(le16),
                                         .model = model_at,
                                         .submodel = 0,
                                         .revision = 0,
                                         .features = {feature_bits}};
  TRY(put(ram, real_mode_address(bios_segment, configuration_table_offset), configuration));
  const ResetVector reset{.far_jump = 0xea,
                          .offset = code.reset,
                          .segment = bios_segment,
                          .date = {'0', '1', '/', '0', '1', '/', '2', '6'},
                          .reserved = 0,
                          .model = model_at,
                          .checksum = 0};
  TRY(put(ram, platform::reset_vector, reset));
  return ram.write(smbios_address, smbios_tables(smbios_address));
}

}  // namespace

std::vector<MemoryRange> bios_memory_map(const GuestRam& ram) {
  auto map = memory_map(ram);
  assert(map.front().address + map.front().byte_count == extended_data_address);
  map.insert(map.begin() + 1, {.address = extended_data_address,
                               .byte_count = conventional_limit - extended_data_address,
                               .type = MemoryType::reserved});
  return map;
}

Result<uint16_t> write_low_memory(GuestRam& ram, uint8_t disk_count, uint32_t ticks) {
  const StubHeader code = stub_header();
  assert(stub().size() <= size_t{configuration_table_offset - stub_offset});
  TRY(ram.write(real_mode_address(bios_segment, stub_offset), stub()));
  const VectorTable vectors = vector_table(code);
  TRY(ram.write(vector_table_address, std::as_bytes(std::span(vectors))));
  TRY(write_variables(ram, disk_count, ticks));
  TRY(write_tables(ram, code));
  return uint16_t(code.power_on);
}

}  // namespace vhdkit::hypervisor
