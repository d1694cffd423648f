// What people and programs outside ask of a guest, by the integration services that it takes part
// in.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "support/result.h"

namespace vhdkit::services {

enum class ShutdownKind : uint8_t { power_off, restart };

// Thread-safe, but for the server's own thread, which may call none of it. Calls wait until the
// guest has answered, or has not for too long (the services' own headers say how long), or is gone.
//
// Errors of all calls: not_found (the guest does not use that service: no driver, no daemon, not
// that far yet); busy (it owes an answer); io (it refuses, fails, does not answer, or is gone).
class Services {
 public:
  virtual ~Services() = default;

  // Returns once the guest says that it will; what it does then takes its time, or never comes.
  // Errors: unsupported (a restart, by an old guest).
  virtual Result<void> shut_down(ShutdownKind kind) = 0;

  // Between the two nothing of the guest writes to its file systems. A guest that is not thawed
  // within a minute is thawed, and thaw() says so: then a snapshot may be torn.
  virtual Result<void> freeze() = 0;
  virtual Result<void> thaw() = 0;

  // The guest stands still from now on: it is not missed.
  virtual void paused() = 0;
  // It runs again: its clock is set.
  virtual void resumed() = 0;

  // All services by their names, in valid UTF-8: state (offered, negotiating, ready, refused,
  // broken, closed), versions, the guest's last heartbeat, names and addresses. Waits for no guest.
  virtual nlohmann::ordered_json status() = 0;
};

}  // namespace vhdkit::services
