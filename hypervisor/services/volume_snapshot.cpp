#include "hypervisor/services/volume_snapshot.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace vhdkit::services {
namespace {

constexpr Service::Kind kind{.name = "volume-snapshot",
                             .interface_type = volume_snapshot_interface,
                             .instance = Guid::literal("2450ee40-33bf-4fbd-892e-9fb06e9214cf"),
                             .type = MessageType::volume_snapshot,
                             .versions = volume_snapshot_versions};

// Between two attempts to tell a guest that it should thaw, where it makes no room for that.
constexpr std::chrono::seconds thaw_again{1};

const char* name_of(VolumeSnapshot::Phase phase) {
  constexpr const char* names[] = {"idle", "preparing", "freezing", "frozen", "thawing"};
  return names[size_t(phase)];
}

double seconds_of(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

VolumeSnapshot::VolumeSnapshot(const Host& host, const Patience& patience)
    : Service(host, kind), patience_(patience) {}

Result<uint8_t> VolumeSnapshot::ask(SnapshotOperation operation) {
  const SnapshotBody body{.operation = uint8_t(operation), .reserved = {}, .flags = 0};
  return request(bytes_of(body));
}

void VolumeSnapshot::finish(const Result<void>& outcome) {
  if (const Done done = std::exchange(done_, nullptr)) done(outcome);
}

// --- freezing ---

void VolumeSnapshot::freeze(Done done) {
  auto prepared = prepare();
  if (!prepared) return done(std::move(prepared));
  done_ = std::move(done);
}

Result<void> VolumeSnapshot::prepare() {
  if (phase_ != Phase::idle)
    return fail(Errc::busy, fmt::format("the guest's file systems are {}", name_of(phase_)));
  TRY_LET(asked_, ask(SnapshotOperation::hot_backup));
  phase_ = Phase::preparing;
  was_thawed_early_ = false;
  set_due(now() + patience_.freeze);
  return {};
}

Result<void> VolumeSnapshot::answered(const Answer& answer) {
  // An answer that comes when it is no more waited for.
  if (asked_ != answer.transaction) return {};
  asked_.reset();
  switch (phase_) {
    case Phase::preparing:
      return take_features(answer);
    case Phase::freezing:
      take_frozen(answer);
      return {};
    case Phase::thawing:
      phase_ = Phase::idle;
      set_due(never);
      if (answer.status == status_success) {
        finish({});
      } else {
        finish(fail(Errc::io, "the guest could not thaw: " + to_string_of_status(answer.status)));
      }
      return {};
    case Phase::idle:
    case Phase::frozen:
      break;
  }
  return {};
}

Result<void> VolumeSnapshot::take_features(const Answer& answer) {
  if (!load<SnapshotBody>(answer.body))
    return fail(Errc::corrupt, "its answer about backups is cut off");
  phase_ = Phase::idle;
  set_due(never);
  if (answer.status != status_success) {
    finish(fail(Errc::io, "the guest cannot be frozen: " + to_string_of_status(answer.status)));
    return {};
  }
  // Its flags do not count: Linux's driver only sets them where its daemon does not say how it
  // went.
  const auto asked = ask(SnapshotOperation::freeze);
  if (!asked) {
    finish(std::unexpected(asked.error()));
    return {};
  }
  asked_ = *asked;
  phase_ = Phase::freezing;
  set_due(now() + patience_.freeze);
  return {};
}

void VolumeSnapshot::take_frozen(const Answer& answer) {
  if (answer.status == status_success) {
    phase_ = Phase::frozen;
    ++freeze_count_;
    set_due(now() + patience_.frozen);
    return finish({});
  }
  // Some of its file systems may be frozen.
  begin_to_thaw();
  finish(fail(Errc::io, "the guest could not freeze: " + to_string_of_status(answer.status)));
}

// --- thawing ---

void VolumeSnapshot::thaw(Done done) {
  if (std::exchange(was_thawed_early_, false))
    return done(fail(Errc::io, fmt::format("the guest was frozen for {} s, and thawed before "
                                           "anybody asked for it",
                                           seconds_of(patience_.frozen))));
  if (phase_ == Phase::idle) return done(fail(Errc::not_found, "the guest is not frozen"));
  if (phase_ != Phase::frozen)
    return done(fail(Errc::busy, fmt::format("the guest's file systems are {}", name_of(phase_))));
  done_ = std::move(done);
  begin_to_thaw();
}

// It stays in this phase until the guest answers: before, nothing else can be asked.
void VolumeSnapshot::begin_to_thaw() {
  phase_ = Phase::thawing;
  const auto asked = ask(SnapshotOperation::thaw);
  asked_ = asked ? std::optional<uint8_t>(*asked) : std::nullopt;
  set_due(now() + (asked ? patience_.thaw : std::chrono::milliseconds(thaw_again)));
}

void VolumeSnapshot::due() {
  switch (phase_) {
    case Phase::preparing:
      asked_.reset();
      phase_ = Phase::idle;
      return finish(fail(Errc::io, fmt::format("the guest's snapshot daemon has not answered "
                                               "within {} s",
                                               seconds_of(patience_.freeze))));
    case Phase::freezing:
      begin_to_thaw();
      return finish(fail(Errc::io, fmt::format("the guest has not frozen within {} s, and is told "
                                               "to thaw",
                                               seconds_of(patience_.freeze))));
    case Phase::frozen:
      was_thawed_early_ = true;
      return begin_to_thaw();
    case Phase::thawing:
      if (!asked_) begin_to_thaw();
      return finish(fail(Errc::io, "the guest does not say that it has thawed"));
    case Phase::idle:
      break;
  }
}

void VolumeSnapshot::ended() {
  asked_.reset();
  phase_ = Phase::idle;
  was_thawed_early_ = false;
  finish(fail(Errc::io, "the guest was gone before it answered"));
}

void VolumeSnapshot::add_to(nlohmann::ordered_json& report) const {
  report["phase"] = name_of(phase_);
  report["freezes"] = freeze_count_;
}

}  // namespace vhdkit::services
