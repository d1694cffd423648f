#include "image/known_children.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "image/image.h"
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

struct Names {
  std::vector<std::string> of_files;
  std::vector<std::string> of_links;
};

void add_images_of(const std::string& folder, Names& found) {
  std::error_code unreadable;
  const fs::path listed = folder.empty() ? "." : folder;
  fs::directory_iterator at(listed, unreadable);
  for (const fs::directory_iterator end; at != end; at.increment(unreadable)) {
    const fs::directory_entry& entry = *at;
    if (found.of_files.size() + found.of_links.size() == max_files) break;
    if (!has_image_name(entry.path())) continue;
    std::error_code ignored;
    auto& names = entry.is_symlink(ignored) ? found.of_links : found.of_files;
    names.push_back(folder.empty() ? entry.path().filename().string() : entry.path().string());
  }
}

// Other files beside the image, each by one of its names, by its own rather than by a link's.
std::vector<std::string> neighbours(const std::string& path) {
  Names names;
  for (const std::string& folder : folders_of(path)) add_images_of(folder, names);
  std::ranges::sort(names.of_files);
  std::ranges::sort(names.of_links);
  std::vector<std::string> found = std::move(names.of_files);
  found.insert(found.end(), names.of_links.begin(), names.of_links.end());
  std::set<FileIdentity> seen;
  if (const auto own = identity_at(path)) seen.insert(*own);
  std::erase_if(found, [&seen](const std::string& one) {
    const auto identity = identity_at(one);
    return !identity || !seen.insert(*identity).second;
  });
  std::ranges::sort(found);
  return found;
}

Async<bool> is_child(async::Loop& loop, const std::string& path, const Guid& identity) {
  const FileOptions file_options{.format = std::nullopt, .force_share = true, .refuse_gzip = true};
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
