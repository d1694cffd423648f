// Work that other threads hand over to a loop's.
#pragma once

#include <atomic>
#include <cassert>

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
  void open_all();

  Loop& loop_;
  Letter* at_telling_;
  int descriptor_;                         // eventfd
  std::atomic<Letter*> newest_ = nullptr;  // a stack: each has what came before it behind it
  bool is_closed_ = false;
};

}  // namespace vhdkit::async
