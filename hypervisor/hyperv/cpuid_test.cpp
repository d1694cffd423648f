#include "hypervisor/hyperv/cpuid.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace vhdkit::hypervisor {
namespace {

using Entries = std::vector<kvm_cpuid_entry2>;

kvm_cpuid_entry2 entry(uint32_t function, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx) {
  kvm_cpuid_entry2 made{};
  made.function = function;
  made.eax = eax;
  made.ebx = ebx;
  made.ecx = ecx;
  made.edx = edx;
  return made;
}

// As KVM has them: the processor's own, and the leaves by which its guests know it.
Entries of_kvm() {
  return {entry(0, 0x10, 0x756e6547, 0x6c65746e, 0x49656e69),
          entry(1, 0x806ec, 0x01100800, 0x76fa3203, 0x0f8bfbff),
          entry(0xb, 0, 1, 0x100, 0),
          entry(0x4000'0000, 0x4000'0001, 0x4b4d564b, 0x564b4d56, 0x4d),
          entry(0x4000'0001, 0x01007efb, 0, 0, 0),
          entry(0x8000'0001, 0, 0, 1 << 22 | 1 << 5, 0),
          entry(0x8000'0007, 0, 0, 0, 1 << 8)};
}

const kvm_cpuid_entry2& find(const Entries& entries, uint32_t function, uint32_t index = 0) {
  const auto found = std::ranges::find_if(entries, [&](const kvm_cpuid_entry2& one) {
    return one.function == function && one.index == index;
  });
  REQUIRE(found != entries.end());
  return *found;
}

std::string text_of(const kvm_cpuid_entry2& leaf) {
  std::string text(12, ' ');
  std::memcpy(text.data(), &leaf.ebx, 4);
  std::memcpy(text.data() + 4, &leaf.ecx, 4);
  std::memcpy(text.data() + 8, &leaf.edx, 4);
  return text;
}

TEST_CASE("the hypervisor is Microsoft's, and nothing says KVM") {
  const Entries entries = guest_cpuid(of_kvm(), 0, {.processor_count = 1, .tsc_is_sound = true});
  CHECK(text_of(find(entries, 0x4000'0000)) == "Microsoft Hv");
  CHECK(find(entries, 0x4000'0000).eax == 0x4000'0006);
  CHECK(find(entries, 0x4000'0001).eax == 0x31237648);
  CHECK((find(entries, 1).ecx & 1U << 31) != 0);
  for (const kvm_cpuid_entry2& leaf : entries) {
    CHECK(text_of(leaf) != std::string("KVMKVMKVM\0\0\0", 12));
    const bool is_first = &leaf == &find(entries, leaf.function, leaf.index);
    CHECK(is_first);
  }
}

TEST_CASE("the privileges are those that are kept") {
  const Entries sound = guest_cpuid(of_kvm(), 0, {.processor_count = 1, .tsc_is_sound = true});
  // Reference counter 1, SynIC 2, hypercalls 5, VP index 6, reset 7, reference TSC 9, frequencies
  // 11, invariant TSC 15; messages 4, signals 5; frequencies 8, crash 10.
  CHECK(find(sound, 0x4000'0003).eax == 0x8ae6);
  CHECK(find(sound, 0x4000'0003).ebx == 0x30);
  CHECK(find(sound, 0x4000'0003).edx == 0x500);
  CHECK(find(sound, 0x8000'0007).edx == 1 << 8);
  const Entries unsound = guest_cpuid(of_kvm(), 0, {.processor_count = 1, .tsc_is_sound = false});
  CHECK(find(unsound, 0x4000'0003).eax == 0x8e6);
  CHECK(find(unsound, 0x8000'0007).edx == 0);
  // Without this a guest would leave the end of interrupts to us.
  CHECK((find(sound, 0x4000'0004).eax & 1 << 9) != 0);
  // Remote flushes, the local APIC's registers, clusters of interrupts, processor masks: the native
  // ways are better.
  CHECK((find(sound, 0x4000'0004).eax & (1 << 2 | 1 << 3 | 1 << 10 | 1 << 11)) == 0);
  // But where KVM spares a guest the exits of its local APIC.
  const Entries assisted = guest_cpuid(
      of_kvm(), 0, {.processor_count = 1, .tsc_is_sound = true, .has_eoi_assist = true});
  CHECK(find(assisted, 0x4000'0003).eax == 0x8af6);
  CHECK(find(assisted, 0x4000'0004).eax == (find(sound, 0x4000'0004).eax | 1 << 3));
}

TEST_CASE("leaves that guests read whatever the highest one is say nothing") {
  const Entries entries = guest_cpuid(of_kvm(), 0, {});
  for (const uint32_t function : {0x4000'0080, 0x4000'0081, 0x4000'0082})
    CHECK((find(entries, function).eax | find(entries, function).ebx) == 0);
}

TEST_CASE("each processor has its own number, all are cores of one socket") {
  const Entries entries = guest_cpuid(of_kvm(), 5, {.processor_count = 6, .tsc_is_sound = true});
  CHECK(find(entries, 1).ebx == 0x05060800);
  CHECK((find(entries, 1).edx & 1 << 28) != 0);
  const kvm_cpuid_entry2& threads = find(entries, 0xb, 0);
  CHECK(threads.eax == 0);
  CHECK(threads.ebx == 1);
  CHECK(threads.ecx == 0x100);
  CHECK(threads.edx == 5);
  const kvm_cpuid_entry2& cores = find(entries, 0xb, 1);
  CHECK(cores.eax == 3);  // 2^3 >= 6
  CHECK(cores.ebx == 6);
  CHECK(cores.ecx == 0x201);
  CHECK(cores.edx == 5);
  CHECK(find(entries, 0x8000'0001).ecx == 1 << 5);
}

}  // namespace
}  // namespace vhdkit::hypervisor
