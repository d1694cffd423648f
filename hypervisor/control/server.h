// The control socket, and the thread that answers its clients.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "hypervisor/control/connection.h"
#include "hypervisor/control/local_socket.h"

namespace vhdkit::hypervisor {

// Clients are answered one line at a time, each in its turn, so that none of them keeps the others
// from being heard; a command that takes long keeps all of them waiting. What a client does harms
// itself at most: see Connection. Whoever may open the socket's file (its owner) may do all.
class ControlServer {
 public:
  struct Limits {
    size_t max_clients = 16;  // further ones are told so and sent away
    Connection::Limits connection;
  };

  // Takes the path, for its owner only; nobody is answered yet. Errors: as LocalListener::at(),
  // naming the path.
  static Result<std::unique_ptr<ControlServer>> listen(const std::string& path,
                                                       const Limits& limits);
  // Ends when the command that runs has ended, its answer sent if the client takes it at once.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Begins to answer. Controls outlive the server, which calls them on its own thread. Once.
  void serve(Controls& controls);

 private:
  ControlServer(std::string path, const Limits& limits) : path_(std::move(path)), limits_(limits) {}
  Result<void> begin();
  void run(Controls& controls);
  bool wait(std::vector<short>& events);
  void serve_clients(const std::vector<short>& events, Controls& controls);
  void accept_client();

  std::string path_;
  Limits limits_;
  LocalListener listener_;
  Descriptor end_event_;
  std::list<Connection> clients_;  // of the thread
  std::thread thread_;
};

}  // namespace vhdkit::hypervisor
