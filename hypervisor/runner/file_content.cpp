#include "hypervisor/runner/file_content.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "support/descriptor.h"

namespace vhdkit::hypervisor {
namespace {

constexpr off_t most_bytes = off_t{2} << 30;

}  // namespace

Result<FileContent> FileContent::open(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!file.is_open() || fstat(file.number(), &status) != 0) return fail_errno(errno, path);
  if (S_ISDIR(status.st_mode)) return fail_errno(EISDIR, path);
  if (!S_ISREG(status.st_mode)) return fail(Errc::unsupported, path + ": is no file");
  if (status.st_size > most_bytes) return fail(Errc::unsupported, path + ": is larger than 2 GiB");
  if (status.st_size == 0) return FileContent();
  const auto length = size_t(status.st_size);
  void* const bytes =
      mmap(nullptr, length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file.number(), 0);
  if (bytes == MAP_FAILED) return fail_errno(errno, path);
  return FileContent({static_cast<std::byte*>(bytes), length});
}

FileContent::FileContent(FileContent&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

FileContent& FileContent::operator=(FileContent&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

FileContent::~FileContent() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace vhdkit::hypervisor
