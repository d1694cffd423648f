#include "hypervisor/runner/raw_terminal.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>

namespace vhdkit::hypervisor {
namespace {

termios as_it_was;
std::atomic<bool> is_changed = false;

constexpr int fatal_signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGQUIT};

void die(int number) {
  RawTerminal::restore();
  // It is the default action's again: SA_RESETHAND.
  raise(number);
}

}  // namespace

RawTerminal::RawTerminal() {
  if (isatty(STDIN_FILENO) == 0 || tcgetattr(STDIN_FILENO, &as_it_was) != 0) return;
  termios raw = as_it_was;
  cfmakeraw(&raw);
  is_changed = true;
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  struct sigaction action{};
  action.sa_handler = die;
  action.sa_flags = SA_RESETHAND;
  for (const int number : fatal_signals) {
    struct sigaction before{};
    // Not a sanitizer's.
    if (sigaction(number, nullptr, &before) == 0 && before.sa_handler == SIG_DFL)
      sigaction(number, &action, nullptr);
  }
}

RawTerminal::~RawTerminal() { restore(); }

void RawTerminal::restore() {
  if (is_changed.exchange(false)) tcsetattr(STDIN_FILENO, TCSANOW, &as_it_was);
}

}  // namespace vhdkit::hypervisor
