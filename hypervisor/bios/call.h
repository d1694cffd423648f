// A call of the guest's to its BIOS: the registers of a processor in real mode, and the answer.
#pragma once

#include <cstdint>

namespace vhdkit::hypervisor {

// By their numbers of the interrupt vector table. Those from first_service to last_service come to
// us.
enum class Service : uint8_t {
  video = 0x10,
  equipment = 0x11,
  memory_size = 0x12,
  disk = 0x13,
  serial = 0x14,
  system = 0x15,
  keyboard = 0x16,
  printer = 0x17,
  no_boot = 0x18,  // a loader gives up
  bootstrap = 0x19,
  time = 0x1a,
};
inline constexpr uint8_t first_service = 0x10;
inline constexpr uint8_t last_service = 0x1a;

// Where the guest's code asks: a byte, of any value. Nothing else in the guest uses it.
inline constexpr uint16_t bios_port = 0xea;

// The interrupt of the timer, as stub.S sets the controllers up.
inline constexpr uint8_t firmware_timer_vector = 0x08;

// One half of a register, or a quarter: the rest stays.
constexpr uint8_t low_byte(uint32_t value) { return uint8_t(value); }
constexpr uint8_t high_byte(uint32_t value) { return uint8_t(value >> 8); }
constexpr void set_word(uint32_t& value, uint16_t word) { value = (value & 0xffff'0000) | word; }
constexpr void set_low_byte(uint32_t& value, uint8_t byte) { value = (value & 0xffff'ff00) | byte; }
constexpr void set_high_byte(uint32_t& value, uint8_t byte) {
  value = (value & 0xffff'00ff) | uint32_t{byte} << 8;
}

// What the caller finds in its registers when the interrupt returns.
struct BiosCall {
  static constexpr uint16_t carry = 0x0001;
  static constexpr uint16_t zero = 0x0040;

  uint8_t vector = 0;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  uint32_t esi = 0;
  uint32_t edi = 0;
  uint32_t ebp = 0;
  uint16_t ds = 0;
  uint16_t es = 0;
  uint16_t flags = 0;  // the caller's, as the interrupt saved them
  // Where they are saved, which tells one call from another while both wait.
  uint32_t stack = 0;

  uint16_t ax() const { return uint16_t(eax); }
  uint16_t bx() const { return uint16_t(ebx); }
  uint16_t cx() const { return uint16_t(ecx); }
  uint16_t dx() const { return uint16_t(edx); }
  uint16_t si() const { return uint16_t(esi); }
  uint16_t di() const { return uint16_t(edi); }
  uint16_t bp() const { return uint16_t(ebp); }
  uint8_t al() const { return low_byte(eax); }
  uint8_t ah() const { return high_byte(eax); }
  uint8_t dl() const { return low_byte(edx); }
  uint8_t dh() const { return high_byte(edx); }

  void set_carry(bool is_set) { set_flag(carry, is_set); }
  void set_zero(bool is_set) { set_flag(zero, is_set); }
  // How most services say that there is no such function: RBIL, "INT 15".
  void refuse() {
    constexpr uint8_t unsupported_function = 0x86;
    set_high_byte(eax, unsupported_function);
    set_carry(true);
  }

 private:
  void set_flag(uint16_t flag, bool is_set) {
    flags = uint16_t(is_set ? flags | flag : flags & ~flag);
  }
};

// What becomes of the caller.
enum class BiosAnswer : uint8_t {
  done,       // the interrupt returns
  again,      // interrupts are let in, then the same call comes again
  power_off,  // the machine
  no_boot,    // the loader found nothing to boot
};

// Thread-safe. Called on the thread of the processor that called.
class Firmware {
 public:
  virtual ~Firmware() = default;
  // May take as long as a disk takes, and some milliseconds where it waits for somebody.
  virtual BiosAnswer answer(BiosCall& call) = 0;
  // A kernel has taken over: the first processor uses pages.
  virtual void hand_over() = 0;
};

// Guest physical. Segments wrap nowhere: behind FFFF:000F comes what is above 1 MiB.
constexpr uint64_t real_mode_address(uint16_t segment, uint16_t offset) {
  return uint64_t{segment} * 16 + offset;
}

}  // namespace vhdkit::hypervisor
