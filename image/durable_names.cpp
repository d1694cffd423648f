#include "image/durable_names.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace vhdkit::image {
namespace {

Result<void> flush_folder_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
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

}  // namespace

Result<void> remove_durably(const std::string& path) {
  if (unlink(path.c_str()) != 0) return fail_errno(errno, path + ": removing");
  return flush_folder_of(path);
}

Result<void> rename_durably(const std::string& path, const std::string& new_path) {
  const int noreplace =
      renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, new_path.c_str(), RENAME_NOREPLACE);
  if (noreplace != 0 && errno == EEXIST) return fail(Errc::exists, new_path + ": exists already");
  if (noreplace != 0 && errno != EINVAL && errno != ENOSYS)
    return fail_errno(errno, path + ": giving it the name " + new_path);
  if (noreplace == 0) return flush_folder_of(path);
  // A file system without that (NFS, some FUSE): look, then rename. The moment between is theirs.
  struct stat status{};
  if (lstat(new_path.c_str(), &status) == 0)
    return fail(Errc::exists, new_path + ": exists already");
  if (rename(path.c_str(), new_path.c_str()) != 0)
    return fail_errno(errno, path + ": giving it the name " + new_path);
  return flush_folder_of(path);
}

}  // namespace vhdkit::image
