// SIGINT, SIGTERM and SIGHUP as a wish that something ends.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace vhdkit::hypervisor {

// While it lives, the signals interrupt nothing; once it listens, the first one, which may have
// come before, calls `stop`, on a thread of this object's. REQUIRES: made before any other thread,
// which would get the signals otherwise.
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
  std::atomic<int> caught_ = 0;
  std::thread thread_;
};

}  // namespace vhdkit::hypervisor
