// The terminal as a page that is drawn anew again and again.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

#include "support/result.h"

namespace vhdkit::tools {

// While it lives, standard output shows a page of its own, keys are not echoed, and signals that
// would end or stop the process are waited for instead: afterwards the terminal is as it was. One
// at a time, in a program of one thread.
class Screen {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Size {
    size_t columns;
    size_t rows;
  };
  enum class Event : uint8_t {
    time,      // that was waited for
    readable,  // the descriptor, or it has ended
    resized,   // or the page has to be drawn for another reason
    left,      // q was pressed, or a signal came
  };

  // Whether standard output is a terminal.
  static bool is_there();
  // Errors: those of the system. REQUIRES: is_there().
  static Result<std::unique_ptr<Screen>> open();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  Size size() const;
  // text: lines, none with control characters. Those that do not fit are said to be missing.
  // Errors: io.
  Result<void> draw(std::string_view text);
  // What happens first. descriptor: -1 for none; until: nothing for no end.
  Event wait(int descriptor, std::optional<Time> until);
  // The signal that ended it; 0: none.
  int caught_signal() const { return caught_signal_; }

 private:
  struct Terminal;
  Screen() = default;
  void enter();
  void leave();
  std::optional<Event> hear_signal();
  std::optional<Event> hear_key();

  std::unique_ptr<Terminal> terminal_;
  int signals_ = -1;
  bool hears_keys_ = true;
  int caught_signal_ = 0;
};

}  // namespace vhdkit::tools
