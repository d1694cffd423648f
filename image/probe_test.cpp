#include "image/probe.h"

#include <functional>
#include <vector>

#include "async/memory_file.h"
#include "libvhd/footer.h"
#include "support/checked.h"
#include "tests/support/await.h"

namespace vhdkit::image {
namespace {

using async::MemoryFile;

void put(MemoryFile& file, uint64_t file_offset, std::string_view text) {
  file.store(file_offset, std::as_bytes(std::span(text)));
}

// A footer as the specification has it, for a disk of 1 MiB.
libvhd::Footer footer() {
  libvhd::HardDiskFooter fields;
  fields.type = libvhd::DiskType::fixed;
  fields.original_size_bytes = fields.current_size_bytes = 1 * MiB;
  fields.geometry = libvhd::chs_of_size(1 * MiB);
  return libvhd::build_footer(fields);
}

void put_footer(MemoryFile& file, uint64_t file_offset, size_t length = 512, bool damaged = false) {
  libvhd::Footer bytes = footer();
  if (damaged) bytes.checksum = ~uint32_t(bytes.checksum);
  file.store(file_offset, bytes_of(bytes).first(length));
}

TEST_CASE("the content decides") {
  struct Case {
    const char* name;
    std::function<void(MemoryFile&)> fill;
    Format format;
    bool gzip = false;
  };
  const Case cases[] = {
      {"empty", [](MemoryFile&) {}, Format::raw},
      {"one byte", [](MemoryFile& file) { put(file, 0, "c"); }, Format::raw},
      {"511 zeroes", [](MemoryFile& file) { (void)file.resize(511); }, Format::raw},
      {"VHDX", [](MemoryFile& file) { put(file, 0, "vhdxfile"); }, Format::vhdx},
      {"qcow2", [](MemoryFile& file) { put(file, 0, "QFI\xfb"); }, Format::qcow2},
      {"gzip", [](MemoryFile& file) { put(file, 0, "\x1f\x8b\x08"); }, Format::raw, true},
      {"fixed VHD", [](MemoryFile& file) { put_footer(file, 1 * MiB); }, Format::vhd},
      {"footer of 511 bytes", [](MemoryFile& file) { put_footer(file, 1 * MiB, 511); },
       Format::vhd},
      {"damaged footer", [](MemoryFile& file) { put_footer(file, 1 * MiB, 512, true); },
       Format::vhd},
      {"footer at the head only",
       [](MemoryFile& file) {
         put_footer(file, 0);
         (void)file.resize(1 * MiB);
       },
       Format::vhd},
      {"footer in the middle",
       [](MemoryFile& file) {
         put_footer(file, 4096);
         (void)file.resize(1 * MiB);
       },
       Format::raw},
      {"VHDX whose last sector was made to look like a footer of another size",
       [](MemoryFile& file) {
         put(file, 0, "vhdxfile");
         put_footer(file, 2 * MiB - 512);
       },
       Format::vhdx},
      {"gzip whose tail is like a damaged footer",
       [](MemoryFile& file) {
         put(file, 0, "\x1f\x8b\x08");
         put_footer(file, 1 * MiB, 512, true);
       },
       Format::raw, true},
  };
  for (const Case& test : cases) {
    CAPTURE(test.name);
    MemoryFile file("disk");
    test.fill(file);
    const auto probed = tests::await(probe(file));
    REQUIRE_OK(probed);
    CHECK(probed->format == test.format);
    CHECK(probed->gzip == test.gzip);
  }
}

TEST_CASE("a fixed VHD whose guest wrote another format's header is nobody's guess") {
  for (const char* magic : {"vhdxfile", "QFI\xfb", "\x1f\x8b\x08"}) {
    MemoryFile file("disk.vhd");
    put(file, 0, magic);
    put_footer(file, 1 * MiB);
    REQUIRE_FAILS(Errc::invalid_argument, "disk.vhd: the head is that of",
                  tests::await(probe(file)));
  }
}

}  // namespace
}  // namespace vhdkit::image
