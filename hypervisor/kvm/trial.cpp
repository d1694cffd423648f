#include "hypervisor/kvm/trial.h"

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "hypervisor/kvm/virtual_machine.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t page_table_address = 0x1000;
constexpr uint64_t directory_pointers_address = 0x2000;
constexpr uint64_t directory_address = 0x3000;
constexpr uint64_t gdt_address = 0x4000;
constexpr uint64_t code_address = 0x8000;
constexpr uint64_t data_address = 0x9000;
constexpr uint64_t stack_address = 0xb000;

constexpr uint64_t page_is_usable = 7;  // present, writable, for programs too
constexpr uint64_t page_is_large = 0x80;

constexpr uint8_t verdict_port = 0x10;
constexpr uint8_t expected_verdict = 0x5a;
constexpr std::chrono::seconds patience{20};

// null, null, code 0x10, data 0x18, and for programs data 0x20, code 0x28: as SYSCALL and SYSRET
// count them from STAR.
constexpr uint64_t gdt[] = {0,
                            0,
                            0x00af'9b00'0000'ffff,
                            0x00cf'9300'0000'ffff,
                            0x00cf'f300'0000'ffff,
                            0x00af'fb00'0000'ffff};

// What stock kernels do first, and what KVMs without hardware underneath have been seen to fail at;
// an instruction a line.
// clang-format off
constexpr uint8_t code[] = {
    0x48, 0x8d, 0x3d, 0xf9, 0x0f, 0x00, 0x00,  // lea rdi, [data]
    0x31, 0xc0,                                // xor eax, eax
    0x31, 0xd2,                                // xor edx, edx
    0xbb, expected_verdict, 0x00, 0x00, 0x00,  // mov ebx, expected_verdict
    0x31, 0xc9,                                // xor ecx, ecx
    0xf0, 0x48, 0x0f, 0xc7, 0x0f,              // lock cmpxchg16b [rdi]
    0x0f, 0x20, 0xe0,                          // mov rax, cr4
    0x0d, 0x00, 0x06, 0x00, 0x00,              // or eax, OSFXSR | OSXMMEXCPT
    0x0f, 0x22, 0xe0,                          // mov cr4, rax
    0xf3, 0x0f, 0x6f, 0x07,                    // movdqu xmm0, [rdi]
    0xf3, 0x0f, 0x7f, 0x47, 0x10,              // movdqu [rdi + 16], xmm0
    0xb9, 0x80, 0x00, 0x00, 0xc0,              // mov ecx, EFER
    0x0f, 0x32,                                // rdmsr
    0x83, 0xc8, 0x01,                          // or eax, SCE
    0x0f, 0x30,                                // wrmsr
    0xb9, 0x81, 0x00, 0x00, 0xc0,              // mov ecx, STAR
    0x31, 0xc0,                                // xor eax, eax
    0xba, 0x10, 0x00, 0x1b, 0x00,              // mov edx, 0x001b0010
    0x0f, 0x30,                                // wrmsr
    0xb9, 0x82, 0x00, 0x00, 0xc0,              // mov ecx, LSTAR
    0x48, 0x8d, 0x05, 0x19, 0x00, 0x00, 0x00,  // lea rax, [handler]
    0x31, 0xd2,                                // xor edx, edx
    0x0f, 0x30,                                // wrmsr
    0x48, 0x8d, 0x0d, 0x09, 0x00, 0x00, 0x00,  // lea rcx, [program]
    0x41, 0xbb, 0x02, 0x00, 0x00, 0x00,        // mov r11d, 2
    0x48, 0x0f, 0x07,                          // sysret
    0x8a, 0x47, 0x10,                          // program: mov al, [rdi + 16]
    0x0f, 0x05,                                // syscall
    0xe6, verdict_port,                        // handler: out verdict_port, al
    0xf4,                                      // hlt
};
// clang-format on
static_assert(code_address + 0x1000 == data_address && std::size(code) == 0x6d);

Result<void> load_trial(GuestRam& ram) {
  const uint64_t tables[] = {directory_pointers_address | page_is_usable,
                             directory_address | page_is_usable,
                             0 | page_is_usable | page_is_large};
  const uint64_t places[] = {page_table_address, directory_pointers_address, directory_address};
  for (size_t i = 0; i < std::size(tables); ++i) {
    TRY(ram.write(places[i], std::as_bytes(std::span(tables + i, 1))));
  }
  TRY(ram.write(gdt_address, std::as_bytes(std::span(gdt))));
  TRY(ram.write(code_address, std::as_bytes(std::span(code))));
  return {};
}

// Kicks the processor when time is up.
class Watchdog {
 public:
  Watchdog(Processor& processor, pthread_t runner)
      : thread_([this, &processor, runner] {
          std::unique_lock lock(mutex_);
          if (changed_.wait_for(lock, patience, [this] { return is_over_; })) return;
          has_lost_patience_ = true;
          processor.kick(runner);
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  bool has_lost_patience() const { return has_lost_patience_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_over_ = false;
  std::atomic<bool> has_lost_patience_ = false;
  std::thread thread_;
};

std::unexpected<Error> broken(const std::string& what) {
  return fail(Errc::unsupported, "this KVM does not run 64-bit guests: " + what);
}

Result<void> judge(Processor& processor) {
  const kvm_run& exit = processor.exit();
  if (exit.exit_reason != KVM_EXIT_IO) {
    const auto registers = processor.registers();
    return broken("a trial of a few instructions ended for reason " +
                  std::to_string(exit.exit_reason) + " at byte " +
                  std::to_string(registers ? registers->rip - code_address : 0) + " of " +
                  std::to_string(std::size(code)));
  }
  const bool is_right = exit.io.port == verdict_port && exit.io.direction == KVM_EXIT_IO_OUT &&
                        processor.port_data().front() == std::byte{expected_verdict};
  if (!is_right) return broken("a trial of a few instructions had a wrong result");
  return {};
}

}  // namespace

Result<void> try_long_mode(const Kvm& kvm) {
  prepare_kicks();
  TRY_LET(const auto ram, GuestRam::create(GuestRam::smallest_bytes, GuestRam::Pages::small));
  TRY(load_trial(*ram));
  TRY_LET(const auto machine, VirtualMachine::create_bare(kvm, *ram));
  TRY_LET(const auto processor, machine->create_processor(0));
  TRY_LET(const auto cpuid, kvm.supported_cpuid());
  TRY(processor->set_cpuid(cpuid));
  TRY(processor->enter_at({.mode = Entry::Mode::long_mode,
                           .instruction = code_address,
                           .boot_data = 0,
                           .stack = stack_address,
                           .gdt = gdt_address,
                           .gdt_bytes = sizeof gdt,
                           .page_table = page_table_address}));
  const Watchdog watchdog(*processor, pthread_self());
  for (;;) {
    TRY_LET(const bool has_ended, processor->run());
    if (has_ended) return judge(*processor);
    // Something else may have interrupted it.
    if (watchdog.has_lost_patience()) return broken("a trial of a few instructions did not end");
  }
}

}  // namespace vhdkit::hypervisor
