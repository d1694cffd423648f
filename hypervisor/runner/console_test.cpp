#include "hypervisor/runner/console.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

#include "hypervisor/sandbox/test_process.h"
#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::hypervisor {
namespace {

using namespace std::chrono_literals;

// Descriptors 0 and 1 are others while it lives.
class Redirected {
 public:
  Redirected(int input, int output) : input_(dup(0)), output_(dup(1)) {
    dup2(input, 0);
    dup2(output, 1);
  }
  ~Redirected() {
    dup2(input_.number(), 0);
    dup2(output_.number(), 1);
  }

 private:
  Descriptor input_;
  Descriptor output_;
};

struct Pipe {
  Pipe() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    read_end = Descriptor(ends[0]);
    write_end = Descriptor(ends[1]);
  }
  Descriptor read_end;
  Descriptor write_end;
};

// A guest that has room for so many bytes at a time.
struct TestGuest final : SerialGuest {
  size_t receive(std::span<const std::byte> bytes) override {
    const std::lock_guard lock(mutex);
    const size_t count = std::min(bytes.size(), room);
    got.append(reinterpret_cast<const char*>(bytes.data()), count);
    room -= count;
    return count;
  }
  void take(Console& console, size_t more) {
    {
      const std::lock_guard lock(mutex);
      room += more;
    }
    console.has_room();
  }
  std::string seen() {
    const std::lock_guard lock(mutex);
    return got;
  }

  std::mutex mutex;
  size_t room = 1000;
  std::string got;
};

// Waits for something that another thread brings about; a test that hangs is ended from outside.
template <class Condition>
void await_that(Condition condition) {
  while (!condition()) std::this_thread::sleep_for(1ms);
}

void put(int descriptor, std::string_view text) {
  REQUIRE(write(descriptor, text.data(), text.size()) == ssize_t(text.size()));
}
std::string get(int descriptor, size_t length) {
  std::string text(length, '\0');
  for (size_t at = 0; at < length;) {
    const ssize_t count = read(descriptor, text.data() + at, length - at);
    REQUIRE(count > 0);
    at += size_t(count);
  }
  return text;
}
std::string content_of(const std::string& path) {
  std::stringstream content;
  content << std::ifstream(path).rdbuf();
  return content.str();
}
void say(Console& console, std::string_view text) { console.write(std::as_bytes(std::span(text))); }

std::unique_ptr<Console> open(
    const ConsoleOptions& options, std::function<void()> on_leave = [] {},
    std::function<void()> on_power_off = [] {}) {
  auto console =
      Console::open(options, {.leave = std::move(on_leave), .power_off = std::move(on_power_off)});
  REQUIRE(console);
  (*console)->begin();
  return std::move(*console);
}

// A guest whose console is at standard input and output.
struct Wired {
  Wired() { console->connect(&guest); }

  Pipe typed;
  Pipe shown;
  TestGuest guest;
  Redirected redirected{typed.read_end.number(), shown.write_end.number()};
  std::unique_ptr<Console> console = open({});
};

TEST_CASE("where a console is") {
  ConsoleOptions options;
  REQUIRE_OK(parse_console("unix:/run/guest", options));
  CHECK(options.where == ConsoleOptions::Where::socket);
  CHECK(options.socket_path == "/run/guest");
  REQUIRE_OK(parse_console("none", options));
  CHECK(options.where == ConsoleOptions::Where::nowhere);
  REQUIRE_OK(parse_console("stdio", options));
  CHECK(options.where == ConsoleOptions::Where::stdio);
  for (const char* const text : {"", "unix:", "tcp:1", "Stdio"})
    REQUIRE_FAILS(Errc::invalid_argument, "stdio, unix:PATH or none", parse_console(text, options));
}

TEST_CASE("bytes go both ways over standard input and output, as the guest has room") {
  Pipe typed;
  Pipe shown;
  TestGuest guest;
  guest.room = 3;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({});
  console->connect(&guest);
  say(*console, "login: ");
  CHECK(get(shown.read_end.number(), 7) == "login: ");
  put(typed.write_end.number(), "root\n");
  await_that([&] { return guest.seen() == "roo"; });
  guest.take(*console, 1);
  await_that([&] { return guest.seen() == "root"; });
  guest.take(*console, 10);
  await_that([&] { return guest.seen() == "root\n"; });
  // The end of what is typed ends nothing.
  typed.write_end = Descriptor();
  say(*console, "!");
  CHECK(get(shown.read_end.number(), 1) == "!");
  console->connect(nullptr);
}

TEST_CASE("Ctrl-A x leaves") {
  Pipe typed;
  Pipe shown;
  std::atomic<int> leave_count = 0;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({}, [&] { ++leave_count; });
  put(typed.write_end.number(), "\x01x");
  await_that([&] { return leave_count == 1; });
}

TEST_CASE("Ctrl-A p asks for power off, and says nothing to the guest") {
  Pipe typed;
  Pipe shown;
  TestGuest guest;
  guest.room = 100;
  std::atomic<int> leave_count = 0;
  std::atomic<int> power_off_count = 0;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({}, [&] { ++leave_count; }, [&] { ++power_off_count; });
  console->connect(&guest);
  put(typed.write_end.number(), "a\x01pb");
  await_that([&] { return guest.seen() == "ab"; });
  CHECK(power_off_count == 1);
  CHECK(leave_count == 0);
  console->connect(nullptr);
}

TEST_CASE("a reader that is slow holds the guest up until nobody may wait any more") {
  Wired wired;
  auto& [typed, shown, guest, redirected, console] = wired;
  std::atomic<bool> is_through = false;
  std::thread processor([&] {
    const std::string much(1 << 20, 'x');
    for (size_t at = 0; at < much.size(); at += 64) say(*console, much.substr(at, 64));
    is_through = true;
  });
  pollfd event{.fd = shown.read_end.number(), .events = POLLIN, .revents = 0};
  REQUIRE(poll(&event, 1, -1) == 1);
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(is_through);
  console->connect(nullptr);
  processor.join();
  CHECK(is_through);
}

// No more descriptors than so many for the whole process while it lives.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int count) {
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit limit{.rlim_cur = rlim_t(count), .rlim_max = before_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

int lowest_free_descriptor() { return Descriptor(dup(0)).number(); }

TEST_CASE("much at a time does not get stuck either") {
  Wired wired;
  auto& [typed, shown, guest, redirected, console] = wired;
  std::thread processor([&] { say(*console, std::string(1 << 20, 'x')); });
  pollfd event{.fd = shown.read_end.number(), .events = POLLIN, .revents = 0};
  REQUIRE(poll(&event, 1, -1) == 1);
  std::this_thread::sleep_for(20ms);
  console->connect(nullptr);
  processor.join();
  // Somebody reads again, and the next guest is heard.
  console->connect(&guest);
  std::thread next([&] { say(*console, "\ny"); });
  while (get(shown.read_end.number(), 1) != "\n") continue;
  CHECK(get(shown.read_end.number(), 1) == "y");
  next.join();
  console->connect(nullptr);
}

TEST_CASE("a reader that is slow gets everything") {
  Wired wired;
  auto& [typed, shown, guest, redirected, console] = wired;
  std::string text;
  while (text.size() < 300'000) text += std::to_string(text.size()) + "\n";
  std::thread processor([&] { say(*console, text); });
  CHECK(get(shown.read_end.number(), text.size()) == text);
  processor.join();
  console->connect(nullptr);
}

TEST_CASE("what is said byte by byte comes in few pieces, and is there when the guest is off") {
  int ends[2];
  // A read gives what one write took, and no more.
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Descriptor reader(ends[0]);
  const Descriptor writer(ends[1]);
  Pipe typed;
  TestGuest guest;
  const Redirected redirected(typed.read_end.number(), writer.number());
  const auto console = open({});
  console->connect(&guest);
  std::string text;
  for (int i = 0; text.size() < 2000; ++i) text += std::to_string(i);
  for (const char character : text) say(*console, {&character, 1});
  console->connect(nullptr);
  std::string got;
  int piece_count = 0;
  for (pollfd event{.fd = reader.number(), .events = POLLIN, .revents = 0}; poll(&event, 1, 0) > 0;
       ++piece_count) {
    std::array<char, PIPE_BUF> buffer;
    const ssize_t count = read(reader.number(), buffer.data(), buffer.size());
    REQUIRE(count > 0);
    got.append(buffer.data(), size_t(count));
  }
  CHECK(got == text);
  CHECK(piece_count < 1000);
}

TEST_CASE("a pipe that somebody else has filled holds up nobody who may not wait any more") {
  Wired wired;
  auto& [typed, shown, guest, redirected, console] = wired;
  say(*console, "a");
  CHECK(get(shown.read_end.number(), 1) == "a");
  std::this_thread::sleep_for(20ms);  // it has asked, and the pipe took more
  const int pipe_bytes = fcntl(shown.read_end.number(), F_GETPIPE_SZ);
  REQUIRE(pipe_bytes > 0);
  const std::string much(size_t(pipe_bytes), 'x');
  put(shown.write_end.number(), much);
  say(*console, "b");
  std::this_thread::sleep_for(20ms);
  console->connect(nullptr);
  CHECK(get(shown.read_end.number(), much.size() + 1) == much + "b");
  // Whoever shares it waits where it has to.
  CHECK((fcntl(shown.write_end.number(), F_GETFL) & O_NONBLOCK) == 0);
}

TEST_CASE("a reader that comes back before the guest is off has missed nothing") {
  Wired wired;
  auto& [typed, shown, guest, redirected, console] = wired;
  const int pipe_bytes = fcntl(shown.read_end.number(), F_GETPIPE_SZ);
  REQUIRE(pipe_bytes > 0);
  std::string text;
  while (int(text.size()) < pipe_bytes + 500) text += std::to_string(text.size()) + "\n";
  std::thread processor([&] { say(*console, text); });
  std::string got = get(shown.read_end.number(), 100);
  std::this_thread::sleep_for(20ms);  // full
  got += get(shown.read_end.number(), size_t(pipe_bytes) - 100);
  processor.join();
  console->connect(nullptr);
  got += get(shown.read_end.number(), text.size() - size_t(pipe_bytes));
  CHECK(got == text);
}

TEST_CASE("a console without descriptors for its streams is refused, and leaves none behind") {
  const int free = lowest_free_descriptor();
  for (int count = 0; count < 3; ++count) {
    CAPTURE(count);
    const DescriptorLimit limit(free + count);
    REQUIRE_FALSE(Console::open({}, {}));
  }
  {
    Pipe typed;
    Pipe shown;
    const Redirected redirected(typed.read_end.number(), shown.write_end.number());
    const auto console = open({});
  }
  CHECK(lowest_free_descriptor() == free);
}

TEST_CASE("what is typed before there is a guest is for the first one, and the next one goes on") {
  Pipe typed;
  Pipe shown;
  TestGuest first;
  TestGuest second;
  first.room = 2;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({});
  put(typed.write_end.number(), "abcd");
  console->connect(&first);
  await_that([&] { return first.seen() == "ab"; });
  console->connect(nullptr);
  console->connect(&second);
  await_that([&] { return second.seen() == "cd"; });
  CHECK(first.seen() == "ab");
  console->connect(nullptr);
}

TEST_CASE("a console that is nowhere hears nobody, and its log gets everything") {
  tests::TemporaryFolder folder;
  const std::string log = folder.path("log");
  std::ofstream(log) << "before;";
  TestGuest guest;
  for (int i = 0; i < 2; ++i) {
    const auto console = open({.where = ConsoleOptions::Where::nowhere, .log_path = log});
    console->connect(&guest);
    say(*console, "said;");
    console->connect(nullptr);
    say(*console, "late;");
  }
  CHECK(content_of(log) == "before;said;late;said;late;");
  const auto refused = Console::open({.log_path = folder.path("no/log")}, {});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.starts_with(folder.path("no/log") + ": "));
}

void ignore_signal(int) {}

TEST_CASE("a log that is a pipe gets everything, though its writer is interrupted") {
  tests::TemporaryFolder folder;
  const std::string log = folder.path("log");
  REQUIRE(mkfifo(log.c_str(), 0600) == 0);
  const Descriptor reader(::open(log.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  TestGuest guest;
  const auto console = open({.where = ConsoleOptions::Where::nowhere, .log_path = log});
  console->connect(&guest);
  struct sigaction action{};
  action.sa_handler = ignore_signal;
  struct sigaction before{};
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  const int pipe_bytes = fcntl(reader.number(), F_GETPIPE_SZ);
  REQUIRE(pipe_bytes > 0);
  const int said_bytes = pipe_bytes + 100;
  std::atomic<bool> is_through = false;
  std::thread processor([&] {
    for (int i = 0; i < said_bytes; ++i) say(*console, "x");
    is_through = true;
  });
  int got = 0;
  std::array<char, 1024> buffer;
  const auto take = [&] {
    const ssize_t count = read(reader.number(), buffer.data(), buffer.size());
    if (count > 0) got += int(count);
    return count > 0;
  };
  await_that([&] {
    int waiting = 0;
    REQUIRE(ioctl(reader.number(), FIONREAD, &waiting) == 0);
    return waiting > pipe_bytes - PIPE_BUF;  // full to poll(): no whole page is left
  });
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(2ms);
    pthread_kill(processor.native_handle(), SIGUSR1);
  }
  while (!is_through) take();
  processor.join();
  console->connect(nullptr);
  while (take()) continue;
  sigaction(SIGUSR1, &before, nullptr);
  CHECK(got == said_bytes);
}

TEST_CASE("a log that is a pipe which nobody empties ends nothing") {
  tests::TemporaryFolder folder;
  const std::string log = folder.path("log");
  REQUIRE(mkfifo(log.c_str(), 0600) == 0);
  const Descriptor reader(::open(log.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  TestGuest guest;
  const auto console = open({.where = ConsoleOptions::Where::nowhere, .log_path = log});
  console->connect(&guest);
  std::atomic<bool> is_through = false;
  std::thread processor([&] {
    say(*console, std::string(1 << 20, 'x'));
    is_through = true;
  });
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(is_through);
  console->connect(nullptr);
  processor.join();
}

TEST_CASE("an output that somebody closed loses what is said, and ends nothing") {
  signal(SIGPIPE, SIG_IGN);
  Wired wired;
  auto& [typed, shown, guest, redirected, console] = wired;
  shown.read_end = Descriptor();
  say(*console, "into the void");
  say(*console, "again");
  console->connect(nullptr);
}

TEST_CASE("Ctrl-A x leaves a guest that reads nothing, however much was typed before") {
  int leader = -1;
  int follower = -1;
  REQUIRE(openpty(&leader, &follower, nullptr, nullptr, nullptr) == 0);
  const Descriptor first(leader);
  const Descriptor second(follower);
  std::atomic<int> leave_count = 0;
  TestGuest guest;
  guest.room = 1;
  const Redirected redirected(follower, follower);
  const auto console = open({}, [&] { ++leave_count; });
  console->connect(&guest);
  // More than the 64 KiB that are kept for it.
  const std::string keys(1000, '\r');
  for (int i = 0; i < 100; ++i) put(leader, keys);
  put(leader, "\x01x");
  await_that([&] { return leave_count == 1; });
  CHECK(guest.seen() == "\r");
  guest.take(*console, 1 << 20);
  await_that([&] { return guest.seen().size() == 1 + (1 << 16); });
  console->connect(nullptr);
}

TEST_CASE("a guest that reads slowly loses nothing of a file") {
  Pipe typed;
  Pipe shown;
  TestGuest guest;
  guest.room = 0;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({});
  console->connect(&guest);
  std::string file;
  while (file.size() < 200'000) file += std::to_string(file.size()) + "\n";
  std::thread writer([&] {
    put(typed.write_end.number(), file);
    typed.write_end = Descriptor();
  });
  while (guest.seen().size() < file.size()) {
    guest.take(*console, 5000);
    std::this_thread::yield();
  }
  writer.join();
  CHECK(guest.seen() == file);
  console->connect(nullptr);
}

TEST_CASE("a terminal is raw while the console is there, and as before afterwards") {
  int leader = -1;
  int follower = -1;
  REQUIRE(openpty(&leader, &follower, nullptr, nullptr, nullptr) == 0);
  const Descriptor first(leader);
  const Descriptor second(follower);
  const auto echoes = [&] {
    termios state;
    REQUIRE(tcgetattr(follower, &state) == 0);
    return std::pair((state.c_lflag & ECHO) != 0, (state.c_lflag & ISIG) != 0);
  };
  CHECK(echoes() == std::pair(true, true));
  {
    TestGuest guest;
    const Redirected redirected(follower, follower);
    const auto console = open({});
    console->connect(&guest);
    CHECK(echoes() == std::pair(false, false));
    put(leader, "\x03");
    await_that([&] { return guest.seen() == "\x03"; });
    console->connect(nullptr);
  }
  CHECK(echoes() == std::pair(true, true));
}

// As a shell starts a job behind "&": in the background of a terminal that others have.
int run_in_the_background() {
  int leader = -1;
  int follower = -1;
  if (openpty(&leader, &follower, nullptr, nullptr, nullptr) != 0) return 2;
  if (setsid() < 0 || ioctl(follower, TIOCSCTTY, 0) != 0) return 3;
  const pid_t job = fork();
  if (job == 0) {
    setpgid(0, 0);
    dup2(follower, 0);
    dup2(follower, 1);
    TestGuest guest;
    {
      const auto console = open({});
      console->connect(&guest);
      put(leader, "for the shell\n");
      std::this_thread::sleep_for(20ms);
      say(*console, "hello");
      console->connect(nullptr);
    }
    termios state;
    const bool is_as_before = tcgetattr(follower, &state) == 0 && (state.c_lflag & ECHO) != 0;
    _exit(is_as_before && guest.seen().empty() ? 0 : 4);
  }
  int status = 0;
  waitpid(job, &status, WUNTRACED);
  if (WIFSTOPPED(status)) kill(job, SIGKILL);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 5;
}

TEST_CASE("a job in the background leaves the terminal alone, and is not stopped by it") {
  CHECK(in_a_process(run_in_the_background).code == 0);
}

TEST_CASE("a log that is a pipe which nobody reads is refused, and waited for by nobody") {
  tests::TemporaryFolder folder;
  const std::string log = folder.path("log");
  REQUIRE(mkfifo(log.c_str(), 0600) == 0);
  const auto console =
      Console::open({.where = ConsoleOptions::Where::nowhere, .log_path = log}, ConsoleWishes());
  REQUIRE_FAILS(Errc::not_found, "nobody reads", console);
}

// --- a socket ---

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Descriptor connect_to(const std::string& path) {
  const sockaddr_un address = address_of(path);
  Descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(connect(client.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
          0);
  return client;
}

// Until what the guest says comes to this client, whose turn it was not before.
void await_hearing(Console& console, const Descriptor& client) {
  await_that([&] {
    say(console, "hello");
    pollfd event{.fd = client.number(), .events = POLLIN, .revents = 0};
    return poll(&event, 1, 1) == 1;
  });
}

TEST_CASE("a client that reads nothing holds the guest up until it goes") {
  signal(SIGPIPE, SIG_IGN);
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  TestGuest guest;
  const auto console = open({.where = ConsoleOptions::Where::socket, .socket_path = path});
  console->connect(&guest);
  Descriptor client = connect_to(path);
  put(client.number(), "a");
  await_that([&] { return guest.seen() == "a"; });
  std::atomic<bool> is_through = false;
  std::thread processor([&] {
    say(*console, std::string(4 << 20, 'x'));
    is_through = true;
  });
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(is_through);
  client = Descriptor();
  processor.join();
  const Descriptor next = connect_to(path);
  put(next.number(), "b");
  await_that([&] { return guest.seen() == "ab"; });
  say(*console, "y");
  CHECK(get(next.number(), 1) == "y");
  console->connect(nullptr);
}

TEST_CASE("a client that waits for the first one to go hears the guest then, and not before") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  TestGuest guest;
  const auto console = open({.where = ConsoleOptions::Where::socket, .socket_path = path});
  console->connect(&guest);
  Descriptor client = connect_to(path);
  put(client.number(), "a");
  await_that([&] { return guest.seen() == "a"; });
  const Descriptor next = connect_to(path);
  put(next.number(), "b");
  say(*console, "first");
  CHECK(get(client.number(), 5) == "first");
  CHECK(guest.seen() == "a");
  client = Descriptor();
  await_that([&] { return guest.seen() == "ab"; });
  say(*console, "next");
  CHECK(get(next.number(), 4) == "next");
  console->connect(nullptr);
}

std::chrono::nanoseconds processor_time() {
  timespec time{};
  REQUIRE(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

TEST_CASE("a client that there is no descriptor for waits for one, and burns no processor") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  TestGuest guest;
  const auto console = open({.where = ConsoleOptions::Where::socket, .socket_path = path});
  const Descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  {
    // Before the first wake: to accept takes a number for a moment even where nobody has come.
    const DescriptorLimit limit(lowest_free_descriptor());
    const sockaddr_un address = address_of(path);
    REQUIRE(::connect(client.number(), reinterpret_cast<const sockaddr*>(&address),
                      sizeof address) == 0);
    put(client.number(), "a");
    console->connect(&guest);
    const auto before = processor_time();
    std::this_thread::sleep_for(1s);
    CHECK(processor_time() - before < 500ms);
    CHECK(guest.seen().empty());
  }
  await_that([&] { return guest.seen() == "a"; });
  console->connect(nullptr);
}

TEST_CASE("a socket has clients that come and go, and the guest goes on without") {
  signal(SIGPIPE, SIG_IGN);
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  const std::string log = folder.path("log");
  TestGuest guest;
  {
    const auto console =
        open({.where = ConsoleOptions::Where::socket, .socket_path = path, .log_path = log});
    console->connect(&guest);
    say(*console, "nobody hears this;");
    Descriptor client = connect_to(path);
    put(client.number(), "a");
    await_that([&] { return guest.seen() == "a"; });
    say(*console, "hello;");
    CHECK(get(client.number(), 6) == "hello;");
    client = Descriptor();
    Descriptor next = connect_to(path);
    // Not told apart from the guest's bytes: a socket has no keys for the runner.
    put(next.number(), "\x01x");
    await_that([&] { return guest.seen() == "a\x01x"; });
    say(*console, "again");
    CHECK(get(next.number(), 5) == "again");
    console->connect(nullptr);
  }
  CHECK(access(path.c_str(), F_OK) != 0);
  CHECK(content_of(log) == "nobody hears this;hello;again");
}

TEST_CASE("a client that goes makes room for the next one, whatever it typed") {
  signal(SIGPIPE, SIG_IGN);
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  TestGuest guest;
  guest.room = 1;
  const auto console = open({.where = ConsoleOptions::Where::socket, .socket_path = path});
  console->connect(&guest);
  Descriptor client = connect_to(path);
  put(client.number(), "abc");
  client = Descriptor();
  const Descriptor next = connect_to(path);
  await_hearing(*console, next);
  put(next.number(), "d");
  guest.take(*console, 10);
  await_that([&] { return guest.seen() == "abcd"; });
  console->connect(nullptr);
}

TEST_CASE("a client that goes makes room for the next one, also where the guest reads nothing") {
  signal(SIGPIPE, SIG_IGN);
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  TestGuest guest;
  guest.room = 0;
  const auto console = open({.where = ConsoleOptions::Where::socket, .socket_path = path});
  console->connect(&guest);
  Descriptor client = connect_to(path);
  put(client.number(), std::string(size_t{100} << 10, 'x'));
  client = Descriptor();
  const Descriptor next = connect_to(path);
  await_hearing(*console, next);
  console->connect(nullptr);
}

TEST_CASE("a socket that a killed runner left is taken over, one that somebody listens on is not") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  const ConsoleOptions options{.where = ConsoleOptions::Where::socket, .socket_path = path};
  {
    const sockaddr_un address = address_of(path);
    const Descriptor left(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(left.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(left.number(), 1) == 0);
  }
  const auto console = open(options);
  const Descriptor client = connect_to(path);
  REQUIRE_FALSE(Console::open(options, {}));
  const Descriptor queued = connect_to(path);  // it is the first one's still
}

TEST_CASE("a socket that cannot be made is refused by its name") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path("taken");
  std::ofstream(path) << "a file";
  const auto taken =
      Console::open({.where = ConsoleOptions::Where::socket, .socket_path = path}, {});
  REQUIRE_FALSE(taken);
  CHECK(taken.error().message.starts_with(path + ": a socket"));
  CHECK(access(path.c_str(), F_OK) == 0);
  const auto too_long = Console::open(
      {.where = ConsoleOptions::Where::socket, .socket_path = std::string(200, 'x')}, {});
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().code == Errc::invalid_argument);
}

}  // namespace
}  // namespace vhdkit::hypervisor
