#include "tools/signals.h"

#include <signal.h>

#include <initializer_list>

namespace vhdkit::tools {
namespace {

volatile sig_atomic_t caught_signal = 0;
volatile sig_atomic_t progress_requested = 0;

void remember(int signal) { caught_signal = signal; }
void request_progress(int) { progress_requested = 1; }

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

}  // namespace

bool is_ignored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

void watch_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    if (!is_ignored(signal)) handle(signal, remember, SA_RESETHAND);
  handle(SIGUSR1, request_progress, SA_RESTART);
  handle(SIGPIPE, SIG_IGN, 0);
}

bool interrupted() { return caught_signal != 0; }

bool take_progress_request() {
  const bool requested = progress_requested != 0;
  progress_requested = 0;
  return requested;
}

void end_by_caught_signal() {
  if (caught_signal != 0) end_by_signal(caught_signal);
}

void end_by_signal(int number) {
  handle(number, SIG_DFL, 0);
  raise(number);
}

}  // namespace vhdkit::tools
