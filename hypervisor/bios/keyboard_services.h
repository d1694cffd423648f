// INT 16h: keys, which come from the serial line.
#pragma once

#include <deque>

#include "hypervisor/bios/call.h"
#include "hypervisor/bios/keys.h"
#include "hypervisor/devices/ports.h"
#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

// Functions 00h to 02h, 05h, 09h, and their twins for all keys, 10h to 12h. Keys are taken out of
// the serial port when somebody asks for them, and not before: a loader that reads the port itself
// finds what is typed there. No key is ever held down.
class KeyboardServices {
 public:
  // As many as a PC keeps.
  static constexpr size_t max_keys = 15;
  // So often somebody may ask in vain before it is taken for waiting.
  static constexpr unsigned patient_questions = 16;

  // Both outlive it.
  KeyboardServices(GuestRam& ram, const Ports& ports) : ram_(ram), ports_(ports) {}

  // Has the port keep what is typed, as far as it can.
  void begin();

  struct Answer {
    BiosAnswer answer = BiosAnswer::done;
    bool is_waiting = false;  // nothing was typed, and there is nothing else to do
  };
  Answer answer(BiosCall& call, KeyDecoder::Time now);
  // Somebody does something else than ask for keys.
  void forget_questions() { vain_questions_ = 0; }

 private:
  void read_port(KeyDecoder::Time now);
  void keep_keys(KeyDecoder::Time now);
  Answer take_key(BiosCall& call);
  Answer look_for_key(BiosCall& call);
  void tell_flags(BiosCall& call) const;
  void put_key(BiosCall& call);

  GuestRam& ram_;
  const Ports& ports_;
  KeyDecoder decoder_;
  std::deque<Key> keys_;
  unsigned vain_questions_ = 0;
};

}  // namespace vhdkit::hypervisor
