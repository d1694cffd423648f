// The crash test: many seeds, many crash states, one promise. `./dev crash` runs it.
//
// Prints the seed of the first violation and what is wrong, and exits with 1; --seed S --seeds 1
// plays it again. With a sabotage it is the other way round: a violation must be found.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>

#include "tests/crash/scenario.h"

namespace vhdkit::tests {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t seeds = UINT64_MAX;
  uint64_t states = 20'000;
  uint64_t states_per_seed = 100;
  std::string sabotage = "none";
  bool with_faults = false;
};

void add(const Scenario::Counts& counts, Scenario::Counts& all) {
  all.states += counts.states;
  all.faults += counts.faults;
  all.snapshots += counts.snapshots;
  all.merges += counts.merges;
  all.broken_merges += counts.broken_merges;
}

int run(const Options& options, Sabotage sabotage) {
  Scenario::Counts all;
  uint64_t seed = options.seed;
  std::map<std::string, uint64_t> states_by_kind;
  for (; all.states < options.states && seed - options.seed < options.seeds; ++seed) {
    Scenario scenario(
        {.seed = seed,
         .state_count = std::min(options.states_per_seed, options.states - all.states),
         .sabotage = sabotage,
         .with_faults = options.with_faults});
    const std::string violation = scenario.run();
    add(scenario.counts(), all);
    states_by_kind[scenario.kind()] += scenario.counts().states;
    if (violation.empty()) continue;
    fmt::print("seed {} ({}), after {} states in all: {}\n", seed, scenario.kind(), all.states,
               violation);
    return sabotage == Sabotage::none ? 1 : 0;
  }
  for (const auto& [kind, count] : states_by_kind) fmt::print("{:>9}  {}\n", count, kind);
  fmt::print("{} snapshots, {} merges, {} of them broken off; {} requests failed\n", all.snapshots,
             all.merges + all.broken_merges, all.broken_merges, all.faults);
  fmt::print("{} crash states over {} seeds from {}: all of them good\n", all.states,
             seed - options.seed, options.seed);
  return sabotage == Sabotage::none ? 0 : 1;
}

int run_program(int argc, char** argv) {
  Options options;
  CLI::App app("Looks at what crashes can leave of an image that is being written.");
  app.add_option("--seed", options.seed, "the first seed");
  app.add_option("--seeds", options.seeds, "how many seeds at most");
  app.add_option("--states", options.states, "how many crash states in all");
  app.add_option("--states-per-seed", options.states_per_seed, "how many of them for each seed");
  app.add_option("--sabotage", options.sabotage,
                 "none, no-log-flush, apply-first, no-bitmap-write: break a promise on purpose");
  app.add_flag("--faults", options.with_faults, "let some operations of the file fail");
  CLI11_PARSE(app, argc, argv);
  const auto sabotage = parse_sabotage(options.sabotage);
  if (!sabotage) {
    fmt::print(stderr, "{}\n", sabotage.error().message);
    return 2;
  }
  return run(options, *sabotage);
}

}  // namespace
}  // namespace vhdkit::tests

int main(int argc, char** argv) { return vhdkit::tests::run_program(argc, argv); }
