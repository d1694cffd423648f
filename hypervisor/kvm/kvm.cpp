#include "hypervisor/kvm/kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "hypervisor/kvm/counted_list.h"

namespace vhdkit::hypervisor {
namespace {

struct Capability {
  int number;
  const char* name;
};

constexpr Capability needed[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    {KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
};

constexpr size_t max_cpuid_entries = 256;

// Whether local APICs are virtualized by the processor itself: of the module that is loaded.
constexpr const char* apic_parameters[] = {"/sys/module/kvm_intel/parameters/enable_apicv",
                                           "/sys/module/kvm_amd/parameters/avic"};

// False also where nobody says so.
bool apics_are_software() {
  for (const char* const path : apic_parameters) {
    char value = 0;
    if (std::ifstream(path) >> value) return value == 'N' || value == '0';
  }
  return false;
}

}  // namespace

Result<int> control(int descriptor, unsigned long request, const char* name,
                    unsigned long argument) {
  const int answer = ioctl(descriptor, request, argument);
  if (answer < 0) return fail_errno(errno, name);
  return answer;
}

Result<Kvm> Kvm::open(const std::string& path) {
  Descriptor descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!descriptor.is_open()) {
    const int os_error = errno;
    const bool is_missing = os_error == ENOENT;
    return fail_errno(os_error, path + (is_missing ? " (the kernel's virtualization is not there: "
                                                     "is it switched on, and its module loaded?)"
                                                   : ""));
  }
  Kvm kvm(std::move(descriptor));
  TRY(with_context(kvm.ask(), path));
  return kvm;
}

Result<void> Kvm::ask() {
  TRY_LET(const int version, control(descriptor(), KVM_GET_API_VERSION, "KVM_GET_API_VERSION"));
  if (version != KVM_API_VERSION)
    return fail(Errc::unsupported, "it speaks version " + std::to_string(version) +
                                       " of KVM's interface, not " +
                                       std::to_string(KVM_API_VERSION));
  for (const Capability& capability : needed) {
    TRY_LET(const int answer,
            control(descriptor(), KVM_CHECK_EXTENSION, capability.name, capability.number));
    if (answer == 0)
      return fail(Errc::unsupported,
                  std::string("this KVM cannot run guests for us: it has no ") + capability.name);
  }
  TRY_LET(const int run_bytes,
          control(descriptor(), KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE"));
  run_bytes_ = size_t(run_bytes);
  TRY_LET(const int processors,
          control(descriptor(), KVM_CHECK_EXTENSION, "KVM_CAP_MAX_VCPUS", KVM_CAP_MAX_VCPUS));
  max_processors_ = unsigned(std::max(processors, 1));
  TRY_LET(const int hyperv,
          control(descriptor(), KVM_CHECK_EXTENSION, "KVM_CAP_HYPERV", KVM_CAP_HYPERV));
  has_eoi_assist_ = hyperv != 0 && apics_are_software();
  return {};
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
  using List = CountedList<kvm_cpuid_entry2>;
  List list(max_cpuid_entries);
  TRY(control(descriptor(), List::request(KVM_GET_SUPPORTED_CPUID), "KVM_GET_SUPPORTED_CPUID",
              list.data()));
  const auto entries = list.items();
  return std::vector<kvm_cpuid_entry2>(entries.begin(), entries.end());
}

}  // namespace vhdkit::hypervisor
