#include "tools/target_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/checked.h"
#include "tools/options.h"

namespace vhdkit::tools {
namespace {

using image::CreateOptions;

template <class... Args>
std::unexpected<Error> refuse(fmt::format_string<Args...> text, Args&&... args) {
  return fail(Errc::invalid_argument, fmt::format(text, std::forward<Args>(args)...));
}

Result<void> take_sector_size(uint32_t& target, const std::string& value) {
  TRY_LET(const uint64_t bytes, parse_size(value));
  if (bytes != 512 && bytes != 4096) return refuse("{} is neither 512 nor 4096", value);
  target = uint32_t(bytes);
  return {};
}

Result<void> take_guid(std::optional<Guid>& target, const std::string& value) {
  target = Guid::parse(value);
  if (!target)
    return refuse("\"{}\" is no identifier like 01234567-89ab-cdef-0123-456789abcdef", value);
  return check_identifier(*target);
}

Result<void> apply_subformat(CreateOptions& options, const std::string& value) {
  options.subformat = image::parse_subformat(value);
  if (!options.subformat) return refuse("\"{}\" is neither fixed nor dynamic", value);
  return {};
}

Result<void> apply_block_size(CreateOptions& options, const std::string& value) {
  TRY_LET(options.block_size_bytes, parse_size(value));
  if (options.block_size_bytes == 0) return refuse("a block has at least a sector");
  return {};
}

Result<void> apply_logical(CreateOptions& options, const std::string& value) {
  return take_sector_size(options.logical_sector_bytes, value);
}

Result<void> apply_physical(CreateOptions& options, const std::string& value) {
  return take_sector_size(options.physical_sector_bytes, value);
}

Result<void> apply_disk_id(CreateOptions& options, const std::string& value) {
  return take_guid(options.disk_id, value);
}

Result<void> apply_data_write_guid(CreateOptions& options, const std::string& value) {
  return take_guid(options.data_write_guid, value);
}

Result<void> apply_windows_parent_path(CreateOptions& options, const std::string& value) {
  options.windows_parent_path = value;
  return {};
}

// The size of a VHD is what was asked for here, always: qemu-img needs this key for that.
Result<void> apply_force_size(CreateOptions& options, const std::string& value) {
  if (options.format != image::Format::vhd) return refuse("belongs to vhd only");
  if (value != "on")
    return refuse("\"{}\" cannot be had: a disk has exactly the size asked for", value);
  return {};
}

// The two below are qemu-img's, for what a new VHDX has here anyway.
Result<void> apply_log_size(CreateOptions& options, const std::string& value) {
  if (options.format != image::Format::vhdx) return refuse("belongs to vhdx only");
  TRY_LET(const uint64_t bytes, parse_size(value));
  if (bytes != 1 * MiB) return refuse("{} cannot be had: a new VHDX has a log of 1M", value);
  return {};
}

Result<void> apply_block_state_zero(CreateOptions& options, const std::string& value) {
  if (options.format != image::Format::vhdx) return refuse("belongs to vhdx only");
  if (value != "off")
    return refuse("\"{}\" cannot be had: blocks without a place are \"not present\"", value);
  return {};
}

constexpr TargetKey keys[] = {
    {"subformat", "fixed|dynamic",
     "Whether all blocks have their place from the start. The default is dynamic; with -b an image "
     "is differencing.",
     apply_subformat},
    {"block_size", "SIZE",
     "The unit of allocation, a power of two. VHD: 512K to 256M, default 2M. VHDX: 1M to 256M, "
     "default 32M, with --guest linux 1M.",
     apply_block_size},
    {"logical_sector_size", "512|4096",
     "VHDX: the sector size that the guest addresses. The default is the source's or the parent's, "
     "else 512.",
     apply_logical},
    {"physical_sector_size", "512|4096",
     "VHDX: the sector size that the disk reports. Default 4096.", apply_physical},
    {"disk_id", "GUID",
     "The identifier of the disk: VHD's unique id, VHDX's virtual disk id. The "
     "default is random, for a VHDX with a parent the parent's.",
     apply_disk_id},
    {"data_write_guid", "GUID", "VHDX: the identifier that children will know the content by.",
     apply_data_write_guid},
    {"windows_parent_path", "PATH",
     "With -b: the parent's absolute path as Windows will see it, such as C:\\vm\\parent.vhdx. The "
     "relative path is stored always.",
     apply_windows_parent_path},
    {"force_size", "on", "VHD: taken for qemu-img's sake; sizes are exact here, always.",
     apply_force_size},
    {"log_size", "1M", "VHDX: taken for qemu-img's sake; a new image's log has 1 MiB.",
     apply_log_size},
    {"block_state_zero", "off",
     "VHDX: taken for qemu-img's sake; blocks without a place are \"not present\", as the "
     "specification has it, and read as zeroes where there is no parent.",
     apply_block_state_zero},
};

std::string key_names() {
  std::string names;
  for (const TargetKey& key : keys) names += (names.empty() ? "" : ", ") + std::string(key.name);
  return names;
}

}  // namespace

std::span<const TargetKey> target_keys() { return keys; }

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      parts.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      parts.back() += ',';
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

void TargetArguments::declare(Arguments& arguments, std::string format_names) {
  arguments.required_option(
      std::move(format_names), "FORMAT",
      [this](const std::string& value) -> Result<void> {
        std::optional<image::Format> format;
        TRY(format_into(format)(value));
        options.format = *format;
        return {};
      },
      "The new image's format: raw, vhd (or vpc), vhdx.");
  arguments.repeatable_option(
      "-o,--options", "KEY=VALUE[,...]", [this](const std::string& value) { return take(value); },
      "What the new image shall be like; see below. May be given several times.");
  arguments.option("--profile", "NAME", profile_into(options.profile),
                   fmt::format("Make what this program accepts, and refuse what it does not: {}.",
                               image::profile_names()));
  arguments.option(
      "--guest", "KIND",
      [this](const std::string& value) -> Result<void> {
        if (value != "linux" && value != "any")
          return refuse("\"{}\" is neither \"linux\" nor \"any\"", value);
        if (value == "linux") options.guest = image::GuestKind::linux;
        return {};
      },
      "\"linux\" makes VHDX blocks of 1 MiB, which ext4 fills better than 32 MiB.");
}

Result<void> TargetArguments::take(std::string_view list) {
  for (const std::string& item : split_at_commas(list)) {
    const size_t equals = item.find('=');
    const std::string name = item.substr(0, equals);
    const auto key = std::ranges::find(keys, name, &TargetKey::name);
    if (key == std::end(keys))
      return refuse("\"{}\" is no key known here; there are {}", name, key_names());
    const bool is_bare_switch = equals == std::string::npos && key->apply == apply_force_size;
    if (equals == std::string::npos && !is_bare_switch)
      return refuse("{} needs a value: {}={}", name, name, key->value_name);
    if (!given_.insert(name).second) return refuse("{} is given twice", name);
    const std::string value = is_bare_switch ? "on" : item.substr(equals + 1);
    TRY(with_context(key->apply(options, value), name));
  }
  return {};
}

Result<void> check_early(const CreateOptions& options) {
  CreateOptions tried = options;
  // A size that every format and profile takes; a parent's part is checked once it is open.
  if (tried.size_bytes == 0) tried.size_bytes = 64 * MiB;
  tried.parent_path.reset();
  tried.windows_parent_path.reset();
  if (options.windows_parent_path && !options.parent_path)
    return refuse("windows_parent_path says where the parent lies, but there is no parent (-b)");
  if (options.parent_path) tried.subformat.reset();
  TRY(image::settle(tried, nullptr));
  return {};
}

}  // namespace vhdkit::tools
