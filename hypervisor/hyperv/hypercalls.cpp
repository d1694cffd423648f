#include "hypervisor/hyperv/hypercalls.h"

#include <array>
#include <cstring>
#include <optional>

#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

enum class Code : uint16_t { post_message = 0x5c, signal_event = 0x5d };

constexpr uint64_t is_fast = uint64_t{1} << 16;
constexpr uint64_t repetition_mask = uint64_t{0xfff} << 32 | uint64_t{0xfff} << 48;
constexpr uint64_t variable_header_mask = uint64_t{0x3ff} << 17;
constexpr uint64_t reserved_mask = uint64_t{0xf} << 27 | uint64_t{0xf} << 44 | uint64_t{0xf} << 60;

constexpr uint32_t message_type = 1;
constexpr size_t max_message_bytes = 240;

// TLFS, "HvCallPostMessage": connection, type, size, payload.
struct PostMessage {
  le32 connection_id;
  le32 reserved;
  le32 type;
  le32 payload_bytes;
  std::array<std::byte, max_message_bytes> payload;
};
static_assert(OnDisk<PostMessage> && sizeof(PostMessage) == 256);

// TLFS, "HvCallSignalEvent".
struct SignalEvent {
  le32 connection_id;
  le16 flag_number;
  le16 reserved;
};
static_assert(OnDisk<SignalEvent> && sizeof(SignalEvent) == 8);

constexpr uint8_t low(uint16_t port) { return uint8_t(port & 0xff); }
constexpr uint8_t high(uint16_t port) { return uint8_t(port >> 8); }

// An instruction a line. The same in 32-bit code, which has its control elsewhere, and in ecx the
// lower half of its input: never that number, since inputs in memory are aligned, and a connection
// has a smaller one.
// clang-format off
constexpr uint8_t page_code[] = {
    0xf3, 0x0f, 0x1e, 0xfa,                           // endbr64
    0x81, 0xf9, 0x5d, 0x00, 0x01, 0x00,               // cmp ecx, fast signal_event
    0x75, 0x0b,                                       // jne call
    0x89, 0xd0,                                       // mov eax, edx
    0xba, low(signal_port), high(signal_port), 0, 0,  // mov edx, signal_port
    0xef,                                             // out dx, eax
    0x31, 0xc0,                                       // xor eax, eax
    0xc3,                                             // ret
    0xe6, low(hypercall_port),                        // call: out hypercall_port, al
    0xc3,                                             // ret
};
// clang-format on
static_assert(hypercall_port <= 0xff);

// A copy of what lies at the address, which the guest may be changing. Inputs do not cross pages:
// TLFS, "Memory-based Hypercall Input and Output".
template <OnDisk T>
std::optional<T> input_at(vmbus::GuestMemory& memory, uint64_t address) {
  const uint64_t offset = address % vmbus::GuestMemory::page_bytes;
  if (offset + sizeof(T) > vmbus::GuestMemory::page_bytes) return std::nullopt;
  const std::byte* const page = memory.page(address / vmbus::GuestMemory::page_bytes);
  if (page == nullptr) return std::nullopt;
  T input;
  vmbus::copy_from_guest(writable_bytes_of(input).data(), page + offset, sizeof input);
  return input;
}

HypercallStatus post_message(const Hypercall& call, vmbus::GuestMemory& memory,
                             Connections& connections) {
  if ((call.control & is_fast) != 0) return HypercallStatus::invalid_input;
  if (call.input % 8 != 0) return HypercallStatus::invalid_alignment;
  const auto input = input_at<PostMessage>(memory, call.input);
  if (!input || input->type != message_type || input->payload_bytes > max_message_bytes)
    return HypercallStatus::invalid_parameter;
  return connections.post_message(input->connection_id,
                                  std::span(input->payload).first(input->payload_bytes));
}

HypercallStatus signal_event(const Hypercall& call, vmbus::GuestMemory& memory,
                             Connections& connections) {
  std::optional<SignalEvent> input;
  if ((call.control & is_fast) != 0) {
    const le64 registers = call.input;
    input = load<SignalEvent>(bytes_of(registers));
  } else {
    if (call.input % 8 != 0) return HypercallStatus::invalid_alignment;
    input = input_at<SignalEvent>(memory, call.input);
  }
  if (!input || input->flag_number != 0) return HypercallStatus::invalid_parameter;
  return connections.signal_event(input->connection_id);
}

HypercallStatus status_of(const Hypercall& call, vmbus::GuestMemory& memory,
                          Connections& connections) {
  const auto code = Code(call.control & 0xffff);
  if (code != Code::post_message && code != Code::signal_event)
    return HypercallStatus::invalid_code;
  // Both are simple calls with a header of fixed size.
  if ((call.control & (repetition_mask | variable_header_mask | reserved_mask)) != 0)
    return HypercallStatus::invalid_input;
  return code == Code::post_message ? post_message(call, memory, connections)
                                    : signal_event(call, memory, connections);
}

}  // namespace

std::span<const std::byte> hypercall_page() { return std::as_bytes(std::span(page_code)); }

uint64_t execute(const Hypercall& call, vmbus::GuestMemory& memory, Connections& connections) {
  return uint64_t(status_of(call, memory, connections));
}

}  // namespace vhdkit::hypervisor
