#include "hypervisor/bios/system_services.h"

#include "hypervisor/bios/low_memory.h"

namespace vhdkit::hypervisor {
namespace {

// RBIL, "INT 15".
enum Function : uint8_t {
  a20 = 0x24,
  keyboard_intercept = 0x4f,
  media_eject = 0x52,
  apm = 0x53,
  device_open = 0x80,
  device_close = 0x81,
  program_end = 0x82,
  system_request = 0x85,
  wait_function = 0x86,
  device_busy = 0x90,
  device_ready = 0x91,
  configuration = 0xc0,
  extended_data = 0xc1,
};

enum A20Function : uint8_t { enable = 0x01, get_status = 0x02, get_support = 0x03 };
constexpr uint8_t a20_is_open = 0x01;
constexpr uint16_t by_port_92 = 0x0002;

// Advanced Power Management BIOS Interface Specification 1.2, chapter 4.
enum ApmFunction : uint8_t {
  check = 0x00,
  connect = 0x01,
  disconnect = 0x04,
  set_state = 0x07,
  driver_version = 0x0e,
};
constexpr uint16_t apm_signature = 0x504d;  // "PM"
constexpr uint16_t apm_version = 0x0102;    // BCD
constexpr uint16_t apm_bios = 0x0000;       // device
constexpr uint16_t all_devices = 0x0001;
constexpr uint16_t off = 0x0003;
constexpr uint8_t apm_not_connected = 0x03;
constexpr uint8_t apm_already_connected = 0x02;
constexpr uint8_t apm_unknown_device = 0x09;
constexpr uint8_t apm_not_supported = 0x0c;  // "function not supported"

void succeed(BiosCall& call) {
  set_high_byte(call.eax, 0);
  call.set_carry(false);
}

void fail_with(BiosCall& call, uint8_t status) {
  set_high_byte(call.eax, status);
  call.set_carry(true);
}

}  // namespace

BiosAnswer SystemServices::answer(BiosCall& call, Time now) {
  switch (call.ah()) {
    case a20:
      answer_a20(call);
      break;
    case keyboard_intercept:
      call.set_carry(true);  // AL stays: nobody has taken the key
      break;
    case media_eject:
    case device_open:
    case device_close:
    case program_end:
    case system_request:
    case device_busy:
    case device_ready:
      succeed(call);
      break;
    case wait_function:
      return wait(call, now);
    case apm:
      return answer_apm(call);
    case configuration:
      succeed(call);
      call.es = bios_segment;
      set_word(call.ebx, configuration_table_offset);
      break;
    case extended_data:
      call.es = extended_data_segment;
      call.set_carry(false);
      break;
    default:
      call.refuse();
      break;
  }
  return BiosAnswer::done;
}

void SystemServices::answer_a20(BiosCall& call) const {
  switch (call.al()) {
    case enable:
      break;
    case get_status:
      set_low_byte(call.eax, a20_is_open);
      set_word(call.ecx, 0);
      break;
    case get_support:
      set_word(call.ebx, by_port_92);
      break;
    default:
      return call.refuse();
  }
  succeed(call);
}

// CX:DX microseconds. The call comes again until they are over.
BiosAnswer SystemServices::wait(BiosCall& call, Time now) {
  if (!wait_ || wait_->stack != call.stack) {
    const std::chrono::microseconds duration(uint64_t{call.cx()} << 16 | call.dx());
    wait_ = {.stack = call.stack, .end = now + duration};
  }
  if (now < wait_->end) return BiosAnswer::again;
  wait_.reset();
  succeed(call);
  return BiosAnswer::done;
}

BiosAnswer SystemServices::answer_apm(BiosCall& call) {
  const bool is_known_device =
      call.bx() == apm_bios || (call.al() == set_state && call.bx() == all_devices);
  if (!is_known_device) {
    fail_with(call, apm_unknown_device);
    return BiosAnswer::done;
  }
  switch (call.al()) {
    case check:
      set_word(call.eax, apm_version);
      set_word(call.ebx, apm_signature);
      set_word(call.ecx, 0);  // real mode alone, and nothing is slowed down
      call.set_carry(false);
      break;
    case connect:
      is_apm_connected_ ? fail_with(call, apm_already_connected) : succeed(call);
      is_apm_connected_ = true;
      break;
    case disconnect:
      is_apm_connected_ ? succeed(call) : fail_with(call, apm_not_connected);
      is_apm_connected_ = false;
      break;
    case driver_version:
      set_word(call.eax, apm_version);
      call.set_carry(false);
      break;
    case set_state:
      if (call.cx() == off && is_apm_connected_) return BiosAnswer::power_off;
      fail_with(call, is_apm_connected_ ? apm_not_supported : apm_not_connected);
      break;
    default:
      fail_with(call, apm_not_supported);
      break;
  }
  return BiosAnswer::done;
}

}  // namespace vhdkit::hypervisor
