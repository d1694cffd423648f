// What lies in the pages of a VMBus ring buffer. The names are those of Linux's
// include/linux/hyperv.h; the hypervisor's specification leaves rings to their users.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/bytes.h"

namespace vhdkit::vmbus {

// A ring is one control page, then data pages. Indices are byte offsets into the data, multiples of
// 8, below its size; equal ones mean that it is empty, so it is never filled to the last byte.
inline constexpr size_t control_page_bytes = 4096;
inline constexpr size_t packet_alignment = 8;

// Offsets into the control page, of 32-bit words in the machine's byte order: both sides write
// them.
inline constexpr size_t write_index_offset = 0;
inline constexpr size_t read_index_offset = 4;
inline constexpr size_t interrupt_mask_offset = 8;  // not 0: the reader wants no signals
inline constexpr size_t pending_send_size_offset =
    12;  // not 0: the writer waits for that much room
inline constexpr size_t feature_bits_offset = 64;
inline constexpr uint32_t feature_pending_send_size = 1 << 0;

enum class PacketType : uint16_t {
  in_band = 6,
  transfer_pages = 7,
  gpadl = 8,
  gpa_direct = 9,
  completion = 11,
};

// Little-endian. Begins every packet. Lengths count 8 bytes and do not count the trailer.
struct PacketHeader {
  le16 type;
  le16 payload_offset_words;  // of the payload, from the packet's beginning
  le16 length_words;
  le16 flags;
  le64 transaction_id;  // returned in the completion as it came
};
static_assert(OnDisk<PacketHeader> && sizeof(PacketHeader) == 16);
inline constexpr uint16_t flag_completion_requested = 1 << 0;

// Ends every packet: where it began, in the upper half. Readers do not need it.
inline constexpr size_t trailer_bytes = 8;

}  // namespace vhdkit::vmbus
