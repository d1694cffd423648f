#include "hypervisor/runner/console.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "hypervisor/control/local_socket.h"
#include "hypervisor/sandbox/sandbox.h"
#include "tools/console.h"

namespace vhdkit::hypervisor {
namespace {

constexpr std::string_view socket_prefix = "unix:";
constexpr size_t max_typed_bytes = size_t{64} << 10;
constexpr auto pause_without_descriptors = std::chrono::milliseconds(100);

constexpr std::string_view help =
    "\r\nCtrl-A p  ask the guest to power off\r\n"
    "Ctrl-A x  leave: the guest is switched off\r\n"
    "Ctrl-A a  a Ctrl-A for the guest\r\n"
    "Ctrl-A h  this\r\n";

void raise_event(const Descriptor& event) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t told = ::write(event.number(), &one, sizeof one);
}

void lower_event(const Descriptor& event) {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t heard = ::read(event.number(), &count, sizeof count);
}

Result<Descriptor> new_event() {
  Descriptor event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.is_open()) return fail_errno(errno, "an eventfd");
  return event;
}

Result<std::shared_ptr<Descriptor>> duplicate(int stream, const char* name) {
  auto copy = std::make_shared<Descriptor>(fcntl(stream, F_DUPFD_CLOEXEC, 3));
  if (!copy->is_open()) return fail_errno(errno, name);
  return copy;
}

}  // namespace

Result<void> parse_console(const std::string& text, ConsoleOptions& options) {
  if (text == "stdio") {
    options.where = ConsoleOptions::Where::stdio;
  } else if (text == "none") {
    options.where = ConsoleOptions::Where::nowhere;
  } else if (text.starts_with(socket_prefix) && text.size() > socket_prefix.size()) {
    options.where = ConsoleOptions::Where::socket;
    options.socket_path = text.substr(socket_prefix.size());
  } else {
    return fail(Errc::invalid_argument, "a console is stdio, unix:PATH or none");
  }
  return {};
}

Result<std::unique_ptr<Console>> Console::open(const ConsoleOptions& options,
                                               ConsoleWishes wishes) {
  std::unique_ptr<Console> console(new Console(options, std::move(wishes)));
  TRY(console->take_ends());
  return console;
}

Result<void> Console::take_ends() {
  TRY_LET(wake_event_, new_event());
  TRY_LET(hurry_event_, new_event());
  connect(nullptr);
  if (!options_.log_path.empty()) {
    log_ = Descriptor(
        ::open(options_.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    if (!log_.is_open()) return fail_errno(errno, options_.log_path);
  }
  if (options_.where == ConsoleOptions::Where::socket) {
    TRY_LET(listener_,
            with_context(listen_at(options_.socket_path, ListenOptions()), options_.socket_path));
  }
  if (options_.where == ConsoleOptions::Where::stdio) {
    TRY_LET(input_, duplicate(STDIN_FILENO, "standard input"));
    TRY_LET(output_, duplicate(STDOUT_FILENO, "standard output"));
    is_at_terminal_ = isatty(STDIN_FILENO) != 0;
  }
  return {};
}

void Console::begin() {
  thread_ = std::thread([this] {
    enter(ThreadKind::console);
    run();
  });
}

std::string Console::where() const {
  switch (options_.where) {
    case ConsoleOptions::Where::stdio:
      return "stdio";
    case ConsoleOptions::Where::socket:
      return std::string(socket_prefix) + options_.socket_path;
    case ConsoleOptions::Where::nowhere:
      break;
  }
  return "none";
}

Console::~Console() {
  connect(nullptr);
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  if (thread_.joinable()) {
    wake();
    thread_.join();
  }
  if (listener_.is_open()) unlink(options_.socket_path.c_str());
}

void Console::connect(SerialGuest* guest) {
  const std::lock_guard lock(mutex_);
  guest_ = guest;
  if (guest == nullptr) {
    raise_event(hurry_event_);
  } else {
    if (options_.where == ConsoleOptions::Where::stdio && !terminal_) terminal_.emplace();
    lower_event(hurry_event_);
    wake();
  }
}

void Console::wake() const { raise_event(wake_event_); }

// --- what the guest says ---

void Console::write(std::span<const std::byte> bytes) {
  if (log_.is_open()) (void)send(log_, bytes);
  const Peer peer = output();
  if (peer != nullptr && !send(*peer, bytes)) lose(peer);
}

// False: nobody reads it, and never will.
bool Console::send(const Descriptor& reader, std::span<const std::byte> bytes) const {
  while (!bytes.empty() && is_ready(reader)) {
    // A pipe that is ready takes so much without waiting.
    const auto piece = bytes.first(std::min(bytes.size(), size_t{PIPE_BUF}));
    const ssize_t count = ::write(reader.number(), piece.data(), piece.size());
    if (count < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (count > 0) bytes = bytes.subspan(size_t(count));
  }
  return true;
}

Console::Peer Console::output() const {
  const std::lock_guard lock(mutex_);
  return output_;
}

// Waits until it takes something. False: nobody may wait any more, and it takes nothing now.
bool Console::is_ready(const Descriptor& reader) const {
  std::array<pollfd, 2> events{pollfd{.fd = reader.number(), .events = POLLOUT, .revents = 0},
                               pollfd{.fd = hurry_event_.number(), .events = POLLIN, .revents = 0}};
  while (poll(events.data(), events.size(), -1) < 0 && errno == EINTR) {
  }
  return events[0].revents != 0;
}

void Console::lose(const Peer& peer) {
  const std::lock_guard lock(mutex_);
  if (output_ == peer) output_ = nullptr;
}

// --- what is typed ---

void Console::run() {
  for (;;) {
    wait_for_input();
    lower_event(wake_event_);
    {
      const std::lock_guard lock(mutex_);
      if (is_over_) return;
    }
    deliver();
    Peer peer;
    {
      const std::lock_guard lock(mutex_);
      peer = input_;
    }
    if (peer == nullptr && listener_.is_open()) {
      accept_client();
    } else if (peer != nullptr && may_read()) {
      read_from(peer);
    }
  }
}

void Console::wait_for_input() {
  std::array<pollfd, 2> events{pollfd{.fd = wake_event_.number(), .events = POLLIN, .revents = 0},
                               pollfd{.fd = -1, .events = POLLIN, .revents = 0}};
  {
    const std::lock_guard lock(mutex_);
    if (input_ != nullptr && may_read())
      events[1].fd = input_->number();
    else if (input_ == nullptr && listener_.is_open())
      events[1].fd = listener_.number();
  }
  poll(events.data(), events.size(), -1);
}

void Console::accept_client() {
  auto client = std::make_shared<Descriptor>(
      accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client->is_open()) {
    // A client that cannot be had for want of descriptors or memory keeps the listener ready.
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
      std::this_thread::sleep_for(pause_without_descriptors);
    return;
  }
  const std::lock_guard lock(mutex_);
  input_ = output_ = std::move(client);
}

void Console::read_from(const Peer& peer) {
  pollfd event{.fd = peer->number(), .events = POLLIN, .revents = 0};
  if (poll(&event, 1, 0) <= 0) return;
  std::array<std::byte, 256> buffer;
  const ssize_t count = read(peer->number(), buffer.data(), buffer.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    if (listener_.is_open()) lose(peer);
    const std::lock_guard lock(mutex_);
    input_ = nullptr;
    return;
  }
  const auto bytes = std::span(buffer).first(size_t(count));
  if (options_.where != ConsoleOptions::Where::stdio) {
    keep_typed(bytes);
  } else {
    const Escapes::Typed typed = escapes_.take(bytes);
    if (typed.wants_help) tools::say(help);
    if (typed.wants_power_off) wishes_.power_off();
    if (typed.wants_to_leave) wishes_.leave();
    keep_typed(typed.for_guest);
  }
  deliver();
}

void Console::keep_typed(std::span<const std::byte> bytes) {
  const size_t room = max_typed_bytes - std::min(max_typed_bytes, typed_.size());
  const auto kept = is_at_terminal_ ? bytes.first(std::min(room, bytes.size())) : bytes;
  typed_.insert(typed_.end(), kept.begin(), kept.end());
}

bool Console::may_read() const { return is_at_terminal_ || typed_.size() < max_typed_bytes; }

void Console::deliver() {
  const std::lock_guard lock(mutex_);
  if (guest_ == nullptr || typed_.empty()) return;
  const size_t taken = guest_->receive(typed_);
  typed_.erase(typed_.begin(), typed_.begin() + ptrdiff_t(taken));
}

}  // namespace vhdkit::hypervisor
