// The words behind -o, as mount(8), fstab(5) and other FUSE programs know them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/result.h"

namespace vhdkit::fuse {

struct MountOptions {
  std::optional<bool> read_only;  // ro; rw, writable
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<mode_t> umask;      // octal
  bool allows_not_empty = false;    // nonempty
  bool debug = false;               // debug
  std::vector<std::string> others;  // for libfuse and the kernel: allow_other, fsname=…, nodev, …
};

// The program's own options that may stand behind -o as well, for fstab: "name=vhdi1", "layers".
// Takes the value, empty where there is none; by name.
using OwnOptions = std::map<std::string, std::function<Result<void>(const std::string& value)>>;

// text: separated by commas; a comma or backslash of a value has a backslash before it. Adds to
// what was said before; what fstab means for others (noauto, user, _netdev, x-…) is left out, and
// so is the rw that mount(8) says where fstab says nothing. Errors: invalid_argument, naming the
// word.
Result<void> parse_mount_options(const std::string& text, const OwnOptions& own,
                                 MountOptions& options);

}  // namespace vhdkit::fuse
