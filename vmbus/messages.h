// The messages by which a guest and its host agree on channels, as they travel in SynIC messages.
// The names are those of Linux's include/linux/hyperv.h. Little-endian.
#pragma once

#include <array>
#include <cstdint>

#include "support/bytes.h"
#include "support/guid.h"

namespace vhdkit::vmbus {

// Major version in the upper half, minor in the lower.
enum class Version : uint32_t {
  win8 = 0x0002'0004,       // 2.4
  win8_1 = 0x0003'0000,     // 3.0: unload
  win10 = 0x0004'0000,      // 4.0
  win10_v41 = 0x0004'0001,  // modify channel
  win10_v5 = 0x0005'0000,   // a connection of its own for messages
  win10_v51 = 0x0005'0001,
  win10_v52 = 0x0005'0002,
  win10_v53 = 0x0005'0003,  // modify channel is answered
};

enum class MessageType : uint32_t {
  offer_channel = 1,
  rescind_offer = 2,
  request_offers = 3,
  all_offers_delivered = 4,
  open_channel = 5,
  open_channel_result = 6,
  close_channel = 7,
  gpadl_header = 8,
  gpadl_body = 9,
  gpadl_created = 10,
  gpadl_teardown = 11,
  gpadl_torndown = 12,
  relid_released = 13,
  initiate_contact = 14,
  version_response = 15,
  unload = 16,
  unload_response = 17,
  modify_channel = 22,
  modify_channel_response = 24,
};

// What one SynIC message holds.
inline constexpr size_t max_message_bytes = 240;

struct MessageHeader {
  le32 type;
  le32 padding;
};
static_assert(OnDisk<MessageHeader> && sizeof(MessageHeader) == 8);

// request_offers, unload (guest to host); all_offers_delivered, unload_response (host to guest).
struct BareMessage {
  MessageHeader header;
};
static_assert(OnDisk<BareMessage> && sizeof(BareMessage) == 8);

// Guest to host.
struct InitiateContact {
  MessageHeader header;
  le32 version;
  le32 target_vp;
  // From 5.0 on the first byte is the synthetic interrupt for messages; before, the address of a
  // page for interrupts that nobody needs any more.
  le64 interrupt_page_or_sint;
  le64 parent_to_child_monitor_page;
  le64 child_to_parent_monitor_page;
};
static_assert(OnDisk<InitiateContact> && sizeof(InitiateContact) == 40);

// Host to guest.
struct VersionResponse {
  MessageHeader header;
  uint8_t version_supported;
  uint8_t connection_state;  // 0: successful
  le16 padding;
  le32 connection_id;  // for the guest's further messages, from 5.0 on
};
static_assert(OnDisk<VersionResponse> && sizeof(VersionResponse) == 16);

// Host to guest.
struct OfferChannel {
  MessageHeader header;
  StoredGuid interface_type;
  StoredGuid interface_instance;
  std::array<std::byte, 16> reserved;
  le16 flags;
  le16 mmio_megabytes;
  std::array<std::byte, 120> user_defined;
  le16 sub_channel_index;
  le16 reserved2;
  le32 relid;
  uint8_t monitor_id;
  uint8_t monitor_allocated;
  le16 is_dedicated_interrupt;
  le32 connection_id;  // of signals from the guest
};
static_assert(OnDisk<OfferChannel> && sizeof(OfferChannel) == 196);

// rescind_offer (host to guest), relid_released and close_channel (guest to host).
struct RelidMessage {
  MessageHeader header;
  le32 relid;
};
static_assert(OnDisk<RelidMessage> && sizeof(RelidMessage) == 12);

// Guest to host; page numbers follow, the rest of them in bodies.
struct GpadlHeader {
  MessageHeader header;
  le32 relid;
  le32 gpadl;
  le16 range_bytes;  // of what describes the ranges: 8, and 8 for each page
  le16 range_count;
  le32 byte_count;  // of the first range
  le32 byte_offset;
};
static_assert(OnDisk<GpadlHeader> && sizeof(GpadlHeader) == 28);

struct GpadlBody {
  MessageHeader header;
  le32 message_number;  // not kept by Linux: the order counts
  le32 gpadl;
};
static_assert(OnDisk<GpadlBody> && sizeof(GpadlBody) == 16);

// Host to guest.
struct GpadlCreated {
  MessageHeader header;
  le32 relid;
  le32 gpadl;
  le32 status;
};
static_assert(OnDisk<GpadlCreated> && sizeof(GpadlCreated) == 20);

// Guest to host.
struct GpadlTeardown {
  MessageHeader header;
  le32 relid;
  le32 gpadl;
};
static_assert(OnDisk<GpadlTeardown> && sizeof(GpadlTeardown) == 16);

// Host to guest.
struct GpadlTorndown {
  MessageHeader header;
  le32 gpadl;
};
static_assert(OnDisk<GpadlTorndown> && sizeof(GpadlTorndown) == 12);

// Guest to host.
struct OpenChannel {
  MessageHeader header;
  le32 relid;
  le32 open_id;  // returned in the result
  le32 ring_gpadl;
  le32 target_vp;
  le32 downstream_page_offset;  // of the ring that the guest receives with, in the GPADL's pages
  std::array<std::byte, 120> user_data;
};
static_assert(OnDisk<OpenChannel> && sizeof(OpenChannel) == 148);

// Host to guest.
struct OpenChannelResult {
  MessageHeader header;
  le32 relid;
  le32 open_id;
  le32 status;
};
static_assert(OnDisk<OpenChannelResult> && sizeof(OpenChannelResult) == 20);

// Guest to host.
struct ModifyChannel {
  MessageHeader header;
  le32 relid;
  le32 target_vp;
};
static_assert(OnDisk<ModifyChannel> && sizeof(ModifyChannel) == 16);

// Host to guest, from 5.3 on.
struct ModifyChannelResponse {
  MessageHeader header;
  le32 relid;
  le32 status;
};
static_assert(OnDisk<ModifyChannelResponse> && sizeof(ModifyChannelResponse) == 16);

}  // namespace vhdkit::vmbus
