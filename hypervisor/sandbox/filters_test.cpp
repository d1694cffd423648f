#include "hypervisor/sandbox/filters.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "hypervisor/sandbox/test_process.h"
#include "tests/support/await.h"
#include "tests/support/programs.h"

namespace vhdkit::hypervisor {
namespace {

constexpr ThreadKind kinds[] = {ThreadKind::main,    ThreadKind::loader, ThreadKind::processor,
                                ThreadKind::storage, ThreadKind::bus,    ThreadKind::console,
                                ThreadKind::control, ThreadKind::signals};
constexpr int cannot_be_installed = 200;

// As a thread of that kind lives: it has inherited the beginning's filter.
Death under(ThreadKind kind, const std::function<int()>& work) {
  return in_a_process([&] {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const auto beginning = Filter::of_beginning();
    const auto own = Filter::of(kind);
    if (!beginning || !own || !beginning->install() || !own->install()) return cannot_be_installed;
    return work();
  });
}

bool is_killed(ThreadKind kind, const std::function<void()>& call) {
  const Death death = under(kind, [&] {
    call();
    return 0;
  });
  return death.signal == SIGSYS;
}

bool has_none() {
  if (!has_sanitizer) return false;
  tests::skip("a sanitizer's runtime makes calls of its own");
  return true;
}

// The call and no more: what glibc does around it is not meant.
auto call(long number, auto... arguments) {
  return [=] { (void)syscall(number, arguments...); };
}

TEST_CASE("a forbidden call kills a thread of any kind with its process") {
  if (has_none()) return;
  for (const ThreadKind kind : kinds) {
    CAPTURE(thread_name(kind));
    CHECK(is_killed(kind, call(SYS_execve, "/bin/true", nullptr, nullptr)));
    CHECK(is_killed(kind, call(SYS_fork)));
    CHECK(is_killed(kind, call(SYS_clone, SIGCHLD, 0, 0, 0, 0)));
    CHECK(is_killed(kind, call(SYS_socket, AF_INET, SOCK_STREAM, 0)));
    CHECK(is_killed(kind, call(SYS_connect, -1, nullptr, 0)));
    CHECK(is_killed(kind, call(SYS_ptrace, 0, 0, 0, 0)));
    CHECK(is_killed(kind, call(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0)));
    CHECK(is_killed(kind, call(SYS_io_uring_setup, 1, nullptr)));
    CHECK(is_killed(kind, call(SYS_io_uring_register, -1, 0, nullptr, 0)));
    CHECK(is_killed(kind, call(SYS_setuid, 0)));
    CHECK(is_killed(kind, call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)));
    CHECK(is_killed(kind, call(SYS_kill, getppid(), 0)));
    CHECK(is_killed(kind, call(SYS_tgkill, getppid(), getppid(), 0)));
    CHECK(is_killed(
        kind, call(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    CHECK(is_killed(kind, call(SYS_mprotect, 0, 0, PROT_EXEC)));
    CHECK(is_killed(kind, call(SYS_ioctl, -1, TIOCSTI, "x")));
    CHECK(is_killed(kind, call(SYS_memfd_create, "x", 0)));
    CHECK(is_killed(kind, call(SYS_bpf, 0, nullptr, 0)));
  }
}

TEST_CASE("files are opened by those that serve them") {
  if (has_none()) return;
  for (const ThreadKind kind : kinds) {
    CAPTURE(thread_name(kind));
    const bool writes = kind == ThreadKind::storage;
    const bool reads = writes || kind == ThreadKind::main;
    const bool shortens = writes || kind == ThreadKind::main;
    const auto opening = [](int flags) { return call(SYS_openat, AT_FDCWD, "/dev/null", flags); };
    CHECK(is_killed(kind, opening(O_RDONLY | O_CLOEXEC | O_DIRECTORY)) != reads);
    CHECK(is_killed(kind, opening(O_RDWR | O_CLOEXEC)) != writes);
    CHECK(is_killed(kind, opening(O_RDWR | O_CREAT | O_EXCL)) != writes);
    CHECK(is_killed(kind, call(SYS_unlink, "/nowhere/at/all")) != shortens);
    CHECK(is_killed(kind, call(SYS_open, "/dev/null", O_RDONLY)));
    CHECK(is_killed(kind, call(SYS_ftruncate, -1, 0)) != shortens);
    CHECK(is_killed(kind, call(SYS_renameat2, -1, "", -1, "", 0)) != writes);
    CHECK(is_killed(kind, call(SYS_fchmod, -1, 0644)) != writes);
    CHECK(is_killed(kind, call(SYS_fchown, -1, 0, 0)) != writes);
    CHECK(is_killed(kind, call(SYS_flistxattr, -1, nullptr, 0)) != writes);
    CHECK(is_killed(kind, call(SYS_fgetxattr, -1, "user.x", nullptr, 0)) != writes);
    CHECK(is_killed(kind, call(SYS_fsetxattr, -1, "user.x", "", 0, 0)) != writes);
    CHECK(is_killed(kind, call(SYS_fcntl, -1, F_OFD_SETLK, nullptr)) != reads);
    CHECK(is_killed(kind, call(SYS_fcntl, -1, F_SETFL, 0)) != reads);
    CHECK(is_killed(kind, call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, nullptr)) != reads);
  }
}

TEST_CASE("what Landlock does not look at is nobody's") {
  if (has_none()) return;
  for (const ThreadKind kind : kinds) {
    CAPTURE(thread_name(kind));
    const auto opening = [](int flags) { return call(SYS_openat, AT_FDCWD, "/dev/null", flags); };
    // For neither reading nor writing: what is open so can be given other modes all the same.
    CHECK(is_killed(kind, opening(O_ACCMODE)));
    CHECK(is_killed(kind, opening(O_WRONLY)));
    CHECK(is_killed(kind, opening(O_RDONLY | O_TRUNC)));
    CHECK(is_killed(kind, opening(O_RDWR | O_TRUNC)));
    CHECK(is_killed(kind, call(SYS_fchmod, -1, 04755)));
    CHECK(is_killed(kind, call(SYS_chmod, "/nowhere/at/all", 0644)));
    // Signals of another's choice, to whom it likes.
    CHECK(is_killed(kind, call(SYS_fcntl, -1, F_SETOWN, 1)));
    CHECK(is_killed(kind, call(SYS_fcntl, -1, F_SETSIG, SIGKILL)));
    CHECK(is_killed(kind, call(SYS_fcntl, -1, F_NOTIFY, 0)));
    for (const int flags : {O_ASYNC, O_APPEND, O_NONBLOCK, O_DIRECT, O_NOATIME})
      CHECK(is_killed(kind, call(SYS_fcntl, -1, F_SETFL, flags)));
    CHECK(is_killed(kind, call(SYS_prlimit64, 1, RLIMIT_NOFILE, nullptr, nullptr)));
    CHECK(is_killed(kind, call(SYS_prlimit64, 0, RLIMIT_CORE, nullptr, nullptr)));
  }
}

TEST_CASE("free() is told nothing about the system's memory, and lives") {
  if (has_none()) return;
  for (const ThreadKind kind : {ThreadKind::processor, ThreadKind::bus, ThreadKind::control}) {
    const Death death = under(kind, [] {
      const long opened = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC);
      return opened < 0 ? errno : 0;
    });
    CHECK(death.code == EACCES);
  }
}

TEST_CASE("each kind asks of KVM and of files what is its own business") {
  if (has_none()) return;
  using enum ThreadKind;
  const struct {
    unsigned long request;
    std::vector<ThreadKind> allowed;
  } cases[] = {
      {KVM_RUN, {main, processor}},   {KVM_CREATE_VM, {main}}, {KVM_SET_USER_MEMORY_REGION, {main}},
      {KVM_IRQFD, {main, processor}}, {KVM_IOEVENTFD, {bus}},  {KVM_SET_DEVICE_ATTR, {control}},
      {FICLONERANGE, {storage}}};
  for (const auto& [request, allowed] : cases)
    for (const ThreadKind kind : kinds) {
      CAPTURE(thread_name(kind));
      CAPTURE(request);
      const bool is_allowed = std::ranges::find(allowed, kind) != allowed.end();
      CHECK(is_killed(kind, call(SYS_ioctl, -1, request, nullptr)) != is_allowed);
    }
}

TEST_CASE("sockets and signals are for those that wait for them") {
  if (has_none()) return;
  for (const ThreadKind kind : kinds) {
    CAPTURE(thread_name(kind));
    const bool serves = kind == ThreadKind::console || kind == ThreadKind::control;
    CHECK(is_killed(kind, call(SYS_accept4, -1, nullptr, nullptr, 0)) != serves);
    CHECK(is_killed(kind, call(SYS_rt_sigtimedwait, nullptr, nullptr, nullptr, 0)) !=
          (kind == ThreadKind::signals));
    CHECK(is_killed(kind, call(SYS_io_uring_enter, -1, 0, 0, 0, nullptr, 0)) !=
          (kind == ThreadKind::storage || kind == ThreadKind::bus));
  }
}

TEST_CASE("the first thread starts others, which take less") {
  if (has_none()) return;
  const Death death = under(ThreadKind::main, [] {
    int code = 1;
    std::thread([&] {
      const auto own = Filter::of(ThreadKind::processor);
      // Made too late: what makes it is not allowed any more.
      code = own ? 2 : 0;
    }).join();
    return code;
  });
  CHECK(death.signal == SIGSYS);
  const auto processor = Filter::of(ThreadKind::processor);
  REQUIRE_OK(processor);
  const auto thread_does = [&](const std::function<void()>& work) {
    return under(ThreadKind::main, [&] {
      std::thread([&] {
        if (processor->install()) work();
      }).join();
      return 0;
    });
  };
  CHECK(thread_does([] { std::vector<char>(1 << 20).back() = 1; }).code == 0);
  CHECK(thread_does(call(SYS_clone, SIGCHLD, 0, 0, 0, 0)).signal == SIGSYS);
  CHECK(thread_does(call(SYS_seccomp, 1, 0, nullptr)).signal == SIGSYS);
}

TEST_CASE("what every kind does all the time") {
  if (has_none()) return;
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const ThreadKind kind : kinds) {
    CAPTURE(thread_name(kind));
    const Death death = under(kind, [&] {
      const uint64_t one = 1;
      if (write(event, &one, sizeof one) != sizeof one) return 1;
      // Larger and smaller than what malloc maps.
      for (const size_t size : {100, 100'000, 10'000'000})
        if (std::string(size, 'x').back() != 'x') return 2;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::this_thread::yield();
      std::fputs("", stderr);
      return pthread_kill(pthread_self(), 0);
    });
    CHECK(death.signal == 0);
    CHECK(death.code == 0);
  }
  close(event);
}

}  // namespace
}  // namespace vhdkit::hypervisor
