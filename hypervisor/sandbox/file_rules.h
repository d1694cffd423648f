// Which paths a process may use from some moment on. Landlock:
// Documentation/userspace-api/landlock.rst.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "support/descriptor.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

// Of a folder: of everything below it.
enum class PathUse : uint8_t {
  read,    // files, requests to devices, and the names in folders
  change,  // as read; files are written as well, and in folders they come and go
  remove,  // files in a folder disappear, and nothing else
};
struct AllowedPath {
  std::string path;
  PathUse use;

  friend bool operator==(const AllowedPath&, const AllowedPath&) = default;
};

// What of Landlock this kernel has: its version, from 1 on; nothing where it has none, or has it
// switched off.
std::optional<int> landlock_version();

// For one process, whose threads all begin after enforce().
class FileRules {
 public:
  // REQUIRES: landlock_version(). A path that is not there, or cannot be reached, is left out:
  // whoever opens it finds that out. Errors: of the system.
  static Result<FileRules> create(const std::vector<AllowedPath>& paths);

  // Files and folders that are open already stay as usable as they are; nothing else can be opened,
  // made or removed by this thread, those that it starts, and what those execute. TCP, abstract
  // sockets and signals of other processes are out of reach too, where the kernel's version knows
  // them. REQUIRES: no_new_privs. Errors: of the system.
  Result<void> enforce();

 private:
  Result<void> allow(const AllowedPath& path);

  int version_ = 0;
  Descriptor ruleset_;
  // Rules belong to a folder as the kernel has it in memory. A file system that may forget it, and
  // knows another one when it is asked again (9p, FUSE), does not while somebody has it open.
  std::vector<Descriptor> held_;
};

}  // namespace vhdkit::hypervisor
