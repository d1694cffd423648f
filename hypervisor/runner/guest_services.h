// The integration services of a machine's guest, for any thread.
#pragma once

#include <functional>
#include <memory>

#include "hypervisor/runner/storage.h"
#include "hypervisor/services/integration.h"
#include "hypervisor/services/services.h"

namespace vhdkit::hypervisor {

class GuestServices final : public services::Services {
 public:
  // Offers them. The bus outlives it. Errors: those of Server::offer.
  static Result<std::unique_ptr<GuestServices>> create(const Storage::Bus& bus,
                                                       services::ReadTime read_time);
  ~GuestServices() override { close(); }

  // Takes them away. REQUIRES: the server was reset since a processor ran; nobody else calls
  // anything now or later.
  void close();

  // The guest does not run any more, and may not have answered: calls that wait for it return, and
  // new ones find that it uses no service, until it is switched on again.
  void guest_is_off();

  // As shut_down(), but does not wait; done is called on the server's thread.
  void begin_shut_down(services::ShutdownKind kind, services::Done done);

  Result<void> shut_down(services::ShutdownKind kind) override;
  Result<void> freeze() override;
  Result<void> thaw() override;
  void paused() override;
  void resumed() override;
  nlohmann::ordered_json status() override;

 private:
  explicit GuestServices(storvsp::Worker& worker) : worker_(worker) {}
  Result<void> await(const std::function<void(services::Done)>& begin);

  storvsp::Worker& worker_;
  std::unique_ptr<services::Integration> integration_;  // of the worker's thread
};

}  // namespace vhdkit::hypervisor
