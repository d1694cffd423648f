#include "image/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "image/create.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

using disk::Severity;
using Facts = const ImageFacts&;

struct ProfileName {
  std::string_view name;
  Profile profile;
};
constexpr ProfileName names[] = {
    {"azure", Profile::azure}, {"hyperv", Profile::hyperv},         {"qemu", Profile::qemu},
    {"wsl", Profile::wsl},     {"virtualbox", Profile::virtualbox}, {"xcp", Profile::xcp},
};

bool is_vhd(Facts facts) { return facts.format == Format::vhd; }
bool is_vhdx(Facts facts) { return facts.format == Format::vhdx; }
bool is_fixed(Facts facts) { return facts.subformat == Subformat::fixed; }
bool is_differencing(Facts facts) { return facts.subformat == Subformat::differencing; }
bool is_sparse(Facts facts) { return facts.has_file_holes; }
bool has_blocks_of_2_mib(Facts facts) { return facts.block_bytes == 2 * MiB; }
bool has_parents_size(Facts facts) {
  return facts.parent_bytes == 0 || facts.parent_bytes == facts.disk_bytes;
}
bool is_beyond_2040_gib(Facts facts) { return is_vhd(facts) && facts.disk_bytes > 2040 * GiB; }

// Virtual PC's creators, whose readers take the size from the geometry.
bool takes_size_from_geometry(Facts facts) {
  return facts.creator_application == "vpc " || facts.creator_application == "vs  " ||
         facts.creator_application == "qemu";
}

bool has_extension_of_its_format(Facts facts) {
  if (facts.file_name.empty()) return true;
  const std::string name = facts.file_name;
  const auto ends_with = [&name](std::string_view extension) {
    return name.size() >= extension.size() &&
           std::ranges::equal(name.substr(name.size() - extension.size()), extension, {},
                              [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
  };
  if (is_vhd(facts)) return ends_with(".vhd") || ends_with(".avhd");
  return ends_with(".vhdx") || ends_with(".avhdx");
}

std::string format_of(Facts facts) { return std::string(format_name(facts.format)); }
std::string subformat_of(Facts facts) { return std::string(subformat_name(facts.subformat)); }
std::string disk_size_of(Facts facts) { return std::to_string(facts.disk_bytes); }
std::string file_size_of(Facts facts) { return std::to_string(facts.file_bytes); }
std::string block_size_of(Facts facts) { return std::to_string(facts.block_bytes); }
std::string logical_sector_of(Facts facts) { return std::to_string(facts.logical_sector_bytes); }
std::string name_of(Facts facts) { return facts.file_name; }
std::string creator_os_of(Facts facts) { return facts.creator_host_os; }
std::string creator_of(Facts facts) { return facts.creator_application; }
std::string holes_of(Facts) { return "holes"; }
std::string log_of(Facts) { return "dirty"; }

struct Rule {
  Profile profile;
  Severity severity;
  std::string_view code;
  std::string_view field;
  bool (*is_broken)(Facts);
  std::string (*value)(Facts);
  std::string_view message;  // what would be right, and who says so
};

constexpr Rule rules[] = {
    {Profile::azure, Severity::corruption, "azure-format", "format",
     [](Facts facts) { return !is_vhd(facts); }, format_of,
     "Azure takes VHD only (learn.microsoft.com, Add-AzVhd: a VHDX is converted before the "
     "upload)"},
    {Profile::azure, Severity::corruption, "azure-subformat", "subformat",
     [](Facts facts) { return is_vhd(facts) && !is_fixed(facts); }, subformat_of,
     "Azure takes fixed VHDs only (learn.microsoft.com, \"Prepare a Windows VHD or VHDX to upload "
     "to Azure\")"},
    {Profile::azure, Severity::corruption, "azure-size-unit", "disk size",
     [](Facts facts) { return !is_aligned(facts.disk_bytes, 1 * MiB); }, disk_size_of,
     "Azure wants a disk of whole MiB (learn.microsoft.com, \"Create and upload a generic Linux "
     "VHD\")"},
    {Profile::azure, Severity::corruption, "azure-size-range", "disk size",
     [](Facts facts) { return facts.disk_bytes < 20 * MiB || facts.disk_bytes > 32 * TiB; },
     disk_size_of,
     "Azure takes disks of 20 MiB to 32 TiB (learn.microsoft.com, "
     "DiskCreationData.UploadSizeBytes)"},
    {Profile::azure, Severity::corruption, "azure-file-size", "file size",
     [](Facts facts) {
       return is_vhd(facts) && is_fixed(facts) && facts.file_bytes != facts.disk_bytes + 512;
     },
     file_size_of,
     "the file should be the disk and a footer of 512 bytes (learn.microsoft.com, "
     "DiskCreationData.UploadSizeBytes)"},
    {Profile::azure, Severity::warning, "azure-creator-os", "creator host OS",
     [](Facts facts) { return is_vhd(facts) && facts.creator_host_os != "Wi2k"; }, creator_os_of,
     "Azure looks for \"Wi2k\" (FreeBSD r284773, mkimg)"},
    {Profile::azure, Severity::warning, "azure-creator", "creator application",
     takes_size_from_geometry, creator_of,
     "readers take this creator's size from the geometry, not from the current size; \"win \" is "
     "unambiguous (QEMU block/vpc.c)"},

    {Profile::hyperv, Severity::corruption, "hyperv-format", "format",
     [](Facts facts) { return !is_vhd(facts) && !is_vhdx(facts); }, format_of,
     "Hyper-V takes VHD and VHDX (PowerShell documentation, Convert-VHD)"},
    {Profile::hyperv, Severity::corruption, "hyperv-extension", "file name",
     [](Facts facts) { return !has_extension_of_its_format(facts); }, name_of,
     "Hyper-V takes the format from the extension: .vhd, .avhd, .vhdx or .avhdx (PowerShell "
     "documentation, Convert-VHD)"},
    {Profile::hyperv, Severity::corruption, "hyperv-size", "disk size",
     [](Facts facts) {
       return (is_beyond_2040_gib(facts)) || (is_vhdx(facts) && facts.disk_bytes > 64 * TiB);
     },
     disk_size_of,
     "Hyper-V takes VHD up to 2040 GiB and VHDX up to 64 TiB (PowerShell documentation, New-VHD)"},
    {Profile::hyperv, Severity::corruption, "hyperv-parent-size", "disk size",
     [](Facts facts) { return is_vhd(facts) && !has_parents_size(facts); }, disk_size_of,
     "Windows opens a differencing VHD only with a parent of its own size, else 0xC03A0017 "
     "(learn.microsoft.com, \"Avoid expansion if you're snap-happy\")"},
    {Profile::hyperv, Severity::warning, "hyperv-block-size", "block size",
     [](Facts facts) { return is_vhd(facts) && !is_fixed(facts) && !has_blocks_of_2_mib(facts); },
     block_size_of, "Microsoft's VHD parser uses blocks of 2 MiB only (makevhdx, README)"},
    {Profile::hyperv, Severity::warning, "hyperv-sparse-file", "file", is_sparse, holes_of,
     "Windows refuses a file with the sparse attribute, 0xC03A001A, which a copy may carry over: "
     "use `fsutil sparse setflag FILE 0` there (microsoft/WSL issue 4103)"},

    {Profile::qemu, Severity::corruption, "qemu-sector-size", "logical sector size",
     [](Facts facts) { return is_vhdx(facts) && facts.logical_sector_bytes != 512; },
     logical_sector_of, "QEMU reads VHDX with 512-byte sectors only (QEMU issue 3142)"},
    {Profile::qemu, Severity::corruption, "qemu-differencing", "subformat",
     [](Facts facts) { return facts.format != Format::qcow2 && is_differencing(facts); },
     subformat_of,
     "QEMU refuses differencing VHDX and reads a differencing VHD without its parent (QEMU "
     "block/vhdx.c, block/vpc.c)"},
    {Profile::qemu, Severity::corruption, "qemu-size", "disk size", is_beyond_2040_gib,
     disk_size_of, "QEMU takes VHD up to 2040 GiB, fixed ones too (QEMU block/vpc.c)"},
    {Profile::qemu, Severity::warning, "qemu-fixed-vhd", "subformat",
     [](Facts facts) { return is_vhd(facts) && is_fixed(facts); }, subformat_of,
     "QEMU takes a fixed VHD for raw, whose last sector is the footer, unless it is told -f vpc "
     "(QEMU block/vpc.c looks at the head only)"},
    {Profile::qemu, Severity::warning, "qemu-log", "log",
     [](Facts facts) { return facts.log_is_dirty; }, log_of,
     "QEMU opens a VHDX whose log needs a replay for writing only (QEMU block/vhdx-log.c)"},

    {Profile::wsl, Severity::corruption, "wsl-format", "format",
     [](Facts facts) { return !is_vhdx(facts); }, format_of,
     "WSL keeps its disks as VHDX (learn.microsoft.com, \"Manage WSL disk space\")"},
    {Profile::wsl, Severity::warning, "wsl-subformat", "subformat",
     [](Facts facts) { return is_vhdx(facts) && facts.subformat != Subformat::dynamic; },
     subformat_of, "WSL's own disks are dynamic (learn.microsoft.com, \"Manage WSL disk space\")"},
    {Profile::wsl, Severity::corruption, "wsl-extension", "file name",
     [](Facts facts) { return is_vhdx(facts) && !has_extension_of_its_format(facts); }, name_of,
     "`wsl --import-in-place` takes files named .vhdx (learn.microsoft.com, \"Basic commands for "
     "WSL\")"},
    {Profile::wsl, Severity::warning, "wsl-sparse-file", "file", is_sparse, holes_of,
     "Windows refuses a file with the sparse attribute, 0xC03A001A, which a copy may carry over "
     "(microsoft/WSL issues 4103 and 12821)"},

    {Profile::virtualbox, Severity::corruption, "virtualbox-differencing", "subformat",
     [](Facts facts) { return is_vhdx(facts) && is_differencing(facts); }, subformat_of,
     "VirtualBox reads no differencing VHDX (VirtualBox VHDX.cpp)"},
    {Profile::virtualbox, Severity::corruption, "virtualbox-log", "log",
     [](Facts facts) { return facts.log_is_dirty; }, log_of,
     "VirtualBox replays no VHDX log (VirtualBox VHDX.cpp)"},
    {Profile::virtualbox, Severity::warning, "virtualbox-read-only", "format", is_vhdx, format_of,
     "VirtualBox opens VHDX for reading only; VHD can be written (VirtualBox VHDX.cpp)"},

    {Profile::xcp, Severity::corruption, "xcp-format", "format",
     [](Facts facts) { return !is_vhd(facts); }, format_of,
     "XCP-ng imports VHD, not VHDX (xcp-ng/xcp issue 168)"},
    {Profile::xcp, Severity::corruption, "xcp-size", "disk size", is_beyond_2040_gib, disk_size_of,
     "XCP-ng takes VHD up to 2040 GiB (xapi-project/blktap issue 35)"},
    {Profile::xcp, Severity::corruption, "xcp-block-size", "block size",
     [](Facts facts) { return is_vhd(facts) && !is_fixed(facts) && !has_blocks_of_2_mib(facts); },
     block_size_of, "XCP-ng takes blocks of 2 MiB (vatesfr/xen-orchestra, vhd-lib)"},
    {Profile::xcp, Severity::warning, "xcp-subformat", "subformat",
     [](Facts facts) { return is_vhd(facts) && is_fixed(facts); }, subformat_of,
     "XCP-ng's own disks are dynamic VHDs (XCP-ng documentation, \"Migrate to XCP-ng\")"},
};

}  // namespace

std::optional<Profile> parse_profile(std::string_view name) {
  const auto found = std::ranges::find(names, name, &ProfileName::name);
  if (found == std::end(names)) return std::nullopt;
  return found->profile;
}

std::string_view profile_name(Profile profile) {
  return std::ranges::find(names, profile, &ProfileName::profile)->name;
}

std::string_view profile_names() { return "azure, hyperv, qemu, wsl, virtualbox, xcp"; }

void check_profile(Profile profile, const ImageFacts& facts, disk::Findings& findings) {
  for (const Rule& rule : rules) {
    if (rule.profile != profile || !rule.is_broken(facts)) continue;
    const std::string value = rule.value(facts);
    findings.add({.severity = rule.severity,
                  .code = std::string(rule.code),
                  .structure = fmt::format("profile {}", profile_name(profile)),
                  .field = std::string(rule.field),
                  .file_offset = 0,
                  .value = value,
                  .message = fmt::format("{} is {}: {}", rule.field, value, rule.message)});
  }
}

uint64_t disk_size_unit_bytes(Profile profile) { return profile == Profile::azure ? 1 * MiB : 512; }

void apply_profile(Profile profile, CreateOptions& options) {
  const auto prefer = [&options](Subformat subformat) {
    const bool is_open = !options.subformat && !options.parent_path;
    if (is_open && options.format != Format::raw) options.subformat = subformat;
  };
  switch (profile) {
    case Profile::azure:
      prefer(Subformat::fixed);
      break;
    case Profile::wsl:
      prefer(Subformat::dynamic);
      options.guest = GuestKind::linux;
      break;
    case Profile::xcp:
      prefer(Subformat::dynamic);
      break;
    case Profile::hyperv:
    case Profile::qemu:
    case Profile::virtualbox:
      break;  // the formats' own defaults are right
  }
}

}  // namespace vhdkit::image
