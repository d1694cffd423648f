// How far long work is: a line that is drawn over on a terminal, one line after another elsewhere.
#pragma once

#include <chrono>
#include <string>

#include "image/progress.h"

namespace vhdkit::tools {

struct ProgressState {
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;  // 0: nobody knows
  double seconds = 0;        // since the beginning
};

// " 42.3 %  4.23 GiB of 10 GiB  830 MiB/s  0:07 left"; where the total is not known "4.23 GiB  830
// MiB/s".
std::string progress_text(const ProgressState& state);
// The same with a bar before it, as wide as columns allow, at least the text.
std::string progress_line(const ProgressState& state, size_t columns);

// Writes to standard error. Stops the work when a signal says so.
class ProgressBar final : public image::Progress {
 public:
  enum class Style : uint8_t { none, lines, terminal };

  // knows_total: false where update()'s total only follows what was done.
  ProgressBar(Style style, bool knows_total);
  ~ProgressBar() override;

  void update(uint64_t done_bytes, uint64_t total_bytes) override;
  bool cancelled() const override;
  // The work succeeded: all of it was done.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void show();
  void erase();

  Style style_;
  bool knows_total_;
  ProgressState state_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_;
  bool line_is_drawn_ = false;
};

}  // namespace vhdkit::tools
