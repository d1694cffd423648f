#include "hypervisor/runner/console.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

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
void say(Console& console, std::string_view text) { console.write(std::as_bytes(std::span(text))); }

std::unique_ptr<Console> open(
    const ConsoleOptions& options, std::function<void()> on_leave = [] {}) {
  auto console = Console::open(options, std::move(on_leave));
  REQUIRE(console);
  return std::move(*console);
}

TEST_CASE("Ctrl-A and another key are for the runner") {
  Escapes escapes;
  const auto take = [&](std::string_view text) {
    return escapes.take(std::as_bytes(std::span(text)));
  };
  const auto guest_text = [](const Escapes::Typed& typed) {
    return std::string(reinterpret_cast<const char*>(typed.for_guest.data()),
                       typed.for_guest.size());
  };
  CHECK(guest_text(take("ls\r")) == "ls\r");
  const auto both = take(
      "a\x01\x01z\x01"
      "ab");
  CHECK(guest_text(both) ==
        "a\x01z\x01"
        "b");
  CHECK_FALSE(both.wants_to_leave);
  CHECK(guest_text(take("q\x01")) == "q");
  CHECK(take("x").wants_to_leave);
  CHECK(take("\x01h").wants_help);
  CHECK(guest_text(take("\x01q!")) == "!");
}

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

TEST_CASE("a reader that is slow holds the guest up until nobody may wait any more") {
  Pipe typed;
  Pipe shown;
  TestGuest guest;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({});
  console->connect(&guest);
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

TEST_CASE("an output that somebody closed loses what is said, and ends nothing") {
  signal(SIGPIPE, SIG_IGN);
  Pipe typed;
  Pipe shown;
  TestGuest guest;
  const Redirected redirected(typed.read_end.number(), shown.write_end.number());
  const auto console = open({});
  console->connect(&guest);
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

// --- a socket ---

Descriptor connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  Descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(connect(client.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
          0);
  return client;
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
  std::stringstream kept;
  kept << std::ifstream(log).rdbuf();
  CHECK(kept.str() == "nobody hears this;hello;again");
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
  await_that([&] {
    say(*console, "hello");
    pollfd event{.fd = next.number(), .events = POLLIN, .revents = 0};
    return poll(&event, 1, 1) == 1;
  });
  put(next.number(), "d");
  guest.take(*console, 10);
  await_that([&] { return guest.seen() == "abcd"; });
  console->connect(nullptr);
}

TEST_CASE("a socket that a killed runner left is taken over, one that somebody listens on is not") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path("console");
  const ConsoleOptions options{.where = ConsoleOptions::Where::socket, .socket_path = path};
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    const Descriptor left(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(left.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(left.number(), 1) == 0);
  }
  const auto console = open(options);
  const Descriptor client = connect_to(path);
  REQUIRE_FALSE(Console::open(options, [] {}));
  const Descriptor queued = connect_to(path);  // it is the first one's still
}

TEST_CASE("a socket that cannot be made is refused by its name") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path("taken");
  std::ofstream(path) << "a file";
  const auto taken =
      Console::open({.where = ConsoleOptions::Where::socket, .socket_path = path}, [] {});
  REQUIRE_FALSE(taken);
  CHECK(taken.error().message.starts_with(path + ": a socket"));
  CHECK(access(path.c_str(), F_OK) == 0);
  const auto too_long = Console::open(
      {.where = ConsoleOptions::Where::socket, .socket_path = std::string(200, 'x')}, [] {});
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().code == Errc::invalid_argument);
}

}  // namespace
}  // namespace vhdkit::hypervisor
