#include "image/parent_search.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "image/path_mapping.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;
using disk::ParentPath;
using disk::PathKind;

class Candidates {
 public:
  explicit Candidates(const std::string& child_path) : folders_(folders_of(child_path)) {}

  void add(const std::string& path) {
    // The system would cut a path at a zero character and open something else.
    if (path.empty() || path.contains('\0')) return;
    if (seen_.insert(path).second) paths_.push_back(path);
  }

  void add_beside_child(const std::string& relative) {
    if (relative.empty()) return;
    for (const std::string& folder : folders_)
      add(folder.empty() ? relative : (fs::path(folder) / relative).string());
  }

  std::vector<std::string> take() { return std::move(paths_); }

 private:
  std::vector<std::string> folders_;
  std::vector<std::string> paths_;
  std::set<std::string> seen_;
};

// "..\base\a.vhdx" as this system writes it, without separators in front: it stays relative.
std::string native_relative(std::string_view windows) {
  std::string native(windows);
  std::ranges::replace(native, '\\', '/');
  while (native.starts_with('/') || native.starts_with("./")) native.erase(0, native.find('/') + 1);
  return native;
}

std::string file_name_of(std::string_view windows) {
  const std::vector<std::string> components = windows_components(windows);
  if (components.empty() || components.back() == "..") return "";
  return components.back();
}

bool is_windows_path(const ParentPath& path) {
  return path.kind == PathKind::relative || path.kind == PathKind::absolute ||
         path.kind == PathKind::volume;
}

}  // namespace

std::vector<std::string> folders_of(const std::string& image_path) {
  const fs::path image = image_path;
  std::vector<std::string> folders{image.parent_path().string()};
  std::error_code error;
  if (fs::is_symlink(fs::symlink_status(image, error))) {
    const fs::path target = fs::canonical(image, error);
    if (!error) folders.push_back(target.parent_path().string());
  }
  return folders;
}

std::vector<std::string> parent_candidates(const std::string& child_path,
                                           const disk::ParentReference& reference,
                                           std::span<const PathMapping> mappings) {
  Candidates candidates(child_path);
  for (const ParentPath& path : reference.paths) {
    if (path.kind == PathKind::native && path.path.starts_with('/')) candidates.add(path.path);
    if (path.kind == PathKind::native && !path.path.starts_with('/'))
      candidates.add_beside_child(path.path);
    if (path.kind == PathKind::relative && !is_absolute_windows_path(path.path))
      candidates.add_beside_child(native_relative(path.path));
  }
  for (const ParentPath& path : reference.paths)
    if (is_windows_path(path)) candidates.add_beside_child(file_name_of(path.path));
  // qcow2 has no such name; a VHD's may be all that is left of its parent.
  if (!reference.identities.empty()) candidates.add_beside_child(file_name_of(reference.name));
  for (const ParentPath& path : reference.paths) {
    if (!is_windows_path(path) || !is_absolute_windows_path(path.path)) continue;
    if (const auto mapped = map_windows_path(path.path, mappings)) candidates.add(*mapped);
  }
  return candidates.take();
}

bool names(const disk::ParentReference& reference, const std::optional<Guid>& identity) {
  return identity &&
         std::ranges::find(reference.identities, *identity) != reference.identities.end();
}

}  // namespace vhdkit::image
