// A channel as the device behind it sees it.
#pragma once

#include <array>

#include "support/guid.h"
#include "vmbus/doorbells.h"
#include "vmbus/partition.h"
#include "vmbus/ring.h"

namespace vhdkit::vmbus {

inline constexpr size_t user_defined_bytes = 120;

// What the guest is told of a channel before it opens it.
struct Offer {
  Guid interface_type;      // which driver is meant for it
  Guid interface_instance;  // which device it is: the guest's name for it, so it should stay
  // 0: the device's own; above: further channels of the device with the same identifiers.
  uint16_t sub_channel_index = 0;
  uint16_t flags = 0;
  uint16_t mmio_megabytes = 0;
  std::array<std::byte, user_defined_bytes> user_defined{};
};

// The number that the guest and its host call a channel by: 1 to 2047.
using Relid = uint32_t;

// What the guest has opened a channel with.
struct OpenedChannel {
  Relid relid;
  Ring from_guest;
  Ring to_guest;
  Destination destination;  // of its signals; retarget() changes the processor
  std::array<std::byte, user_defined_bytes> user_data;
};

// Behind every offer stands one. The server's thread calls it, and never while it is being called
// itself.
class ChannelDevice {
 public:
  virtual ~ChannelDevice() = default;

  // Takes the channel. The doorbell, rung by the guest's signals, lives until channel_closed() was
  // called. Errors: the guest is told that opening failed.
  virtual Result<Doorbell*> open(OpenedChannel channel) = 0;
  // Ends it: nothing more is read, what is in progress is finished, the rings are not touched
  // again; then Server::channel_closed().
  virtual void close() = 0;
  virtual void retarget(uint32_t vp) = 0;
  // The offer is gone: the server knows this device no more. Comes after the channel was closed.
  virtual void released() = 0;
};

}  // namespace vhdkit::vmbus
