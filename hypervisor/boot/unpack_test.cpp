#include "hypervisor/boot/unpack.h"

#include <doctest/doctest.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <string_view>
#include <vector>

#include "hypervisor/boot/test_kernel.h"

namespace vhdkit::hypervisor {
namespace {

using Bytes = std::vector<std::byte>;
using tests::TestFile;

Bytes text(size_t length) {
  Bytes bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = std::byte(i * i >> 8);
  return bytes;
}

// What the library's own packer makes, of at most so many bytes.
template <class Packer>
Bytes packed_by(const Packer& pack) {
  Bytes packed(size_t{1} << 20);
  packed.resize(pack(reinterpret_cast<uint8_t*>(packed.data()), packed.size()));
  return packed;
}

const uint8_t* data_of(const Bytes& bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

Bytes gzip(const Bytes& bytes) {
  return packed_by([&](uint8_t* packed, size_t room) {
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    stream.next_in = const_cast<uint8_t*>(data_of(bytes));
    stream.avail_in = uInt(bytes.size());
    stream.next_out = packed;
    stream.avail_out = uInt(room);
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    deflateEnd(&stream);
    return size_t(stream.total_out);
  });
}

Bytes encoded(const Bytes& bytes, lzma_stream& stream) {
  return packed_by([&](uint8_t* packed, size_t room) {
    stream.next_in = data_of(bytes);
    stream.avail_in = bytes.size();
    stream.next_out = packed;
    stream.avail_out = room;
    REQUIRE(lzma_code(&stream, LZMA_FINISH) == LZMA_STREAM_END);
    const size_t used = stream.total_out;
    lzma_end(&stream);
    return used;
  });
}

// As Linux's scripts/xz_wrap.sh asks for it: the filter for x86's jumps before LZMA2, CRC32.
Bytes xz(const Bytes& bytes) {
  lzma_options_lzma options;
  REQUIRE_FALSE(lzma_lzma_preset(&options, 6));
  const lzma_filter filters[] = {
      {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  lzma_stream stream = LZMA_STREAM_INIT;
  REQUIRE(lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC32) == LZMA_OK);
  return encoded(bytes, stream);
}

Bytes lzma(const Bytes& bytes) {
  lzma_options_lzma options;
  REQUIRE_FALSE(lzma_lzma_preset(&options, 6));
  lzma_stream stream = LZMA_STREAM_INIT;
  REQUIRE(lzma_alone_encoder(&stream, &options) == LZMA_OK);
  return encoded(bytes, stream);
}

Bytes zstd(const Bytes& bytes) {
  return packed_by([&](uint8_t* packed, size_t room) {
    return ZSTD_compress(packed, room, bytes.data(), bytes.size(), 3);
  });
}

// lz4's doc/lz4_Frame_format.md, "Legacy frame": blocks of 8 MiB.
Bytes lz4(const Bytes& bytes, size_t block_bytes = size_t{8} << 20) {
  TestFile file;
  file.put(0, uint32_t{0x184c'2102});
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    const size_t length = std::min(block_bytes, bytes.size() - at);
    const int most = LZ4_compressBound(int(length));
    std::vector<char> block(static_cast<size_t>(most));
    const int used = LZ4_compress_default(reinterpret_cast<const char*>(bytes.data()) + at,
                                          block.data(), int(length), int(block.size()));
    REQUIRE(used > 0);
    file.put(file.bytes.size(), uint32_t(used));
    file.put_text(file.bytes.size(), std::string_view(block.data(), size_t(used)));
  }
  return file.bytes;
}

bool gives(const Bytes& packed, const Bytes& wanted) {
  Bytes unpacked(wanted.size());
  return unpack(packed, unpacked) && unpacked == wanted;
}

TEST_CASE("what Linux packs kernels with is known by its first bytes") {
  for (const size_t length : {1UL, 1000UL, 300'000UL}) {
    const Bytes bytes = text(length);
    CHECK(gives(gzip(bytes), bytes));
    CHECK(gives(xz(bytes), bytes));
    CHECK(gives(lzma(bytes), bytes));
    CHECK(gives(zstd(bytes), bytes));
    CHECK(gives(lz4(bytes), bytes));
  }
  const Bytes bytes = text(300'000);
  CHECK(gives(lz4(bytes, 100'000), bytes));
  CHECK(gives(lz4(text(size_t{20} << 20)), text(size_t{20} << 20)));
}

TEST_CASE("nothing is filled that is shorter or longer than it should be, or damaged") {
  const Bytes bytes = text(10'000);
  for (const auto pack : {&gzip, &xz, &lzma, &zstd, +[](const Bytes& b) { return lz4(b); }}) {
    const Bytes packed = pack(bytes);
    Bytes shorter(bytes.size() - 1);
    CHECK_FALSE(unpack(packed, shorter));
    Bytes longer(bytes.size() + 1);
    CHECK_FALSE(unpack(packed, longer));
    Bytes whole(bytes.size());
    REQUIRE(unpack(packed, whole));
    CHECK_FALSE(unpack(std::span(packed).first(packed.size() / 2), whole));
    CHECK_FALSE(unpack(std::span(packed).first(6), whole));
    CHECK_FALSE(unpack(std::span(packed).first(4), whole));
  }
  Bytes room(10);
  CHECK_FALSE(unpack({}, room));
  CHECK_FALSE(unpack(text(100), room));
  // A block whose length is more than there is.
  TestFile liar;
  liar.put(0, uint32_t{0x184c'2102}).put(4, uint32_t{100}).put_text(8, "few");
  CHECK_FALSE(unpack(liar.bytes, room));
}

}  // namespace
}  // namespace vhdkit::hypervisor
