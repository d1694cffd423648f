// Calls from the guest to its hypervisor. TLFS, "Hypercall Interface".
#pragma once

#include <cstdint>
#include <span>

#include "vmbus/guest_memory.h"

namespace vhdkit::hypervisor {

// TLFS, "Hypercall Status Codes".
enum class HypercallStatus : uint16_t {
  success = 0,
  invalid_code = 2,
  invalid_input = 3,
  invalid_alignment = 4,
  invalid_parameter = 5,
  insufficient_memory = 0xb,
  invalid_connection_id = 0x12,
  insufficient_buffers = 0x13,
};

// The ports behind the page's code. Nothing else in the guest uses them.
inline constexpr uint16_t hypercall_port = 0xe4;
// A signal: the connection's number, 4 bytes. The kernel passes it on where it knows the number.
inline constexpr uint16_t signal_port = 0xe8;

// What the guest calls: code in its own page, which asks by a port and returns.
std::span<const std::byte> hypercall_page();

// Whom the guest talks to. Thread-safe.
class Connections {
 public:
  virtual ~Connections() = default;
  // At most 240 bytes of type 1. insufficient_buffers: the guest tries again later.
  virtual HypercallStatus post_message(uint32_t connection_id,
                                       std::span<const std::byte> message) = 0;
  virtual HypercallStatus signal_event(uint32_t connection_id) = 0;
};

// What a processor has in its registers at the call. execute() returns the result for them.
struct Hypercall {
  uint64_t control;
  uint64_t input;  // an address, or the first eight bytes themselves
};
uint64_t execute(const Hypercall& call, vmbus::GuestMemory& memory, Connections& connections);

}  // namespace vhdkit::hypervisor
