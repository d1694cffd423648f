#include "hypervisor/runner/stop_signals.h"

#include <pthread.h>
#include <signal.h>

#include "hypervisor/runner/raw_terminal.h"
#include "hypervisor/sandbox/sandbox.h"
#include "tools/signals.h"

namespace vhdkit::hypervisor {
namespace {

// This object sends it to its own thread, and nobody else means anything by it.
constexpr int end_signal = SIGUSR2;

}  // namespace

StopSignals::StopSignals(std::function<void()> stop) : stop_(std::move(stop)) {
  sigemptyset(&signals_);
  sigaddset(&signals_, end_signal);
  // One that is blocked is heard also where it is ignored.
  for (const int one : {SIGINT, SIGTERM, SIGHUP})
    if (!tools::is_ignored(one)) sigaddset(&signals_, one);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

void StopSignals::listen() {
  thread_ = std::thread([this] {
    enter(ThreadKind::signals);
    wait();
  });
}

StopSignals::~StopSignals() {
  if (!thread_.joinable()) return;
  is_over_ = true;
  pthread_kill(thread_.native_handle(), end_signal);
  thread_.join();
}

void StopSignals::wait() {
  for (int one = 0; sigwait(&signals_, &one) == 0 && !is_over_;) {
    if (one == end_signal) continue;
    // A second one ends the process as usual.
    if (caught_ != 0) {
      RawTerminal::restore();
      signal(one, SIG_DFL);
      raise(one);
      pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
    }
    caught_ = one;
    stop_();
  }
}

}  // namespace vhdkit::hypervisor
