// The host's end of the guest's serial line: a terminal, a pipe, a socket, or nobody.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "hypervisor/control/local_socket.h"
#include "hypervisor/devices/serial_line.h"
#include "hypervisor/runner/escapes.h"
#include "hypervisor/runner/outlet.h"
#include "hypervisor/runner/raw_terminal.h"
#include "support/descriptor.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

struct ConsoleOptions {
  enum class Where : uint8_t { stdio, socket, nowhere };
  Where where = Where::stdio;
  std::string socket_path;
  std::string log_path;  // what the guest says is added to this file; empty: to none
};

// "stdio", "unix:PATH" or "none". Errors: invalid_argument.
Result<void> parse_console(const std::string& text, ConsoleOptions& options);

// What somebody wants who types an escape. Called on a thread of the console's.
struct ConsoleWishes {
  std::function<void()> leave = [] {};      // Ctrl-A x
  std::function<void()> power_off = [] {};  // Ctrl-A p
};

// Thread-safe. A socket has one client at a time, and further ones wait; while there is none, what
// the guest says is lost, as it is where standard output was closed. A reader that takes nothing
// holds the guest's processor up while that speaks; what one takes it gets within milliseconds, in
// as few pieces as that allows. Keys that the guest does not read wait, up to 64 KiB
// of them: more is not read from a pipe or a socket, and lost from a terminal, where Ctrl-A x must
// be heard whatever the guest does.
class Console final : public SerialHost {
 public:
  // Has what it needs from then on; reads nothing yet. Errors: those of the system (the socket, the
  // log, the streams), naming which.
  static Result<std::unique_ptr<Console>> open(const ConsoleOptions& options, ConsoleWishes wishes);
  ~Console() override;
  // Begins to read and to write, on a thread of its own. Once.
  void begin();

  // Who gets what is typed from now on; null: nobody, and nobody waits any more for a slow reader,
  // but what readers take of what was said is with them when this returns. The guest's end lives
  // until the next call. A terminal belongs to the guest from the first one on.
  void connect(SerialGuest* guest);

  // As parse_console() takes it.
  std::string where() const;

  void write(std::span<const std::byte> bytes) override;
  void has_room() override { wake(); }

 private:
  using Peer = std::shared_ptr<Descriptor>;
  using Clock = std::chrono::steady_clock;

  Console(ConsoleOptions options, ConsoleWishes wishes)
      : options_(std::move(options)), wishes_(std::move(wishes)) {}
  Result<void> take_ends();

  void run();
  bool wait();
  std::chrono::milliseconds patience();
  void hear();
  void accept_client();
  void read_from(const Peer& peer);
  void keep_typed(std::span<const std::byte> bytes);
  bool may_read() const;
  void deliver();
  void lose(const Peer& peer);
  void wake() const;

  void speak();
  void write_out(Outlet& outlet);
  size_t room() const;
  bool is_full() const;
  bool has_said_all() const;

  ConsoleOptions options_;
  ConsoleWishes wishes_;
  Descriptor wake_event_;  // for the thread
  LocalListener listener_;
  bool is_at_terminal_ = false;
  std::optional<RawTerminal> terminal_;

  // Of the thread.
  Peer input_;  // null: nobody, or at its end
  Escapes escapes_;
  std::vector<std::byte> typed_;  // what the guest has had no room for
  Clock::time_point quiet_until_;

  mutable std::mutex mutex_;
  std::condition_variable has_changed_;  // of what is said
  Outlet log_;
  Outlet output_;
  bool looks_again_ = false;  // the thread, at what is said, before anybody wakes it
  SerialGuest* guest_ = nullptr;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace vhdkit::hypervisor
