#include "tools/arguments.h"

#include <doctest/doctest.h>

#include <set>

#include "tests/support/await.h"
#include "tools/help.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

using Words = std::vector<std::string>;

// A verb like those of the program.
struct Sample {
  std::string image;
  std::optional<std::string> size;
  std::optional<std::string> format;
  Words options;
  bool quiet = false;
  bool progress = false;
  Arguments arguments;

  Sample() {
    arguments.positional("IMAGE", image, "");
    arguments.optional_positional("SIZE", into(size), "");
    arguments.option("-f,--format", "FORMAT", into(format), "");
    arguments.repeatable_option(
        "-o", "LIST",
        [this](const std::string& value) -> Result<void> {
          if (value == "bad") return fail(Errc::invalid_argument, "that is bad");
          options.push_back(value);
          return {};
        },
        "");
    arguments.flag("-q,--quiet", quiet, "");
    arguments.flag("-p", progress, "");
  }
};

TEST_CASE("words are taken as qemu-img takes them") {
  struct Case {
    Words words;
    std::string image;
    std::string size;
    std::string format;
    Words options;
    bool quiet;
  };
  const Case cases[] = {
      {{"a"}, "a", "", "", {}, false},
      {{"-f", "raw", "a", "1G"}, "a", "1G", "raw", {}, false},
      {{"a", "1G", "-fraw"}, "a", "1G", "raw", {}, false},
      {{"--format=raw", "a"}, "a", "", "raw", {}, false},
      {{"--format", "raw", "a"}, "a", "", "raw", {}, false},
      {{"-o", "x=1", "a", "-o", "y=2"}, "a", "", "", {"x=1", "y=2"}, false},
      {{"-pq", "a"}, "a", "", "", {}, true},
      {{"-"}, "-", "", "", {}, false},
      {{"-q", "--", "-q"}, "-q", "", "", {}, true},
      {{"[a]"}, "[a]", "", "", {}, false},
      {{"-o", "[a,b]", "x"}, "x", "", "", {"[a,b]"}, false},
      {{"", "-q", "-q"}, "", "", "", {}, true},
  };
  for (const Case& test : cases) {
    Sample sample;
    CAPTURE(test.words.front());
    const auto outcome = sample.arguments.parse(test.words);
    REQUIRE_OK(outcome);
    CHECK(*outcome == Arguments::Outcome::parsed);
    CHECK(sample.image == test.image);
    CHECK(sample.size.value_or("") == test.size);
    CHECK(sample.format.value_or("") == test.format);
    CHECK(sample.options == test.options);
    CHECK(sample.quiet == test.quiet);
  }
}

TEST_CASE("what is wrong with the words is said by name") {
  struct Case {
    Words words;
    const char* reason;
  };
  const Case cases[] = {
      {{}, "IMAGE"},
      {{"a", "b", "c"}, "c"},
      {{"--bogus", "a"}, "--bogus"},
      {{"-x", "a"}, "-x"},
      {{"a", "-f"}, "format"},
      {{"-f", "raw", "-f", "vhd", "a"}, "format"},
      {{"-o", "bad", "a"}, "-o: that is bad"},
  };
  for (const Case& test : cases) {
    Sample sample;
    CAPTURE(test.reason);
    REQUIRE_FAILS(Errc::invalid_argument, test.reason, sample.arguments.parse(test.words));
  }
}

TEST_CASE("help is given whatever else is wrong") {
  for (const Words& words : {Words{"--help"}, Words{"-h"}, Words{"a", "--help"}}) {
    Sample sample;
    const auto outcome = sample.arguments.parse(words);
    REQUIRE_OK(outcome);
    CHECK(*outcome == Arguments::Outcome::help_wanted);
  }
}

TEST_CASE("every verb's page teaches: summary, options with help, examples, exit codes") {
  for (const VerbEntry& entry : verbs()) {
    CAPTURE(entry.name);
    const auto verb = entry.make();
    const Page& page = verb->page();
    Arguments arguments;
    verb->declare(arguments);
    for (const Argument& argument : arguments.all()) {
      CAPTURE(argument.names);
      CHECK(argument.help.ends_with('.'));
    }
    REQUIRE_FALSE(page.examples.empty());
    for (const Example& example : page.examples) {
      const std::string call = "vhd " + std::string(entry.name) + " ";
      CHECK(example.command.find(call) != std::string_view::npos);
    }
    std::set<int> codes;
    for (const ExitCode& code : page.exit_codes) codes.insert(code.code);
    CHECK(codes.contains(0));
    CHECK(codes.contains(verb->failure_code()));
    const std::string help = verb_help(*entry.make(), "vhd");
    CHECK(help.find(page.synopsis) != std::string::npos);
  }
}

TEST_CASE("the manual holds every verb and every option of it") {
  const auto page = manual("vhd");
  REQUIRE_OK(page);
  for (const VerbEntry& entry : verbs()) {
    CAPTURE(entry.name);
    CHECK(page->find(".SS vhd " + std::string(entry.name) + " ") != std::string::npos);
  }
  CHECK(page->find("\\-\\-ignore\\-log") != std::string::npos);
  REQUIRE_OK(manual("vhd-convert"));
  REQUIRE_OK(manual("vhd-inspect"));
  REQUIRE_FAILS(Errc::not_found, "vhd-mount", manual("vhd-mount"));
}

}  // namespace
}  // namespace vhdkit::tools
