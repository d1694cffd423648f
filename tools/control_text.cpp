#include "tools/control_text.h"

#include <fmt/format.h>

#include "tools/text.h"

namespace vhdkit::tools {
namespace {

std::string text_of(const Json& value) {
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  if (value.is_null()) return "";
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string size_of(const Json& value) {
  return value.is_number_unsigned() ? short_size_text(value.get<uint64_t>()) : "";
}

// What the guest says of itself, where its services run.
void add_services(Listing& listing, const Json& services) {
  if (const Json& state = member(member(services, "heartbeat"), "guest"); !state.is_null())
    listing.add("heartbeat", text_of(state));
  const Json& names = member(member(services, "key-value-exchange"), "guest");
  const struct {
    const char* label;
    const char* key;
  } shown[] = {{"guest's name", "FullyQualifiedDomainName"},
               {"its system", "OSName"},
               {"its IPv4", "NetworkAddressIPv4"},
               {"its IPv6", "NetworkAddressIPv6"}};
  for (const auto& [label, key] : shown)
    if (const Json& value = member(names, key); !value.is_null())
      listing.add(label, text_of(value));
}

std::string sandbox_text(const Json& sandbox) {
  if (!sandbox.is_object()) return "off";
  std::string text = "on";
  if (member(sandbox, "filters") != true) text += ", without filters of calls";
  if (member(sandbox, "landlock").is_null()) text += ", without Landlock";
  return text;
}

std::string disks_text(const Json& disks) {
  Table table({{"Disk", Table::Align::right},
               {"Controller", Table::Align::right},
               {"LUN", Table::Align::right},
               {"Format"},
               {"Size", Table::Align::right},
               {"Access"},
               {"Image"}});
  for (const Json& disk : disks)
    table.add({text_of(member(disk, "disk")), text_of(member(disk, "controller")),
               text_of(member(disk, "lun")), text_of(member(disk, "format")),
               size_of(member(disk, "virtual-size")),
               member(disk, "read-only") == true ? "read-only" : "read-write",
               text_of(member(disk, "filename"))});
  return table.text();
}

std::string units_text(const Json& controllers) {
  Table table({{"Controller", Table::Align::right},
               {"LUN", Table::Align::right},
               {"Requests", Table::Align::right},
               {"Errors", Table::Align::right},
               {"Read", Table::Align::right},
               {"Written", Table::Align::right}});
  size_t index = 0;
  for (const Json& controller : controllers) {
    for (const Json& unit : member(controller, "units"))
      table.add({std::to_string(index), text_of(member(unit, "lun")),
                 text_of(member(unit, "requests")), text_of(member(unit, "errors")),
                 size_of(member(unit, "bytes-read")), size_of(member(unit, "bytes-written"))});
    ++index;
  }
  return table.text();
}

}  // namespace

std::string status_text(const Json& status) {
  Listing listing;
  listing.add("state", text_of(member(status, "state")));
  if (const Json& uptime = member(status, "uptime-seconds"); uptime.is_number())
    listing.add("up for", fmt::format("{:.1f} s", uptime.get<double>()));
  listing.add("processors", text_of(member(status, "processors")));
  listing.add("memory", size_of(member(status, "memory")));
  listing.add("console", text_of(member(status, "console")));
  if (status.is_object() && status.contains("sandbox"))
    listing.add("sandbox", sandbox_text(member(status, "sandbox")));
  if (const Json& drive = member(status, "dvd-drive"); drive.is_object()) {
    const Json& medium = member(drive, "filename");
    listing.add("DVD drive", medium.is_null() ? "empty" : text_of(medium));
  }
  add_services(listing, member(status, "services"));
  std::string text = listing.text();
  if (const Json& disks = member(status, "disks"); !disks.empty()) text += "\n" + disks_text(disks);
  return text;
}

std::string added_disk_text(const Json& added) {
  return "disk " + text_of(member(added, "disk")) + "\n";
}

std::string resized_disk_text(const Json& resized) {
  const auto size = [&](const char* key) {
    const Json& value = member(resized, key);
    return value.is_number_unsigned() ? size_text(value.get<uint64_t>()) : "";
  };
  return "disk " + text_of(member(resized, "disk")) + ": " + size("old-virtual-size") + " -> " +
         size("virtual-size") + "\n";
}

std::string snapshots_text(const Json& snapshots) {
  std::string text;
  for (const Json& one : member(snapshots, "snapshots"))
    text += text_of(member(one, "filename")) + "\n";
  return text;
}

std::string counters_text(const Json& counters) {
  Listing exits;
  if (const Json& causes = member(counters, "exits"); causes.is_object())
    for (const auto& [cause, count] : causes.items()) exits.add(printable(cause), text_of(count));
  Listing listing;
  listing.add_section("exits", std::move(exits));
  return listing.text() + "\n" + units_text(member(counters, "controllers"));
}

}  // namespace vhdkit::tools
