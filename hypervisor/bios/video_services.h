// INT 10h: text on the screen, which is a terminal on the serial line.
#pragma once

#include "hypervisor/bios/call.h"
#include "hypervisor/bios/screen.h"
#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

// Functions 00h to 03h, 06h to 0Ah, 0Eh, 0Fh, 13h, and of 11h, 12h and 1Ah what tells a program
// that this is a VGA with 25 lines. There is one page, and its text is not in the guest's memory at
// B800:0000. What there is not (graphics, fonts, palettes, VESA) changes nothing, registers
// included: by that programs know. Who sets a mode of graphics gets a line of text on the screen,
// once.
class VideoServices {
 public:
  // Both outlive it.
  VideoServices(GuestRam& ram, Screen& screen) : ram_(ram), screen_(screen) {}

  // Says in the guest's variables what screen there is.
  void begin();
  void answer(BiosCall& call);

 private:
  void set_mode(const BiosCall& call);
  void say_that_there_are_no_pictures();
  void tell_cursor(BiosCall& call) const;
  void scroll(const BiosCall& call);
  void write_string(const BiosCall& call);
  void tell_font(BiosCall& call) const;
  void keep_cursor();

  GuestRam& ram_;
  Screen& screen_;
  uint16_t cursor_shape_ = 0;
  bool has_said_so_ = false;
};

}  // namespace vhdkit::hypervisor
