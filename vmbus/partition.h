// What the channels need of the partition that runs the guest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vhdkit::vmbus {

// Where in the guest something arrives: a virtual processor, one of its synthetic interrupts
// (0 to 15).
struct Destination {
  uint32_t vp = 0;
  uint8_t sint = 2;  // what Linux and Windows take for VMBus

  friend bool operator==(const Destination&, const Destination&) = default;
};

// Thread-safe. A destination may be any number that a guest wrote: what does not exist takes
// nothing and does no harm.
class Partition {
 public:
  virtual ~Partition() = default;

  // Puts a message (at most max_message_bytes, of type 1) into the slot of a synthetic interrupt.
  // False: the slot is taken; then Server::slot_is_free() is called once the guest has emptied it.
  // TLFS, "SynIC Message Buffers".
  virtual bool post_message(Destination destination, std::span<const std::byte> message) = 0;

  // Sets an event flag (1 to 2047) and interrupts the processor if it was clear. TLFS, "SynIC Event
  // Flags".
  virtual void set_event_flag(Destination destination, uint32_t flag) = 0;

  // From then on the partition may write to the eventfd when the guest signals the connection,
  // instead of telling Server::signal(); the eventfd lives until it is disconnected. A partition
  // that cannot does nothing.
  virtual void connect_signal(uint32_t connection_id, int event) = 0;
  virtual void disconnect_signal(uint32_t connection_id, int event) = 0;
};

}  // namespace vhdkit::vmbus
