#include "hypervisor/hyperv/registers.h"

#include <algorithm>
#include <cstring>

#include "hypervisor/hyperv/hypercalls.h"

namespace vhdkit::hypervisor {
namespace {

enum Register : uint32_t {
  guest_os_id = 0x4000'0000,
  hypercall = 0x4000'0001,
  vp_index = 0x4000'0002,
  reset_system = 0x4000'0003,
  time_reference_count = 0x4000'0020,
  reference_tsc = 0x4000'0021,
  tsc_frequency = 0x4000'0022,
  apic_frequency = 0x4000'0023,
  vp_assist_page = 0x4000'0073,
  crash_p0 = 0x4000'0100,
  crash_p4 = 0x4000'0104,
  crash_control = 0x4000'0105,
  tsc_invariant_control = 0x4000'0118,
};

constexpr uint64_t is_enabled = 1;
constexpr uint64_t is_locked = 2;  // the hypercall page: until the reset
constexpr size_t page_bytes = vmbus::GuestMemory::page_bytes;

constexpr uint64_t crash_notify = uint64_t{1} << 63;
constexpr uint64_t crash_message = uint64_t{1} << 62;
constexpr size_t crash_message_address = 3;  // which of the parameters
constexpr size_t crash_message_length = 4;

}  // namespace

Registers::Registers(vmbus::GuestMemory& memory, Synic& synic, unsigned vp_count, Events events)
    : memory_(memory), synic_(synic), events_(std::move(events)), assist_pages_(vp_count) {}

void Registers::reset(Clock clock) {
  clock_ = std::move(clock);
  guest_os_id_ = hypercall_page_ = reference_tsc_ = tsc_invariant_control_ = 0;
  std::ranges::fill(assist_pages_, 0);
  crash_parameters_ = {};
}

std::optional<uint64_t> Registers::read(uint32_t vp, uint32_t index) const {
  if (Synic::has_register(index)) return synic_.read(vp, index);
  if (index == time_reference_count) return clock_.now(vp);
  const std::lock_guard lock(mutex_);
  switch (index) {
    case guest_os_id:
      return guest_os_id_;
    case hypercall:
      return hypercall_page_;
    case vp_index:
      return vp;
    case reset_system:
      return 0;
    case reference_tsc:
      return reference_tsc_;
    case tsc_frequency:
      return clock_.tsc_hz;
    case apic_frequency:
      return clock_.apic_hz;
    case vp_assist_page:
      return assist_pages_[vp];
    case crash_control:
      return crash_notify | crash_message;
    case tsc_invariant_control:
      if (!clock_.scale) return std::nullopt;
      return tsc_invariant_control_;
    default:
      if (index >= crash_p0 && index <= crash_p4) return crash_parameters_[index - crash_p0];
      return std::nullopt;
  }
}

bool Registers::write(uint32_t vp, uint32_t index, uint64_t value) {
  if (Synic::has_register(index)) return synic_.write(vp, index, value);
  if (index == reset_system) {
    if ((value & 1) != 0) events_.reset();
    return true;
  }
  if (index >= crash_p0 && index <= crash_control) return write_crash(index, value);
  const std::lock_guard lock(mutex_);
  switch (index) {
    case guest_os_id:
      guest_os_id_ = value;
      if (value == 0) hypercall_page_ &= ~is_enabled;
      return true;
    case hypercall:
      return write_hypercall_page(value);
    case reference_tsc:
      return write_reference_tsc(value);
    case vp_assist_page:
      assist_pages_[vp] = value;
      return true;
    case tsc_invariant_control:
      if (!clock_.scale || value > 1) return false;
      tsc_invariant_control_ = value;
      return true;
    default:
      return false;
  }
}

bool Registers::write_hypercall_page(uint64_t value) {
  if ((hypercall_page_ & is_locked) != 0) return true;
  // TLFS, "Establishing the Hypercall Interface": not before the guest has said who it is.
  if (guest_os_id_ == 0) value &= ~is_enabled;
  if ((value & is_enabled) != 0) {
    std::byte* const page = memory_.page(value / page_bytes);
    if (page == nullptr) return false;
    const auto code = hypercall_page();
    std::memcpy(page, code.data(), code.size());
  }
  hypercall_page_ = value;
  return true;
}

bool Registers::write_reference_tsc(uint64_t value) {
  if ((value & is_enabled) != 0) {
    std::byte* const page = memory_.page(value / page_bytes);
    if (page == nullptr) return false;
    const ReferenceTscPage content = reference_tsc_page(clock_.scale);
    std::memcpy(page, &content, sizeof content);
  }
  reference_tsc_ = value;
  return true;
}

bool Registers::write_crash(uint32_t index, uint64_t value) {
  if (index == crash_control) {
    if ((value & crash_notify) == 0) return true;
    Crash said = crash();
    if ((value & crash_message) == 0) said.message.clear();
    events_.crash(said);
    return true;
  }
  const std::lock_guard lock(mutex_);
  crash_parameters_[index - crash_p0] = value;
  return true;
}

Crash Registers::crash() const {
  const std::lock_guard lock(mutex_);
  Crash said{.parameters = crash_parameters_, .message = {}};
  const uint64_t address = crash_parameters_[crash_message_address];
  const std::byte* const page = memory_.page(address / page_bytes);
  if (page == nullptr) return said;
  const size_t length = std::min<uint64_t>(crash_parameters_[crash_message_length],
                                           page_bytes - address % page_bytes);
  said.message.assign(reinterpret_cast<const char*>(page + address % page_bytes), length);
  return said;
}

}  // namespace vhdkit::hypervisor
