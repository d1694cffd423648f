// SIGINT, SIGTERM and SIGHUP as a wish that something ends.
#pragma once

#include <signal.h>

#include <atomic>
#include <functional>
#include <thread>

namespace vhdkit::hypervisor {

// Those that whoever started the process has ignored stay ignored. While it lives, the others
// interrupt nothing; once it listens, the first one, which may have come before, calls `stop`, on a
// thread of this object's. REQUIRES: made before any other thread, which would get the signals
// otherwise.
class StopSignals {
 public:
  explicit StopSignals(std::function<void()> stop);
  ~StopSignals();
  // Once.
  void listen();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The one that came; 0 where none did.
  int caught() const { return caught_; }

 private:
  void wait();

  std::function<void()> stop_;
  sigset_t signals_;
  std::atomic<int> caught_ = 0;
  std::atomic<bool> is_over_ = false;
  std::thread thread_;
};

}  // namespace vhdkit::hypervisor
