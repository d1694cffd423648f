#include "image/path_mapping.h"

#include <algorithm>

namespace vhdkit::image {
namespace {

bool is_separator(char c) { return c == '\\' || c == '/'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; }

bool same_component(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

// Whether the text begins with the pattern, in which \ stands for either separator.
bool begins_with(std::string_view text, std::string_view pattern) {
  if (text.size() < pattern.size()) return false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const bool same =
        pattern[i] == '\\' ? is_separator(text[i]) : lower(text[i]) == lower(pattern[i]);
    if (!same) return false;
  }
  return true;
}

// Takes \\?\ off the path and says whether what is left begins with a server's name.
bool take_prefix(std::string_view& path) {
  for (std::string_view prefix :
       {R"(\\?\UNC\)", R"(\\.\UNC\)", R"(\??\UNC\)", R"(\\?\)", R"(\\.\)", R"(\??\)", R"(\\)"}) {
    if (!begins_with(path, prefix)) continue;
    path.remove_prefix(prefix.size());
    return prefix.ends_with(R"(UNC\)") || prefix == R"(\\)";
  }
  return false;
}

void append_component(std::vector<std::string>& components, std::string_view component) {
  if (component.empty() || component == ".") return;
  if (component != "..") {
    components.emplace_back(component);
  } else if (components.size() > 1) {
    components.pop_back();
  }
}

bool begins_with(std::span<const std::string> path, std::span<const std::string> prefix) {
  return path.size() >= prefix.size() &&
         std::ranges::equal(path.first(prefix.size()), prefix, same_component);
}

}  // namespace

std::vector<std::string> windows_components(std::string_view path) {
  const bool has_server = take_prefix(path);
  std::vector<std::string> components;
  while (!path.empty()) {
    const auto end = std::ranges::find_if(path, is_separator);
    const size_t length = size_t(end - path.begin());
    append_component(components, path.substr(0, length));
    path.remove_prefix(std::min(path.size(), length + 1));
  }
  if (has_server && !components.empty()) components.front().insert(0, R"(\\)");
  return components;
}

bool is_absolute_windows_path(std::string_view path) {
  const bool has_drive =
      path.size() >= 2 && lower(path[0]) >= 'a' && lower(path[0]) <= 'z' && path[1] == ':';
  return has_drive || begins_with(path, R"(\\)") || begins_with(path, R"(\??\)");
}

std::optional<std::string> map_windows_path(std::string_view path,
                                            std::span<const PathMapping> mappings) {
  const std::vector<std::string> components = windows_components(path);
  const PathMapping* best = nullptr;
  size_t best_length = 0;
  for (const PathMapping& mapping : mappings) {
    const std::vector<std::string> prefix = windows_components(mapping.windows);
    if (prefix.size() <= best_length || !begins_with(components, prefix)) continue;
    best = &mapping;
    best_length = prefix.size();
  }
  if (best == nullptr) return std::nullopt;
  std::string native = best->native;
  for (const std::string& component : std::span(components).subspan(best_length)) {
    if (!native.ends_with('/')) native += '/';
    native += component;
  }
  return native;
}

Result<PathMapping> parse_path_mapping(std::string_view text) {
  const size_t equals = text.find('=');
  PathMapping mapping;
  if (equals != std::string_view::npos) {
    mapping.windows = text.substr(0, equals);
    mapping.native = text.substr(equals + 1);
  }
  if (mapping.native.empty() || windows_components(mapping.windows).empty())
    return fail(Errc::invalid_argument,
                "\"" + std::string(text) +
                    R"(": a path mapping has the form WINDOWS=NATIVE, such as C:\vm=/mnt/vm)");
  return mapping;
}

}  // namespace vhdkit::image
