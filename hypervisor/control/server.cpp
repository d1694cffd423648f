#include "hypervisor/control/server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "hypervisor/control/commands.h"
#include "hypervisor/sandbox/sandbox.h"

namespace vhdkit::hypervisor {

Result<std::unique_ptr<ControlServer>> ControlServer::listen(const std::string& path,
                                                             const Limits& limits) {
  std::unique_ptr<ControlServer> server(new ControlServer(path, limits));
  TRY(with_context(server->begin(), path));
  return server;
}

Result<void> ControlServer::begin() {
  end_event_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!end_event_.is_open()) return fail_errno(errno, "an eventfd");
  const ListenOptions for_its_owner{.backlog = int(limits_.max_clients), .mode = 0600};
  TRY_LET(listener_, LocalListener::at(path_, for_its_owner));
  return {};
}

ControlServer::~ControlServer() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t told = ::write(end_event_.number(), &one, sizeof one);
    thread_.join();
  }
}

void ControlServer::serve(Controls& controls) {
  thread_ = std::thread([this, &controls] {
    enter(ThreadKind::control);
    run(controls);
  });
}

void ControlServer::run(Controls& controls) {
  std::vector<short> events;
  while (wait(events)) {
    serve_clients(events, controls);
    if (events.back() != 0) accept_client();
  }
}

// What has happened to each client, and to the listener last. False: it is over.
bool ControlServer::wait(std::vector<short>& events) {
  std::vector<pollfd> polled;
  bool is_in_a_hurry = false;
  for (const Connection& client : clients_) {
    polled.push_back({.fd = client.descriptor(), .events = client.events(), .revents = 0});
    is_in_a_hurry |= client.has_line();
  }
  polled.push_back({.fd = listener_.number(), .events = POLLIN, .revents = 0});
  polled.push_back({.fd = end_event_.number(), .events = POLLIN, .revents = 0});
  if (poll(polled.data(), polled.size(), is_in_a_hurry ? 0 : -1) < 0)
    for (pollfd& one : polled) one.revents = 0;
  events.clear();
  for (size_t i = 0; i + 1 < polled.size(); ++i) events.push_back(polled[i].revents);
  return polled.back().revents == 0;
}

void ControlServer::serve_clients(const std::vector<short>& events, Controls& controls) {
  size_t index = 0;
  for (auto client = clients_.begin(); client != clients_.end();) {
    const short happened = events[index++];
    const bool is_idle = happened == 0 && !client->has_line();
    client = is_idle || client->serve(controls) ? std::next(client) : clients_.erase(client);
  }
}

void ControlServer::accept_client() {
  Descriptor client = listener_.accept();
  if (!client.is_open()) return;
  if (clients_.size() < limits_.max_clients) {
    clients_.emplace_back(std::move(client), limits_.connection);
    return;
  }
  const std::string refusal =
      error_line("busy", "there are " + std::to_string(limits_.max_clients) + " clients already") +
      "\n";
  (void)::send(client.number(), refusal.data(), refusal.size(), MSG_NOSIGNAL);
}

}  // namespace vhdkit::hypervisor
