#include "hypervisor/boot/relocations.h"

#include <doctest/doctest.h>

#include "hypervisor/boot/test_kernel.h"

namespace vhdkit::hypervisor {
namespace {

using tests::TestFile;

// As arch/x86/tools/relocs.c writes them: each list behind a zero.
std::optional<Relocations> read(std::initializer_list<uint32_t> words) {
  TestFile table;
  for (const uint32_t word : words) table.put(table.bytes.size(), word);
  return read_relocations(table.bytes);
}

// A segment of 0x100 bytes at 16 MiB, from the file's offset 0x10 on, which is mapped at 2 GiB
// below the address space's end and 16 MiB.
const ElfFile elf{.segments = {{.place = {.begin = 0x100'0000, .end = 0x100'0200},
                                .file_offset = 0x10,
                                .file_bytes = 0x100}},
                  .entry = 0x100'0000,
                  .pvh_entry = std::nullopt,
                  .byte_count = 0x110};

template <class T>
T value_at(const TestFile& file, size_t offset) {
  T value;
  std::memcpy(&value, file.bytes.data() + offset, sizeof value);
  return value;
}

TEST_CASE("a table has three lists, or two") {
  const auto three = read({0, 0x8100'0000, 0, 0x8100'0010, 0x8100'0014, 0, 0x8100'0020});
  REQUIRE(three);
  CHECK(three->added_64 == std::vector{int32_t(0x8100'0000)});
  CHECK(three->subtracted_32 == std::vector{int32_t(0x8100'0010), int32_t(0x8100'0014)});
  CHECK(three->added_32 == std::vector{int32_t(0x8100'0020)});
  const auto two = read({0, 0, 0x8100'0020});
  REQUIRE(two);
  CHECK(two->added_64.empty());
  CHECK(two->subtracted_32.empty());
  CHECK(two->added_32 == std::vector{int32_t(0x8100'0020)});
  const auto none = read({});
  REQUIRE(none);
  CHECK(none->empty());
}

TEST_CASE("what is no table is none") {
  CHECK_FALSE(read({0, 0x8100'0000}));
  CHECK_FALSE(read({0x8100'0000, 0, 0, 0x8100'0000}));
  CHECK_FALSE(read({0, 0, 0, 0, 0x8100'0000}));
  const std::vector<std::byte> odd(9);
  CHECK_FALSE(read_relocations(odd));
}

TEST_CASE("a distance is added to addresses, and taken from what is relative to what stays") {
  TestFile file;
  file.bytes.resize(0x110);
  file.put(0x10, uint64_t{0xffff'ffff'8100'1234});
  file.put(0x20, uint32_t{0x0000'0100});
  file.put(0x24, uint32_t{0xfffc'0000});
  file.put(0x10c, uint32_t{0x8100'5678});
  const Relocations relocations{.added_64 = {int32_t(0x8100'0000)},
                                .subtracted_32 = {int32_t(0x8100'0010), int32_t(0x8100'0014)},
                                .added_32 = {int32_t(0x8100'00fc)}};
  CHECK(relocate(file.bytes, elf, relocations, 0x120'0000));
  CHECK(value_at<uint64_t>(file, 0x10) == 0xffff'ffff'8220'1234);
  CHECK(value_at<uint32_t>(file, 0x20) == 0xfee0'0100);
  CHECK(value_at<uint32_t>(file, 0x24) == 0xfedc'0000);
  CHECK(value_at<uint32_t>(file, 0x10c) == 0x8220'5678);
}

TEST_CASE("a place that the file does not have is not written to") {
  TestFile file;
  file.bytes.resize(0x110);
  const auto fails = [&](const Relocations& relocations) {
    return !relocate(file.bytes, elf, relocations, 0x20'0000);
  };
  const auto low = [](uint32_t address) { return std::vector{int32_t(address)}; };
  // Of 8 bytes, the last four are past the file's; of what is zeroes; below; of another mapping.
  CHECK(fails({.added_64 = low(0x8100'00fc), .subtracted_32 = {}, .added_32 = {}}));
  CHECK(fails({.added_64 = {}, .subtracted_32 = low(0x8100'0100), .added_32 = {}}));
  CHECK(fails({.added_64 = {}, .subtracted_32 = {}, .added_32 = low(0x80ff'fffc)}));
  CHECK(fails({.added_64 = {}, .subtracted_32 = {}, .added_32 = low(0x0100'0000)}));
  CHECK(fails({.added_64 = {}, .subtracted_32 = {}, .added_32 = low(0xffff'fffe)}));
}

}  // namespace
}  // namespace vhdkit::hypervisor
