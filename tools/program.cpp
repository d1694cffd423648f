#include "tools/program.h"

#include <fmt/format.h>

#include "tools/console.h"
#include "tools/help.h"

namespace vhdkit::tools {
namespace {

int usage_error(const Program& program, std::string_view message, int code) {
  complain(message);
  say(fmt::format("Try \"{} --help\".", program.name));
  return code;
}

}  // namespace

int run_program(const Program& program, Verb& verb, int argc, char** argv,
                const std::function<int()>& work) {
  open_missing_streams();
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  const int failure = verb.failure_code();
  if (words.size() == 1 && (words[0] == "--version" || words[0] == "-V")) {
    print(fmt::format("{} {}\n", program.name, VHDKIT_VERSION));
    return finish_printing(0, failure);
  }
  if (words.size() == 1 && words[0] == "--man") {
    print(verb_manual(program.name, verb, program.see_also));
    return finish_printing(0, failure);
  }
  Arguments arguments;
  verb.declare(arguments);
  const auto parsed = arguments.parse(words);
  if (!parsed) return usage_error(program, parsed.error().message, failure);
  if (*parsed == Arguments::Outcome::help_wanted) {
    print(verb_help(verb, program.name));
    return finish_printing(0, failure);
  }
  return work();
}

}  // namespace vhdkit::tools
