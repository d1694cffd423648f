#include "image/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "image/durable_names.h"
#include "support/guid.h"

namespace vhdkit::image {
namespace {

constexpr int max_link_count = 40;  // as the kernel's

// Where path leads to in the end, whether or not something is there.
Result<std::string> follow_links(const std::string& path) {
  std::filesystem::path target = path;
  for (int i = 0; i < max_link_count; ++i) {
    std::error_code error;
    const std::filesystem::path next = std::filesystem::read_symlink(target, error);
    if (error) return target.string();
    target = target.parent_path() / next;
  }
  return fail_errno(ELOOP, path);
}

// Room for ".", ".vhdkit-" and six characters in a name of at most 255 bytes.
constexpr size_t max_kept_name_bytes = 255 - 1 - 8 - 6;

std::string temporary_name_for(const std::string& name) {
  return "." + name.substr(0, max_kept_name_bytes) + ".vhdkit-" +
         Guid::random().to_string().substr(0, 6);
}

}  // namespace

Result<std::unique_ptr<NewFile>> NewFile::begin(async::Loop& loop, const std::string& path,
                                                bool replace) {
  std::unique_ptr<NewFile> file(new NewFile(path, replace));
  TRY_LET(const std::string target, follow_links(path));
  TRY(file->open_folder(target));
  TRY(file->refuse_unfit_target());
  TRY(file->create_temporary(loop));
  return file;
}

NewFile::~NewFile() {
  if (!temporary_name_.empty()) unlinkat(folder_, temporary_name_.c_str(), 0);
  if (folder_ >= 0) ::close(folder_);
}

Result<void> NewFile::open_folder(const std::string& target) {
  const std::filesystem::path folder = std::filesystem::path(target).parent_path();
  name_ = std::filesystem::path(target).filename().string();
  if (name_.empty() || name_ == "." || name_ == "..")
    return fail(Errc::unsupported, path_ + ": is the name of a directory, not of a file");
  const std::string folder_path = folder.empty() ? "." : folder.string();
  folder_ = ::open(folder_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_ < 0) return fail_errno(errno, path_ + ": opening its folder " + folder_path);
  return {};
}

Result<void> NewFile::refuse_unfit_target() {
  struct stat status;
  if (fstatat(folder_, name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, path_);
  }
  if (S_ISDIR(status.st_mode)) return fail(Errc::unsupported, path_ + ": is a directory");
  if (!S_ISREG(status.st_mode))
    return fail(Errc::unsupported, path_ + ": exists and is no regular file");
  if (!replace_) return fail(Errc::exists, path_ + ": exists already");
  replaced_mode_ = status.st_mode & 07777;
  return {};
}

Result<void> NewFile::create_temporary(async::Loop& loop) {
  int descriptor = -1;
  do {
    temporary_name_ = temporary_name_for(name_);
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    descriptor = openat(folder_, temporary_name_.c_str(), flags, 0644);
  } while (descriptor < 0 && errno == EEXIST);
  if (descriptor < 0) {
    const int error = errno;
    temporary_name_.clear();
    return fail_errno(error, path_ + ": creating a file in its folder");
  }
  TRY_LET(file_, async::SystemFile::adopt(loop, descriptor, path_));
  if (replaced_mode_ != 0 && fchmod(descriptor, replaced_mode_) != 0)
    return fail_errno(errno, path_ + ": setting its permissions");
  return {};
}

Async<void> NewFile::commit() {
  assert(!temporary_name_.empty());
  CO_TRY(co_await file_->flush());
  CO_TRY(rename_to_target());
  temporary_name_.clear();
  // File systems that cannot flush a folder say EINVAL.
  if (fsync(folder_) != 0 && errno != EINVAL)
    co_return fail_errno(errno, path_ + ": flushing its folder");
  co_return Result<void>();
}

Result<void> NewFile::rename_to_target() {
  int error = 0;
  if (!replace_)
    error = rename_to_free_name(folder_, temporary_name_, name_);
  else if (renameat(folder_, temporary_name_.c_str(), folder_, name_.c_str()) != 0)
    error = errno;
  if (error == 0) return {};
  if (error == EEXIST) return fail(Errc::exists, path_ + ": exists already");
  return fail_errno(error, path_ + ": giving the finished file its name");
}

}  // namespace vhdkit::image
