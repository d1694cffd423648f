#include "image/log.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

using image::LogReport;
using image::LogState;
using vhdx::LogDescriptor;
using vhdx::LogEntry;
using vhdx::LogFragment;

constexpr Example examples[] = {
    {"Was the image closed properly, and what would a replay do?", "vhd log disk.vhdx"},
    {"Every descriptor of every entry, for a program", "vhd log --output=json disk.vhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the log was read, whatever its state"},
    {1, "the image could not be read, or is no VHDX"},
};
constexpr Page log_page = {
    .summary = "shows a VHDX's log and what its replay would do",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Lists the entries of the log with their place in it, and whether a replay takes them. The "
        "state is \"empty\" (the image was closed properly), \"dirty\" (it must be replayed: every "
        "reading verb does so in memory, and vhd check --repair on disk) or \"unusable\" (it must "
        "be replayed and cannot be). Nothing is changed.",
    .examples = examples,
    .exit_codes = exit_codes,
};

bool is_active(const LogReport& report, size_t index) {
  return std::ranges::find(report.content.active, index) != report.content.active.end();
}

std::string_view kind_name(LogDescriptor::Kind kind) {
  return kind == LogDescriptor::Kind::zero ? "zero" : "data";
}

Json json_of(const LogEntry& entry, bool active) {
  Json descriptors = Json::array();
  for (const LogDescriptor& descriptor : entry.descriptors)
    descriptors.push_back({{"kind", kind_name(descriptor.kind)},
                           {"file-offset", descriptor.file_offset},
                           {"length", descriptor.length}});
  return {{"log-offset", entry.log_offset},
          {"length", entry.length},
          {"sequence-number", entry.sequence_number},
          {"tail", entry.tail},
          {"flushed-file-offset", entry.flushed_file_offset},
          {"last-file-offset", entry.last_file_offset},
          {"active", active},
          {"descriptors", std::move(descriptors)}};
}

Json json_of(const LogFragment& fragment) {
  return {{"log-offset", fragment.log_offset},
          {"sequence-number", fragment.sequence_number},
          {"damage", fragment.damage}};
}

Json json_of(const LogReport& report, const std::string& path) {
  Json json = {{"filename", path},
               {"state", image::log_state_name(report.state)},
               {"log-guid", report.header.log_guid.to_string()},
               {"log-offset", report.header.log_offset},
               {"log-length", report.header.log_length}};
  if (report.state == LogState::unusable) json["fault"] = report.fault;
  if (report.state == LogState::dirty)
    json["replay"] = {{"sectors-written", report.sectors_written},
                      {"bytes-zeroed", report.bytes_zeroed},
                      {"file-size", report.file_bytes},
                      {"replayed-file-size", report.replayed_file_bytes}};
  json["entries"] = Json::array();
  for (size_t i = 0; i < report.content.entries.size(); ++i)
    json["entries"].push_back(json_of(report.content.entries[i], is_active(report, i)));
  json["fragments"] = Json::array();
  for (const LogFragment& fragment : report.content.fragments)
    json["fragments"].push_back(json_of(fragment));
  return json;
}

std::string replay_text(const LogReport& report) {
  std::string text =
      fmt::format("{} of 4 KiB written, {} zeroed", count_text(report.sectors_written, "sector"),
                  short_size_text(report.bytes_zeroed));
  if (report.replayed_file_bytes != report.file_bytes)
    text += fmt::format(", the file's size from {} to {}", size_text(report.file_bytes),
                        size_text(report.replayed_file_bytes));
  return text;
}

std::string head_text(const LogReport& report, const std::string& path) {
  Listing listing;
  listing.add("image", printable(path));
  listing.add("state", std::string(image::log_state_name(report.state)));
  if (report.state == LogState::unusable) listing.add("fault", printable(report.fault));
  listing.add("log guid", report.header.log_guid.to_string());
  listing.add("log at", fmt::format("{:#x}, {} long", report.header.log_offset,
                                    size_text(report.header.log_length)));
  if (report.state == LogState::dirty) listing.add("replay", replay_text(report));
  return listing.text();
}

// "2 data, 1 zero"
std::string descriptors_text(const std::vector<LogDescriptor>& descriptors) {
  const auto zeroes =
      std::ranges::count(descriptors, LogDescriptor::Kind::zero, &LogDescriptor::kind);
  return fmt::format("{} data, {} zero", descriptors.size() - size_t(zeroes), zeroes);
}

std::string entries_text(const LogReport& report) {
  Table table({{"Log offset", Table::Align::right},
               {"Length", Table::Align::right},
               {"Sequence", Table::Align::right},
               {"Tail", Table::Align::right},
               {"Descriptors"},
               {"Replay"}});
  for (size_t i = 0; i < report.content.entries.size(); ++i) {
    const LogEntry& entry = report.content.entries[i];
    table.add({fmt::format("{:#x}", entry.log_offset), short_size_text(entry.length),
               std::to_string(entry.sequence_number), fmt::format("{:#x}", entry.tail),
               descriptors_text(entry.descriptors), is_active(report, i) ? "yes" : "no"});
  }
  std::string text = report.content.entries.empty() ? "" : "\n" + table.text();
  for (const LogFragment& fragment : report.content.fragments)
    text += fmt::format("damaged at {:#x}, sequence {}: {}\n", fragment.log_offset,
                        fragment.sequence_number, printable(fragment.damage));
  return text;
}

class Log final : public Verb {
 public:
  const Page& page() const override { return log_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "A VHDX.");
    arguments.option("-f,--format", "FORMAT", format_into(options_.format),
                     "The image's format, vhdx; without it the content says it.");
    output_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    TRY_LET(const LogReport report, loop.run(image::read_log_report(loop, path_, options_)));
    print(output_.json ? json_text(json_of(report, path_))
                       : head_text(report, path_) + entries_text(report));
    return 0;
  }

 private:
  std::string path_;
  image::OpenOptions options_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_log() { return std::make_unique<Log>(); }

}  // namespace vhdkit::tools
