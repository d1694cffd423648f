// The paths that a machine needs while its guest runs: no others are left to it in the sandbox.
#pragma once

#include "hypervisor/runner/machine.h"
#include "hypervisor/sandbox/file_rules.h"

namespace vhdkit::hypervisor {

// Opens the disks' files as the machine will, and closes them again: who has one of them is named
// as long as this process may look at others. What else is wrong with them counts when the machine
// opens them, with the rights that it has then. Errors: busy.
Result<void> check_disks_are_free(const MachinePlan& plan);

// What the runner needs beside the machine's own.
struct RunnerPaths {
  std::vector<std::string> sockets;  // are removed at the end
  std::vector<std::string> folders;  // for disks and media that come later
  // Somebody may ask for disks, media and snapshots while the guest runs.
  bool is_controlled = false;
};

// The disks with their parents, as they are found now and have proved themselves, and their
// folders, in which undo disks and snapshots come and go where there can be some; not kernel and
// initrd, which are open. Errors: as image::Image::open(), of a chain that breaks behind its first
// image: in the sandbox that would be no more to be seen than a path that is out of reach.
Result<std::vector<AllowedPath>> reachable_paths(const MachinePlan& plan,
                                                 const RunnerPaths& runner);

}  // namespace vhdkit::hypervisor
