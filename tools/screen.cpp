#include "tools/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "tools/console.h"
#include "tools/text.h"

namespace vhdkit::tools {
namespace {

// Spec: XTerm Control Sequences, "Functions using CSI": the other page (1049), the cursor (25),
// lines that go on in the next one (7).
constexpr std::string_view to_other_page = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view back = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::string_view home = "\x1b[H";
constexpr std::string_view end_of_line = "\x1b[K";
constexpr std::string_view rest_of_page = "\x1b[J";

sigset_t watched_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int one : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH})
    sigaddset(&signals, one);
  return signals;
}

int milliseconds_until(std::optional<Screen::Time> until) {
  if (!until) return -1;
  const auto left = *until - std::chrono::steady_clock::now();
  const auto whole = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  constexpr int64_t longest = 1'000'000'000;
  return int(std::clamp<int64_t>(whole, 0, longest));
}

}  // namespace

struct Screen::Terminal {
  sigset_t signals;  // those that were blocked before
  termios keys;
  bool has_keys = false;
};

bool Screen::is_there() { return isatty(STDOUT_FILENO) != 0; }

Result<std::unique_ptr<Screen>> Screen::open() {
  std::unique_ptr<Screen> screen(new Screen);
  const sigset_t watched = watched_signals();
  screen->signals_ = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
  if (screen->signals_ < 0) return fail_errno(errno, "signals");
  auto terminal = std::make_unique<Terminal>();
  terminal->has_keys = isatty(STDIN_FILENO) != 0 && tcgetattr(STDIN_FILENO, &terminal->keys) == 0;
  sigprocmask(SIG_BLOCK, &watched, &terminal->signals);
  screen->terminal_ = std::move(terminal);
  screen->enter();
  return screen;
}

Screen::~Screen() {
  if (terminal_ != nullptr) {
    leave();
    sigprocmask(SIG_SETMASK, &terminal_->signals, nullptr);
  }
  if (signals_ >= 0) close(signals_);
}

void Screen::enter() {
  if (terminal_->has_keys) {
    termios quiet = terminal_->keys;
    quiet.c_lflag &= ~tcflag_t(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
  }
  print(to_other_page);
}

void Screen::leave() {
  print(back);
  (void)finish_printing();
  if (terminal_->has_keys) tcsetattr(STDIN_FILENO, TCSANOW, &terminal_->keys);
}

Screen::Size Screen::size() const {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    return {.columns = 80, .rows = 24};
  return {.columns = size.ws_col, .rows = size.ws_row};
}

Result<void> Screen::draw(std::string_view text) {
  const auto lines = size_t(std::ranges::count(text, '\n'));
  const size_t rows = size().rows;
  const size_t shown = lines <= rows ? lines : rows - 1;
  std::string page(home);
  for (size_t i = 0; i < shown; ++i) {
    const size_t end = text.find('\n');
    page += i == 0 ? "" : "\n";
    page += text.substr(0, end);
    page += end_of_line;
    text.remove_prefix(end + 1);
  }
  if (shown < lines) {
    page += shown == 0 ? "" : "\n";
    page += count_text(lines - shown, "more line");
    page += end_of_line;
  }
  print(page);
  print(rest_of_page);
  return finish_printing();
}

Screen::Event Screen::wait(int descriptor, std::optional<Time> until) {
  for (;;) {
    std::array<pollfd, 3> waits = {
        {{.fd = signals_, .events = POLLIN, .revents = 0},
         {.fd = hears_keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0},
         {.fd = descriptor, .events = POLLIN, .revents = 0}}};
    const int count = poll(waits.data(), waits.size(), milliseconds_until(until));
    if (count == 0) return Event::time;
    if (waits[0].revents != 0)
      if (const auto event = hear_signal()) return *event;
    if (waits[1].revents != 0)
      if (const auto event = hear_key()) return *event;
    if (waits[2].revents != 0) return Event::readable;
  }
}

std::optional<Screen::Event> Screen::hear_signal() {
  signalfd_siginfo signal = {};
  if (read(signals_, &signal, sizeof signal) != sizeof signal) return std::nullopt;
  const auto number = int(signal.ssi_signo);
  if (number == SIGWINCH) return Event::resized;
  if (number != SIGTSTP) {
    caught_signal_ = number;
    return Event::left;
  }
  leave();
  raise(SIGSTOP);  // until a shell lets it go on
  enter();
  return Event::resized;
}

std::optional<Screen::Event> Screen::hear_key() {
  char key = 0;
  // Nobody types any more.
  if (read(STDIN_FILENO, &key, 1) != 1) hears_keys_ = false;
  return hears_keys_ && (key == 'q' || key == 'Q') ? std::optional(Event::left) : std::nullopt;
}

}  // namespace vhdkit::tools
