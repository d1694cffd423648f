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

bool is_process(const fs::path& folder) {
  return std::ranges::all_of(folder.filename().string(),
                             [](char c) { return c >= '0' && c <= '9'; });
}

// A lock of an open file description has no process; /proc/PID/fdinfo shows who has it open.
// Processes of other users stay unseen.
std::optional<std::string> find_holder(const std::string& place) {
  std::error_code ignored;
  for (const fs::directory_entry& process : fs::directory_iterator("/proc", ignored)) {
    if (!is_process(process.path())) continue;
    std::error_code unseen;
    for (const fs::directory_entry& info :
         fs::directory_iterator(process.path() / "fdinfo", unseen))
      if (holds_lock(info.path(), place)) return process.path().filename().string();
  }
  return std::nullopt;
}

std::string process_name(const std::string& process) {
  std::string name;
  std::ifstream file("/proc/" + process + "/comm");
  std::getline(file, name);
  return "process " + process + (name.empty() ? "" : " (" + name + ")");
}

std::string holder_of(int descriptor) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(descriptor, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
    return process_name(std::to_string(lock.l_pid));
  struct stat status;
  if (fstat(descriptor, &status) != 0) return "another process";
  const auto process = find_holder(lock_place(status));
  return process ? process_name(*process) : "another process";
}

}  // namespace

Result<void> lock_exclusively(int descriptor, const std::string& name) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(descriptor, F_OFD_SETLK, &lock) == 0) return {};
  if (errno == EAGAIN || errno == EACCES)
    return fail(Errc::busy, name + ": in use by " + holder_of(descriptor));
  return fail_errno(errno, name + ": locking");
}

}  // namespace vhdkit::async
