#include "hypervisor/sandbox/filters.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "hypervisor/kvm/counted_list.h"
#include "support/descriptor.h"

namespace vhdkit::hypervisor {
namespace {

using Calls = std::span<const int>;
using Requests = std::span<const unsigned long>;

// --- the calls ---

// Of glibc's memory, threads and clocks, and of what is open already.
constexpr int calls_of_all[] = {
    SYS_read,         SYS_write,          SYS_writev,         SYS_close,
    SYS_poll,         SYS_ppoll,          SYS_futex,          SYS_sched_yield,
    SYS_brk,          SYS_munmap,         SYS_mremap,         SYS_madvise,
    SYS_gettimeofday, SYS_clock_gettime,  SYS_nanosleep,      SYS_clock_nanosleep,
    SYS_getpid,       SYS_gettid,         SYS_getrandom,      SYS_sched_getaffinity,
    SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rseq,           SYS_set_robust_list,
    SYS_exit,         SYS_exit_group,     SYS_restart_syscall};

// The kick of a processor goes through KVM_RUN, its interrupts' wires are eventfds.
constexpr int calls_of_processor[] = {SYS_eventfd2};

// Transfers by the ring, whose own list is in async/ring.cpp, and by calls where there is none.
constexpr int calls_of_loop[] = {
    SYS_io_uring_enter,  SYS_preadv,        SYS_pwritev,   SYS_pwritev2, SYS_pread64,
    SYS_pwrite64,        SYS_fsync,         SYS_fdatasync, SYS_eventfd2, SYS_timerfd_create,
    SYS_timerfd_settime, SYS_epoll_create1, SYS_epoll_ctl};

// How long a file is that is open already.
constexpr int calls_of_loader[] = {SYS_fstat, SYS_newfstatat};

// Reading by path. What they lead to is Landlock's business.
constexpr int calls_of_reader[] = {SYS_newfstatat, SYS_statx,      SYS_lseek,      SYS_getcwd,
                                   SYS_readlink,   SYS_readlinkat, SYS_getdents64, SYS_fstat};
// Files that grow, shrink, come and go; whose group a new one will have.
constexpr int calls_of_writer[] = {SYS_ftruncate, SYS_fallocate, SYS_unlink,    SYS_unlinkat,
                                   SYS_rename,    SYS_renameat,  SYS_renameat2, SYS_linkat,
                                   SYS_faccessat, SYS_access,    SYS_faccessat2};
// What a file has that takes another's place. Without capabilities an owner gives a file to groups
// of its own only, and attributes give what modes do.
constexpr int calls_of_successor[] = {SYS_fchown, SYS_flistxattr, SYS_fgetxattr, SYS_fsetxattr};

constexpr int calls_of_server[] = {SYS_accept4, SYS_recvfrom, SYS_sendto};
constexpr int calls_of_waiter_for_signals[] = {SYS_rt_sigtimedwait, SYS_rt_sigaction};
// The next filter, a terminal's and a processor's signals, a report, sockets that go.
constexpr int calls_of_starter[] = {SYS_seccomp, SYS_rt_sigaction, SYS_ftruncate, SYS_unlink};
// Rings, and Landlock, by which a process only loses.
constexpr int calls_of_beginning[] = {SYS_io_uring_setup, SYS_io_uring_register,
                                      SYS_landlock_create_ruleset, SYS_landlock_add_rule,
                                      SYS_landlock_restrict_self};

// --- the requests of ioctl ---

// Those with a list of any length, by the number that the kernel knows.
constexpr unsigned long counted(unsigned long request) {
  return CountedList<std::byte>::request(request);
}

// A terminal that has to be as it was, whoever dies.
constexpr unsigned long requests_of_all[] = {TCGETS, TCSETS};
constexpr unsigned long requests_of_processor[] = {KVM_RUN,
                                                   KVM_GET_REGS,
                                                   KVM_SET_REGS,
                                                   KVM_GET_SREGS,
                                                   KVM_SET_SREGS,
                                                   counted(KVM_GET_MSRS),
                                                   counted(KVM_SET_MSRS),
                                                   KVM_ENABLE_CAP,
                                                   KVM_GET_CLOCK,
                                                   KVM_IRQFD,
                                                   counted(KVM_SET_GSI_ROUTING),
                                                   KVM_GET_PIT2,
                                                   KVM_SET_PIT2,
                                                   KVM_GET_IRQCHIP,
                                                   KVM_SET_IRQCHIP};
constexpr unsigned long requests_of_storage[] = {BLKGETSIZE64, FICLONERANGE};
constexpr unsigned long requests_of_bus[] = {KVM_IOEVENTFD, KVM_GET_CLOCK};
// A pause sets clocks back.
constexpr unsigned long requests_of_control[] = {counted(KVM_GET_MSRS), KVM_GET_CLOCK,
                                                 KVM_SET_CLOCK,         KVM_HAS_DEVICE_ATTR,
                                                 KVM_GET_DEVICE_ATTR,   KVM_SET_DEVICE_ATTR};
constexpr unsigned long requests_of_main[] = {KVM_CREATE_VM,
                                              KVM_SET_USER_MEMORY_REGION,
                                              KVM_SET_IDENTITY_MAP_ADDR,
                                              KVM_SET_TSS_ADDR,
                                              KVM_CREATE_IRQCHIP,
                                              KVM_ENABLE_CAP,
                                              KVM_CREATE_VCPU,
                                              KVM_X86_SET_MSR_FILTER,
                                              counted(KVM_GET_SUPPORTED_CPUID),
                                              counted(KVM_SET_CPUID2),
                                              KVM_GET_TSC_KHZ,
                                              KVM_CREATE_PIT2,
                                              KVM_SET_CLOCK};

// --- the kinds ---

// What may be opened by path.
enum class Files : uint8_t { none, read, change };

struct List {
  std::vector<Calls> calls;
  std::vector<Requests> requests;
  Files files = Files::none;
  bool starts_threads = false;
};

List list_of(ThreadKind kind) {
  switch (kind) {
    case ThreadKind::loader:
      return {.calls = {calls_of_loader}, .requests = {}, .starts_threads = true};
    case ThreadKind::processor:
      return {.calls = {calls_of_processor}, .requests = {requests_of_processor}};
    case ThreadKind::storage:
      return {.calls = {calls_of_loop, calls_of_reader, calls_of_writer, calls_of_successor},
              .requests = {requests_of_storage},
              .files = Files::change};
    case ThreadKind::bus:
      return {.calls = {calls_of_loop}, .requests = {requests_of_bus}};
    case ThreadKind::console:
      return {.calls = {calls_of_server}, .requests = {}};
    case ThreadKind::control:
      return {.calls = {calls_of_server}, .requests = {requests_of_control}};
    case ThreadKind::signals:
      return {.calls = {calls_of_waiter_for_signals}, .requests = {}};
    case ThreadKind::main:
      break;
  }
  // Processors inherit its filter.
  return {.calls = {calls_of_starter, calls_of_processor, calls_of_reader},
          .requests = {requests_of_processor, requests_of_main},
          .files = Files::read,
          .starts_threads = true};
}

List list_of_all() {
  List all{.calls = {calls_of_beginning},
           .requests = {},
           .files = Files::change,
           .starts_threads = true};
  for (const ThreadKind kind :
       {ThreadKind::main, ThreadKind::loader, ThreadKind::processor, ThreadKind::storage,
        ThreadKind::bus, ThreadKind::console, ThreadKind::control, ThreadKind::signals}) {
    const List list = list_of(kind);
    all.calls.insert(all.calls.end(), list.calls.begin(), list.calls.end());
    all.requests.insert(all.requests.end(), list.requests.begin(), list.requests.end());
  }
  return all;
}

// --- from a list to a program, by libseccomp ---

class Builder {
 public:
  Builder() : context_(seccomp_init(SCMP_ACT_KILL_PROCESS), &seccomp_release) {
    if (context_ == nullptr) error_ = -ENOMEM;
    note(seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    // A search by halves, in place of a walk along the list.
    note(seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));
  }

  template <class... Conditions>
  void allow(int call, Conditions... conditions) {
    add(SCMP_ACT_ALLOW, call, conditions...);
  }
  template <class... Conditions>
  void refuse(int error, int call, Conditions... conditions) {
    add(SCMP_ACT_ERRNO(uint32_t(error)), call, conditions...);
  }

  // Through a file without a name: the library writes to nothing else.
  Result<std::vector<sock_filter>> program() {
    const Descriptor file(memfd_create("filter", MFD_CLOEXEC));
    if (!file.is_open()) return fail_errno(errno, "a filter of calls");
    if (error_ == 0) error_ = seccomp_export_bpf(context_.get(), file.number());
    if (error_ != 0) return fail_errno(-error_, "a filter of calls");
    const off_t length = lseek(file.number(), 0, SEEK_END);
    std::vector<sock_filter> program(size_t(length) / sizeof(sock_filter));
    if (pread(file.number(), program.data(), size_t(length), 0) != length)
      return fail_errno(errno, "a filter of calls");
    return program;
  }

 private:
  template <class... Conditions>
  void add(uint32_t action, int call, Conditions... conditions) {
    const int added =
        seccomp_rule_add_exact(context_.get(), action, call, sizeof...(conditions), conditions...);
    // Lists overlap.
    if (added != -EEXIST) note(added);
  }
  void note(int error) {
    if (error_ == 0) error_ = error;
  }

  std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
  int error_ = 0;  // the first one, negative
};

// The kernel looks at the lower half of such arguments, and so do these.
constexpr uint64_t lower_half = 0xffff'ffff;
scmp_arg_cmp argument_is(unsigned index, uint64_t value) {
  return {.arg = index, .op = SCMP_CMP_MASKED_EQ, .datum_a = lower_half, .datum_b = value};
}
scmp_arg_cmp argument_has(unsigned index, uint64_t bits, uint64_t but_none_of) {
  return {.arg = index, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits | but_none_of, .datum_b = bits};
}

void allow_requests(Builder& builder, Requests requests) {
  for (const unsigned long request : requests)
    builder.allow(SYS_ioctl, argument_is(1, request & lower_half));
}

void allow_what_all_need(Builder& builder) {
  for (const int call : calls_of_all) builder.allow(call);
  allow_requests(builder, requests_of_all);
  // No memory becomes code.
  builder.allow(SYS_mmap, argument_has(2, 0, PROT_EXEC));
  builder.allow(SYS_mprotect, argument_has(2, 0, PROT_EXEC));
  // Signals go to this process's own threads: kicks, and whoever aborts.
  builder.allow(SYS_tgkill, argument_is(0, uint64_t(getpid())));
}

// Threads of this process, and no processes. Of clone3's flags, which lie in memory, a filter sees
// nothing: told that there is none, glibc takes clone.
void allow_threads(Builder& builder) {
  builder.allow(SYS_clone, argument_has(0, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, CLONE_NEWNS));
  builder.refuse(ENOSYS, SYS_clone3);
  builder.allow(SYS_prctl, argument_is(0, PR_SET_NAME));
}

// To Landlock a file that is opened for neither reading nor writing (O_ACCMODE) is none that it
// looks at, and its older versions do not look at O_TRUNC; neither looks at modes that give rights
// away. Of fcntl there are locks, what fdopendir() asks, and for files that were opened without
// waiting the way back from that: other requests, and flags, have signals sent.
void allow_files(Builder& builder, Files files) {
  constexpr uint64_t beyond_rights = lower_half & ~uint64_t{0777};
  builder.allow(SYS_openat, argument_has(2, O_RDONLY, O_ACCMODE | O_CREAT | O_TRUNC));
  for (const int request : {F_OFD_SETLK, F_OFD_GETLK, F_GETFL, F_SETFD})
    builder.allow(SYS_fcntl, argument_is(1, uint64_t(request)));
  builder.allow(SYS_fcntl, argument_is(1, F_SETFL), argument_is(2, 0));
  // Long chains have many.
  builder.allow(SYS_prlimit64, argument_is(0, 0), argument_is(1, RLIMIT_NOFILE));
  if (files != Files::change) return;
  builder.allow(SYS_openat, argument_has(2, O_RDWR, O_WRONLY | O_TRUNC));
  builder.allow(SYS_fchmod, argument_has(1, 0, beyond_rights));
}

// glibc 2.36's free() asks once, by an open with these very flags, whether memory is overcommitted,
// and goes on without an answer.
void refuse_files(Builder& builder) {
  builder.refuse(EACCES, SYS_openat, argument_is(2, O_RDONLY | O_CLOEXEC));
}

Result<std::vector<sock_filter>> program_of(const List& list) {
  Builder builder;
  allow_what_all_need(builder);
  for (const Calls calls : list.calls)
    for (const int call : calls) builder.allow(call);
  for (const Requests requests : list.requests) allow_requests(builder, requests);
  if (list.starts_threads) allow_threads(builder);
  if (list.files == Files::none) {
    refuse_files(builder);
  } else {
    allow_files(builder, list.files);
  }
  return builder.program();
}

}  // namespace

Result<Filter> Filter::of(ThreadKind kind) {
  Filter filter;
  TRY_LET(filter.program_, program_of(list_of(kind)));
  return filter;
}

Result<Filter> Filter::of_beginning() {
  Filter filter;
  TRY_LET(filter.program_, program_of(list_of_all()));
  return filter;
}

Result<void> Filter::install() const {
  const sock_fprog program{.len = uint16_t(program_.size()),
                           .filter = const_cast<sock_filter*>(program_.data())};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
    return fail_errno(errno, "installing a filter of calls");
  return {};
}

}  // namespace vhdkit::hypervisor
