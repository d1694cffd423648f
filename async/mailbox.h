// Work that other threads hand over to a loop's.
#pragma once

#include <atomic>
#include <cassert>
#include <chrono>

#include "async/loop.h"

namespace vhdkit::async {

// Lives until it was opened, or its mailbox was closed.
class Letter {
 public:
  virtual ~Letter() { assert(!is_under_way_); }
  // On the loop's thread.
  virtual void open() = 0;

 private:
  friend class Mailbox;
  std::atomic<bool> is_under_way_ = false;
  Letter* next_ = nullptr;
};

// Calls a member function of its owner.
template <class Owner, void (Owner::*act)()>
class LetterTo final : public Letter {
 public:
  explicit LetterTo(Owner& owner) : owner_(owner) {}
  void open() override { (owner_.*act)(); }

 private:
  Owner& owner_;
};

// Loop-bound, but for post(). Outlives whoever posts.
class Mailbox {
 public:
  // at_telling: opened whenever the loop was told, after the letters.
  explicit Mailbox(Loop& loop, Letter* at_telling = nullptr);
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Thread-safe, and never waits. A letter that is under way comes once, however often it is
  // posted; one that is being opened comes again. What was written before is seen by open().
  void post(Letter& letter) noexcept;

  // Thread-safe. An eventfd: who cannot post, such as the kernel, tells the loop by writing to it.
  int event() const { return descriptor_; }

  // Opens the letter once that time has come, which nobody may post; only the last call counts.
  using AlarmTime = std::chrono::steady_clock::time_point;
  void set_alarm(AlarmTime when, Letter& letter);
  void clear_alarm();

  // Opens letters, each sender's in its order, until close(): then what has come by then is opened,
  // and it ends.
  Task<void> serve();
  void close();
  // For who keeps its loop awake: opens what has come, without waiting.
  void look() {
    if (newest_.load(std::memory_order_relaxed) != nullptr) open_all();
  }

 private:
  void tell() noexcept;
  bool was_told() noexcept;
  void open_all();
  void ring_alarm();
  void arm_timer(AlarmTime when) const;

  Loop& loop_;
  Letter* at_telling_;
  int descriptor_;   // eventfd
  int timer_ = -1;   // timerfd, since there was an alarm
  int either_ = -1;  // epoll of both
  Letter* alarm_ = nullptr;
  std::atomic<Letter*> newest_ = nullptr;  // a stack: each has what came before it behind it
  bool is_closed_ = false;
};

}  // namespace vhdkit::async
