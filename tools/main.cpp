#include <errno.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tools/console.h"
#include "tools/help.h"
#include "tools/signals.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

using Words = std::vector<std::string>;

// A verb with the words behind it, and what the user typed to get there.
struct Call {
  const VerbEntry* entry;
  Words words;
  std::string called;  // "vhd info", "vhd-convert"
  bool only_reading = false;
};

int usage_error(std::string_view message, std::string_view called, int code) {
  complain(message);
  say(fmt::format("Try \"{} --help\".", called));
  return code;
}

// What cannot be helped by other arguments, and what can.
std::string advice_for(const Error& error, const Arguments& arguments) {
  const auto force = std::ranges::find(arguments.all(), "--force", &Argument::names);
  const bool can_replace = error.code == Errc::exists && force != arguments.all().end();
  return can_replace ? "; --force replaces it" : "";
}

int carry_out(const Call& call, Verb& verb) {
  Arguments arguments;
  verb.declare(arguments);
  const auto parsed = arguments.parse(call.words);
  if (!parsed) return usage_error(parsed.error().message, call.called, verb.failure_code());
  if (*parsed == Arguments::Outcome::help_wanted) {
    print(verb_help(verb, call.called));
    return 0;
  }
  if (call.only_reading && verb.changes_images())
    return usage_error("this would change the image; vhd does that, vhd-inspect only reads",
                       call.called, verb.failure_code());
  auto loop = async::Loop::create();
  auto done = loop ? verb.run(**loop) : Result<int>(std::unexpected(loop.error()));
  if (done) return *done;
  complain(done.error().message + advice_for(done.error(), arguments));
  if (done.error().code == Errc::interrupted) end_by_caught_signal();
  return verb.failure_code();
}

int run_verb(const Call& call) {
  const auto verb = call.entry->make();
  return finish_printing(carry_out(call, *verb), verb->failure_code());
}

// Of what is no verb's.
int print_page(std::string_view text) {
  print(text);
  return finish_printing(0, 1);
}

int run_help(const Words& words) {
  if (words.size() == 2 && words[0] == "--man") {
    const auto page = manual(words[1]);
    if (!page) return usage_error(page.error().message, "vhd", 1);
    return print_page(*page);
  }
  if (words.empty()) return print_page(program_help());
  const VerbEntry* const entry = words.size() == 1 ? find_verb(words[0]) : nullptr;
  if (entry == nullptr) return usage_error("help takes the name of one verb", "vhd", 1);
  return print_page(verb_help(*entry->make(), "vhd " + words[0]));
}

int run_version(std::string_view called) {
  return print_page(fmt::format("{} {}\n", called, VHDKIT_VERSION));
}

bool asks_for_version(const Words& words) { return !words.empty() && words[0] == "--version"; }

bool asks_for_help(const std::string& word) { return word == "--help" || word == "-h"; }

Words without_first(const Words& words) { return {words.begin() + 1, words.end()}; }

// Verbs that are programs of their own, beside this one, and the rooms that they are built in.
struct OtherProgram {
  std::string_view verb;
  const char* name;
  const char* room;
};
constexpr OtherProgram other_programs[] = {{"mount", "vhd-mount", "fuse"},
                                           {"run", "vhd-run", "hypervisor/runner"}};

int become(const OtherProgram& other, const Words& words) {
  const std::string name = other.name;
  std::error_code ignored;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  // Where they were built, each lies in its room.
  const std::filesystem::path folder = self.parent_path();
  std::vector<char*> arguments{const_cast<char*>(name.c_str())};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  for (const auto& program : {folder / name, folder.parent_path() / other.room / name})
    execv(program.c_str(), arguments.data());
  execvp(name.c_str(), arguments.data());
  complain(name + " is not installed beside this program, nor in PATH");
  return 1;
}

int run_vhd(const Words& words) {
  if (words.empty()) return usage_error("a verb is missing", "vhd", 1);
  for (const OtherProgram& other : other_programs)
    if (words[0] == other.verb) return become(other, without_first(words));
  if (asks_for_help(words[0])) return run_help({});
  if (words[0] == "help") return run_help(without_first(words));
  if (asks_for_version(words)) return run_version("vhd");
  const VerbEntry* const entry = find_verb(words[0]);
  if (entry == nullptr)
    return usage_error(fmt::format("there is no verb \"{}\"", words[0]), "vhd", 1);
  return run_verb({entry, without_first(words), fmt::format("vhd {}", entry->name)});
}

int run_inspect(const Words& words) {
  if (words.empty()) return usage_error("an image is missing", "vhd-inspect", 1);
  if (asks_for_help(words[0])) return print_page(inspect_help());
  if (asks_for_version(words)) return run_version("vhd-inspect");
  const VerbEntry* const entry = find_verb(words[0]);
  if (entry == nullptr) return run_verb({find_verb("info"), words, "vhd-inspect", true});
  if (!entry->is_for_inspection)
    return usage_error(
        fmt::format("{} changes or makes images; vhd {} does that", entry->name, entry->name),
        "vhd-inspect", 1);
  return run_verb({entry, without_first(words), fmt::format("vhd-inspect {}", entry->name), true});
}

int run_convert(const Words& words) {
  if (asks_for_version(words)) return run_version("vhd-convert");
  return run_verb({find_verb("convert"), words, "vhd-convert"});
}

int run(int argc, char** argv) {
  open_missing_streams();
  const Words words(argv + (argc > 0 ? 1 : 0), argv + argc);
  const std::string_view name = program_invocation_short_name;
  if (name == "vhd-convert") return run_convert(words);
  if (name == "vhd-inspect") return run_inspect(words);
  return run_vhd(words);
}

}  // namespace
}  // namespace vhdkit::tools

int main(int argc, char** argv) { return vhdkit::tools::run(argc, argv); }
