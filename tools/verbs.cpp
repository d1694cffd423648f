#include <algorithm>

#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr VerbEntry entries[] = {
    {"info", make_info, true},
    {"check", make_check, true},
    {"map", make_map, true},
    {"chain", make_chain, true},
    {"log", make_log, true},
    {"compare", make_compare, true},
    {"hash", make_hash, true},
    {"measure", make_measure, true},
    {"create", make_create, false},
    {"convert", make_convert, false},
    {"snapshot", make_snapshot, false},
    {"merge", make_merge, false},
    {"resize", make_resize, false},
    {"reparent", make_reparent, false},
    {"set", make_set, false},
    {"io", make_io, false},
    {"bench", make_bench, false},
    {"ctl", make_ctl, false},
};

}  // namespace

std::span<const VerbEntry> verbs() { return entries; }

const VerbEntry* find_verb(std::string_view name) {
  const auto found = std::ranges::find(entries, name, &VerbEntry::name);
  return found == std::end(entries) ? nullptr : found;
}

}  // namespace vhdkit::tools
