#include "hypervisor/services/heartbeat.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace vhdkit::services {
namespace {

constexpr Service::Kind kind{.name = "heartbeat",
                             .interface_type = heartbeat_interface,
                             .instance = Guid::literal("fd149e91-82e0-4a7d-afa6-2a4166cbd7c0"),
                             .type = MessageType::heartbeat,
                             .versions = heartbeat_versions};

// What guests say of their applications, where they say something.
const char* name_of_application_state(uint32_t state) {
  constexpr const char* names[] = {"unknown", "healthy", "critical", "stopped"};
  return state < std::size(names) ? names[state] : "unknown";
}

const char* name_of(Heartbeat::Guest guest) {
  switch (guest) {
    case Heartbeat::Guest::running:
      return "running";
    case Heartbeat::Guest::lost:
      return "lost";
    case Heartbeat::Guest::paused:
      return "paused";
    case Heartbeat::Guest::unknown:
      break;
  }
  return "unknown";
}

}  // namespace

Heartbeat::Heartbeat(const Host& host) : Service(host, kind) {}

void Heartbeat::agreed() {
  is_asked_ = false;
  last_answer_.reset();
  answer_count_ = 0;
  application_state_ = 0;
  due();
}

void Heartbeat::due() {
  set_due(now() + interval, slack_of_routine);
  if (is_asked_) return;
  HeartbeatBody body{};
  body.sequence = ++sequence_;
  is_asked_ = request(bytes_of(body)).has_value();
}

Result<void> Heartbeat::answered(const Answer& answer) {
  const auto sequence = load<le64>(answer.body);
  if (!sequence) return fail(Errc::corrupt, "its answer to a heartbeat is cut off");
  if (*sequence != sequence_ + 1)
    return fail(Errc::corrupt,
                fmt::format("it answers heartbeat {} by {}", sequence_, uint64_t{*sequence}));
  is_asked_ = false;
  last_answer_ = now();
  ++answer_count_;
  if (const auto body = load<HeartbeatBody>(answer.body))
    application_state_ = body->application_state;
  return {};
}

void Heartbeat::resumed() {
  if (std::exchange(is_paused_, false) && last_answer_) last_answer_ = now();
}

std::optional<Clock::duration> Heartbeat::silence() const {
  if (!last_answer_) return std::nullopt;
  return now() - *last_answer_;
}

Heartbeat::Guest Heartbeat::guest() const {
  const auto silent_for = silence();
  if (state() != State::ready || !silent_for) return Guest::unknown;
  if (is_paused_) return Guest::paused;
  return *silent_for < lost_after ? Guest::running : Guest::lost;
}

void Heartbeat::add_to(nlohmann::ordered_json& report) const {
  report["guest"] = name_of(guest());
  report["answers"] = answer_count_;
  if (const auto silent_for = silence())
    report["silent-for-ms"] =
        std::chrono::duration_cast<std::chrono::milliseconds>(*silent_for).count();
  if (application_state_ != 0)
    report["applications"] = name_of_application_state(application_state_);
}

}  // namespace vhdkit::services
