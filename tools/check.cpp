#include "image/check.h"

#include <fmt/format.h>

#include "image/repair.h"
#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

using disk::Finding;
using disk::Severity;
using image::CheckReport;
using image::RepairReport;

constexpr int clean = 0;
constexpr int corrupt = 2;
constexpr int only_leaks = 3;

constexpr Example examples[] = {
    {"Is the image sound?", "vhd check disk.vhdx"},
    {"Will Azure take it?", "vhd check --profile azure disk.vhd"},
    {"Make it whole again where that is sure", "vhd check --repair disk.vhdx"},
    {"In a script", "vhd check -q disk.vhd || echo broken"},
};
constexpr ExitCode exit_codes[] = {
    {clean, "clean, after repair where that was asked for; there may be warnings"},
    {1, "it could not be checked: not there, not readable, neither VHD nor VHDX"},
    {corrupt, "corrupt, or the profile's program refuses it"},
    {only_leaks, "only leaks: space in the file that nothing uses"},
};
constexpr Page check_page = {
    .summary = "checks every structure of a VHD or VHDX",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Looks at every structure of the image and reports all that contradicts the "
        "specification, not only the first: each finding has its severity, a name that stays the "
        "same, the structure and field, the offset in the file and the value. Parents are looked "
        "for too, as info does. The guest's data is not read.\n\n"
        "With --repair, the image is mended first, and only with what it holds itself: a VHDX's "
        "log is written to its places and emptied, a damaged header, region table or footer is "
        "written from its good copy. Each change is said. The image is locked meanwhile; without "
        "--repair it is never changed.\n\n"
        "With --profile, the image is also held against the rules of another program, each with "
        "its source. JSON has the fields of qemu-img check, and \"findings\".",
    .examples = examples,
    .exit_codes = exit_codes,
};

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::leak:
      return "leak";
    case Severity::corruption:
      return "corruption";
  }
  __builtin_unreachable();
}

Json json_of(const Finding& finding) {
  return {{"severity", severity_name(finding.severity)},
          {"code", finding.code},
          {"structure", finding.structure},
          {"field", finding.field},
          {"file-offset", finding.file_offset},
          {"value", finding.value},
          {"message", finding.message}};
}

Json json_of(const CheckReport& report, const std::string& path) {
  Json findings = Json::array();
  for (const Finding& finding : report.findings.kept()) findings.push_back(json_of(finding));
  return {{"filename", path},
          {"format", image::format_name(report.format)},
          {"check-errors", 0},
          {"image-end-offset", report.usage.image_end_offset},
          {"total-clusters", report.usage.total},
          {"allocated-clusters", report.usage.allocated},
          {"fragmented-clusters", report.usage.fragmented},
          {"corruptions", report.findings.count(Severity::corruption)},
          {"leaks", report.findings.count(Severity::leak)},
          {"warnings", report.findings.count(Severity::warning)},
          {"notes", report.findings.count(Severity::note)},
          {"findings", std::move(findings)}};
}

// Then its offset says nothing.
bool concerns_whole_image(const Finding& finding) {
  return finding.structure == "image" || finding.structure.starts_with("profile ");
}

// "corruption: BAT entry 17: … [bat-entry-past-end: FileOffsetMB 0x300000 at 0x8044]"
std::string text_of(const Finding& finding) {
  const bool names_structure = finding.message.starts_with(finding.structure);
  std::string text = fmt::format("{}: ", severity_name(finding.severity));
  if (!names_structure && !concerns_whole_image(finding)) text += finding.structure + ": ";
  text += fmt::format("{} [{}", finding.message, finding.code);
  if (!concerns_whole_image(finding)) {
    text += fmt::format(":{}{} {} at {:#x}", finding.field.empty() ? "" : " ", finding.field,
                        finding.value, finding.file_offset);
  }
  return printable(text) + "]\n";
}

// What --repair did and could not do.
Json json_of(const RepairReport& repair, const std::string& path) {
  Json json = json_of(repair.after, path);
  json["repairs"] = repair.done;
  if (!repair.fault.empty()) json["repair-fault"] = repair.fault;
  return json;
}

std::string percentage(uint64_t part, uint64_t whole) {
  return fmt::format("{:.1f} %", whole == 0 ? 0 : 100 * double(part) / double(whole));
}

std::string verdict_of(const disk::Findings& findings) {
  std::string counts;
  for (const Severity severity :
       {Severity::corruption, Severity::leak, Severity::warning, Severity::note})
    if (findings.count(severity) != 0)
      counts += (counts.empty() ? "" : ", ") +
                count_text(findings.count(severity), severity_name(severity));
  return counts.empty() ? "no errors were found" : counts;
}

std::string text_of(const CheckReport& report, const std::string& path) {
  std::string text;
  for (const Finding& finding : report.findings.kept()) text += text_of(finding);
  if (const uint64_t left = report.findings.total() - report.findings.kept().size(); left != 0)
    text +=
        fmt::format("{} more of the same kinds are only counted\n", count_text(left, "finding"));
  const disk::BlockUsage& usage = report.usage;
  text += fmt::format("{}: {}: {}\n", printable(path), image::format_name(report.format),
                      verdict_of(report.findings));
  if (usage.total != 0)
    text += fmt::format("{} of {} blocks allocated ({}), {} of those fragmented\n", usage.allocated,
                        usage.total, percentage(usage.allocated, usage.total),
                        percentage(usage.fragmented, usage.allocated));
  if (usage.image_end_offset != 0)
    text += fmt::format("the image ends at {:#x} ({})\n", usage.image_end_offset,
                        size_text(usage.image_end_offset));
  return text;
}

std::string text_of(const RepairReport& repair, const std::string& path) {
  std::string text;
  for (const std::string& sentence : repair.done)
    text += fmt::format("repaired: {}\n", printable(sentence));
  if (!repair.fault.empty()) text += fmt::format("not repaired: {}\n", printable(repair.fault));
  if (repair.done.empty() && repair.fault.empty()) text += "there was nothing to repair\n";
  return text + text_of(repair.after, path);
}

int exit_code_of(const CheckReport& report) {
  if (report.findings.count(Severity::corruption) != 0) return corrupt;
  return report.findings.count(Severity::leak) != 0 ? only_leaks : clean;
}

class Check final : public Verb {
 public:
  const Page& page() const override { return check_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image.");
    arguments.flag("--repair", repair_, "Mend what can be mended with certainty, then check.");
    arguments.option("--profile", "NAME", profile_into(profile_),
                     fmt::format("Also apply the rules of a program: {}.", image::profile_names()));
    arguments.flag("-q,--quiet", quiet_, "Print nothing; the exit code says it.");
    output_.declare(arguments);
    open_.declare(arguments);
  }

  bool changes_images() const override { return repair_; }

  Result<int> run(async::Loop& loop) override {
    if (!repair_) {
      TRY_LET(const CheckReport report,
              loop.run(image::check(loop, path_, open_.options, profile_)));
      show(report);
      return exit_code_of(report);
    }
    TRY_LET(const RepairReport repair,
            loop.run(image::repair(loop, path_, open_.options, profile_)));
    show(repair);
    return exit_code_of(repair.after);
  }

 private:
  void show(const auto& report) const {
    if (!quiet_) print(output_.json ? json_text(json_of(report, path_)) : text_of(report, path_));
  }

  std::string path_;
  std::optional<image::Profile> profile_;
  bool repair_ = false;
  bool quiet_ = false;
  OpenArguments open_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_check() { return std::make_unique<Check>(); }

}  // namespace vhdkit::tools
