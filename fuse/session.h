// A mount: the kernel's requests read and answered on the image's loop, until it is unmounted.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/loop.h"
#include "fuse/ending.h"
#include "fuse/file_system.h"
#include "fuse/helper.h"

namespace vhdkit::fuse {

struct SessionOptions {
  std::string mount_point;
  std::vector<std::string> options;  // for libfuse and the kernel, as behind -o
  bool debug = false;                // libfuse prints every request
  bool one_at_a_time = false;
};

// From now on SIGTERM, SIGINT and SIGHUP are for Session::serve(), which finds those that came
// before it too: what has been made by then has to be taken away.
void hold_ending_signals();

// Loop-bound. The file system outlives it.
class Session {
 public:
  // Mounts. Errors: io, with libfuse's own words on standard error.
  static Result<std::unique_ptr<Session>> mount(async::Loop& loop, FileSystem& files,
                                                const SessionOptions& options);
  ~Session();

  // Serves until the mount is gone, or until SIGTERM, SIGINT or SIGHUP took it away, for which its
  // users get some time (ending.h); every request that came before is answered then. helper: its
  // jobs may use the mount; their ends are told here. Errors: io, also where it was taken from
  // users who lost something.
  Async<void> serve(Helper& helper);

  // As the signals do.
  void unmount(Helper& helper);
  bool is_unmounting() const { return is_unmounting_; }
  // By the helper's job that has mounted it from a file of this mount: what ends this mount ends
  // that one first.
  void set_inner(const Inner& inner) { inner_.emplace(inner); }
  // REQUIRES: there is an inner one. Called after each request that was looked at; true: its file
  // is closed for good, and this mount ends.
  void set_end_condition(std::function<bool()> condition) { is_over_ = std::move(condition); }

 private:
  Session(async::Loop& loop, FileSystem& files, const SessionOptions& options);
  Result<void> open(const SessionOptions& options);
  Result<void> watch(int descriptor);
  Result<void> watch_signals();
  int take_requests();
  bool take_request();
  void look_at_others(Helper& helper);
  void end_by(Helper& helper, Helper::Job job);

  async::Loop& loop_;
  FileSystem& files_;
  std::string mount_point_;
  Mounted mounted_{};           // once it is
  std::optional<Inner> inner_;  // of the helper's jobs
  size_t max_in_progress_;      // requests
  fuse_session* session_ = nullptr;
  bool is_mounted_ = false;
  bool is_unmounting_ = false;
  bool is_unmounted_ = false;
  Result<void> end_;
  int watched_ = -1;  // epoll: the session, signals, the helper
  int signals_ = -1;
  std::function<bool()> is_over_;
};

}  // namespace vhdkit::fuse
