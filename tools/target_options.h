// What a new image shall be: -O or -f, -o, --profile, --guest.
#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "image/create.h"
#include "tools/arguments.h"

namespace vhdkit::tools {

// One KEY of -o KEY=VALUE.
struct TargetKey {
  std::string_view name;
  std::string_view value_name;
  std::string_view help;
  Result<void> (*apply)(image::CreateOptions& options, const std::string& value);
};
std::span<const TargetKey> target_keys();

// "a=1,b=2" taken apart at commas; two of them stand for one that belongs to a value.
std::vector<std::string> split_at_commas(std::string_view text);

struct TargetArguments {
  image::CreateOptions options;
  // format_names: "-O,--target-format".
  void declare(Arguments& arguments, std::string format_names);

  // One -o. Errors: invalid_argument: an unknown key, with all that are known; a key without a
  // value or given twice; a value that is none.
  Result<void> take(std::string_view list);

 private:
  std::set<std::string, std::less<>> given_;
};

// Looks for contradictions before anything is opened, not even for reading: those that no size and
// no parent can change.
Result<void> check_early(const image::CreateOptions& options);

}  // namespace vhdkit::tools
