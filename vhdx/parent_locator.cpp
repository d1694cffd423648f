#include "vhdx/parent_locator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <sstream>

#include "support/utf16.h"

namespace vhdkit::vhdx {
namespace {

using disk::PathKind;

struct StoredString {
  uint32_t offset;  // bytes from the item's start
  uint16_t length;  // bytes
};

// Some writers count a terminating NUL in, against the specification.
std::span<const std::byte> without_terminator(std::span<const std::byte> units) {
  const bool terminated = units.size() >= 2 && is_zero(units.last(2));
  return terminated ? units.first(units.size() - 2) : units;
}

bool has_nul(std::span<const std::byte> units) {
  for (size_t i = 0; i + 1 < units.size(); i += 2)
    if (is_zero(units.subspan(i, 2))) return true;
  return false;
}

Result<std::string> read_string(std::span<const std::byte> item, StoredString stored,
                                std::string_view what) {
  if (!range_fits(stored.offset, stored.length, item.size()))
    return fail(Errc::corrupt, fmt::format("{} [{:#x}, +{:#x}) runs past the end of the item "
                                           "({:#x})",
                                           what, stored.offset, stored.length, item.size()));
  if (stored.length % 2 != 0)
    return fail(Errc::corrupt, fmt::format("{} length {} is odd", what, stored.length));
  const auto units = without_terminator(item.subspan(stored.offset, stored.length));
  if (has_nul(units))
    return fail(Errc::corrupt,
                fmt::format("{} at item offset {:#x} has a NUL inside", what, stored.offset));
  return utf16_to_utf8(units, ByteOrder::little);
}

Result<std::pair<std::string, std::string>> read_entry(std::span<const std::byte> item,
                                                       const ParentLocatorEntry& raw) {
  TRY_LET(std::string key, read_string(item, {raw.key_offset, raw.key_length}, "key"));
  if (key.empty()) return fail(Errc::corrupt, "the key is empty");
  TRY_LET(std::string value, read_string(item, {raw.value_offset, raw.value_length}, "value"));
  return std::pair(std::move(key), std::move(value));
}

Result<ParentLocator> read_entries(std::span<const std::byte> item, uint16_t count) {
  ParentLocator locator;
  size_t string_bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = sizeof(ParentLocatorHeader) + i * sizeof(ParentLocatorEntry);
    const std::string where = fmt::format("entry {} at item offset {:#x}", i, at);
    const auto raw = load<ParentLocatorEntry>(item, at);
    if (!raw)
      return fail(Errc::corrupt,
                  fmt::format("{}: the item of {:#x} bytes ends before it", where, item.size()));
    // Entries that share their strings could ask for gigabytes.
    string_bytes += raw->key_length + raw->value_length;
    if (string_bytes > max_metadata_item_bytes)
      return fail(Errc::corrupt, fmt::format("{}: strings of more than {:#x} bytes", where,
                                             max_metadata_item_bytes));
    TRY_LET(auto entry, with_context(read_entry(item, *raw), where));
    locator.entries.push_back(std::move(entry));
  }
  return locator;
}

Result<void> check_unique(const ParentLocator& locator) {
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : locator.entries) keys.push_back(key);
  std::ranges::sort(keys);
  const auto twice = std::ranges::adjacent_find(keys);
  if (twice == keys.end()) return {};
  return fail(Errc::corrupt, fmt::format("the key \"{}\" is twice there", *twice));
}

Result<void> check_linkages(const ParentLocator& locator) {
  if (locator.find(key_linkage) == nullptr)
    return fail(Errc::corrupt, fmt::format("the key \"{}\" is missing", key_linkage));
  for (const char* key : {key_linkage, key_linkage2}) {
    const std::string* value = locator.find(key);
    if (value != nullptr && !Guid::parse(*value))
      return fail(Errc::corrupt, fmt::format("{} \"{}\" is no GUID", key, *value));
  }
  return {};
}

Result<ParentLocator> parse_item(std::span<const std::byte> item) {
  const auto raw = load<ParentLocatorHeader>(item);
  if (!raw) return fail(Errc::corrupt, fmt::format("cut off after {} bytes", item.size()));
  const Guid type = Guid::from_stored(raw->locator_type);
  if (type != vhdx_locator_type)
    return fail(Errc::unsupported, fmt::format("locator type {} is not VHDX's", type.to_string()));
  TRY_LET(ParentLocator locator, read_entries(item, raw->key_value_count));
  TRY(check_unique(locator));
  TRY(check_linkages(locator));
  return locator;
}

}  // namespace

const std::string* ParentLocator::find(std::string_view key) const {
  const auto found = std::ranges::find(
      entries, key, [](const auto& entry) -> std::string_view { return entry.first; });
  return found == entries.end() ? nullptr : &found->second;
}

Result<ParentLocator> parse_parent_locator(std::span<const std::byte> item,
                                           std::string_view where) {
  return with_context(parse_item(item), where);
}

std::vector<std::byte> build_parent_locator(const ParentLocator& locator) {
  std::vector<std::byte> item(sizeof(ParentLocatorHeader) +
                              locator.entries.size() * sizeof(ParentLocatorEntry));
  const auto append = [&item](std::string_view text) {
    const std::vector<std::byte> units = utf8_to_utf16(text, ByteOrder::little);
    assert(units.size() <= UINT16_MAX && item.size() + units.size() <= max_metadata_item_bytes);
    const StoredString stored{.offset = uint32_t(item.size()), .length = uint16_t(units.size())};
    item.insert(item.end(), units.begin(), units.end());
    return stored;
  };
  const auto put = [&item](size_t at, std::span<const std::byte> bytes) {
    std::ranges::copy(bytes, item.begin() + at);
  };
  put(0, bytes_of(ParentLocatorHeader{.locator_type = vhdx_locator_type.stored(),
                                      .reserved = 0,
                                      .key_value_count = uint16_t(locator.entries.size())}));
  size_t at = sizeof(ParentLocatorHeader);
  for (const auto& [key, value] : locator.entries) {
    const StoredString stored_key = append(key);
    const StoredString stored_value = append(value);
    put(at, bytes_of(ParentLocatorEntry{.key_offset = stored_key.offset,
                                        .value_offset = stored_value.offset,
                                        .key_length = stored_key.length,
                                        .value_length = stored_value.length}));
    at += sizeof(ParentLocatorEntry);
  }
  return item;
}

disk::ParentReference parent_reference(const ParentLocator& locator) {
  disk::ParentReference parent;
  for (const char* key : {key_linkage, key_linkage2}) {
    const std::string* value = locator.find(key);
    const auto guid = value != nullptr ? Guid::parse(*value) : std::nullopt;
    // A second linkage of zero is one that was never set: no other file shall pass by it.
    if (guid && (key == key_linkage || !guid->is_zero())) parent.identities.push_back(*guid);
  }
  if (const std::string* merged = locator.find(key_merged)) {
    std::istringstream words(*merged);
    for (std::string word; words >> word;)
      if (const auto guid = Guid::parse(word)) parent.merged.push_back(*guid);
  }
  constexpr std::pair<const char*, PathKind> paths[] = {{key_relative_path, PathKind::relative},
                                                        {key_volume_path, PathKind::volume},
                                                        {key_absolute_path, PathKind::absolute}};
  for (const auto& [key, kind] : paths)
    if (const std::string* value = locator.find(key); value != nullptr && !value->empty())
      parent.paths.push_back({.kind = kind, .locator = key, .path = *value});
  return parent;
}

}  // namespace vhdkit::vhdx
