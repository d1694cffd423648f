// The control socket of a running vhd-run, from a client's side: JSON lines.
#pragma once

#include <functional>
#include <string>

#include "support/result.h"
#include "tools/json.h"

namespace vhdkit::tools {

// What the runner answered: a result, or why it did not do it.
struct ControlAnswer {
  Json result;             // null where there is an error
  std::string error_kind;  // "not-found"; empty: it was done
  std::string error_message;
};

// A connection, for one request after the other.
class ControlClient {
 public:
  // Errors: those of the system, naming the path.
  static Result<ControlClient> connect(const std::string& path);
  ControlClient(ControlClient&& other) noexcept;
  ControlClient& operator=(ControlClient&&) = delete;
  ~ControlClient();

  // Sends {"command": name} with the members of `parameters`, and waits for its answer. Errors: io:
  // the runner has gone, or what came is no answer.
  Result<ControlAnswer> ask(std::string_view name, const Json& parameters);

  // Returns when there is something to read from the socket; its errors are ask()'s.
  using Wait = std::function<Result<void>(int socket)>;
  // For who has more to wait for than the answer. Null: only the answer is waited for.
  void set_wait(Wait wait) { wait_ = std::move(wait); }

 private:
  ControlClient(int socket, std::string path) : socket_(socket), path_(std::move(path)) {}
  Result<void> send(const std::string& line);
  Result<std::string> receive_line();

  int socket_;
  std::string path_;
  std::string input_;  // behind the last line
  Wait wait_;
};

}  // namespace vhdkit::tools
