// The three streams: data goes to standard output, everything said to people to standard error.
#pragma once

#include <string_view>

#include "support/result.h"

namespace vhdkit::tools {

// Descriptors 0 to 2 that nobody opened become /dev/null, so that no image is opened in their place
// and messages written into it. Data for a standard output that was closed fails.
void open_missing_streams();

// To standard output; failures wait for finish_printing().
void print(std::string_view text);
// Errors: io, no_space: something printed did not arrive. Nothing more is printed afterwards.
Result<void> finish_printing();
// The same at a program's end, whose exit code it returns: code, or failure_code where it is 0 and
// something did not arrive, which is complained of.
int finish_printing(int code, int failure_code);

// One line on standard error: "vhd: child.vhdx: …", "vhd: warning: …".
void complain(std::string_view message);
void warn(std::string_view message);
// The same without the program's name.
void say(std::string_view message);

}  // namespace vhdkit::tools
