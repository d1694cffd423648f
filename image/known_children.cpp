#include "image/known_children.h"

#include <algorithm>
#include <filesystem>

#include "image/open_file.h"
#include "image/parent_search.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

constexpr size_t max_files = 1000;

bool has_image_name(const fs::path& path) {
  std::string end = path.extension().string();
  std::ranges::transform(end, end.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return end == ".vhd" || end == ".vhdx" || end == ".avhd" || end == ".avhdx";
}

std::vector<std::string> neighbours(const fs::path& path) {
  std::vector<std::string> found;
  std::error_code unreadable;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, unreadable)) {
    std::error_code ignored;
    if (found.size() == max_files) break;
    if (!has_image_name(entry.path()) || fs::equivalent(entry.path(), path, ignored)) continue;
    found.push_back(path.has_parent_path() ? entry.path().string()
                                           : entry.path().filename().string());
  }
  std::ranges::sort(found);
  return found;
}

Async<bool> is_child(async::Loop& loop, const std::string& path, const Guid& identity) {
  const FileOptions file_options{.format = std::nullopt, .writable = false, .force_share = true};
  CO_TRY_LET(OpenedFile opened, co_await open_file(loop, path, file_options));
  const LayerOptions layer_options;
  CO_TRY_LET(const auto layer,
             co_await open_layer(std::move(opened.file), opened.format, layer_options));
  co_return layer->parent() != nullptr&& names(*layer->parent(), identity);
}

}  // namespace

Async<std::vector<std::string>> known_children(async::Loop& loop, const std::string& path,
                                               const disk::Layer& layer) {
  std::vector<std::string> children;
  const std::optional<Guid> identity = layer.identity();
  if (!identity) co_return std::move(children);
  for (const std::string& one : neighbours(path)) {
    const auto child = co_await is_child(loop, one, *identity);
    if (child && *child) children.push_back(one);
  }
  co_return std::move(children);
}

}  // namespace vhdkit::image
