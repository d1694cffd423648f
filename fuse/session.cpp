#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "fuse/report.h"

namespace vhdkit::fuse {
namespace {

// Between two looks at the image's own transfers. Each may keep a buffer of request_bytes.
constexpr int requests_at_once = 16;
constexpr size_t max_requests_in_progress = 32;
// While there are always requests.
constexpr unsigned rounds_between_looks = 64;
constexpr int ending_signals[] = {SIGTERM, SIGINT, SIGHUP};

sigset_t ending_signal_set() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : ending_signals) sigaddset(&signals, signal);
  return signals;
}

}  // namespace

void hold_ending_signals() {
  const sigset_t signals = ending_signal_set();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

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
  hold_ending_signals();
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
  const auto mounted = mounted_at(mount_point_);
  if (!mounted) return fail(Errc::io, mount_point_ + ": /proc/self/mountinfo does not show it");
  mounted_ = *mounted;
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
  const sigset_t signals = ending_signal_set();
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
    if (is_over_ && is_over_())
      end_by(helper, [this] { return end_after_inner(mounted_, inner_->mounted); });
    co_await files_.fewer_than(max_in_progress_);
    co_await loop_.readable(watched_);
  }
  if (!is_unmounting_ && presence_of(mounted_) != Presence::gone)
    end_by(helper, [this] { return end_what_is_dead(mounted_, inner_); });
  // If anything of it is left, that is said; what libfuse would unmount could be somebody else's.
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

void Session::unmount(Helper& helper) {
  end_by(helper, [this] { return end_mounts(mounted_, inner_); });
}

void Session::end_by(Helper& helper, Helper::Job job) {
  if (std::exchange(is_unmounting_, true)) return;
  helper.start(std::move(job), [this](const Result<void>& done) {
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
