#include "hypervisor/control/server.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <fstream>

#include "hypervisor/control/local_socket.h"
#include "hypervisor/control/test_controls.h"
#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::hypervisor {
namespace {

using namespace std::chrono_literals;

constexpr auto long_enough = 20s;
constexpr size_t max_line_bytes = 1000;
constexpr size_t max_clients = 3;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

class Client {
 public:
  explicit Client(const std::string& path)
      : socket_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = address_of(path);
    REQUIRE(connect(socket_.number(), reinterpret_cast<const sockaddr*>(&address),
                    sizeof address) == 0);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    setsockopt(socket_.number(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(socket_.number(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }

  // False: the other end takes no more.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::send(socket_.number(), text.data(), text.size(), MSG_NOSIGNAL);
      if (count < 0) return false;
      text.remove_prefix(size_t(count));
    }
    return true;
  }
  // How much it takes without waiting; bounded.
  size_t send_without_waiting(std::string_view text, size_t most) {
    size_t sent = 0;
    while (sent < most) {
      const ssize_t count =
          ::send(socket_.number(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count <= 0) {
        // The server may be about to read.
        std::this_thread::sleep_for(50ms);
        if (::send(socket_.number(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) <= 0)
          break;
        continue;
      }
      sent += size_t(count);
    }
    return sent;
  }
  // Empty: the other end has closed.
  std::string line() {
    for (;;) {
      const size_t end = input_.find('\n');
      if (end != std::string::npos) {
        std::string text = input_.substr(0, end);
        input_.erase(0, end + 1);
        return text;
      }
      std::array<char, 4096> buffer;
      const ssize_t count = recv(socket_.number(), buffer.data(), buffer.size(), 0);
      REQUIRE_MESSAGE(count >= 0, "nothing came");
      if (count == 0) return "";
      input_.append(buffer.data(), size_t(count));
    }
  }
  Json answer() { return Json::parse(line()); }
  void say_no_more() { shutdown(socket_.number(), SHUT_WR); }

 private:
  Descriptor socket_;
  std::string input_;
};

struct Fixture {
  Fixture() {
    auto listening = ControlServer::listen(
        path, {.max_clients = max_clients, .connection = {.max_line_bytes = max_line_bytes}});
    REQUIRE_OK(listening);
    server = std::move(*listening);
    server->serve(controls);
  }
  // Whether others are still answered.
  void answers() {
    Client client(path);
    REQUIRE(client.send("{\"id\": 1, \"command\": \"pause\"}\n"));
    CHECK(client.answer() == Json::parse(R"({"id": 1, "result": {}})"));
  }

  tests::TemporaryFolder folder;
  std::string path = folder.path("control");
  TestControls controls;
  std::unique_ptr<ControlServer> server;
};

TEST_CASE("clients are answered, each its own") {
  Fixture fixture;
  Client one(fixture.path);
  Client other(fixture.path);
  REQUIRE(one.send("{\"id\": 1, \"command\": \"status\"}\n{\"id\": 2, \"command\": \"pause\"}\n"));
  REQUIRE(other.send("{\"id\": 3, \"comm"));
  CHECK(one.answer()["id"] == 1);
  CHECK(one.answer()["id"] == 2);
  REQUIRE(other.send("and\": \"reset\"}\n"));
  CHECK(other.answer() == Json::parse(R"({"id": 3, "result": {}})"));
}

TEST_CASE("a client that says no more gets its answers, and the end") {
  Fixture fixture;
  Client client(fixture.path);
  REQUIRE(
      client.send("{\"id\": 1, \"command\": \"status\"}\n{\"id\": 2, \"command\": \"pause\"}\n"
                  "{\"id\": 3, \"command\": \"reset\"}"));
  client.say_no_more();
  CHECK(client.answer()["id"] == 1);
  CHECK(client.answer()["id"] == 2);
  CHECK(client.line() == "");
  // The last line had no end: nothing was asked.
  CHECK(fixture.controls.calls() == std::vector<std::string>{"status", "pause"});
}

TEST_CASE("the socket is its owner's, and goes with the server") {
  Fixture fixture;
  struct stat status{};
  REQUIRE(stat(fixture.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  fixture.server.reset();
  CHECK(stat(fixture.path.c_str(), &status) != 0);
}

TEST_CASE("whose path the socket may have") {
  tests::TemporaryFolder folder;
  const ControlServer::Limits limits;
  const std::string path = folder.path("control");
  SUBCASE("one that a killed program has left") {
    {
      const Descriptor left(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const sockaddr_un address = address_of(path);
      REQUIRE(bind(left.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
              0);
    }
    REQUIRE_OK(ControlServer::listen(path, limits));
  }
  SUBCASE("not one on which somebody listens") {
    const auto first = ControlServer::listen(path, limits);
    REQUIRE_OK(first);
    REQUIRE_FAILS(Errc::io, path, ControlServer::listen(path, limits));
    Client client(path);  // it still does
  }
  SUBCASE("not that of a file, which stays") {
    std::ofstream(path) << "precious";
    REQUIRE_FAILS(Errc::io, path, ControlServer::listen(path, limits));
    std::string content;
    std::ifstream(path) >> content;
    CHECK(content == "precious");
  }
  SUBCASE("not one that is too long") {
    REQUIRE_FAILS(Errc::invalid_argument, "too long",
                  ControlServer::listen(folder.path(std::string(200, 'x')), limits));
  }
}

TEST_CASE("a long line is refused and the next one heard") {
  Fixture fixture;
  Client client(fixture.path);
  SUBCASE("by one byte") {
    std::string line = "{\"id\": 1, \"command\": \"pause\"}";
    line.resize(max_line_bytes, ' ');
    REQUIRE(client.send(line + "\n" + line + " \n"));
    CHECK(client.answer()["id"] == 1);
  }
  SUBCASE("by ten MiB") {
    const std::string piece(size_t{1} << 20, 'x');
    for (int i = 0; i < 10; ++i) REQUIRE(client.send(piece));
    REQUIRE(client.send("\n"));
  }
  const Json answer = client.answer();
  CHECK(answer["error"]["kind"] == "bad-request");
  CHECK(answer["error"]["message"].get<std::string>().find("1000 bytes") != std::string::npos);
  REQUIRE(client.send("{\"id\": 2, \"command\": \"pause\"}\n"));
  CHECK(client.answer()["id"] == 2);
}

TEST_CASE("garbage is answered, line by line") {
  Fixture fixture;
  Client client(fixture.path);
  REQUIRE(client.send(std::string("\0\xff\n\n{]\n", 7)));
  for (int i = 0; i < 3; ++i) CHECK(client.answer()["error"]["kind"] == "bad-request");
  fixture.answers();
  CHECK(fixture.controls.calls() == std::vector<std::string>{"pause"});
}

TEST_CASE("a client that floods and does not read is read no more, and others are") {
  Fixture fixture;
  fixture.controls.set_status_bytes(size_t{1} << 20);
  Client client(fixture.path);
  // Its first answer does not fit into the socket; what it sends then waits with itself.
  constexpr size_t much = size_t{16} << 20;
  CHECK(client.send_without_waiting("{\"id\": 1, \"command\": \"status\"}\n", much) < much);
  fixture.answers();
  const auto calls = fixture.controls.calls();
  CHECK(std::ranges::count(calls, "status") == 1);
}

TEST_CASE("clients that go away in the middle leave room for others") {
  Fixture fixture;
  fixture.controls.set_status_bytes(size_t{1} << 20);
  for (int i = 0; i < 10; ++i) {
    Client client(fixture.path);
    REQUIRE(
        client.send(i % 2 == 0 ? "{\"id\": 1, \"command\": \"status\"}\n" : "{\"id\": 1, \"comm"));
    if (i % 2 == 0) {
      // Until the answer is under way, so that it breaks off.
      while (fixture.controls.calls().size() < size_t(i / 2 + 1)) std::this_thread::sleep_for(1ms);
    }
  }
  fixture.answers();
}

TEST_CASE("of too many clients the further ones are told so") {
  Fixture fixture;
  {
    std::list<Client> clients;
    for (size_t i = 0; i < max_clients; ++i) {
      clients.emplace_back(fixture.path);
      REQUIRE(clients.back().send("{\"id\": 1, \"command\": \"pause\"}\n"));
      CHECK(clients.back().answer()["id"] == 1);
    }
    Client further(fixture.path);
    CHECK(further.answer()["error"]["kind"] == "busy");
    CHECK(further.line() == "");
  }
  // The server hears of their end before the next one, which came later.
  const auto deadline = std::chrono::steady_clock::now() + long_enough;
  for (bool is_answered = false; !is_answered;) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    Client client(fixture.path);
    REQUIRE(client.send("{\"id\": 1, \"command\": \"pause\"}\n"));
    is_answered = client.answer().contains("result");
  }
}

}  // namespace
}  // namespace vhdkit::hypervisor
