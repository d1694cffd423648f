#include "hypervisor/runner/guest_services.h"

#include <cassert>
#include <future>
#include <utility>

namespace vhdkit::hypervisor {

using services::Done;
using services::ShutdownKind;

Result<std::unique_ptr<GuestServices>> GuestServices::create(const Storage::Bus& bus,
                                                             services::ReadTime read_time) {
  std::unique_ptr<GuestServices> created(new GuestServices(bus.worker));
  Result<void> offered;
  bus.worker.run([&] {
    created->integration_ = std::make_unique<services::Integration>(
        services::Integration::Host{.server = bus.server,
                                    .partition = bus.partition,
                                    .mailbox = bus.worker.mailbox(),
                                    .read_time = std::move(read_time)});
    offered = created->integration_->offer();
  });
  TRY(std::move(offered));
  return created;
}

void GuestServices::close() {
  worker_.run([this] {
    if (integration_ == nullptr) return;
    // No guest knows of them any more, so they go at once.
    integration_->rescind();
    assert(integration_->is_gone());
    integration_.reset();
  });
}

void GuestServices::guest_is_off() {
  worker_.run([this] {
    integration_->guest_is_off();
    integration_->heartbeat().resumed();
  });
}

// Begins something on the server's thread, and waits for its end.
Result<void> GuestServices::await(const std::function<void(Done)>& begin) {
  const auto promise = std::make_shared<std::promise<Result<void>>>();
  auto outcome = promise->get_future();
  worker_.run(
      [&] { begin([promise](Result<void> result) { promise->set_value(std::move(result)); }); });
  return outcome.get();
}

void GuestServices::begin_shut_down(ShutdownKind kind, Done done) {
  worker_.run([&] { integration_->shutdown().shut_down(kind, std::move(done)); });
}

Result<void> GuestServices::shut_down(ShutdownKind kind) {
  return await([&](Done done) { integration_->shutdown().shut_down(kind, std::move(done)); });
}

Result<void> GuestServices::freeze() {
  return await([&](Done done) { integration_->volume_snapshot().freeze(std::move(done)); });
}

Result<void> GuestServices::thaw() {
  return await([&](Done done) { integration_->volume_snapshot().thaw(std::move(done)); });
}

void GuestServices::paused() {
  worker_.run([this] { integration_->heartbeat().paused(); });
}

void GuestServices::resumed() {
  worker_.run([this] {
    integration_->heartbeat().resumed();
    integration_->time_synchronization().resumed();
  });
}

nlohmann::ordered_json GuestServices::status() {
  nlohmann::ordered_json status;
  worker_.run([&] { status = integration_->report(); });
  return status;
}

}  // namespace vhdkit::hypervisor
