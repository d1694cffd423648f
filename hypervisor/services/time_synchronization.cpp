#include "hypervisor/services/time_synchronization.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace vhdkit::services {
namespace {

constexpr Service::Kind kind{.name = "time-synchronization",
                             .interface_type = time_synchronization_interface,
                             .instance = Guid::literal("2dd1ce17-079e-403c-b352-a1921ee207ee"),
                             .type = MessageType::time_synchronization,
                             .versions = time_synchronization_versions};

}  // namespace

uint64_t host_time_now() {
  using Ticks = std::chrono::duration<uint64_t, std::ratio<1, 10'000'000>>;
  const auto since_unix = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<Ticks>(since_unix).count() + ticks_before_unix;
}

TimeSynchronization::TimeSynchronization(const Host& host, ReadTime read_time)
    : Service(host, kind), read_time_(std::move(read_time)) {}

void TimeSynchronization::agreed() {
  set_count_ = sample_count_ = 0;
  resumed();
}

// A time that it was told before it stood still is wrong by now, and its answer to that says
// nothing.
void TimeSynchronization::resumed() {
  is_to_be_set_ = true;
  ended();
  if (state() == State::ready) due();
}

// One at a time: a guest that is late would only get times that are old.
void TimeSynchronization::due() {
  set_due(now() + interval, slack_of_routine);
  if (asked_) return;
  const auto reading = read_time_();
  if (!reading) return;
  const auto told = tell(*reading, is_to_be_set_ ? time_set : time_sample);
  if (!told) return;
  asked_ = *told;
  asked_to_set_ = is_to_be_set_;
}

Result<uint8_t> TimeSynchronization::tell(const TimeReading& reading, uint8_t flags) {
  const Time deadline = now() + patience;
  if (version() >= first_version_with_reference_time) {
    const ReferencedTimeBody body{.host_time = reading.host_time,
                                  .reference_time = reading.reference_time,
                                  .flags = flags,
                                  .leap_indicator = 0,
                                  .stratum = 0,
                                  .reserved = {}};
    return request(bytes_of(body), deadline);
  }
  const TimeBody body{
      .host_time = reading.host_time, .guest_time = 0, .round_trip_time = 0, .flags = flags};
  return request(bytes_of(body), deadline);
}

Result<void> TimeSynchronization::answered(const Answer& answer) {
  if (asked_ != answer.transaction) return {};
  asked_.reset();
  if (std::exchange(asked_to_set_, false)) {
    is_to_be_set_ = false;
    ++set_count_;
  } else {
    ++sample_count_;
  }
  return {};
}

void TimeSynchronization::unanswered(uint8_t transaction) {
  if (asked_ != transaction) return;
  asked_.reset();
  asked_to_set_ = false;
}

void TimeSynchronization::ended() {
  asked_.reset();
  asked_to_set_ = false;
}

void TimeSynchronization::add_to(nlohmann::ordered_json& report) const {
  report["times-set"] = set_count_;
  report["samples"] = sample_count_;
}

}  // namespace vhdkit::services
