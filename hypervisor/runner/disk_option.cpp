#include "hypervisor/runner/disk_option.h"

#include "tools/options.h"

namespace vhdkit::hypervisor {
namespace {

// Up to the next comma that stands alone; takes it off the text.
std::string next_word(std::string_view& text) {
  std::string word;
  while (!text.empty()) {
    const bool is_comma = text.front() == ',';
    if (is_comma && !text.starts_with(",,")) break;
    word += text.front();
    text.remove_prefix(is_comma ? 2 : 1);
  }
  if (!text.empty()) text.remove_prefix(1);
  return word;
}

Result<void> take_cache(const std::string& value, DiskPlan& plan) {
  if (value != "none" && value != "writeback")
    return fail(Errc::invalid_argument, "cache is none or writeback, not \"" + value + "\"");
  plan.open.direct = value == "none";
  return {};
}

Result<void> take_word(const std::string& word, DiskPlan& plan) {
  if (word == "ro") {
    plan.open.writable = false;
    return {};
  }
  const size_t equals = word.find('=');
  const std::string key = word.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
  if (key == "cache") return take_cache(value, plan);
  if (key == "format") return tools::format_into(plan.open.format)(value);
  if (key == "iops") {
    const auto count = tools::parse_count(value);
    if (!count)
      return fail(Errc::invalid_argument, "iops is a number of requests, not \"" + value + "\"");
    plan.limits.requests_per_second = *count;
    return {};
  }
  if (key == "bps") {
    TRY_LET(plan.limits.bytes_per_second, tools::parse_size(value));
    if (plan.limits.bytes_per_second == 0)
      return fail(Errc::invalid_argument, "bps is a size from 1 on, not \"" + value + "\"");
    return {};
  }
  return fail(Errc::invalid_argument,
              "\"" + word + "\" is none of ro, cache=, format=, iops= and bps=");
}

}  // namespace

Result<DiskPlan> parse_disk(std::string_view text) {
  DiskPlan plan{.path = next_word(text), .open = {.writable = true}, .limits = {}};
  if (plan.path.empty()) return fail(Errc::invalid_argument, "a disk's file is missing");
  while (!text.empty()) {
    TRY(take_word(next_word(text), plan));
  }
  return plan;
}

}  // namespace vhdkit::hypervisor
