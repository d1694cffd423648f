#include "hypervisor/services/integration.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace vhdkit::services {

Integration::Integration(const Host& host)
    : mailbox_(host.mailbox),
      alarm_letter_(*this),
      shutdown_(service_host(host)),
      heartbeat_(service_host(host)),
      time_synchronization_(service_host(host), host.read_time),
      key_value_exchange_(service_host(host)),
      volume_snapshot_(service_host(host)),
      services_{&shutdown_, &heartbeat_, &time_synchronization_, &key_value_exchange_,
                &volume_snapshot_} {}

Integration::~Integration() { mailbox_.clear_alarm(); }

Service::Host Integration::service_host(const Host& host) {
  return {.server = host.server,
          .partition = host.partition,
          .mailbox = host.mailbox,
          .timekeeper = *this};
}

Result<void> Integration::offer() {
  for (Service* const service : services_) TRY(service->offer());
  return {};
}

void Integration::rescind() {
  for (Service* const service : services_) service->rescind();
}

bool Integration::is_gone() const {
  return std::ranges::all_of(services_, [](const Service* service) { return service->is_gone(); });
}

void Integration::guest_is_off() {
  for (Service* const service : services_) service->guest_is_off();
}

void Integration::wake_at(Time when) {
  if (when >= alarm_) return;
  alarm_ = when;
  mailbox_.set_alarm(when, alarm_letter_);
}

void Integration::look_at_clock() {
  alarm_ = never;
  const Time time = now();
  for (Service* const service : services_) service->look_at_clock(time);
  for (const Service* const service : services_) wake_at(service->next_time());
}

nlohmann::ordered_json Integration::report() const {
  nlohmann::ordered_json report;
  for (const Service* const service : services_) report[service->name()] = service->report();
  return report;
}

}  // namespace vhdkit::services
