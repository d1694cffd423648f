#include "hypervisor/runner/file_content.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "support/descriptor.h"

namespace vhdkit::hypervisor {
namespace {

constexpr off_t most_bytes = off_t{2} << 30;

}  // namespace

Result<std::vector<std::byte>> read_file(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!file.is_open() || fstat(file.number(), &status) != 0) return fail_errno(errno, path);
  if (S_ISDIR(status.st_mode)) return fail_errno(EISDIR, path);
  if (!S_ISREG(status.st_mode)) return fail(Errc::unsupported, path + ": is no file");
  if (status.st_size > most_bytes) return fail(Errc::unsupported, path + ": is larger than 2 GiB");
  std::vector<std::byte> bytes(size_t(status.st_size));
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t count = read(file.number(), bytes.data() + at, bytes.size() - at);
    if (count < 0 && errno != EINTR) return fail_errno(errno, path);
    if (count == 0) bytes.resize(at);
    if (count > 0) at += size_t(count);
  }
  return bytes;
}

}  // namespace vhdkit::hypervisor
