#include "tools/control_client.h"

#include <errno.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "tools/local_address.h"

namespace vhdkit::tools {
namespace {

// Much more than any answer.
constexpr size_t max_answer_bytes = size_t{64} << 20;

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<ControlAnswer> parse_answer(const std::string& line) {
  const Json answer = Json::parse(line, nullptr, false);
  if (answer.is_object() && answer.contains("result"))
    return ControlAnswer{.result = answer["result"], .error_kind = {}, .error_message = {}};
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    const Json& error = answer["error"];
    ControlAnswer refused{.result = nullptr,
                          .error_kind = text_of(error, "kind"),
                          .error_message = text_of(error, "message")};
    if (!refused.error_kind.empty()) return refused;
  }
  return fail(Errc::io, "what came is no answer of a control socket's");
}

}  // namespace

Result<ControlClient> ControlClient::connect(const std::string& path) {
  TRY_LET(const sockaddr_un address, with_context(local_address(path), path));
  ControlClient client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), path);
  if (client.socket_ < 0 || ::connect(client.socket_, generic(address), sizeof address) != 0)
    return fail_errno(errno, path);
  return client;
}

ControlClient::ControlClient(ControlClient&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      path_(std::move(other.path_)),
      input_(std::move(other.input_)),
      wait_(std::move(other.wait_)) {}

ControlClient::~ControlClient() {
  if (socket_ >= 0) close(socket_);
}

Result<ControlAnswer> ControlClient::ask(std::string_view name, const Json& parameters) {
  Json request = {{"id", 1}, {"command", name}};
  request.update(parameters);
  const auto sent = send(request.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  // Who is refused may be told before it has asked.
  if (!sent && sent.error().os_error != EPIPE) return std::unexpected(sent.error());
  TRY_LET(const std::string line, receive_line());
  return with_context(parse_answer(line), path_);
}

Result<void> ControlClient::send(const std::string& line) {
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::send(socket_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, path_);
    sent += size_t(count);
  }
  return {};
}

Result<std::string> ControlClient::receive_line() {
  std::array<char, 16384> buffer;
  for (;;) {
    if (const size_t end = input_.find('\n'); end != std::string::npos) {
      std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    if (input_.size() > max_answer_bytes) return fail(Errc::io, path_ + ": an answer has no end");
    if (wait_) {
      TRY(wait_(socket_));
    }
    const ssize_t count = recv(socket_, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, path_);
    if (count == 0) return fail(Errc::io, path_ + ": the machine has ended without an answer");
    input_.append(buffer.data(), size_t(count));
  }
}

}  // namespace vhdkit::tools
