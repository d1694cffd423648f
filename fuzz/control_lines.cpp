// A client's lines on the control socket, each answered by a machine that does what it is told. The
// input: the bytes of one connection.
#include "fuzz/input.h"
#include "hypervisor/control/commands.h"
#include "hypervisor/control/test_controls.h"

namespace vhdkit {
namespace {

using hypervisor::Json;

// Whatever was asked, one line comes back, with a result or an error and nothing else.
void check(const std::string& answer) {
  fuzz::require(answer.find('\n') == std::string::npos, "an answer is one line");
  const Json json = Json::parse(answer, nullptr, false);
  fuzz::require(json.is_object() && json.size() == 2 && json.contains("id"), "it has a number");
  fuzz::require(json.contains("result") != json.contains("error"), "it has one outcome");
}

void answer_lines(std::string_view text) {
  hypervisor::TestControls controls;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    check(hypervisor::answer_to(text.substr(0, end), controls));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace
}  // namespace vhdkit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vhdkit::answer_lines({reinterpret_cast<const char*>(data), size});
  return 0;
}
