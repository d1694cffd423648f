// The two ends of a serial line: the guest's, which is a UART, and the host's, which is a console.
#pragma once

#include <cstddef>
#include <span>

namespace vhdkit::hypervisor {

// Thread-safe.
class SerialGuest {
 public:
  virtual ~SerialGuest() = default;
  // What is typed for the guest. Returns how many bytes, from the first on, it had room for; where
  // that is not all of them, SerialHost::has_room() says when to come again. Never waits.
  virtual size_t receive(std::span<const std::byte> bytes) = 0;
};

// Thread-safe. Its calls come from the threads of the guest's processors.
class SerialHost {
 public:
  virtual ~SerialHost() = default;
  // What the guest sends. May wait for a reader that is slow: the processor stands still so long.
  virtual void write(std::span<const std::byte> bytes) = 0;
  // The guest has read what it got, after a receive() that did not take all. Does not wait.
  virtual void has_room() = 0;
};

}  // namespace vhdkit::hypervisor
