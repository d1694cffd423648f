#include "hypervisor/runner/stop_signals.h"

#include <pthread.h>
#include <signal.h>

#include "hypervisor/runner/raw_terminal.h"
#include "hypervisor/sandbox/sandbox.h"

namespace vhdkit::hypervisor {
namespace {

// Only this object sends it, to its own thread.
constexpr int end_signal = SIGUSR2;

sigset_t watched_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int one : {SIGINT, SIGTERM, SIGHUP, end_signal}) sigaddset(&signals, one);
  return signals;
}

}  // namespace

StopSignals::StopSignals(std::function<void()> stop) : stop_(std::move(stop)) {
  const sigset_t signals = watched_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

void StopSignals::listen() {
  thread_ = std::thread([this] {
    enter(ThreadKind::signals);
    wait();
  });
}

StopSignals::~StopSignals() {
  if (!thread_.joinable()) return;
  pthread_kill(thread_.native_handle(), end_signal);
  thread_.join();
}

void StopSignals::wait() {
  const sigset_t signals = watched_signals();
  for (int one = 0; sigwait(&signals, &one) == 0 && one != end_signal;) {
    // A second one ends the process as usual.
    if (caught_ != 0) {
      RawTerminal::restore();
      signal(one, SIG_DFL);
      raise(one);
      pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    }
    caught_ = one;
    stop_();
  }
}

}  // namespace vhdkit::hypervisor
