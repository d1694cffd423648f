#include "hypervisor/hyperv/cpuid.h"

#include <bit>
#include <cstdint>
#include <optional>

namespace vhdkit::hypervisor {
namespace {

constexpr uint32_t first_hypervisor_leaf = 0x4000'0000;
constexpr uint32_t last_hypervisor_leaf = 0x4fff'ffff;

// TLFS, "Feature Identification": leaf 0x40000003.
enum Privilege : uint32_t {
  access_reference_counter = 1 << 1,
  access_synic = 1 << 2,
  access_apic_registers = 1 << 4,
  access_hypercalls = 1 << 5,
  access_vp_index = 1 << 6,
  access_reset = 1 << 7,
  access_reference_tsc = 1 << 9,
  access_frequencies = 1 << 11,
  access_tsc_invariant_control = 1 << 15,
};
enum PrivilegeHigh : uint32_t { post_messages = 1 << 4, signal_events = 1 << 5 };
enum Feature : uint32_t { frequency_registers = 1 << 8, crash_registers = 1 << 10 };

// TLFS, "Implementation Recommendations": leaf 0x40000004.
enum Recommendation : uint32_t {
  use_apic_registers = 1 << 3,
  relaxed_timing = 1 << 5,
  // It costs what virtualizes local APICs: guests that have the choice end interrupts themselves.
  deprecate_auto_eoi = 1 << 9,
};

constexpr uint32_t never_notify_of_spinning = 0xffff'ffff;
constexpr uint32_t max_hyperv_leaf = 0x4000'0006;
constexpr uint32_t build_number = 20348;  // Windows Server 2022's, for who looks

constexpr uint32_t is_hypervisor_present = uint32_t{1} << 31;  // leaf 1, ecx
constexpr uint32_t has_x2apic = 1 << 21;                       // leaf 1, ecx
constexpr uint32_t has_tsc_deadline = 1 << 24;                 // leaf 1, ecx
constexpr uint32_t has_several_threads = 1 << 28;              // leaf 1, edx
constexpr uint32_t apic_timer_always_runs = 1 << 2;            // leaf 6, eax
constexpr uint32_t has_topology_extensions = 1 << 22;          // leaf 0x80000001, ecx
constexpr uint32_t tsc_is_invariant = 1 << 8;                  // leaf 0x80000007, edx

kvm_cpuid_entry2 leaf(uint32_t function, uint32_t eax, uint32_t ebx = 0, uint32_t ecx = 0,
                      uint32_t edx = 0) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.eax = eax;
  entry.ebx = ebx;
  entry.ecx = ecx;
  entry.edx = edx;
  return entry;
}

void append_hyperv_leaves(std::vector<kvm_cpuid_entry2>& entries, const Topology& topology) {
  uint32_t privileges = access_reference_counter | access_synic | access_hypercalls |
                        access_vp_index | access_reset | access_frequencies;
  uint32_t recommendations = relaxed_timing | deprecate_auto_eoi;
  if (topology.tsc_is_sound) privileges |= access_reference_tsc | access_tsc_invariant_control;
  if (topology.has_eoi_assist) {
    privileges |= access_apic_registers;
    recommendations |= use_apic_registers;
  }
  // "Microsoft Hv", as three registers.
  entries.push_back(leaf(0x4000'0000, max_hyperv_leaf, 0x7263'694d, 0x666f'736f, 0x7648'2074));
  entries.push_back(leaf(0x4000'0001, 0x3123'7648));  // "Hv#1"
  entries.push_back(leaf(0x4000'0002, build_number, 10 << 16));
  entries.push_back(leaf(0x4000'0003, privileges, post_messages | signal_events, 0,
                         frequency_registers | crash_registers));
  entries.push_back(leaf(0x4000'0004, recommendations, never_notify_of_spinning));
  entries.push_back(leaf(0x4000'0005, topology.processor_count, topology.processor_count));
  entries.push_back(leaf(0x4000'0006, 0));
  // Linux reads these whatever the highest leaf is, and a processor answers an unknown leaf with
  // what it likes: said in full, so that it is nothing.
  for (uint32_t function = 0x4000'0080; function <= 0x4000'0082; ++function)
    entries.push_back(leaf(function, 0));
}

// Intel SDM 2A, CPUID leaf 0x0B: one thread in each core, all cores in one package.
void append_topology(std::vector<kvm_cpuid_entry2>& entries, unsigned processor,
                     const Topology& topology) {
  constexpr uint32_t thread_level = 1;
  constexpr uint32_t core_level = 2;
  const auto core_bits = uint32_t(std::bit_width(topology.processor_count - 1));
  kvm_cpuid_entry2 threads = leaf(0xb, 0, 1, thread_level << 8, processor);
  kvm_cpuid_entry2 cores =
      leaf(0xb, core_bits, topology.processor_count, 1 | core_level << 8, processor);
  threads.flags = cores.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  cores.index = 1;
  entries.push_back(threads);
  entries.push_back(cores);
}

void set_first_leaf(kvm_cpuid_entry2& entry, unsigned processor, const Topology& topology) {
  constexpr uint32_t cache_line = 0xff00;
  entry.ebx = (entry.ebx & (cache_line | 0xff)) | processor << 24 | topology.processor_count << 16;
  entry.ecx |= is_hypervisor_present | has_x2apic | has_tsc_deadline;
  entry.edx &= ~has_several_threads;
  if (topology.processor_count > 1) entry.edx |= has_several_threads;
}

// The leaf as the guest has it; nothing where it has none.
std::optional<kvm_cpuid_entry2> adapted(kvm_cpuid_entry2 entry, unsigned processor,
                                        const Topology& topology) {
  switch (entry.function) {
    case 1:
      set_first_leaf(entry, processor, topology);
      break;
    case 4:  // caches: none of them is shared by threads; cores of the package
      if ((entry.eax & 0x1f) != 0)
        entry.eax = (entry.eax & 0x3fff) | (topology.processor_count - 1) << 26;
      break;
    case 6:
      entry.eax |= apic_timer_always_runs;
      break;
    case 0xb:          // said anew
    case 0x1f:         // the same again, for processors with dies and modules
    case 0x8000'001e:  // AMD's way to say it, with the number of a node that is none
      return std::nullopt;
    case 0x8000'0001:
      entry.ecx &= ~has_topology_extensions;
      break;
    case 0x8000'0007:
      if (!topology.tsc_is_sound) entry.edx &= ~tsc_is_invariant;
      break;
    case 0x8000'0008:
      entry.ecx = (entry.ecx & ~0xf0ffU) | (topology.processor_count - 1);
      break;
    default:
      if (entry.function >= first_hypervisor_leaf && entry.function <= last_hypervisor_leaf)
        return std::nullopt;
  }
  return entry;
}

}  // namespace

std::vector<kvm_cpuid_entry2> guest_cpuid(std::span<const kvm_cpuid_entry2> supported,
                                          unsigned processor, const Topology& topology) {
  std::vector<kvm_cpuid_entry2> entries;
  for (const kvm_cpuid_entry2& entry : supported)
    if (const auto kept = adapted(entry, processor, topology)) entries.push_back(*kept);
  append_topology(entries, processor, topology);
  append_hyperv_leaves(entries, topology);
  return entries;
}

}  // namespace vhdkit::hypervisor
