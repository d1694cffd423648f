// A VHD as a user meets it: opened, audited, resolved, described, checked and mended.
//
// The input is dense, so that mutations hit: the file's size in 64 bytes (2 bytes, little-endian),
// what it has (1 byte), the footer's first 88 bytes, of the header the first 96 bytes and the
// locators, then records for the BAT, bitmaps and paths: offset (4 bytes, little-endian), length (1
// byte), bytes. Checksums are made right.
#include <algorithm>
#include <cstdlib>

#include "async/memory_file.h"
#include "fuzz/write.h"
#include "libvhd/check.h"
#include "libvhd/repair.h"
#include "libvhd/vhd_layer.h"
#include "support/bytes.h"
#include "support/checked.h"
#include "tests/support/vhd_image.h"

namespace vhdkit {
namespace {

using async::MemoryFile;
using Bytes = std::span<const std::byte>;

constexpr uint8_t has_copy = 1, has_tail = 2, has_short_tail = 4, keeps_checksums = 8;

void require(bool holds) {
  if (!holds) std::abort();
}

// A MemoryFile never suspends.
template <class T>
T run(async::Task<T> task) {
  task.start();
  return task.take();
}

Bytes take(Bytes& input, size_t length) {
  const Bytes taken = input.first(std::min(length, input.size()));
  input = input.subspan(taken.size());
  return taken;
}

uint64_t take_number(Bytes& input, size_t length) {
  uint64_t number = 0;
  unsigned shift = 0;
  for (const std::byte byte : take(input, length)) {
    number |= std::to_integer<uint64_t>(byte) << shift;
    shift += 8;
  }
  return number;
}

void fill(tests::VhdBytes& structure, size_t offset, Bytes bytes) {
  std::ranges::copy(bytes, structure.bytes.begin() + ptrdiff_t(offset));
}

std::unique_ptr<MemoryFile> decode(Bytes input) {
  auto file = std::make_unique<MemoryFile>("fuzzed.vhd");
  const uint64_t size_bytes = take_number(input, 2) * 64;
  const uint64_t parts = take_number(input, 1);
  tests::VhdBytes footer{std::vector<std::byte>(512)};
  fill(footer, 0, take(input, 88));
  tests::VhdBytes header{std::vector<std::byte>(1024)};
  fill(header, 0, take(input, 96));
  fill(header, tests::vhd_header::locators, take(input, 192));
  if ((parts & keeps_checksums) == 0) {
    footer.seal(tests::vhd_footer::checksum);
    header.seal(tests::vhd_header::checksum);
  }
  require(file->resize(size_bytes).has_value());
  const auto put = [&file, size_bytes](uint64_t file_offset, Bytes bytes) {
    if (file_offset < size_bytes)
      file->store(file_offset,
                  bytes.first(std::min<uint64_t>(bytes.size(), size_bytes - file_offset)));
  };
  const uint64_t header_offset = *load<be64>(footer.bytes, tests::vhd_footer::data_offset);
  put(header_offset, header.bytes);
  while (input.size() > 5) {
    const uint64_t file_offset = take_number(input, 4);
    const size_t length = take_number(input, 1);
    put(file_offset, take(input, length));
  }
  const uint64_t tail_bytes = (parts & has_short_tail) != 0 ? 511 : 512;
  if ((parts & has_copy) != 0) put(0, footer.bytes);
  if ((parts & has_tail) != 0 && size_bytes >= tail_bytes)
    put(size_bytes - tail_bytes, footer.bytes);
  return file;
}

void check_extents(const disk::ExtentList& extents, uint64_t disk_offset, uint64_t size_bytes,
                   const File& file) {
  for (const disk::Extent& extent : extents) {
    require(extent.disk_offset == disk_offset && extent.length > 0);
    disk_offset += extent.length;
    if (extent.kind == disk::ExtentKind::data)
      require(range_fits(extent.file_offset, extent.length, file.size_bytes()));
  }
  require(disk_offset <= size_bytes);
}

void resolve_some(disk::Layer& layer, bool is_sound) {
  const uint64_t size_bytes = layer.geometry().size_bytes;
  require(size_bytes > 0 && size_bytes % 512 == 0);
  const uint64_t starts[] = {0, size_bytes - 1, size_bytes / 2, size_bytes / 3 * 2};
  for (const uint64_t start : starts)
    for (const uint64_t length : {uint64_t{1}, uint64_t{4096}, size_bytes}) {
      disk::ExtentList extents;
      const auto result = run(layer.resolve(start, std::min(length, size_bytes - start), extents));
      require(result || !is_sound);
      check_extents(extents, start, size_bytes, layer.file());
    }
}

enum class Verdict { sound, corrupt, unsupported };

Verdict open(std::unique_ptr<MemoryFile> file) {
  const auto layer = run(libvhd::open_layer(std::move(file)));
  if (!layer) return layer.error().code == Errc::corrupt ? Verdict::corrupt : Verdict::unsupported;
  const bool is_sound = run((*layer)->audit()).has_value();
  resolve_some(**layer, is_sound);
  (void)(*layer)->describe();
  return is_sound ? Verdict::sound : Verdict::corrupt;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes input = std::as_bytes(std::span(data, size));
  auto file = decode(input);
  disk::Findings findings;
  disk::BlockUsage usage;
  require(run(libvhd::check(*file, findings, usage)).has_value());
  const bool is_corrupt = findings.count(disk::Severity::corruption) > 0;
  const Verdict before = open(decode(input));
  require(before != Verdict::corrupt || is_corrupt);
  const auto mended = run(libvhd::repair_footers(*file));
  if (mended && !mended->empty()) require(open(std::move(file)) == before);
  // One half of all inputs.
  if (input.size() % 2 == 0) {
    auto writable = run(libvhd::open_layer(decode(input), {.writable = true}));
    if (writable) fuzz::write_sectors(std::move(*writable));
  }
  return 0;
}

}  // namespace vhdkit
