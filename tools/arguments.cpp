#include "tools/arguments.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <set>

namespace vhdkit::tools {
namespace {

// What became of the arguments so far. CLI11's callbacks cannot fail without an exception: the
// first failure waits here.
struct Progress {
  Result<void> outcome;
  std::set<const Argument*> given;
};

void take_all(const Argument& argument, const std::vector<std::string>& values,
              Progress& progress) {
  auto& [outcome, given] = progress;
  given.insert(&argument);
  for (const std::string& value : values) {
    if (!outcome) return;
    if (auto taken = argument.take(value); !taken)
      outcome = std::unexpected(with_context(std::move(taken).error(), argument.shown_name()));
  }
}

void declare(CLI::App& app, const Argument& argument, Progress& progress) {
  if (argument.is_flag()) {
    app.add_flag_callback(argument.names, [&] { take_all(argument, {""}, progress); });
    return;
  }
  const CLI::callback_t take = [&](const std::vector<std::string>& values) {
    take_all(argument, values, progress);
    return true;
  };
  CLI::Option* option = app.add_option(argument.names, take);
  option->type_name(argument.value_name);
  option->multi_option_policy(argument.is_repeatable ? CLI::MultiOptionPolicy::TakeAll
                                                     : CLI::MultiOptionPolicy::Throw);
  option->type_size(1)->allow_extra_args(false);
}

}  // namespace

std::string Argument::shown_name() const { return names.substr(0, names.find(',')); }

std::string Argument::usage() const {
  if (is_positional() || is_flag()) return shown_name();
  return shown_name() + " " + value_name;
}

void Arguments::flag(std::string names, bool& is_set, std::string help) {
  const auto take = [&is_set](const std::string&) {
    is_set = true;
    return Result<void>();
  };
  arguments_.push_back({std::move(names), "", std::move(help), take});
}

void Arguments::option(std::string names, std::string value_name, Take take, std::string help) {
  arguments_.push_back({std::move(names), std::move(value_name), std::move(help), std::move(take)});
}

void Arguments::required_option(std::string names, std::string value_name, Take take,
                                std::string help) {
  option(std::move(names), std::move(value_name), std::move(take), std::move(help));
  arguments_.back().is_required = true;
}

void Arguments::repeatable_option(std::string names, std::string value_name, Take take,
                                  std::string help) {
  option(std::move(names), std::move(value_name), std::move(take), std::move(help));
  arguments_.back().is_repeatable = true;
}

void Arguments::positional(std::string name, std::string& value, std::string help) {
  required_option(name, name, into(value), std::move(help));
}

void Arguments::optional_positional(std::string name, Take take, std::string help) {
  option(name, name, std::move(take), std::move(help));
}

Result<Arguments::Outcome> Arguments::parse(const std::vector<std::string>& words) const {
  Progress progress;
  try {
    CLI::App app;
    app.set_help_flag("-h,--help");
    for (const Argument& argument : arguments_) declare(app, argument, progress);
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // it takes from the end
  } catch (const CLI::CallForHelp&) {
    return Outcome::help_wanted;
  } catch (const CLI::Error& error) {
    return fail(Errc::invalid_argument, error.what());
  }
  TRY(progress.outcome);
  for (const Argument& argument : arguments_)
    if (argument.is_required && !progress.given.contains(&argument))
      return fail(Errc::invalid_argument, argument.usage() + " is missing");
  return Outcome::parsed;
}

Take into(std::string& target) {
  return [&target](const std::string& value) {
    target = value;
    return Result<void>();
  };
}

Take into(std::optional<std::string>& target) {
  return [&target](const std::string& value) {
    target = value;
    return Result<void>();
  };
}

}  // namespace vhdkit::tools
