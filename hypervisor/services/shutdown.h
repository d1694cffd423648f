// Asks the guest to switch itself off: the shutdown service.
#pragma once

#include <functional>

#include "hypervisor/services/service.h"
#include "hypervisor/services/services.h"

namespace vhdkit::services {

// Is called once, on the server's thread.
using Done = std::function<void(Result<void>)>;

class Shutdown final : public Service {
 public:
  static constexpr std::chrono::seconds patience{10};

  explicit Shutdown(const Host& host);

  // done: whether the guest will; it then takes the time that it needs. Errors: those of request();
  // unsupported (a restart, by a version before 3.1); io (it refuses, does not answer within ten
  // seconds, or is gone).
  void shut_down(ShutdownKind kind, Done done);

 private:
  void agreed() override {}
  Result<void> answered(const Answer& answer) override;
  void unanswered(uint8_t transaction) override;
  void due() override {}
  void ended() override;
  void add_to(nlohmann::ordered_json& report) const override;

  Result<void> ask(ShutdownKind kind);
  void finish(const Result<void>& outcome);

  Done done_;  // while there is an answer to wait for
};

}  // namespace vhdkit::services
