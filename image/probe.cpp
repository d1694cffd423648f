#include "image/probe.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "libvhd/footer.h"

namespace vhdkit::image {
namespace {

using Bytes = std::span<const std::byte>;

constexpr size_t sector_bytes = libvhd::sector_bytes;
static_assert(probed_bytes == sector_bytes);

bool begins_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

struct Magic {
  std::string_view bytes;
  std::string_view name;
  Probed meaning;
};
constexpr Magic magics[] = {
    {"vhdxfile", "VHDX", {.format = Format::vhdx}},
    {"QFI\xfb", "qcow2", {.format = Format::qcow2}},
    {"\x1f\x8b\x08", "gzip", {.gzip = true}},
};

const Magic* magic_of(Bytes head) {
  const auto found = std::ranges::find_if(
      magics, [head](const Magic& magic) { return begins_with(head, magic.bytes); });
  return found == std::end(magics) ? nullptr : found;
}

// Whether the file's last bytes are the valid footer of a fixed VHD of just this size.
bool is_whole_fixed_vhd(Bytes tail, uint64_t file_bytes) {
  const auto footer = libvhd::parse_footer(tail, "");
  return footer && footer->type == libvhd::DiskType::fixed &&
         footer->current_size_bytes + sector_bytes == file_bytes;
}

bool has_vhd_cookie(Bytes head, Bytes tail) {
  return libvhd::has_footer_cookie(head) || libvhd::has_footer_cookie(tail) ||
         (!tail.empty() && libvhd::has_footer_cookie(tail.subspan(1)));
}

}  // namespace

Result<Probed> probe_ends(Bytes head, Bytes tail, uint64_t file_bytes, const std::string& name) {
  if (const Magic* magic = magic_of(head)) {
    if (!is_whole_fixed_vhd(tail, file_bytes)) return magic->meaning;
    return fail(Errc::invalid_argument,
                name + ": the head is that of " + std::string(magic->name) +
                    ", the tail a fixed VHD's footer; say with -f which it is");
  }
  return Probed{.format = has_vhd_cookie(head, tail) ? Format::vhd : Format::raw};
}

Async<Probed> probe(File& file) {
  const size_t length = size_t(std::min<uint64_t>(probed_bytes, file.size_bytes()));
  std::vector<std::byte> head(length);
  std::vector<std::byte> tail(length);
  CO_TRY(co_await file.read(0, head));
  CO_TRY(co_await file.read(file.size_bytes() - length, tail));
  co_return probe_ends(head, tail, file.size_bytes(), file.name());
}

}  // namespace vhdkit::image
