// The packets of the storage protocol: what a guest's driver and its host say to each other over an
// open channel. The names are those of Linux's drivers/scsi/storvsc_drv.c. Little-endian.
#pragma once

#include <array>
#include <cstdint>

#include "support/bytes.h"
#include "support/guid.h"

namespace vhdkit::storvsp {

// What the channels of a SCSI controller, and of a disk at an IDE controller, are offered as.
inline constexpr Guid scsi_interface = Guid::literal("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
inline constexpr Guid ide_interface = Guid::literal("32412632-86cb-44a2-9b5c-50d1417354f5");

// Major version in the upper byte, minor in the lower.
enum class Version : uint16_t {
  win6 = 0x0200,
  win7 = 0x0402,
  win8 = 0x0501,  // longer requests, several channels
  win8_1 = 0x0600,
  win10 = 0x0602,
};

enum class Operation : uint32_t {
  complete_io = 1,
  remove_device = 2,
  execute_srb = 3,
  reset_lun = 4,
  reset_adapter = 5,
  reset_bus = 6,
  begin_initialization = 7,
  end_initialization = 8,
  query_protocol_version = 9,
  query_properties = 10,
  enumerate_bus = 11,
  create_sub_channels = 13,
};

// NTSTATUS of an answer.
enum class Status : uint32_t {
  success = 0,
  invalid_parameter = 0xc000000d,
  invalid_device_state = 0xc0000184,
  invalid_device_request = 0xc0000010,
  revision_mismatch = 0xc0000059,
};

struct PacketHeader {
  le32 operation;
  le32 flags;
  le32 status;
};
static_assert(OnDisk<PacketHeader> && sizeof(PacketHeader) == 12);

// srb_status: what became of a request, beside SCSI's own status.
enum class SrbStatus : uint8_t {
  success = 0x01,
  aborted = 0x02,
  error = 0x04,
  invalid_request = 0x06,
  data_overrun = 0x12,  // more or less was moved than asked for
  invalid_lun = 0x20,   // the guest removes it
};
inline constexpr uint8_t srb_autosense_valid = 0x80;

enum class DataIn : uint8_t { write = 0, read = 1, none = 2 };

// execute_srb, and its completion. Where a command was, its sense is afterwards.
struct ScsiRequest {
  PacketHeader header;
  le16 length;
  uint8_t srb_status;
  uint8_t scsi_status;
  uint8_t port;
  uint8_t path;
  uint8_t target;
  uint8_t lun;
  uint8_t cdb_length;
  uint8_t sense_length;
  uint8_t data_in;
  uint8_t reserved;
  le32 data_transfer_length;  // bytes; in the completion what was moved
  std::array<std::byte, 20> cdb_or_sense;
  // Not before version 5.1.
  le16 reserved2;
  uint8_t queue_tag;
  uint8_t queue_action;
  le32 srb_flags;
  le32 timeout_s;
  le32 queue_sort_key;
};
static_assert(OnDisk<ScsiRequest> && sizeof(ScsiRequest) == 64);
inline constexpr size_t max_cdb_bytes = 16;

// Every packet has the length of a request.
inline constexpr size_t packet_bytes = sizeof(ScsiRequest);
inline constexpr size_t short_packet_bytes = packet_bytes - 16;  // before version 5.1

struct QueryVersion {
  PacketHeader header;
  le16 version;
  le16 revision;
};
static_assert(OnDisk<QueryVersion> && sizeof(QueryVersion) == 16);

struct Properties {
  PacketHeader header;
  le32 reserved;
  le16 max_sub_channel_count;
  le16 reserved2;
  le32 flags;
  le32 max_transfer_bytes;
  le64 reserved3;
};
static_assert(OnDisk<Properties> && sizeof(Properties) == 36);
inline constexpr uint32_t property_multi_channel = 1 << 0;

struct CreateSubChannels {
  PacketHeader header;
  le16 count;
};
static_assert(OnDisk<CreateSubChannels> && sizeof(CreateSubChannels) == 14);

}  // namespace vhdkit::storvsp
