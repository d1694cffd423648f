// --help and the manual, from the verbs' own pages.
#pragma once

#include <string>

#include "tools/verb.h"

namespace vhdkit::tools {

// What `vhd --help` says.
std::string program_help();
// What `vhd-inspect --help` says.
std::string inspect_help();
// What `vhd NAME --help` says; as it is called: "vhd info", "vhd-convert".
std::string verb_help(Verb& verb, std::string_view called);

// The page of the manual for a program that has one verb only.
std::string verb_manual(std::string_view program, Verb& verb, std::string_view see_also);
// A page of the manual, in roff: "vhd", "vhd-convert" or "vhd-inspect". Errors: not_found.
Result<std::string> manual(std::string_view name);

}  // namespace vhdkit::tools
