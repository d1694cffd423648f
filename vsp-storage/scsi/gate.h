// Lets many commands run at once, or one of them alone.
#pragma once

#include <atomic>
#include <coroutine>
#include <mutex>
#include <utility>

namespace vhdkit::scsi {

// How a coroutine that waited goes on in its own thread. Whoever gives commands to a unit has one
// for each loop, and it outlives the commands.
class Resumer {
 public:
  virtual ~Resumer() = default;
  // Called from any thread: the coroutine belongs to this Resumer's loop and is resumed there,
  // once. May resume it at once if that is the calling thread.
  virtual void resume(std::coroutine_handle<> waiter) = 0;
};

// For units whose commands all run on one loop.
class ResumeHere final : public Resumer {
 public:
  void resume(std::coroutine_handle<> waiter) override { waiter.resume(); }
};

// Thread-safe. Who shares it takes no lock unless somebody is, or wants to be, alone: one atomic
// increment when entering and one decrement when leaving. Who wants to be alone waits until all who
// share have left, and lets none of them in meanwhile; those who came meanwhile come before the
// next one who wants to be alone. Outlives its passes.
class Gate {
 public:
  // Whoever holds it is inside; its end leaves. False: not let in.
  class [[nodiscard]] Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept
        : gate_(std::exchange(other.gate_, nullptr)), is_alone_(other.is_alone_) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->leave(is_alone_);
    }
    explicit operator bool() const { return gate_ != nullptr; }

   private:
    friend class Gate;
    Pass(Gate* gate, bool is_alone) : gate_(gate), is_alone_(is_alone) {}
    Gate* gate_ = nullptr;
    bool is_alone_ = false;
  };

  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate();

 private:
  // Lives in the frame of who waits.
  struct Waiter {
    std::coroutine_handle<> coroutine;
    Resumer* resumer;
    Waiter* next;
  };
  struct Queue {
    Waiter* first = nullptr;
    Waiter* last = nullptr;
    void push(Waiter& waiter);
    Waiter* pop();
    Waiter* pop_all();
  };
  struct Awaiter {
    Gate& gate;
    Resumer* resumer;
    bool is_alone;
    bool is_inside = false;
    Waiter waiter{};

    bool await_ready() noexcept {
      is_inside = is_alone ? gate.try_enter_alone() : gate.try_enter();
      return is_inside || resumer == nullptr;
    }
    bool await_suspend(std::coroutine_handle<> coroutine) noexcept {
      waiter = {coroutine, resumer, nullptr};
      is_inside = true;  // when it goes on
      return is_alone ? gate.wait_alone(waiter) : gate.wait(waiter);
    }
    Pass await_resume() noexcept { return is_inside ? Pass(&gate, is_alone) : Pass(); }
  };

 public:
  // Awaitable: `const Gate::Pass pass = co_await gate.enter(resumer);`
  // resumer null: never waits; the pass is false where it would have to.
  Awaiter enter(Resumer* resumer) { return {.gate = *this, .resumer = resumer, .is_alone = false}; }
  Awaiter enter_alone(Resumer* resumer) {
    return {.gate = *this, .resumer = resumer, .is_alone = true};
  }

 private:
  // Somebody is alone, or waits for it. Changes only under the mutex.
  static constexpr uint32_t closed = uint32_t{1} << 31;

  bool try_enter() noexcept {
    if ((state_.fetch_add(1, std::memory_order_acquire) & closed) == 0) return true;
    leave(false);
    return false;
  }
  bool try_enter_alone() noexcept;
  // False: it is inside already.
  bool wait(Waiter& waiter) noexcept;
  bool wait_alone(Waiter& waiter) noexcept;

  void leave(bool is_alone) noexcept {
    if (is_alone) {
      leave_alone();
    } else if (state_.fetch_sub(1, std::memory_order_acq_rel) == (closed | 1)) {
      all_have_left();
    }
  }
  void leave_alone() noexcept;
  void all_have_left() noexcept;

  // How many share it, and `closed`. On a line of its own: what lies beside it is read for every
  // command, and this is written.
  alignas(64) std::atomic<uint32_t> state_ = 0;
  std::mutex mutex_;
  bool somebody_is_alone_ = false;
  Queue sharing_;
  Queue alone_;
};

}  // namespace vhdkit::scsi
