#include "hypervisor/runner/status_json.h"

namespace vhdkit::hypervisor {

using tools::Json;

Json json_of(const Place& place) {
  return {{"disk", place.number}, {"controller", place.controller}, {"lun", place.lun}};
}

Json json_of(const DiskStatus& disk) {
  Json json = json_of(disk.place);
  json["filename"] = disk.path;
  json["format"] = image::format_name(disk.format);
  json["virtual-size"] = disk.size_bytes;
  json["read-only"] = disk.is_read_only;
  if (disk.undo_of) json["undo-disk-of"] = *disk.undo_of;
  return json;
}

Json json_of(const DriveStatus& drive) {
  Json json = json_of(drive.place);
  json["filename"] = drive.medium ? Json(*drive.medium) : Json();
  return json;
}

Json json_of(const ExitCounts& counts) {
  Json json = Json::object();
  for (size_t i = 0; i < counts.size(); ++i) json[std::string(exit_cause_names[i])] = counts[i];
  return json;
}

Json json_of(const std::optional<Confinement>& confinement) {
  if (!confinement) return {};
  return {
      {"filters", confinement->has_filters},
      {"landlock", confinement->landlock_version ? Json(*confinement->landlock_version) : Json()}};
}

}  // namespace vhdkit::hypervisor
