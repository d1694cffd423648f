// Reads the parent locators of both formats and looks for the parent's places. The input: a byte
// that says which format; for VHDX the metadata item; for VHD the Dynamic Disk Header and what lies
// behind it, at offset 512.
#include "fuzz/input.h"
#include "image/parent_search.h"
#include "libvhd/parent_locator.h"
#include "vhdx/parent_locator.h"

namespace vhdkit {
namespace {

constexpr const char* child = "/fuzz/child/image";

void search(const disk::ParentReference& reference) {
  const std::vector<image::PathMapping> mappings = {{"C:\\vm", "/fuzz/mapped"},
                                                    {"\\\\server\\share", "/fuzz/mapped"}};
  for (const std::string& path : image::parent_candidates(child, reference, mappings)) {
    fuzz::require(path.starts_with("/fuzz/child/") || path.starts_with("/fuzz/mapped"),
                  "a Windows path is no absolute path here");
    fuzz::require(!path.contains('\0'), "a path has no zero inside");
  }
}

void read_vhdx(std::span<const std::byte> item) {
  const auto locator = vhdx::parse_parent_locator(item, "fuzz.vhdx");
  if (locator) search(vhdx::parent_reference(*locator));
}

void read_vhd(std::span<const std::byte> bytes) {
  const auto raw = load<libvhd::DynamicHeader>(bytes);
  if (!raw) return;
  async::MemoryFile file("fuzz.vhd");
  file.store(512, bytes);
  const libvhd::DynamicDiskHeader header = libvhd::header_values(*raw);
  const auto located = fuzz::run(libvhd::read_parent_locators(file, header, file.size_bytes()));
  fuzz::require(located.has_value(), "a locator's damage is no error");
  search(libvhd::parent_reference(header, *located));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const bool is_vhdx = (input.take_value<std::byte>() & std::byte{1}) != std::byte{0};
  if (is_vhdx) {
    read_vhdx(input.rest());
  } else {
    read_vhd(input.rest());
  }
  return 0;
}

}  // namespace vhdkit
