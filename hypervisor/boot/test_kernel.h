// Kernels for tests: files with their fields at the offsets that the specifications give.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor::tests {

constexpr uint64_t mib = uint64_t{1} << 20;

struct TestFile {
  std::vector<std::byte> bytes;

  template <class T>
  TestFile& put(size_t offset, T value) {
    if (bytes.size() < offset + sizeof value) bytes.resize(offset + sizeof value);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    return *this;
  }
  TestFile& put_text(size_t offset, std::string_view text) {
    if (bytes.size() < offset + text.size()) bytes.resize(offset + text.size());
    std::memcpy(bytes.data() + offset, text.data(), text.size());
    return *this;
  }
};

inline std::unique_ptr<GuestRam> make_ram(uint64_t byte_count = 64 * mib) {
  auto ram = GuestRam::create(byte_count);
  REQUIRE(ram);
  return std::move(*ram);
}

template <class T>
T value_at(GuestRam& ram, uint64_t address) {
  T value;
  const auto place = ram.range(address, sizeof value);
  REQUIRE(place.size() == sizeof value);
  std::memcpy(&value, place.data(), sizeof value);
  return value;
}

inline std::string text_at(GuestRam& ram, uint64_t address, size_t length) {
  const auto place = ram.range(address, length);
  REQUIRE(place.size() == length);
  return {reinterpret_cast<const char*>(place.data()), length};
}

// Documentation/arch/x86/boot.rst: a relocatable bzImage of protocol 2.15 with one sector of setup
// code and two pages of kernel, which wants to be at 16 MiB and takes 8 MiB there.
inline TestFile bz_image() {
  TestFile file;
  file.put(0x1f1, uint8_t{1});           // setup_sects
  file.put(0x1f4, uint32_t{8192 / 16});  // syssize
  file.put(0x1fe, uint16_t{0xaa55});     // boot_flag
  file.put(0x200, uint16_t{0x6aeb});     // jump to 0x26c
  file.put_text(0x202, "HdrS");
  file.put(0x206, uint16_t{0x020f});       // version
  file.put(0x211, uint8_t{1});             // loadflags: LOADED_HIGH
  file.put(0x22c, uint32_t{0x7fff'ffff});  // initrd_addr_max
  file.put(0x230, uint32_t{0x20'0000});    // kernel_alignment
  file.put(0x234, uint8_t{1});             // relocatable_kernel
  file.put(0x236, uint16_t{1});            // xloadflags: XLF_KERNEL_64
  file.put(0x238, uint32_t{2047});         // cmdline_size
  file.put(0x258, uint64_t{0x100'0000});   // pref_address
  file.put(0x260, uint32_t{8 << 20});      // init_size
  file.put_text(0x400, "kernel");
  file.put(0x400 + 8191, uint8_t{0x77});
  return file;
}

// System V ABI: an executable with one segment of 0x100 bytes at 2 MiB, which takes 0x2000 in
// memory, and a note with a PVH entry at 2 MiB + 0x10.
inline TestFile elf_image() {
  TestFile file;
  file.put_text(0,
                "\x7f"
                "ELF");
  file.put(4, uint8_t{2}).put(5, uint8_t{1}).put(6, uint8_t{1});  // 64 bits, little-endian
  file.put(16, uint16_t{2}).put(18, uint16_t{62});                // executable, x86-64
  file.put(24, uint64_t{0x20'0040});                              // e_entry
  file.put(32, uint64_t{64});                                     // e_phoff
  file.put(54, uint16_t{56}).put(56, uint16_t{2});                // e_phentsize, e_phnum
  // PT_LOAD: p_type, p_offset, p_paddr, p_filesz, p_memsz
  file.put(64, uint32_t{1}).put(64 + 8, uint64_t{0x200});
  file.put(64 + 24, uint64_t{0x20'0000}).put(64 + 32, uint64_t{0x100});
  file.put(64 + 40, uint64_t{0x2000});
  // PT_NOTE
  file.put(120, uint32_t{4}).put(120 + 8, uint64_t{0x180});
  file.put(120 + 32, uint64_t{20}).put(120 + 40, uint64_t{20}).put(120 + 48, uint64_t{4});
  file.put(0x180, uint32_t{4}).put(0x184, uint32_t{4}).put(0x188, uint32_t{18});
  file.put_text(0x18c, std::string_view("Xen\0", 4));
  file.put(0x190, uint32_t{0x20'0010});
  file.put_text(0x200, "kernel");
  file.put(0x2ff, uint8_t{0x77});
  return file;
}

}  // namespace vhdkit::hypervisor::tests
