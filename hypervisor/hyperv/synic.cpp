#include "hypervisor/hyperv/synic.h"

#include <cassert>
#include <cstring>

#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

enum Register : uint32_t {
  scontrol = 0x4000'0080,
  sversion = 0x4000'0081,
  siefp = 0x4000'0082,
  simp = 0x4000'0083,
  eom = 0x4000'0084,
  sint0 = 0x4000'0090,
  sint15 = 0x4000'009f,
};

constexpr uint64_t is_enabled = 1;  // of SCONTROL, SIEFP and SIMP
constexpr uint64_t is_masked = 1 << 16;
constexpr uint64_t has_auto_eoi = 1 << 17;
constexpr uint64_t is_polled = 1 << 18;
constexpr uint64_t vector_mask = 0xff;
constexpr uint64_t first_usable_vector = 16;

constexpr size_t bytes_of_sint = 256;  // a message slot, and a set of event flags
constexpr uint32_t flag_count = 2048;
constexpr uint32_t message_type = 1;
constexpr uint8_t message_is_pending = 1;
constexpr size_t flags_at = 5;

// TLFS, "SynIC Message Slots": what stands before the payload.
struct MessageHeader {
  le32 type;
  uint8_t payload_bytes;
  uint8_t flags;
  le16 reserved;
  le64 sender;
};
static_assert(OnDisk<MessageHeader> && sizeof(MessageHeader) == 16);
constexpr size_t max_payload_bytes = bytes_of_sint - sizeof(MessageHeader);

bool ends_by_itself(uint64_t sint) {
  return (sint & (has_auto_eoi | is_masked)) == has_auto_eoi &&
         (sint & vector_mask) >= first_usable_vector;
}

std::atomic_ref<uint32_t> type_of(std::byte* slot) {
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(slot));
}

}  // namespace

Synic::Synic(vmbus::GuestMemory& memory, unsigned vp_count, std::function<void()> on_free)
    : memory_(memory), on_free_(std::move(on_free)) {
  for (unsigned i = 0; i < vp_count; ++i) controllers_.push_back(std::make_unique<Controller>());
  reset(nullptr);
}

void Synic::reset(Wires* wires) {
  wires_ = wires;
  for (const auto& controller : controllers_) {
    controller->control = 0;
    controller->event_flags_register = controller->messages_register = 0;
    controller->event_flags_page = controller->messages_page = nullptr;
    for (auto& sint : controller->sints) sint = is_masked;
  }
}

// --- registers ---

bool Synic::has_register(uint32_t index) {
  return (index >= scontrol && index <= eom) || (index >= sint0 && index <= sint15);
}

uint64_t Synic::read(uint32_t vp, uint32_t index) const {
  const Controller& controller = *controllers_[vp];
  switch (index) {
    case scontrol:
      return controller.control;
    case sversion:
      return 1;
    case siefp:
      return controller.event_flags_register;
    case simp:
      return controller.messages_register;
    case eom:
      return 0;
    default:
      return controller.sints[index - sint0];
  }
}

bool Synic::write(uint32_t vp, uint32_t index, uint64_t value) {
  Controller& controller = *controllers_[vp];
  switch (index) {
    case scontrol:
      controller.control = value;
      break;
    case sversion:
      return false;
    case siefp:
      controller.event_flags_register = value;
      controller.event_flags_page = page_of(value);
      break;
    case simp: {
      const std::lock_guard lock(controller.mutex);
      controller.messages_register = value;
      controller.messages_page = page_of(value);
      break;
    }
    case eom:
      break;
    default:
      if (!write_sint(vp, index - sint0, value)) return false;
  }
  // Any of them may have made room for a message that waits.
  on_free_();
  return true;
}

bool Synic::write_sint(uint32_t vp, unsigned sint, uint64_t value) {
  const uint64_t vector = value & vector_mask;
  const bool has_vector = vector >= first_usable_vector;
  if (!has_vector && (value & (is_masked | is_polled)) == 0) return false;
  // The way is there before anybody uses it.
  Wires* const wires = wires_;
  const uint64_t before = controllers_[vp]->sints[sint];
  if (has_vector && wires != nullptr && (before & vector_mask) != vector)
    wires->set_vector(vp, uint8_t(sint), uint8_t(vector));
  if (wires != nullptr && (ends_by_itself(before) || ends_by_itself(value)))
    wires->set_auto_eoi(vp, uint8_t(sint), uint8_t(vector), ends_by_itself(value));
  controllers_[vp]->sints[sint] = value;
  return true;
}

std::byte* Synic::page_of(uint64_t value) const {
  return (value & is_enabled) == 0 ? nullptr : memory_.page(value / vmbus::GuestMemory::page_bytes);
}

// --- the host ---

Synic::Controller* Synic::controller_of(const vmbus::Destination& destination) const {
  const bool exists = destination.vp < controllers_.size() && destination.sint < sint_count;
  return exists ? controllers_[destination.vp].get() : nullptr;
}

bool Synic::post_message(vmbus::Destination destination, std::span<const std::byte> message) {
  assert(message.size() <= max_payload_bytes);
  Controller* const controller = controller_of(destination);
  if (controller == nullptr) return true;
  const std::lock_guard lock(controller->mutex);
  if (!deliver(*controller, destination, message)) return false;
  interrupt(*controller, destination);
  return true;
}

bool Synic::deliver(Controller& controller, const vmbus::Destination& destination,
                    std::span<const std::byte> message) {
  std::byte* const page = controller.messages_page;
  const bool takes_messages = (controller.control & is_enabled) != 0 && page != nullptr &&
                              (controller.sints[destination.sint] & is_masked) == 0;
  if (!takes_messages) return false;
  std::byte* const slot = page + destination.sint * bytes_of_sint;
  if (type_of(slot).load() != 0) {
    // The guest empties the slot and then looks whether to tell: either it sees the flag, or this
    // sees the empty slot.
    std::atomic_ref<uint8_t>(*reinterpret_cast<uint8_t*>(slot + flags_at))
        .fetch_or(message_is_pending);
    if (type_of(slot).load() != 0) return false;
  }
  MessageHeader header{};
  header.payload_bytes = uint8_t(message.size());
  std::memcpy(slot + sizeof header, message.data(), message.size());
  std::memcpy(slot + sizeof header.type, bytes_of(header).data() + sizeof header.type,
              sizeof header - sizeof header.type);
  type_of(slot).store(message_type);
  return true;
}

void Synic::set_event_flag(vmbus::Destination destination, uint32_t flag) {
  const Controller* const controller = controller_of(destination);
  if (controller == nullptr || flag >= flag_count) return;
  std::byte* const page = controller->event_flags_page;
  if (page == nullptr || (controller->control & is_enabled) == 0) return;
  auto* const words = reinterpret_cast<uint64_t*>(page + destination.sint * bytes_of_sint);
  const uint64_t bit = uint64_t{1} << flag % 64;
  const uint64_t before = std::atomic_ref<uint64_t>(words[flag / 64]).fetch_or(bit);
  if ((before & bit) == 0) interrupt(*controller, destination);
}

void Synic::interrupt(const Controller& controller, const vmbus::Destination& destination) {
  const uint64_t sint = controller.sints[destination.sint];
  Wires* const wires = wires_;
  if (wires != nullptr && (sint & (is_masked | is_polled)) == 0)
    wires->interrupt(destination.vp, destination.sint);
}

void Synic::connect_signal(uint32_t connection_id, int event) {
  if (Wires* const wires = wires_; wires != nullptr) wires->connect_signal(connection_id, event);
}

void Synic::disconnect_signal(uint32_t connection_id, int event) {
  if (Wires* const wires = wires_; wires != nullptr) wires->disconnect_signal(connection_id, event);
}

}  // namespace vhdkit::hypervisor
