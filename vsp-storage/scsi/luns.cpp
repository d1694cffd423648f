#include "vsp-storage/scsi/luns.h"

#include "vsp-storage/scsi/cdb.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr const char* at_lun = "LUN ";

}  // namespace

Result<void> Luns::attach(uint8_t lun, std::shared_ptr<LogicalUnit> unit) {
  if (lun >= max_luns)
    return fail(Errc::invalid_argument,
                at_lun + std::to_string(lun) + " is not below " + std::to_string(max_luns));
  const std::scoped_lock lock(mutex_);
  if (units_[lun] != nullptr)
    return fail(Errc::exists, at_lun + std::to_string(lun) + " has a unit already");
  unit->enter(weak_from_this());
  units_[lun] = std::move(unit);
  changed(*units_[lun]);
  return {};
}

Result<std::shared_ptr<LogicalUnit>> Luns::detach(uint8_t lun) {
  const std::scoped_lock lock(mutex_);
  if (lun >= max_luns || units_[lun] == nullptr)
    return fail(Errc::not_found, at_lun + std::to_string(lun) + " has no unit");
  std::shared_ptr<LogicalUnit> unit = std::move(units_[lun]);
  unit->enter({});
  changed(*unit);
  return unit;
}

void Luns::changed(const LogicalUnit& unit) {
  ++generation_;
  for (const auto& other : units_)
    if (other != nullptr && other.get() != &unit)
      other->attentions().establish(Attention::luns_changed);
}

std::shared_ptr<LogicalUnit> Luns::find(uint8_t lun) const {
  if (lun >= max_luns) return nullptr;
  const std::scoped_lock lock(mutex_);
  return units_[lun];
}

Outcome Luns::report(const Command& command) const {
  std::array<uint8_t, max_luns> luns;
  size_t count = 0;
  {
    const std::scoped_lock lock(mutex_);
    for (size_t lun = 0; lun < max_luns; ++lun) {
      if (units_[lun] == nullptr) continue;
      luns[count++] = uint8_t(lun);
      units_[lun]->attentions().forget(command.initiator, Attention::luns_changed);
    }
  }
  return report_luns(std::span(luns).first(count), command);
}

Outcome report_luns(std::span<const uint8_t> luns, const Command& command) {
  constexpr uint8_t all = 0x00, well_known_only = 0x01, all_and_well_known = 0x02;
  const Cdb cdb(command);
  const uint8_t select = cdb.u8(2);
  if (select != all && select != well_known_only && select != all_and_well_known)
    return invalid_in_cdb({.byte = 2});
  if (select == well_known_only) luns = {};  // there are none
  ParameterData data;
  data.put32(luns.size() * 8);
  data.put32(0);
  // SAM-5 4.7.7.2: peripheral device addressing, bus 0.
  for (const uint8_t lun : luns) {
    data.put16(lun);
    data.put_zeroes(6);
  }
  return answer(command, data.bytes(), cdb.u32(6));
}

}  // namespace vhdkit::scsi
