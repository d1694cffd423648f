#include "image/remove_durably.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace vhdkit::image {

Result<void> remove_durably(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (unlink(path.c_str()) != 0) return fail_errno(errno, path + ": removing");
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return fail_errno(errno, folder);
  const int synced = fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // File systems that cannot flush a folder say EINVAL.
  if (synced != 0 && error != EINVAL) return fail_errno(error, folder + ": flushing");
  return {};
}

}  // namespace vhdkit::image
