// Somebody who gets what the guest says: a terminal, a pipe, a socket's client, a log.
#pragma once

#include <poll.h>

#include <memory>
#include <span>
#include <vector>

#include "support/descriptor.h"

namespace vhdkit::hypervisor {

// Bytes wait here until they are written, so that a guest which sends them one by one does not pay
// for a call of the kernel's each time. Not thread-safe.
class Outlet {
 public:
  using Reader = std::shared_ptr<Descriptor>;

  // A quarter of what a pipe takes once poll() says that it is ready (PIPE_BUF): what was kept
  // before a write and what is kept during it go into it together.
  static constexpr size_t max_waiting_bytes = 1024;

  // Nobody: takes everything, and forgets it.
  Outlet() = default;
  explicit Outlet(Reader reader) : reader_(std::move(reader)) {}

  const Reader& reader() const { return reader_; }
  // How many bytes keep() has room for, from 0 to max_waiting_bytes.
  size_t room() const;
  // Those that it has no room for are lost.
  void keep(std::span<const std::byte> bytes);
  std::span<const std::byte> waiting() const { return waiting_; }

  // What poll() is to find out; nothing where it is known that the reader takes something.
  pollfd question();
  void hear(const pollfd& answer);
  // What was heard may have changed, and so may what is being asked.
  void ask_again();
  bool is_known() const { return reader_ == nullptr || state_ != State::unknown; }
  // Whether something waits for a reader that takes it.
  bool can_write() const { return state_ == State::takes && !waiting_.empty(); }
  // Whether nothing is left, or what is left cannot go now.
  bool has_said_all() const { return waiting_.empty() || state_ == State::is_full; }
  // The first bytes that wait were written.
  void drop(size_t count);

 private:
  enum class State : uint8_t { unknown, takes, is_full };

  Reader reader_;
  std::vector<std::byte> waiting_;
  State state_ = State::unknown;
  bool is_asked_ = false;
};

}  // namespace vhdkit::hypervisor
