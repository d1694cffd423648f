#include "hypervisor/services/shutdown.h"

#include <utility>

namespace vhdkit::services {
namespace {

constexpr Service::Kind service_kind{
    .name = "shutdown",
    .interface_type = shutdown_interface,
    .instance = Guid::literal("b6650ff7-33bc-4840-8048-e0676786f393"),
    .type = MessageType::shutdown,
    .versions = shutdown_versions};

}  // namespace

Shutdown::Shutdown(const Host& host) : Service(host, service_kind) {}

void Shutdown::shut_down(ShutdownKind kind, Done done) {
  auto asked = ask(kind);
  if (!asked) return done(std::move(asked));
  done_ = std::move(done);
}

Result<void> Shutdown::ask(ShutdownKind kind) {
  if (done_) return fail(Errc::busy, "the guest is being asked already");
  const bool is_restart = kind == ShutdownKind::restart;
  if (state() == State::ready && is_restart && version() < first_version_with_restart)
    return fail(Errc::unsupported,
                "the guest cannot be asked to restart: its shutdown service is " +
                    version().to_string() + ", which only switches off");
  const ShutdownBody body{.reason = reason_planned,
                          .timeout_s = 0,
                          .flags = is_restart ? shutdown_restart : shutdown_power_off,
                          .text = {}};
  TRY(request(bytes_of(body), now() + patience));
  return {};
}

Result<void> Shutdown::answered(const Answer& answer) {
  if (answer.status == status_success) {
    finish({});
  } else {
    finish(fail(Errc::io, "the guest refuses: " + to_string_of_status(answer.status)));
  }
  return {};
}

void Shutdown::unanswered(uint8_t) { finish(fail(Errc::io, "the guest does not answer")); }

void Shutdown::ended() {
  if (done_) finish(fail(Errc::io, "the guest was gone before it answered"));
}

void Shutdown::finish(const Result<void>& outcome) {
  const Done done = std::exchange(done_, nullptr);
  done(outcome);
}

void Shutdown::add_to(nlohmann::ordered_json&) const {}

}  // namespace vhdkit::services
