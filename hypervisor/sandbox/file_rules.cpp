#include "hypervisor/sandbox/file_rules.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace vhdkit::hypervisor {
namespace {

// Debian 12's <linux/landlock.h> ends with version 2: what later ones know, by the same
// documentation.
constexpr uint64_t truncate_file = uint64_t{1} << 14;  // version 3
constexpr uint64_t device_ioctls = uint64_t{1} << 15;  // version 5
struct RulesetAttributes {
  uint64_t file_access;
  uint64_t network_access;  // version 4
  uint64_t scoped;          // version 6
};
constexpr uint64_t all_of_network = 3;  // bind and connect
constexpr uint64_t all_of_scopes = 3;   // abstract sockets, signals

// A device says how large it is by a request, whose numbers are the filters' business.
constexpr uint64_t reading_file = LANDLOCK_ACCESS_FS_READ_FILE | device_ioctls;
constexpr uint64_t changing_file = reading_file | LANDLOCK_ACCESS_FS_WRITE_FILE | truncate_file;
constexpr uint64_t reading_folder = reading_file | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t removing_in_folder = LANDLOCK_ACCESS_FS_REMOVE_FILE;
constexpr uint64_t changing_folder =
    reading_folder | changing_file | removing_in_folder | LANDLOCK_ACCESS_FS_MAKE_REG;

constexpr size_t attribute_bytes(int version) {
  if (version < 4) return sizeof(uint64_t);
  return version < 6 ? 2 * sizeof(uint64_t) : sizeof(RulesetAttributes);
}

// All that the version knows; the first one knows 13 rights.
constexpr uint64_t known_file_access(int version) {
  constexpr uint64_t first = (uint64_t{1} << 13) - 1;
  return first | (version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0) |
         (version >= 3 ? truncate_file : 0) | (version >= 5 ? device_ioctls : 0);
}

uint64_t rights(PathUse use, bool is_folder) {
  switch (use) {
    case PathUse::read:
      return is_folder ? reading_folder : reading_file;
    case PathUse::change:
      return is_folder ? changing_folder : changing_file;
    case PathUse::remove:
      break;
  }
  return removing_in_folder;
}

}  // namespace

std::optional<int> landlock_version() {
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return std::nullopt;
  return int(version);
}

Result<FileRules> FileRules::create(const std::vector<AllowedPath>& paths) {
  FileRules rules;
  rules.version_ = landlock_version().value_or(0);
  const RulesetAttributes attributes{.file_access = known_file_access(rules.version_),
                                     .network_access = all_of_network,
                                     .scoped = all_of_scopes};
  rules.ruleset_ = Descriptor(
      int(syscall(SYS_landlock_create_ruleset, &attributes, attribute_bytes(rules.version_), 0)));
  if (!rules.ruleset_.is_open()) return fail_errno(errno, "Landlock's rules");
  for (const AllowedPath& path : paths) {
    TRY(rules.allow(path));
  }
  return rules;
}

Result<void> FileRules::allow(const AllowedPath& path) {
  Descriptor place(open(path.path.c_str(), O_PATH | O_CLOEXEC));
  struct stat status{};
  if (!place.is_open() || fstat(place.number(), &status) != 0) return {};
  landlock_path_beneath_attr rule{};
  rule.allowed_access = rights(path.use, S_ISDIR(status.st_mode)) & known_file_access(version_);
  rule.parent_fd = place.number();
  if (syscall(SYS_landlock_add_rule, ruleset_.number(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
    return fail_errno(errno, path.path + ": Landlock's rule");
  held_.push_back(std::move(place));
  return {};
}

Result<void> FileRules::enforce() {
  if (syscall(SYS_landlock_restrict_self, ruleset_.number(), 0) != 0)
    return fail_errno(errno, "Landlock");
  ruleset_ = Descriptor();
  return {};
}

}  // namespace vhdkit::hypervisor
