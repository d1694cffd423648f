// The process that stays behind a mount, and the one that waits until it is usable.
#pragma once

#include <string_view>

namespace vhdkit::fuse {

// Before anything is opened: a loop does not survive a fork.
class Background {
 public:
  // Returns in the process that stays. The other one ends with the code that done() is given there,
  // or with 1 if the first one ends without it.
  void begin();
  // The mount is usable, or never will be: lets the other process end. From now on there is no
  // terminal, and messages go to the system's log. Nothing where begin() was not called. Returns:
  // false where nobody has waited for it: the other process was ended, by Ctrl-C.
  bool done(int exit_code);

 private:
  int report_ = -1;  // the write end of a pipe
};

}  // namespace vhdkit::fuse
