// Memory for coroutine frames: what one has left serves the next one of its thread.
//
// A request passes through several coroutines, and the general allocator costs more than what most
// of them do.
#pragma once

#include <array>
#include <cstddef>
#include <new>
#include <utility>

namespace vhdkit::async {

// Thread-bound: each thread has its own. A frame may be freed by another thread, whose it is then.
class FramePool {
 public:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool keeps_frames = false;  // else the sanitizer would not see a frame's end
#elif defined(__has_feature)
  static constexpr bool keeps_frames = !__has_feature(address_sanitizer);
#else
  static constexpr bool keeps_frames = true;
#endif

  static void* allocate(size_t size) {
    const size_t size_class = class_of(size);
    if (size_class >= class_count || !keeps_frames) return ::operator new(size);
    Class& frames = mine().classes_[size_class];
    if (frames.first == nullptr) return ::operator new((size_class + 1) * class_bytes);
    --frames.count;
    return std::exchange(frames.first, frames.first->next);
  }

  static void free(void* memory, size_t size) noexcept {
    const size_t size_class = class_of(size);
    if (size_class >= class_count || !keeps_frames) return ::operator delete(memory);
    Class& frames = mine().classes_[size_class];
    if (frames.count == most_kept) return ::operator delete(memory);
    ++frames.count;
    frames.first = new (memory) Frame{frames.first};
  }

  ~FramePool() {
    for (Class& frames : classes_)
      while (frames.first != nullptr)
        ::operator delete(std::exchange(frames.first, frames.first->next));
  }

 private:
  static constexpr size_t class_bytes = 64;
  static constexpr size_t class_count = 32;  // larger ones are not kept
  static constexpr size_t most_kept = 512;   // of each class

  struct Frame {
    Frame* next;
  };
  struct Class {
    Frame* first = nullptr;
    size_t count = 0;
  };
  FramePool() = default;
  static size_t class_of(size_t size) { return (size - 1) / class_bytes; }
  static FramePool& mine() {
    static thread_local FramePool pool;
    return pool;
  }

  std::array<Class, class_count> classes_;
};

// Base of promises whose frames come from the pool.
struct PooledFrame {
  static void* operator new(size_t size) { return FramePool::allocate(size); }
  static void operator delete(void* memory, size_t size) noexcept { FramePool::free(memory, size); }
};

}  // namespace vhdkit::async
