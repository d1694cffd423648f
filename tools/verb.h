// What every verb of the program is: its words, its page of the manual, its work.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "async/loop.h"
#include "tools/arguments.h"

namespace vhdkit::tools {

struct Example {
  std::string_view says;
  std::string_view command;
};

struct ExitCode {
  int code;
  std::string_view meaning;
};

// A verb's part of --help and of the manual, beside its arguments.
struct Page {
  std::string_view summary;      // "lists where the disk's content lies in its files"
  std::string_view synopsis;     // "[OPTION...] IMAGE"
  std::string_view description;  // paragraphs, with a blank line between them
  std::span<const Example> examples;
  std::span<const ExitCode> exit_codes;
  bool takes_target_options = false;  // show the table of -o
};

class Verb {
 public:
  Verb() = default;
  Verb(const Verb&) = delete;
  Verb& operator=(const Verb&) = delete;
  virtual ~Verb() = default;

  virtual const Page& page() const = 0;
  // The arguments refer to this object.
  virtual void declare(Arguments& arguments) = 0;
  // After its arguments were parsed; once. Returns the exit code.
  virtual Result<int> run(async::Loop& loop) = 0;
  // Whether run() will change an image or make one, by the arguments parsed.
  virtual bool changes_images() const { return false; }
  // The exit code where run(), or parsing the arguments, fails.
  virtual int failure_code() const { return 1; }
};

// One entry for each verb, in the order of the manual.
struct VerbEntry {
  std::string_view name;
  std::unique_ptr<Verb> (*make)();
  bool is_for_inspection;  // vhd-inspect takes it
};
std::span<const VerbEntry> verbs();
const VerbEntry* find_verb(std::string_view name);

std::unique_ptr<Verb> make_bench();
std::unique_ptr<Verb> make_check();
std::unique_ptr<Verb> make_chain();
std::unique_ptr<Verb> make_compare();
std::unique_ptr<Verb> make_convert();
std::unique_ptr<Verb> make_create();
std::unique_ptr<Verb> make_ctl();
std::unique_ptr<Verb> make_hash();
std::unique_ptr<Verb> make_info();
std::unique_ptr<Verb> make_io();
std::unique_ptr<Verb> make_log();
std::unique_ptr<Verb> make_map();
std::unique_ptr<Verb> make_measure();
std::unique_ptr<Verb> make_merge();
std::unique_ptr<Verb> make_reparent();
std::unique_ptr<Verb> make_resize();
std::unique_ptr<Verb> make_set();
std::unique_ptr<Verb> make_snapshot();

}  // namespace vhdkit::tools
