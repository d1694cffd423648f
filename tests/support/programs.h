// Other programs as witnesses, and what only some machines allow.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace vhdkit::tests {

// The line that ./dev test counts and shows: "skipped: TEST: REASON".
inline void skip(const std::string& reason) {
  std::printf("skipped: %s: %s\n", doctest::getContextOptions()->currentTest->m_name,
              reason.c_str());
}

// Whether a shell command exits with 0. Its output is not shown.
inline bool run(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

inline bool has_program(const std::string& name) { return run("command -v " + name); }

// A file system for one test. Mounted in a mount namespace of this process's own, so that it goes
// away however the test ends.
class Mount {
 public:
  // arguments: of mount(8), without the folder.
  Mount(const std::string& arguments, std::string folder) : folder_(std::move(folder)) {
    static const bool is_private =
        unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    is_mounted_ = is_private &&
                  run("mkdir -p '" + folder_ + "' && mount " + arguments + " '" + folder_ + "'");
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  ~Mount() {
    if (is_mounted_) umount2(folder_.c_str(), MNT_DETACH);
  }

  bool is_mounted() const { return is_mounted_; }

 private:
  std::string folder_;
  bool is_mounted_;
};

// A file as a block device, as long as this lives.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file) {
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int backing = open(file.c_str(), O_RDWR | O_CLOEXEC);
    // Somebody else may take the free one first.
    for (int i = 0; control >= 0 && backing >= 0 && path_.empty() && i < 10; ++i)
      attach(ioctl(control, LOOP_CTL_GET_FREE), backing);
    if (backing >= 0) close(backing);
    if (control >= 0) close(control);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  // Whoever closes it last ends it.
  ~LoopDevice() {
    if (device_ >= 0) close(device_);
  }

  const std::string& path() const { return path_; }  // empty: not allowed here

 private:
  void attach(int number, int backing) {
    if (number < 0) return;
    const std::string path = "/dev/loop" + std::to_string(number);
    device_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
    loop_config config{};
    config.fd = uint32_t(backing);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (device_ >= 0 && ioctl(device_, LOOP_CONFIGURE, &config) == 0) {
      path_ = path;
    } else if (device_ >= 0) {
      close(device_);
      device_ = -1;
    }
  }

  int device_ = -1;
  std::string path_;
};

}  // namespace vhdkit::tests
