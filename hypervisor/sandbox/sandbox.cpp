#include "hypervisor/sandbox/sandbox.h"

#include <sys/prctl.h>

#include <array>
#include <cassert>
#include <cstdio>
#include <cstdlib>

#include "hypervisor/sandbox/filters.h"

namespace vhdkit::hypervisor {
namespace {

constexpr size_t kind_count = size_t(ThreadKind::signals) + 1;

// Of the process, as what the kernel keeps for it is; made before other threads are there.
struct Process {
  FileRules rules;
  std::array<Filter, kind_count> filters;
};
std::optional<Process> process;

Result<void> install_filters(Process& made) {
  for (size_t i = 0; i < kind_count; ++i) {
    TRY_LET(made.filters[i], Filter::of(ThreadKind(i)));
  }
  TRY_LET(const Filter beginning, Filter::of_beginning());
  return beginning.install();
}

}  // namespace

Result<Confinement> confine(const std::function<Result<std::vector<AllowedPath>>()>& find_paths) {
  assert(!process);
  Process made;
  Confinement confinement{.has_filters = !has_sanitizer, .landlock_version = landlock_version()};
  if (confinement.has_filters) {
    TRY(install_filters(made));
  }
  TRY_LET(const auto paths, find_paths());
  if (confinement.landlock_version) {
    TRY_LET(made.rules, FileRules::create(paths));
    TRY(made.rules.enforce());
  }
  process = std::move(made);
  return confinement;
}

void enter(ThreadKind kind) {
  prctl(PR_SET_NAME, thread_name(kind), 0, 0, 0);
  if (!process || has_sanitizer) return;
  const auto installed = process->filters[size_t(kind)].install();
  if (installed) return;
  std::fprintf(stderr, "%s\n", installed.error().message.c_str());
  std::abort();
}

}  // namespace vhdkit::hypervisor
