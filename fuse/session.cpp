#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "fuse/inner_mount.h"
#include "fuse/mount_point.h"
#include "fuse/report.h"

namespace vhdkit::fuse {
namespace {

// Between two looks at the image's own transfers. Each may keep a buffer of request_bytes.
constexpr int requests_at_once = 16;
constexpr size_t max_requests_in_progress = 32;
// While there are always requests.
constexpr unsigned rounds_between_looks = 64;
constexpr int ending_signals[] = {SIGTERM, SIGINT, SIGHUP};

Deadline deadline_of_users() { return std::chrono::steady_clock::now() + time_for_users; }

Result<void> take_both_away(const std::string& outer, const std::optional<InnerFileSystem>& inner) {
  if (!inner || !is_there(*inner)) return take_away(outer, deadline_of_users());
  // Whatever becomes of this process meanwhile.
  sync_inner(*inner);
  const Deadline deadline = deadline_of_users();
  auto inner_end = unmount_inner(*inner, deadline);
  // The inner one's file is open until its last user is gone, or its driver has written the rest;
  // the outer one is in use as long.
  auto outer_end = take_away(outer, inner_end ? deadline_of_users() : deadline);
  return inner_end ? outer_end : inner_end;
}

}  // namespace

Session::Session(async::Loop& loop, FileSystem& files, const SessionOptions& options)
    : loop_(loop),
      files_(files),
      mount_point_(options.mount_point),
      max_in_progress_(options.one_at_a_time ? 1 : max_requests_in_progress) {}

Session::~Session() {
  if (session_ != nullptr) {
    if (is_mounted_) fuse_session_unmount(session_);
    fuse_session_destroy(session_);
  }
  for (const int descriptor : {watched_, signals_})
    if (descriptor >= 0) close(descriptor);
}

Result<std::unique_ptr<Session>> Session::mount(async::Loop& loop, FileSystem& files,
                                                const SessionOptions& options) {
  std::unique_ptr<Session> session(new Session(loop, files, options));
  TRY(session->open(options));
  return session;
}

Result<void> Session::open(const SessionOptions& options) {
  fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&arguments, "vhd-mount");
  for (const std::string& option : options.options) {
    fuse_opt_add_arg(&arguments, "-o");
    fuse_opt_add_arg(&arguments, option.c_str());
  }
  if (options.debug) fuse_opt_add_arg(&arguments, "-d");
  session_ = fuse_session_new(&arguments, &FileSystem::operations(),
                              sizeof(FileSystem::operations()), &files_);
  fuse_opt_free_args(&arguments);
  if (session_ == nullptr)
    return fail(Errc::invalid_argument, "libfuse does not take these mount options");
  if (fuse_session_mount(session_, mount_point_.c_str()) != 0)
    return fail(Errc::io, mount_point_ + ": cannot be mounted");
  is_mounted_ = true;
  const int descriptor = fuse_session_fd(session_);
  if (fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) != 0)
    return fail_errno(errno, "/dev/fuse");
  watched_ = epoll_create1(EPOLL_CLOEXEC);
  if (watched_ < 0) return fail_errno(errno, "epoll");
  TRY(watch(descriptor));
  return watch_signals();
}

Result<void> Session::watch(int descriptor) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
  if (epoll_ctl(watched_, EPOLL_CTL_ADD, descriptor, &event) != 0)
    return fail_errno(errno, "epoll");
  return {};
}

Result<void> Session::watch_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : ending_signals) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signals_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) return fail_errno(errno, "signalfd");
  return watch(signals_);
}

Async<void> Session::serve(Helper& helper) {
  CO_TRY(watch(helper.descriptor()));
  for (unsigned round = 0;; ++round) {
    const int taken = take_requests();
    if (taken < 0) break;
    if (taken == 0 || round % rounds_between_looks == 0) look_at_others(helper);
    if (fuse_session_exited(session_)) break;
    // Then the inner one has gone, and what is mounted there by now is somebody else's.
    if (is_over_ && is_over_()) unmount(helper, With::nothing);
    co_await files_.fewer_than(max_in_progress_);
    co_await loop_.readable(watched_);
  }
  // Nothing of it is there any more; what libfuse would unmount could be somebody else's.
  is_mounted_ = false;
  CO_TRY(co_await files_.finish());
  while (is_unmounting_ && !is_unmounted_) {
    co_await loop_.readable(helper.descriptor());
    helper.finish_job();
  }
  co_return end_;
}

// How many; -1: the kernel has ended the session.
int Session::take_requests() {
  int count = 0;
  while (count < requests_at_once) {
    if (!take_request()) return errno == EAGAIN ? count : -1;
    ++count;
    if (files_.requests_in_progress() >= max_in_progress_) break;
  }
  return count;
}

// False: errno says why there was none.
bool Session::take_request() {
  BufferPool::Buffer bytes = files_.take_back();
  if (bytes == nullptr) bytes = files_.buffers().take(request_bytes);
  ssize_t length = 0;
  do {
    length = read(fuse_session_fd(session_), bytes.get(), request_bytes);
  } while (length < 0 && (errno == EINTR || errno == ENOENT));
  fuse_buf buffer = {};
  buffer.mem = bytes.get();
  files_.lend(std::move(bytes));
  if (length < 0) return false;
  buffer.size = size_t(length);
  fuse_session_process_buf(session_, &buffer);
  if (!fuse_session_exited(session_)) return true;
  errno = ENODEV;
  return false;
}

void Session::look_at_others(Helper& helper) {
  signalfd_siginfo signal;
  while (read(signals_, &signal, sizeof signal) == ssize_t(sizeof signal)) unmount(helper);
  helper.finish_job();
}

void Session::unmount(Helper& helper, With with) {
  if (std::exchange(is_unmounting_, true)) return;
  const auto job = [this, with] {
    return take_both_away(mount_point_, with == With::inner ? inner_ : std::nullopt);
  };
  helper.start(job, [this](const Result<void>& done) {
    is_unmounted_ = true;
    // Who loses nothing is told, no more.
    if (!done && done.error().code == Errc::busy)
      report(done.error().message);
    else
      end_ = done;
    // Files that are still open would keep the session for ever.
    fuse_session_exit(session_);
  });
}

}  // namespace vhdkit::fuse
