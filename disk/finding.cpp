#include "disk/finding.h"

#include <algorithm>

namespace vhdkit::disk {

void Findings::add(Finding finding) {
  ++counts_[size_t(finding.severity)];
  auto found =
      std::ranges::find(code_counts_, finding.code, &std::pair<std::string, uint64_t>::first);
  if (found == code_counts_.end()) found = code_counts_.insert(found, {finding.code, 0});
  if (found->second++ < kept_per_code) kept_.push_back(std::move(finding));
}

uint64_t Findings::total() const {
  uint64_t total = 0;
  for (uint64_t count : counts_) total += count;
  return total;
}

}  // namespace vhdkit::disk
