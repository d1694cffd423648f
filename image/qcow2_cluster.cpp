#include "image/qcow2_cluster.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <memory>

namespace vhdkit::image::qcow2 {
namespace {

std::unexpected<Error> damaged(const std::string& where, std::string_view what) {
  return fail(Errc::corrupt, fmt::format("{}: {}", where, what));
}

std::unexpected<Error> too_short(const std::string& where, size_t got, size_t wanted) {
  return damaged(where, fmt::format("{:#x} bytes come out, not a cluster of {:#x}", got, wanted));
}

struct EndInflate {
  void operator()(z_stream* stream) const { inflateEnd(stream); }
};

// Raw deflate, without zlib's header and checksum.
Result<void> inflate_cluster(std::span<const std::byte> compressed, std::span<std::byte> cluster,
                             const std::string& where) {
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
    return fail(Errc::no_space, where + ": zlib gets no memory");
  const std::unique_ptr<z_stream, EndInflate> end(&stream);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(compressed.data()));
  stream.avail_in = uInt(compressed.size());
  stream.next_out = reinterpret_cast<Bytef*>(cluster.data());
  stream.avail_out = uInt(cluster.size());
  const int result = inflate(&stream, Z_FINISH);
  if (stream.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR)) return {};
  if (result == Z_DATA_ERROR)
    return damaged(where, stream.msg != nullptr ? stream.msg : "invalid deflate data");
  return too_short(where, stream.total_out, cluster.size());
}

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

Result<void> decompress_zstd(std::span<const std::byte> compressed, std::span<std::byte> cluster,
                             const std::string& where) {
  // A window larger than any cluster is never needed, and its memory would be the file's choice.
  constexpr int max_window_bits = 23;
  const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  if (context == nullptr) return fail(Errc::no_space, where + ": zstd gets no memory");
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, max_window_bits);
  ZSTD_inBuffer in{compressed.data(), compressed.size(), 0};
  ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
  // Several frames may make one cluster.
  while (out.pos < out.size) {
    const size_t in_before = in.pos;
    const size_t out_before = out.pos;
    const size_t result = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(result)) return damaged(where, ZSTD_getErrorName(result));
    if (in.pos == in_before && out.pos == out_before)
      return too_short(where, out.pos, cluster.size());
  }
  return {};
}

}  // namespace

Result<void> decompress_cluster(CompressionType type, std::span<const std::byte> compressed,
                                std::span<std::byte> cluster, const std::string& where) {
  switch (type) {
    case CompressionType::zlib:
      return inflate_cluster(compressed, cluster, where);
    case CompressionType::zstd:
      return decompress_zstd(compressed, cluster, where);
  }
  __builtin_unreachable();
}

}  // namespace vhdkit::image::qcow2
