#include "hypervisor/runner/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "hypervisor/runner/output_file.h"
#include "hypervisor/sandbox/sandbox.h"
#include "tools/console.h"

namespace vhdkit::hypervisor {
namespace {

constexpr std::string_view socket_prefix = "unix:";
constexpr size_t max_typed_bytes = size_t{64} << 10;
// After something was written, what is said meanwhile is collected: people do not see it, and a
// menu drawn byte by byte comes in a few pieces.
constexpr auto pause_between_pieces = std::chrono::milliseconds(4);

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

// A job of a shell's that does not have the terminal: keys are for others.
bool is_in_background() {
  const pid_t group = tcgetpgrp(STDIN_FILENO);
  return group >= 0 && group != getpgrp();
}

// Whoever writes to a terminal or a pipe may not be alone, and find it full though it was ready.
// Writes that do not wait need a description of our own: the one that we were given is shared.
Result<std::shared_ptr<Descriptor>> standard_output() {
  struct stat state{};
  const bool may_wait =
      fstat(STDOUT_FILENO, &state) == 0 && (S_ISCHR(state.st_mode) || S_ISFIFO(state.st_mode));
  if (may_wait) {
    auto own = std::make_shared<Descriptor>(
        open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (own->is_open()) return own;
  }
  return duplicate(STDOUT_FILENO, "standard output");
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
  if (!options_.log_path.empty()) {
    TRY_LET(Descriptor log, open_to_write(options_.log_path, O_APPEND));
    log_ = Outlet(std::make_shared<Descriptor>(std::move(log)));
  }
  if (options_.where == ConsoleOptions::Where::socket) {
    TRY_LET(listener_, with_context(LocalListener::at(options_.socket_path, ListenOptions()),
                                    options_.socket_path));
  }
  if (options_.where == ConsoleOptions::Where::stdio) {
    TRY_LET(input_, duplicate(STDIN_FILENO, "standard input"));
    TRY_LET(auto output, standard_output());
    output_ = Outlet(std::move(output));
    const bool is_job = is_in_background();
    is_at_terminal_ = isatty(STDIN_FILENO) != 0 && !is_job;
    if (is_job) {
      input_ = nullptr;
      tools::say("in the background no keys go to the guest; --console unix:PATH is for those");
    }
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
}

void Console::connect(SerialGuest* guest) {
  std::unique_lock lock(mutex_);
  guest_ = guest;
  if (guest != nullptr && is_at_terminal_ && !terminal_) terminal_.emplace();
  log_.ask_again();
  output_.ask_again();
  wake();
  has_changed_.notify_all();
  if (guest == nullptr && thread_.joinable())
    has_changed_.wait(lock, [this] { return has_said_all(); });
}

void Console::wake() const { raise_event(wake_event_); }

// --- what the guest says ---

void Console::write(std::span<const std::byte> bytes) {
  std::unique_lock lock(mutex_);
  while (!bytes.empty()) {
    has_changed_.wait(lock, [this] { return !is_full() || (guest_ == nullptr && has_said_all()); });
    // Full, where nobody waits any more: who has room gets as much as that.
    const auto piece = is_full() ? bytes : bytes.first(std::min(bytes.size(), room()));
    log_.keep(piece);
    output_.keep(piece);
    bytes = bytes.subspan(piece.size());
    if (looks_again_ && !is_full()) continue;
    looks_again_ = true;
    wake();
  }
}

size_t Console::room() const { return std::min(log_.room(), output_.room()); }

bool Console::is_full() const { return room() == 0; }

bool Console::has_said_all() const { return log_.has_said_all() && output_.has_said_all(); }

void Console::speak() {
  {
    const std::lock_guard lock(mutex_);
    if (guest_ != nullptr && !is_full() && Clock::now() < quiet_until_) return;
  }
  write_out(log_);
  write_out(output_);
}

// Nobody else writes, and what is kept meanwhile comes behind.
void Console::write_out(Outlet& outlet) {
  std::array<std::byte, Outlet::max_waiting_bytes> bytes;
  size_t length = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!outlet.can_write()) return;
    length = outlet.waiting().size();
    std::ranges::copy(outlet.waiting(), bytes.begin());
  }
  const ssize_t count = ::write(outlet.reader()->number(), bytes.data(), length);
  const int error = count < 0 ? errno : 0;
  const bool is_gone = error != 0 && error != EINTR && error != EAGAIN;
  if (is_gone && &outlet == &log_)
    tools::warn(fmt::format("{}: {}: what the guest says is not kept there any more",
                            options_.log_path, std::strerror(error)));
  const std::lock_guard lock(mutex_);
  if (is_gone) {
    outlet = Outlet();
  } else {
    outlet.drop(size_t(std::max<ssize_t>(count, 0)));
  }
  quiet_until_ = Clock::now() + pause_between_pieces;
  has_changed_.notify_all();
}

void Console::lose(const Peer& peer) {
  const std::lock_guard lock(mutex_);
  if (output_.reader() == peer) output_ = Outlet();
  has_changed_.notify_all();
}

// --- what is typed ---

void Console::run() {
  for (;;) {
    const bool is_called = wait();
    {
      const std::lock_guard lock(mutex_);
      if (is_over_) return;
    }
    deliver();
    if (is_called) hear();
    speak();
  }
}

// Whether somebody has typed, or connects.
bool Console::wait() {
  std::array<pollfd, 4> events{pollfd{.fd = wake_event_.number(), .events = POLLIN, .revents = 0},
                               pollfd{.fd = -1, .events = POLLIN, .revents = 0}};
  if (input_ == nullptr) {
    events[1].fd = listener_.number();
  } else if (may_read()) {
    events[1].fd = input_->number();
  } else if (listener_.is_open()) {
    // Others wait until this client goes.
    events[1] = {.fd = input_->number(), .events = 0, .revents = 0};
  }
  std::chrono::milliseconds time{};
  {
    const std::lock_guard lock(mutex_);
    events[2] = log_.question();
    events[3] = output_.question();
    time = patience();
    looks_again_ = time.count() >= 0;
  }
  if (poll(events.data(), events.size(), int(time.count())) < 0) return false;
  if (events[0].revents != 0) lower_event(wake_event_);
  const std::lock_guard lock(mutex_);
  log_.hear(events[2]);
  output_.hear(events[3]);
  has_changed_.notify_all();
  return events[1].revents != 0;
}

// How long there is nothing to be done unless something happens; negative: for ever.
std::chrono::milliseconds Console::patience() {
  constexpr std::chrono::milliseconds none{0};
  constexpr std::chrono::milliseconds without_end{-1};
  if (!log_.is_known() || !output_.is_known()) return none;
  const auto now = Clock::now();
  if (guest_ != nullptr && !is_full() && now < quiet_until_)
    return std::chrono::ceil<std::chrono::milliseconds>(quiet_until_ - now);
  return log_.can_write() || output_.can_write() ? none : without_end;
}

void Console::hear() {
  if (input_ == nullptr) return accept_client();
  if (may_read()) return read_from(Peer(input_));
  lose(input_);
  input_ = nullptr;
}

void Console::accept_client() {
  auto client = std::make_shared<Descriptor>(listener_.accept());
  if (!client->is_open()) return;
  input_ = client;
  const std::lock_guard lock(mutex_);
  output_ = Outlet(std::move(client));
}

void Console::read_from(const Peer& peer) {
  std::array<std::byte, 256> buffer;
  const ssize_t count = read(peer->number(), buffer.data(), buffer.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    if (listener_.is_open()) lose(peer);
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
