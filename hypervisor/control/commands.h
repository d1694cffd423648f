// From a client's line to the answer's.
#pragma once

#include <string>
#include <string_view>

#include "hypervisor/control/controls.h"

namespace vhdkit::hypervisor {

// Does what the line asks for, and returns the answer: one line, without its end.
//
// line: an object with "command", the command's own parameters and, if it is to be answered with
// it, "id": null, a number, or text of at most 256 bytes. Anything may stand in it: what is no
// request, or has members that the command does not know, is answered with an error of kind
// "bad-request" or "unknown-command" and does nothing. Errors of a command have their Errc's name
// as their kind: "not-found", "no-space".
std::string answer_to(std::string_view line, Controls& controls);

// An answer that is for no request in particular.
std::string error_line(std::string_view kind, std::string_view message);

}  // namespace vhdkit::hypervisor
