// What Hyper-V's interface needs of the virtual machine underneath.
#pragma once

#include <cstdint>

namespace vhdkit::hypervisor {

// Thread-safe.
class Wires {
 public:
  virtual ~Wires() = default;

  // The vector that interrupt() will bring from then on.
  virtual void set_vector(uint32_t vp, uint8_t sint, uint8_t vector) = 0;
  // Whether each interrupt with that vector has ended as soon as it is delivered, for guests that
  // do not end it. On the processor's own thread.
  virtual void set_auto_eoi(uint32_t vp, uint8_t sint, uint8_t vector, bool ends_by_itself) = 0;
  // Of a processor whose synthetic interrupt has a vector.
  virtual void interrupt(uint32_t vp, uint8_t sint) = 0;

  // The guest's signals to the connection may go to the eventfd, without coming to us.
  virtual void connect_signal(uint32_t connection_id, int event) = 0;
  virtual void disconnect_signal(uint32_t connection_id, int event) = 0;
};

}  // namespace vhdkit::hypervisor
