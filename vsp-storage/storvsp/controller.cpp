#include "vsp-storage/storvsp/controller.h"

#include <cassert>
#include <utility>

#include "vsp-storage/storvsp/port.h"

namespace vhdkit::storvsp {

Controller::Controller(const Host& host, const Options& options)
    : host_(host), options_(options), tables_(host.workers.size()) {
  assert(!host.workers.empty());
}

Controller::~Controller() {
  assert(is_gone());
  // Views belong to their workers.
  for (size_t i = 0; i < tables_.size(); ++i)
    host_.workers[i]->run([&] { tables_[i].fill(nullptr); });
}

Result<void> Controller::offer() {
  auto port = std::make_unique<Port>(*this, 0);
  TRY(port->offer());
  ports_.emplace(uint16_t{0}, std::move(port));
  return {};
}

void Controller::rescind() {
  rescind_sub_channels();
  if (const auto first = ports_.find(0); first != ports_.end()) first->second->rescind();
}

void Controller::offer_sub_channels(uint16_t count) {
  for (uint16_t index = 1; index <= count; ++index) {
    auto port = std::make_unique<Port>(*this, index);
    // Where there are as many channels as can be, the guest gets fewer than it asked for.
    if (!port->offer()) return;
    ports_.emplace(index, std::move(port));
  }
}

void Controller::rescind_sub_channels() {
  for (auto port = ports_.upper_bound(0); port != ports_.end();) {
    // It may be gone at once.
    const auto next = std::next(port);
    port->second->rescind();
    port = next;
  }
}

Result<void> Controller::attach(uint8_t lun, Unit unit) {
  assert(unit.views.size() == tables_.size());
  if (lun >= max_units)
    return fail(Errc::out_of_range, "a controller has units 0 to " + std::to_string(max_units - 1) +
                                        ", not " + std::to_string(lun));
  TRY(target_.attach(lun, unit.unit));
  for (size_t i = 0; i < tables_.size(); ++i) {
    host_.workers[i]->run([&] {
      auto access = std::make_shared<UnitAccess>();
      access->unit = unit.unit;
      access->disk = std::move(unit.views[i]);
      access->shares = unit.shares;
      tables_[i][lun] = std::move(access);
    });
  }
  announce_units();
  return {};
}

Result<void> Controller::detach(uint8_t lun) {
  TRY_LET(const auto unit, target_.detach(lun));
  for (size_t i = 0; i < tables_.size(); ++i) {
    host_.workers[i]->run([&] {
      tables_[i][lun]->turn_away();
      tables_[i][lun].reset();
    });
  }
  announce_units();
  return {};
}

Result<void> Controller::exchange(uint8_t lun, std::vector<DiskView> views) {
  assert(views.size() == tables_.size());
  if (target_.find(lun) == nullptr)
    return fail(Errc::not_found, "LUN " + std::to_string(lun) + " has no unit");
  for (size_t i = 0; i < tables_.size(); ++i) {
    host_.workers[i]->run([&] {
      auto access = std::make_shared<UnitAccess>(*tables_[i][lun]);
      access->disk = std::move(views[i]);
      tables_[i][lun] = std::move(access);
    });
  }
  return {};
}

Result<void> Controller::change_capacity(uint8_t lun, std::vector<DiskView> views) {
  TRY(exchange(lun, std::move(views)));
  target_.find(lun)->capacity_changed();
  announce_units();
  return {};
}

void Controller::power_on() {
  for (unsigned lun = 0; lun < max_units; ++lun)
    if (const auto unit = target_.find(uint8_t(lun))) unit->power_on();
}

void Controller::announce_units() {
  if (const auto first = ports_.find(0); first != ports_.end()) first->second->announce_units();
}

}  // namespace vhdkit::storvsp
