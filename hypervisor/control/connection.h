// One client of the control socket: its bytes become lines, and answers become bytes.
#pragma once

#include <string>
#include <string_view>

#include "hypervisor/control/controls.h"
#include "support/descriptor.h"

namespace vhdkit::hypervisor {

// Bound to the server's thread. Nothing of a client's is kept but one line and one answer: while
// the client does not take an answer nothing more is read from it, so what it sends without reading
// waits in its socket, and at last with itself.
class Connection {
 public:
  struct Limits {
    size_t max_line_bytes = size_t{64} << 10;  // without its end
  };

  // A stream socket that does not block.
  Connection(Descriptor socket, const Limits& limits)
      : socket_(std::move(socket)), limits_(limits) {}

  int descriptor() const { return socket_.number(); }
  // What to wait for: poll()'s events.
  short events() const;
  // A line is here already: nothing needs to be waited for.
  bool has_line() const { return unsent_.empty() && input_.find('\n') != std::string::npos; }

  // When something has happened, or has_line(): sends, or reads and answers one line at most.
  // False: the connection is over.
  bool serve(Controls& controls);

 private:
  bool send();
  bool receive();
  void answer_line(Controls& controls);
  void skip_long_line();
  void refuse_long_line();

  Descriptor socket_;
  Limits limits_;
  std::string input_;         // what no answer was given to, of one read beyond a line at most
  std::string unsent_;        // of an answer
  bool is_skipping_ = false;  // a line that was too long, up to its end
  bool has_ended_ = false;    // the client says nothing more
};

}  // namespace vhdkit::hypervisor
