#include "hypervisor/runner/file_content.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace vhdkit::hypervisor {
namespace {

constexpr off_t most_bytes = off_t{2} << 30;

}  // namespace

FileContent::FileContent(FileContent&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

FileContent& FileContent::operator=(FileContent&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

FileContent::~FileContent() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

Result<std::shared_ptr<const BootFile>> BootFile::open(const std::string& path) {
  // A FIFO, which is none, would wait for its writer.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) return fail_errno(errno, path);
  std::shared_ptr<const BootFile> opened(new BootFile(path, std::move(file)));
  TRY(opened->length());
  return opened;
}

Result<size_t> BootFile::length() const {
  struct stat status{};
  if (fstat(file_.number(), &status) != 0) return fail_errno(errno, path_);
  if (S_ISDIR(status.st_mode)) return fail_errno(EISDIR, path_);
  if (!S_ISREG(status.st_mode)) return fail(Errc::unsupported, path_ + ": is no file");
  if (status.st_size > most_bytes) return fail(Errc::unsupported, path_ + ": is larger than 2 GiB");
  return size_t(status.st_size);
}

Result<FileContent> BootFile::content() const {
  TRY_LET(const size_t byte_count, length());
  if (byte_count == 0) return FileContent();
  void* const bytes =
      mmap(nullptr, byte_count, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file_.number(), 0);
  if (bytes == MAP_FAILED) return fail_errno(errno, path_);
  return FileContent({static_cast<std::byte*>(bytes), byte_count});
}

}  // namespace vhdkit::hypervisor
