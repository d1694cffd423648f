#include "hypervisor/boot/unpack.h"

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

using Packed = std::span<const std::byte>;
using Unpacked = std::span<std::byte>;

// zlib and lz4 count in ints.
constexpr size_t max_bytes = std::numeric_limits<int>::max();

bool unpack_gzip(Packed packed, Unpacked unpacked) {
  constexpr int with_gzip_header = 15 + 16;
  z_stream stream{};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
  stream.avail_in = uInt(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(unpacked.data());
  stream.avail_out = uInt(unpacked.size());
  if (inflateInit2(&stream, with_gzip_header) != Z_OK) return false;
  const int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return result == Z_STREAM_END && stream.avail_out == 0;
}

// Both of its formats.
bool unpack_lzma(Packed packed, Unpacked unpacked) {
  constexpr uint64_t max_memory_bytes = uint64_t{256} << 20;
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_auto_decoder(&stream, max_memory_bytes, 0) != LZMA_OK) return false;
  stream.next_in = reinterpret_cast<const uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  stream.next_out = reinterpret_cast<uint8_t*>(unpacked.data());
  stream.avail_out = unpacked.size();
  const lzma_ret result = lzma_code(&stream, LZMA_FINISH);
  const bool is_full = stream.avail_out == 0;
  lzma_end(&stream);
  return result == LZMA_STREAM_END && is_full;
}

bool unpack_zstd(Packed packed, Unpacked unpacked) {
  return ZSTD_decompress(unpacked.data(), unpacked.size(), packed.data(), packed.size()) ==
         unpacked.size();
}

// lz4's "legacy frame": a magic number, then blocks, each behind its packed length.
bool unpack_lz4(Packed packed, Unpacked unpacked) {
  constexpr size_t max_block_bytes = size_t{8} << 20;
  packed = packed.subspan(sizeof(le32));
  while (!packed.empty()) {
    const auto length = load<le32>(packed);
    if (!length) return false;
    packed = packed.subspan(sizeof(le32));
    if (*length > packed.size()) return false;
    const int count = LZ4_decompress_safe(reinterpret_cast<const char*>(packed.data()),
                                          reinterpret_cast<char*>(unpacked.data()), int(*length),
                                          int(std::min(unpacked.size(), max_block_bytes)));
    if (count < 0) return false;
    packed = packed.subspan(*length);
    unpacked = unpacked.subspan(size_t(count));
  }
  return unpacked.empty();
}

struct Method {
  std::array<uint8_t, 6> magic;
  size_t magic_bytes;
  bool (*unpack)(Packed, Unpacked);
};

// Linux, lib/decompress.c, and the "lz4 -l" of scripts/Makefile.lib.
constexpr Method methods[] = {
    {{0x1f, 0x8b}, 2, unpack_gzip},
    {{0xfd, '7', 'z', 'X', 'Z', 0x00}, 6, unpack_lzma},
    {{0x5d, 0x00, 0x00}, 3, unpack_lzma},
    {{0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
    {{0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
};

bool begins_with(Packed packed, const Method& method) {
  const auto magic = std::as_bytes(std::span(method.magic)).first(method.magic_bytes);
  return packed.size() >= magic.size() && std::ranges::equal(packed.first(magic.size()), magic);
}

}  // namespace

bool is_gzip(std::span<const std::byte> packed) { return begins_with(packed, methods[0]); }

bool unpack(std::span<const std::byte> packed, std::span<std::byte> unpacked) {
  if (packed.size() > max_bytes || unpacked.size() > max_bytes) return false;
  for (const Method& method : methods)
    if (begins_with(packed, method)) return method.unpack(packed, unpacked);
  return false;
}

}  // namespace vhdkit::hypervisor
