#include "hypervisor/runner/output_file.h"

#include <fcntl.h>

#include <cerrno>

namespace vhdkit::hypervisor {

Result<Descriptor> open_to_write(const std::string& path, int flags) {
  Descriptor file(
      open(path.c_str(), O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, 0666));
  if (file.is_open()) return file;
  if (errno == ENXIO) return fail(Errc::not_found, path + ": is a pipe that nobody reads from");
  return fail_errno(errno, path);
}

}  // namespace vhdkit::hypervisor
