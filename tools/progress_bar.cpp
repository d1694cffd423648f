#include "tools/progress_bar.h"

#include <fmt/format.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "tools/signals.h"
#include "tools/text.h"

namespace vhdkit::tools {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds terminal_interval{100};
constexpr milliseconds lines_interval{1000};
constexpr size_t widest_bar = 40;
constexpr size_t narrowest_bar = 10;

double fraction_of(const ProgressState& state) {
  if (state.total_bytes == 0) return 0;
  return std::min(1.0, double(state.done_bytes) / double(state.total_bytes));
}

// "0:07", "12:34", "1:02:03"
std::string duration_text(double seconds) {
  const auto whole = uint64_t(seconds + 0.5);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

size_t terminal_columns() {
  winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

std::string progress_text(const ProgressState& state) {
  const double rate = state.seconds > 0 ? double(state.done_bytes) / state.seconds : 0;
  const std::string rate_text = short_size_text(uint64_t(rate)) + "/s";
  const std::string done_text = short_size_text(state.done_bytes);
  if (state.total_bytes == 0) return fmt::format("{}  {}", done_text, rate_text);
  const std::string amounts = fmt::format("{:5.1f} %  {} of {}", 100 * fraction_of(state),
                                          done_text, short_size_text(state.total_bytes));
  if (state.done_bytes >= state.total_bytes)
    return fmt::format("{}  {}  in {}", amounts, rate_text, duration_text(state.seconds));
  if (rate <= 0) return amounts;
  const double left = double(state.total_bytes - state.done_bytes) / rate;
  // What takes more than a year is not known at all.
  if (left > 365.0 * 24 * 3600) return fmt::format("{}  {}", amounts, rate_text);
  return fmt::format("{}  {}  {} left", amounts, rate_text, duration_text(left));
}

std::string progress_line(const ProgressState& state, size_t columns) {
  std::string text = progress_text(state);
  constexpr size_t brackets = 4;  // and two blanks
  const size_t room = columns > text.size() ? columns - text.size() : 0;
  if (state.total_bytes == 0 || room < narrowest_bar + brackets) return text;
  const size_t width = std::min(widest_bar, room - brackets);
  const auto filled = size_t(fraction_of(state) * double(width));
  return fmt::format("[{:<{}}]  {}", std::string(filled, '='), width, text);
}

ProgressBar::ProgressBar(Style style, bool knows_total)
    : style_(style), knows_total_(knows_total), next_(start_ + terminal_interval) {}

ProgressBar::~ProgressBar() { erase(); }

void ProgressBar::update(uint64_t done_bytes, uint64_t total_bytes) {
  state_.done_bytes = done_bytes;
  state_.total_bytes = knows_total_ ? total_bytes : 0;
  if (take_progress_request()) {
    erase();
    state_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    fputs((progress_text(state_) + "\n").c_str(), stderr);
  }
  if (style_ == Style::none || Clock::now() < next_) return;
  show();
}

bool ProgressBar::cancelled() const { return interrupted(); }

void ProgressBar::finish() {
  if (knows_total_) state_.done_bytes = state_.total_bytes;
  if (style_ == Style::lines && state_.done_bytes != 0) show();
  erase();
}

void ProgressBar::show() {
  const Clock::time_point now = Clock::now();
  state_.seconds = std::chrono::duration<double>(now - start_).count();
  if (style_ == Style::terminal) {
    fputs(("\r" + progress_line(state_, terminal_columns() - 1) + "\x1b[K").c_str(), stderr);
    line_is_drawn_ = true;
    next_ = now + terminal_interval;
  } else {
    fputs((progress_text(state_) + "\n").c_str(), stderr);
    next_ = now + lines_interval;
  }
}

void ProgressBar::erase() {
  if (line_is_drawn_) fputs("\r\x1b[K", stderr);
  line_is_drawn_ = false;
}

}  // namespace vhdkit::tools
