// What the words behind a verb may be. One declaration serves parsing, --help and the manual page.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace vhdkit::tools {

// Takes the value of one use of an option. Errors: invalid_argument, a clause that says what would
// be right.
using Take = std::function<Result<void>(const std::string& value)>;

struct Argument {
  std::string names;       // "-f,--format"; of a positional: "IMAGE"
  std::string value_name;  // "FORMAT"; empty: a flag
  std::string help;        // sentences
  Take take;
  bool is_required = false;
  bool is_repeatable = false;

  bool is_positional() const { return !names.starts_with('-'); }
  bool is_flag() const { return value_name.empty(); }
  std::string shown_name() const;  // the first of the names
  std::string usage() const;       // "-f FORMAT", "IMAGE"
};

class Arguments {
 public:
  void flag(std::string names, bool& is_set, std::string help);
  void option(std::string names, std::string value_name, Take take, std::string help);
  void required_option(std::string names, std::string value_name, Take take, std::string help);
  void repeatable_option(std::string names, std::string value_name, Take take, std::string help);
  // Positionals are filled in the order of their declaration.
  void positional(std::string name, std::string& value, std::string help);
  void optional_positional(std::string name, Take take, std::string help);

  // In the order of declaration.
  const std::vector<Argument>& all() const { return arguments_; }

  enum class Outcome { parsed, help_wanted };
  // Hands every value to its taker. Errors: invalid_argument, naming the option: unknown, without
  // a value, given twice, missing; and what the takers say.
  Result<Outcome> parse(const std::vector<std::string>& words) const;

 private:
  std::vector<Argument> arguments_;
};

// Takers that keep the value as it is.
Take into(std::string& target);
Take into(std::optional<std::string>& target);

}  // namespace vhdkit::tools
