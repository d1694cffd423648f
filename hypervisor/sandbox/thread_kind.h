// The kinds of the runner's threads, by what they do.
#pragma once

#include <cstdint>

namespace vhdkit::hypervisor {

enum class ThreadKind : uint8_t {
  main,       // makes machines and their processors, and waits
  loader,     // reads a kernel and unpacks it, or has memory given for one
  processor,  // runs the guest
  storage,    // opens images, and moves what is in them
  bus,        // VMBus, and the integration services
  console,    // reads what is typed
  control,    // answers on the control socket
  signals,    // waits for SIGTERM and the like
};

// What /proc/PID/task/TID/comm says.
constexpr const char* thread_name(ThreadKind kind) {
  switch (kind) {
    case ThreadKind::main:
      return "vhd-run";
    case ThreadKind::loader:
      return "loader";
    case ThreadKind::processor:
      return "processor";
    case ThreadKind::storage:
      return "storage";
    case ThreadKind::bus:
      return "bus";
    case ThreadKind::console:
      return "console";
    case ThreadKind::control:
      return "control";
    case ThreadKind::signals:
      return "signals";
  }
  return "";
}

}  // namespace vhdkit::hypervisor
