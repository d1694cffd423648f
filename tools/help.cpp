#include "tools/help.h"

#include <fmt/format.h>

#include "tools/page_writer.h"
#include "tools/target_options.h"

namespace vhdkit::tools {
namespace {

constexpr std::string_view program_summary =
    "opens, inspects and converts Hyper-V's virtual disks (VHD, VHDX)";
constexpr std::string_view inspect_summary = "looks at virtual disks and changes nothing";

struct Topic {
  std::string_view title;
  std::string_view text;
};

constexpr Topic topics[] = {
    {"Images",
     "The format of an image is found by its content: raw, VHD, VHDX, and qcow2 as a source; raw "
     "disks and fixed VHDs also within gzip. -f says it where the content must not. A disk whose "
     "guest could have written another format's header into its first sector is raw or a fixed "
     "VHD: name its format with -f in scripts that take disks from strangers.\n\n"
     "Parents of differencing images are looked for relative to the child, then by their name in "
     "the child's folder, then through --map. A file becomes a parent only if it has the "
     "identifier that the child names; a time stamp that differs is a warning.\n\n"
     "A VHDX with a dirty log is read as it will be after replay; the file is not changed."},
    {"Sizes",
     "Sizes are bytes, or have K, M, G, T, P or E behind them, of either case, with or without B "
     "or iB: powers of 1024 all of them, so that 20G, 20GiB and 20GB are the same. 1.5G is taken "
     "too, as long as it makes whole bytes."},
    {"Output",
     "What was asked for goes to standard output, everything else to standard error. Progress "
     "shows on a terminal or with -p."},
    {"Signals",
     "SIGINT, SIGTERM and SIGHUP stop convert, create, compare, hash and measure at the next safe "
     "point: what was written so far is removed, then the process ends by the signal, which a "
     "shell shows as 128 and its number. A second one ends it at once. SIGUSR1 asks them for a "
     "line of progress."},
    {"Environment",
     "TMPDIR is where standard input is kept while it is no file's neighbour (default /var/tmp). "
     "VHDKIT_ENGINE=sync uses preadv and pwritev instead of io_uring."},
};

void write_topics(PageWriter& page) {
  for (const Topic& topic : topics) {
    page.heading(topic.title, 1);
    page.paragraphs(topic.text);
  }
}

void write_verb_list(PageWriter& page, bool only_inspection) {
  page.heading("Verbs", 1);
  for (const VerbEntry& entry : verbs())
    if (entry.is_for_inspection || !only_inspection)
      page.definition(entry.name, entry.make()->page().summary);
}

// "-f, --format FORMAT"
std::string option_term(const Argument& argument) {
  std::string term;
  for (const char c : argument.names) term += c == ',' ? std::string(", ") : std::string(1, c);
  return argument.is_flag() ? term : term + " " + argument.value_name;
}

void write_arguments(PageWriter& page, const Arguments& arguments, int level) {
  page.heading("Arguments", level);
  for (const Argument& argument : arguments.all())
    if (argument.is_positional()) page.definition(argument.names, argument.help);
  page.heading("Options", level);
  for (const Argument& argument : arguments.all()) {
    if (argument.is_positional()) continue;
    page.definition(option_term(argument), argument.help);
  }
  page.definition("-h, --help", "Say this.");
}

// Everything about a verb but its synopsis.
void write_verb(PageWriter& page, Verb& verb, int level) {
  page.paragraphs(verb.page().description);
  Arguments arguments;
  verb.declare(arguments);
  write_arguments(page, arguments, level);
  if (verb.page().takes_target_options) {
    page.heading("Keys of -o", level);
    for (const TargetKey& key : target_keys())
      page.definition(fmt::format("{}={}", key.name, key.value_name), key.help);
  }
  page.heading("Examples", level);
  for (const Example& example : verb.page().examples) page.example(example.says, example.command);
  page.heading("Exit codes", level);
  for (const ExitCode& code : verb.page().exit_codes)
    page.definition(std::to_string(code.code), code.meaning);
}

std::string program_manual() {
  RoffWriter page("vhd", program_summary);
  page.heading("Synopsis", 1);
  page.paragraphs("vhd VERB [OPTION...] ARGUMENT...");
  write_verb_list(page, false);
  for (const VerbEntry& entry : verbs()) {
    const auto verb = entry.make();
    page.heading(fmt::format("vhd {} {}", entry.name, verb->page().synopsis), 2);
    write_verb(page, *verb, 3);
  }
  write_topics(page);
  page.heading("See also", 1);
  page.paragraphs("vhd-convert(1), vhd-inspect(1), vhd-mount(1), vhd-run(1), qemu-img(1)");
  return page.text();
}

constexpr std::string_view inspect_description =
    "The same as \"vhd VERB\", for the verbs that change nothing. Where the first argument is no "
    "verb, it is \"vhd info\". Each verb is described in vhd(1), and by vhd-inspect VERB --help.";

std::string inspect_manual() {
  RoffWriter page("vhd-inspect", inspect_summary);
  page.heading("Synopsis", 1);
  page.paragraphs("vhd-inspect [VERB] [OPTION...] IMAGE...");
  page.heading("Description", 1);
  page.paragraphs(inspect_description);
  write_verb_list(page, true);
  page.heading("See also", 1);
  page.paragraphs("vhd(1), vhd-convert(1)");
  return page.text();
}

}  // namespace

std::string program_help() {
  PlainWriter page;
  page.paragraphs(fmt::format("vhd {}: {}.", VHDKIT_VERSION, program_summary));
  page.paragraphs("Usage: vhd VERB [OPTION...] ARGUMENT...");
  write_verb_list(page, false);
  page.paragraphs(
      "\"vhd VERB --help\" says all about a verb, with examples. vhd-convert is vhd convert; "
      "vhd-inspect takes the verbs that change nothing, info without "
      "a verb. vhd mount starts vhd-mount(1), vhd run vhd-run(1).");
  write_topics(page);
  return page.text();
}

std::string inspect_help() {
  PlainWriter page;
  page.paragraphs(fmt::format("vhd-inspect {}: {}.", VHDKIT_VERSION, inspect_summary));
  page.paragraphs("Usage: vhd-inspect [VERB] [OPTION...] IMAGE...");
  page.paragraphs(inspect_description);
  write_verb_list(page, true);
  return page.text();
}

std::string verb_help(Verb& verb, std::string_view called) {
  PlainWriter page;
  page.paragraphs(fmt::format("{}: {}.", called, verb.page().summary));
  page.paragraphs(fmt::format("Usage: {} {}", called, verb.page().synopsis));
  write_verb(page, verb, 1);
  return page.text();
}

std::string verb_manual(std::string_view program, Verb& verb, std::string_view see_also) {
  RoffWriter page(program, verb.page().summary);
  page.heading("Synopsis", 1);
  page.paragraphs(fmt::format("{} {}", program, verb.page().synopsis));
  page.heading("Description", 1);
  write_verb(page, verb, 1);
  write_topics(page);
  page.heading("See also", 1);
  page.paragraphs(see_also);
  return page.text();
}

Result<std::string> manual(std::string_view name) {
  if (name == "vhd") return program_manual();
  if (name == "vhd-convert")
    return verb_manual(name, *find_verb("convert")->make(), "vhd(1), vhd-inspect(1), qemu-img(1)");
  if (name == "vhd-inspect") return inspect_manual();
  return fail(
      Errc::not_found,
      fmt::format("no manual page \"{}\"; there are vhd, vhd-convert and vhd-inspect", name));
}

}  // namespace vhdkit::tools
