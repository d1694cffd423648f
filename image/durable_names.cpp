#include "image/durable_names.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

Result<void> flush_folder_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return fail_errno(errno, folder);
  const int synced = fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // File systems that cannot flush a folder say EINVAL.
  if (synced != 0 && error != EINVAL) return fail_errno(error, folder + ": flushing");
  return {};
}

Result<void> remove_name(const std::string& path) {
  if (unlink(path.c_str()) != 0) return fail_errno(errno, path + ": removing");
  return flush_folder_of(path);
}

}  // namespace

Result<void> remove_durably(const std::string& path) {
  std::error_code ignored;
  if (fs::is_symlink(path, ignored)) {
    std::error_code dangling;
    const fs::path target = fs::canonical(path, dangling);
    if (!dangling) TRY(remove_name(target));
  }
  return remove_name(path);
}

int rename_to_free_name(int folder, const std::string& name, const std::string& new_name) {
  const char* const from = name.c_str();
  const char* const to = new_name.c_str();
  if (renameat2(folder, from, folder, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // A file system without RENAME_NOREPLACE (NFS, some FUSE): link() refuses a name that is taken.
  if (linkat(folder, from, folder, to, 0) == 0) {
    unlinkat(folder, from, 0);
    return 0;
  }
  if (errno == EEXIST) return EEXIST;
  // No hard links either (FAT): look, then rename. The moment between the two is theirs.
  if (faccessat(folder, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
  return renameat(folder, from, folder, to) == 0 ? 0 : errno;
}

Result<void> rename_durably(const std::string& path, const std::string& new_path) {
  const int error = rename_to_free_name(AT_FDCWD, path, new_path);
  if (error == EEXIST) return fail(Errc::exists, new_path + ": exists already");
  if (error != 0) return fail_errno(error, path + ": giving it the name " + new_path);
  return flush_folder_of(path);
}

}  // namespace vhdkit::image
