// The terminal of whoever uses the console.
#pragma once

namespace vhdkit::hypervisor {

// While it lives, every key goes to the guest as it is, Ctrl-C included; where standard input is a
// terminal at all. One at a time.
class RawTerminal {
 public:
  RawTerminal();
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  // As it was before, for who ends the process without coming back. May be called in a signal's
  // handler; does nothing where nothing was changed.
  static void restore();
};

}  // namespace vhdkit::hypervisor
