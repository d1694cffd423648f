#include "async/file_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <system_error>

namespace vhdkit::async {
namespace {

namespace fs = std::filesystem;

// What the kernel calls the file in a line about a lock: "fd:01:1234".
std::string lock_place(const struct stat& status) {
  char text[64];
  std::snprintf(text, sizeof text, "%02x:%02x:%llu", major(status.st_dev), minor(status.st_dev),
                static_cast<unsigned long long>(status.st_ino));
  return text;
}

bool holds_lock(const fs::path& descriptor_info, const std::string& place) {
  std::ifstream info(descriptor_info);
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("lock:") && line.find(' ' + place + ' ') != std::string::npos) return true;
  return false;
}

// What cannot be read any more, since the process is gone, holds nothing.
bool has_locked(const fs::path& process, const std::string& place) {
  std::error_code unseen;
  fs::directory_iterator info(process / "fdinfo", unseen);
  for (const fs::directory_iterator end; info != end; info.increment(unseen))
    if (holds_lock(info->path(), place)) return true;
  return false;
}

bool is_process(const fs::path& folder) {
  return std::ranges::all_of(folder.filename().string(),
                             [](char c) { return c >= '0' && c <= '9'; });
}

// A lock of an open file description has no process; /proc/PID/fdinfo shows who has it open.
// Processes of other users stay unseen.
std::optional<std::string> find_holder(const std::string& place) {
  std::error_code ignored;
  fs::directory_iterator process("/proc", ignored);
  for (const fs::directory_iterator end; process != end; process.increment(ignored))
    if (is_process(process->path()) && has_locked(process->path(), place))
      return process->path().filename().string();
  return std::nullopt;
}

std::string process_name(const std::string& process) {
  std::string name;
  std::ifstream file("/proc/" + process + "/comm");
  std::getline(file, name);
  return "process " + process + (name.empty() ? "" : " (" + name + ")");
}

std::optional<std::string> holder_of(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) return std::nullopt;
  const auto process = find_holder(lock_place(status));
  if (!process) return std::nullopt;
  return process_name(*process);
}

constexpr int most_attempts = 300;
// To look at every process takes longer than a pause.
constexpr int attempts_per_search = 50;

// QEMU's bytes: a read lock at uses + n says "I do n", one at bars + n "nobody else may do n".
constexpr off_t uses = 100;
constexpr off_t bars = 200;
constexpr off_t consistent_read = 0;
constexpr off_t write = 1;
constexpr off_t resize = 3;

constexpr off_t reader_takes[] = {uses + consistent_read, bars + write, bars + resize};
constexpr off_t keeps_reader_out[] = {uses + write, uses + resize, bars + consistent_read};
constexpr off_t writer_takes[] = {uses + consistent_read, uses + write, uses + resize,
                                  bars + consistent_read, bars + write, bars + resize};
constexpr auto& keeps_writer_out = writer_takes;

struct flock lock_of(short type, off_t begin, off_t length) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = begin;
  lock.l_len = length;
  return lock;
}

bool is_conflict(int error) { return error == EAGAIN || error == EACCES; }

// 0, or errno; EAGAIN where somebody else holds what must be free.
int take_locks(LockUse use, int descriptor) {
  const bool writes = use == LockUse::writing;
  const auto taken = writes ? std::span<const off_t>(writer_takes) : reader_takes;
  const auto must_be_free = writes ? std::span<const off_t>(keeps_writer_out) : keeps_reader_out;
  for (const off_t byte : taken) {
    struct flock lock = lock_of(F_RDLCK, byte, 1);
    if (fcntl(descriptor, F_OFD_SETLK, &lock) != 0) return errno;
  }
  for (const off_t byte : must_be_free) {
    struct flock lock = lock_of(F_WRLCK, byte, 1);
    if (fcntl(descriptor, F_OFD_GETLK, &lock) != 0) return errno;
    if (lock.l_type != F_UNLCK) return EAGAIN;
  }
  return 0;
}

}  // namespace

Result<bool> LockAttempts::try_once() {
  const int error = take_locks(use_, descriptor_);
  if (error == 0) return true;
  // Given back first: they would be found as somebody's.
  unlock(descriptor_);
  if (!is_conflict(error) && use_ == LockUse::reading) return true;
  if (!is_conflict(error)) return fail_errno(error, name_ + ": locking");
  const bool searches = count_ % attempts_per_search == 0;
  const bool is_last = ++count_ == most_attempts;
  if (!searches && !is_last) return false;
  const auto holder = holder_of(descriptor_);
  if (!holder && !is_last) return false;
  return fail(Errc::busy, name_ + ": in use by " + holder.value_or("another process"));
}

void unlock(int descriptor) noexcept {
  struct flock all = lock_of(F_UNLCK, 0, 0);
  fcntl(descriptor, F_OFD_SETLK, &all);
}

}  // namespace vhdkit::async
