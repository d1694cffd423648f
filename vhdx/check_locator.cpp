#include <fmt/format.h>

#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Severity;
using disk::Subject;

constexpr std::string_view paths[] = {key_relative_path, key_volume_path, key_absolute_path};

bool is_known_key(std::string_view key) {
  for (const std::string_view known : {key_linkage, key_linkage2, key_relative_path,
                                       key_volume_path, key_absolute_path, key_merged})
    if (key == known) return true;
  return false;
}

// [MS-VHDX] 2.6.2.6.3. parse_parent_locator() takes no linkage that is not a GUID.
void check_linkages(const ParentLocator& locator, Subject& subject) {
  const std::string& linkage = *locator.find(key_linkage);
  const Guid identity = *Guid::parse(linkage);
  if (identity.is_zero())
    subject.add(Severity::warning, "vhdx-linkage-zero", key_linkage, 0, linkage,
                "parent_linkage is zero: no parent has that");
  if (linkage != '{' + identity.to_string() + '}')
    subject.add(Severity::note, "vhdx-linkage-form", key_linkage, 0, linkage,
                fmt::format("parent_linkage \"{}\" should be in lower case and braces", linkage));
  const std::string* linkage2 = locator.find(key_linkage2);
  if (linkage2 != nullptr && !Guid::parse(*linkage2)->is_zero())
    subject.add(Severity::note, "vhdx-linkage2", key_linkage2, 0, *linkage2,
                "parent_linkage2 is set: a merge into the parent was not finished");
}

void check_paths(const ParentLocator& locator, Subject& subject) {
  bool has_path = false;
  for (const std::string_view key : paths) {
    const std::string* path = locator.find(key);
    has_path = has_path || (path != nullptr && !path->empty());
  }
  if (!has_path)
    subject.add(Severity::warning, "vhdx-parent-path-missing", "", 0, "",
                "has no path: nothing says where the parent is");
  const std::string* absolute = locator.find(key_absolute_path);
  if (absolute != nullptr && !absolute->starts_with(R"(\\?\)"))
    subject.add(Severity::warning, "vhdx-parent-path-form", key_absolute_path, 0, *absolute,
                fmt::format("absolute_win32_path \"{}\" should begin with \\\\?\\", *absolute));
}

}  // namespace

void check_parent_locator(std::span<const std::byte> item, uint64_t file_offset,
                          disk::Findings& findings) {
  Subject subject(findings, "parent locator", file_offset);
  const Result<ParentLocator> locator = parse_parent_locator(item, "cannot be read");
  if (!locator) {
    const bool is_other_type = locator.error().code == Errc::unsupported;
    subject.add(Severity::corruption, is_other_type ? "vhdx-locator-type" : "vhdx-locator-damaged",
                "", 0, "", locator.error().message);
    return;
  }
  const auto raw = *load<ParentLocatorHeader>(item);
  if (raw.reserved != 0)
    subject.add(Severity::warning, "vhdx-locator-reserved", "Reserved",
                offsetof(ParentLocatorHeader, reserved), disk::hex(raw.reserved),
                fmt::format("reserved field {:#x} should be zero", uint16_t(raw.reserved)));
  check_linkages(*locator, subject);
  check_paths(*locator, subject);
  for (const auto& [key, value] : locator->entries)
    if (!is_known_key(key))
      subject.add(Severity::note, "vhdx-locator-key", key, 0, value,
                  fmt::format("the key \"{}\" is not known here", key));
}

}  // namespace vhdkit::vhdx
