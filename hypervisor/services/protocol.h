// The messages of Hyper-V's integration services, as they lie in the packets of their channels. The
// numbers are those of Linux's include/linux/hyperv.h and include/uapi/linux/hyperv.h.
// Little-endian.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

#include "support/bytes.h"
#include "support/guid.h"

namespace vhdkit::services {

// --- what all of them have ---

// Offers of channels whose packets are messages of a pipe: a flag, and the pipe's mode in the first
// word of what is user-defined.
inline constexpr uint16_t offer_named_pipe = 0x10;
inline constexpr uint32_t pipe_mode_message = 4;

// Begins every packet's payload.
struct PipeHeader {
  le32 flags;
  le32 message_bytes;  // of what follows
};
static_assert(OnDisk<PipeHeader> && sizeof(PipeHeader) == 8);
inline constexpr uint32_t pipe_data = 1;

struct StoredVersion {
  le16 major;
  le16 minor;
};
static_assert(OnDisk<StoredVersion> && sizeof(StoredVersion) == 4);

struct Version {
  uint16_t major = 0;
  uint16_t minor = 0;

  static Version of(const StoredVersion& stored) { return {stored.major, stored.minor}; }
  StoredVersion stored() const { return {.major = major, .minor = minor}; }
  std::string to_string() const { return std::to_string(major) + '.' + std::to_string(minor); }
  friend auto operator<=>(const Version&, const Version&) = default;
};

// Of the header and the negotiation; the same for all services.
inline constexpr std::array framework_versions = {Version{3, 0}, Version{1, 0}};

enum class MessageType : uint16_t {
  negotiation = 0,
  heartbeat = 1,
  key_value_exchange = 2,
  shutdown = 3,
  time_synchronization = 4,
  volume_snapshot = 5,
};

struct MessageHeader {
  StoredVersion framework;
  le16 type;
  StoredVersion version;  // of the body
  le16 body_bytes;
  le32 status;  // of an answer: HRESULT
  uint8_t transaction;
  uint8_t flags;
  std::array<std::byte, 2> reserved;
};
static_assert(OnDisk<MessageHeader> && sizeof(MessageHeader) == 20);
inline constexpr uint8_t flag_transaction = 1 << 0;  // the answer has the same transaction
inline constexpr uint8_t flag_request = 1 << 1;
inline constexpr uint8_t flag_response = 1 << 2;

// HRESULTs of answers.
inline constexpr uint32_t status_success = 0;
inline constexpr uint32_t status_fail = 0x80004005;
inline constexpr uint32_t status_no_more_items = 0x80070103;

// Body of a negotiation, and of its answer. Then the versions: the frameworks', then the bodies'.
struct Negotiation {
  le16 framework_count;
  le16 version_count;
  le32 reserved;
};
static_assert(OnDisk<Negotiation> && sizeof(Negotiation) == 8);

// --- shutdown ---

inline constexpr Guid shutdown_interface = Guid::literal("0e0b6031-5213-4934-818b-38d90ced39db");
inline constexpr std::array shutdown_versions = {Version{3, 2}, Version{3, 1}, Version{3, 0},
                                                 Version{1, 0}};
inline constexpr Version first_version_with_restart{3, 1};

struct ShutdownBody {
  le32 reason;
  le32 timeout_s;
  le32 flags;
  std::array<std::byte, 2048> text;  // UTF-16
};
static_assert(OnDisk<ShutdownBody> && sizeof(ShutdownBody) == 2060);
inline constexpr uint32_t reason_planned = 0x80000000;
inline constexpr uint32_t shutdown_power_off = 0;
inline constexpr uint32_t shutdown_restart = 1 << 1;

// --- heartbeat ---

inline constexpr Guid heartbeat_interface = Guid::literal("57164f39-9115-4e78-ab55-382f3bd5422d");
inline constexpr std::array heartbeat_versions = {Version{3, 0}, Version{1, 0}};

// The answer's sequence is one more than the request's.
struct HeartbeatBody {
  le64 sequence;
  le32 application_state;  // of the answer, where the guest has one
  std::array<std::byte, 28> reserved;
};
static_assert(OnDisk<HeartbeatBody> && sizeof(HeartbeatBody) == 40);

// --- time synchronization ---

inline constexpr Guid time_synchronization_interface =
    Guid::literal("9527e630-d0ae-497b-adce-e80ab0175caf");
inline constexpr std::array time_synchronization_versions = {Version{4, 0}, Version{3, 0},
                                                             Version{1, 0}};
inline constexpr Version first_version_with_reference_time{4, 0};

// Times are in 100 ns; the host's since 1601-01-01 UTC.
struct ReferencedTimeBody {
  le64 host_time;
  le64 reference_time;  // of the partition, when it was that time
  uint8_t flags;
  uint8_t leap_indicator;
  uint8_t stratum;
  std::array<std::byte, 3> reserved;
};
static_assert(OnDisk<ReferencedTimeBody> && sizeof(ReferencedTimeBody) == 22);

struct TimeBody {
  le64 host_time;
  le64 guest_time;
  le64 round_trip_time;
  uint8_t flags;
};
static_assert(OnDisk<TimeBody> && sizeof(TimeBody) == 25);

inline constexpr uint8_t time_set = 1 << 0;     // the guest's clock is to be set
inline constexpr uint8_t time_sample = 1 << 1;  // for guests that steer their clock by it
// From 1601-01-01 to 1970-01-01.
inline constexpr uint64_t ticks_before_unix = 116'444'736'000'000'000;

// --- key-value exchange ---

inline constexpr Guid key_value_exchange_interface =
    Guid::literal("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6");
inline constexpr std::array key_value_exchange_versions = {Version{4, 0}, Version{3, 0}};

enum class KeyValueOperation : uint8_t { enumerate = 3 };
enum class KeyValuePool : uint8_t { automatic = 2 };  // what the guest says of itself

struct KeyValueHeader {
  uint8_t operation;
  uint8_t pool;
  le16 padding;
};
static_assert(OnDisk<KeyValueHeader> && sizeof(KeyValueHeader) == 4);

inline constexpr size_t max_key_bytes = 512;     // UTF-16 with its zero
inline constexpr size_t max_value_bytes = 2048;  // the same

enum class ValueType : uint32_t { string = 1, number32 = 4, number64 = 8 };

struct StoredKeyValue {
  le32 value_type;
  le32 key_bytes;
  le32 value_bytes;
  std::array<std::byte, max_key_bytes> key;
  std::array<std::byte, max_value_bytes> value;
};
static_assert(OnDisk<StoredKeyValue> && sizeof(StoredKeyValue) == 2572);

struct EnumerateBody {
  KeyValueHeader header;
  le32 index;
  StoredKeyValue entry;
};
static_assert(OnDisk<EnumerateBody> && sizeof(EnumerateBody) == 2580);

// --- volume snapshot ---

inline constexpr Guid volume_snapshot_interface =
    Guid::literal("35fa2e29-ea23-4236-96ae-3a6ebacba440");
inline constexpr std::array volume_snapshot_versions = {Version{5, 0}};

enum class SnapshotOperation : uint8_t { hot_backup = 2, freeze = 5, thaw = 6 };

struct SnapshotBody {
  uint8_t operation;
  std::array<std::byte, 7> reserved;
  le32 flags;  // of the answer to hot_backup: whether it repairs its snapshot, which is not offered
};
static_assert(OnDisk<SnapshotBody> && sizeof(SnapshotBody) == 12);

}  // namespace vhdkit::services
