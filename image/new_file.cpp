#include "image/new_file.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

#include "image/durable_names.h"
#include "support/descriptor.h"
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

// With one, the group's bits of a mode are a mask of what the list gives.
bool has_access_list(int descriptor) {
  return fgetxattr(descriptor, "system.posix_acl_access", nullptr, 0) > 0;
}

// What a file that was made with these permissions may have of them.
mode_t mode_allowed(int descriptor, const Permissions& permissions) {
  if (!permissions.group) return permissions.mode;
  struct stat status;
  if (has_access_list(descriptor) || fstat(descriptor, &status) != 0) return 0600;
  if (status.st_gid == *permissions.group) return permissions.mode;
  const bool is_for_all = (permissions.mode & 044) == 044;
  return 0600 | (is_for_all ? 044 : 0);
}

// Whether both are kept. Where the user cannot be, the group may.
bool give_owner(int descriptor, const struct stat& status) {
  for (const uid_t user : {status.st_uid, uid_t(-1)})
    if (fchown(descriptor, user, status.st_gid) == 0) return user == status.st_uid;
  return false;
}

// A checksum of the old content would be wrong.
bool is_of_content(std::string_view attribute) {
  return attribute == "security.ima" || attribute == "security.evm";
}

// Those that the system lets us set.
void copy_extended_attributes(int from, int to) {
  std::vector<char> names(XATTR_LIST_MAX);
  std::vector<char> value(XATTR_SIZE_MAX);
  const ssize_t length = flistxattr(from, names.data(), names.size());
  for (ssize_t at = 0; at < length; at += ssize_t(std::strlen(&names[size_t(at)])) + 1) {
    const char* const name = &names[size_t(at)];
    const ssize_t size = fgetxattr(from, name, value.data(), value.size());
    if (size >= 0 && !is_of_content(name)) fsetxattr(to, name, value.data(), size_t(size), 0);
  }
}

}  // namespace

Permissions permissions_beside(const std::string& path) {
  const Descriptor shown(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (!shown.is_open() || has_access_list(shown.number()) || fstat(shown.number(), &status) != 0)
    return {.mode = 0600, .group = std::nullopt};
  return {.mode = 0600 | (status.st_mode & 044), .group = status.st_gid};
}

Result<std::unique_ptr<NewFile>> NewFile::begin(async::Loop& loop, const std::string& path,
                                                bool replace, const Permissions& permissions) {
  return begin(loop, path, replace ? Target::replaced : Target::none, permissions);
}

Result<std::unique_ptr<NewFile>> NewFile::begin_successor(async::Loop& loop,
                                                          const std::string& path) {
  return begin(loop, path, Target::succeeded, Permissions());
}

Result<std::unique_ptr<NewFile>> NewFile::begin(async::Loop& loop, const std::string& path,
                                                Target target, const Permissions& permissions) {
  std::unique_ptr<NewFile> file(new NewFile(path, target));
  TRY_LET(const std::string real_path, follow_links(path));
  TRY(file->open_folder(real_path));
  TRY(file->take_target(loop));
  TRY(file->create_temporary(loop, permissions));
  if (file->replaced_ != nullptr) TRY(file->take_over_attributes());
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

Result<void> NewFile::take_target(async::Loop& loop) {
  using async::SystemFile;
  struct stat status;
  if (fstatat(folder_, name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT && target_ != Target::succeeded) return {};
    return fail_errno(errno, path_);
  }
  if (S_ISDIR(status.st_mode)) return fail(Errc::unsupported, path_ + ": is a directory");
  if (!S_ISREG(status.st_mode))
    return fail(Errc::unsupported, path_ + ": exists and is no regular file");
  if (target_ == Target::none) return fail(Errc::exists, path_ + ": exists already");
  // To replace a file nobody needs to be able to write it.
  const auto access =
      target_ == Target::succeeded ? SystemFile::Access::read_write : SystemFile::Access::read_only;
  TRY_LET(replaced_,
          SystemFile::open(loop, path_, access, {.locking = SystemFile::Locking::alone}));
  return {};
}

Result<void> NewFile::create_temporary(async::Loop& loop, const Permissions& permissions) {
  // What others may do with a replaced file is not known yet.
  int descriptor = open_temporary(replaced_ != nullptr ? 0600 : permissions.mode);
  const mode_t allowed = descriptor < 0 || replaced_ != nullptr
                             ? permissions.mode
                             : mode_allowed(descriptor, permissions);
  if (allowed != permissions.mode) {
    // Whoever has opened it by now sees nothing of what is written.
    unlinkat(folder_, temporary_name_.c_str(), 0);
    ::close(descriptor);
    descriptor = open_temporary(allowed);
  }
  if (descriptor < 0) {
    const int error = errno;
    temporary_name_.clear();
    return fail_errno(error, path_ + ": creating a file in its folder");
  }
  TRY_LET(file_, async::SystemFile::adopt(loop, descriptor, path_));
  return {};
}

// -1: errno says why.
int NewFile::open_temporary(mode_t mode) {
  constexpr int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  int descriptor = -1;
  do {
    temporary_name_ = temporary_name_for(name_);
    descriptor = openat(folder_, temporary_name_.c_str(), flags, mode);
  } while (descriptor < 0 && errno == EEXIST);
  return descriptor;
}

Result<void> NewFile::take_over_attributes() {
  const int from = replaced_->descriptor(0, 0);
  const int to = file_->descriptor(0, 0);
  struct stat status;
  if (fstat(from, &status) != 0) return fail_errno(errno, path_);
  if (!give_owner(to, status) && target_ == Target::succeeded)
    return fail_errno(EPERM, path_ + ": giving its owner to the file that takes its place");
  copy_extended_attributes(from, to);
  // Last: a new owner takes rights away.
  if (fchmod(to, status.st_mode & 0777) != 0)
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
  if (target_ == Target::none)
    error = rename_to_free_name(folder_, temporary_name_, name_);
  else if (renameat(folder_, temporary_name_.c_str(), folder_, name_.c_str()) != 0)
    error = errno;
  if (error == 0) return {};
  if (error == EEXIST) return fail(Errc::exists, path_ + ": exists already");
  return fail_errno(error, path_ + ": giving the finished file its name");
}

}  // namespace vhdkit::image
