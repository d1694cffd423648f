#include "image/hash.h"

#include <nettle/nettle-meta.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <vector>

#include "image/content.h"
#include "image/transfer.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

// Both hash families behind one pair of calls.
class Hasher {
 public:
  explicit Hasher(HashAlgorithm algorithm) : nettle_(nettle_hash_of(algorithm)) {
    if (nettle_ == nullptr) {
      xxh_ = XXH3_createState();
      XXH3_128bits_reset(xxh_);
    } else {
      context_.resize(nettle_->context_size);
      nettle_->init(context_.data());
    }
  }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  ~Hasher() { XXH3_freeState(xxh_); }

  void update(std::span<const std::byte> bytes) {
    if (nettle_ == nullptr) {
      XXH3_128bits_update(xxh_, bytes.data(), bytes.size());
    } else {
      nettle_->update(context_.data(), bytes.size(),
                      reinterpret_cast<const uint8_t*>(bytes.data()));
    }
  }

  std::string finish() {
    std::vector<uint8_t> digest(nettle_ == nullptr ? sizeof(XXH128_canonical_t)
                                                   : nettle_->digest_size);
    if (nettle_ == nullptr) {
      XXH128_canonical_t canonical;
      XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(xxh_));
      std::ranges::copy(canonical.digest, digest.begin());
    } else {
      nettle_->digest(context_.data(), digest.size(), digest.data());
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (uint8_t byte : digest) {
      text += digits[byte >> 4];
      text += digits[byte & 15];
    }
    return text;
  }

 private:
  static const nettle_hash* nettle_hash_of(HashAlgorithm algorithm) {
    switch (algorithm) {
      case HashAlgorithm::xxh3_128:
        return nullptr;
      case HashAlgorithm::sha256:
        return &nettle_sha256;
      case HashAlgorithm::sha1:
        return &nettle_sha1;
      case HashAlgorithm::md5:
        return &nettle_md5;
    }
    __builtin_unreachable();
  }

  const nettle_hash* nettle_;
  XXH3_state_t* xxh_ = nullptr;
  std::vector<std::byte> context_;
};

// Hashes a run of zeroes, which may be most of a disk of many TiB.
Result<void> hash_zeroes(Hasher& hasher, const Chunk& run, uint64_t total, Progress* progress) {
  static constexpr std::array<std::byte, 64 * KiB> zeroes{};
  for (uint64_t done = 0; done < run.length;) {
    const size_t piece = std::min<uint64_t>(run.length - done, zeroes.size());
    hasher.update(std::span(zeroes).first(piece));
    done += piece;
    TRY(report_progress(progress, run.disk_offset + done, total));
  }
  return {};
}

Async<void> hash_all(ReadAhead& reader, Hasher& hasher, uint64_t total, Progress* progress) {
  while (true) {
    CO_TRY_LET(const Chunk chunk, co_await reader.next());
    if (chunk.length == 0) co_return Result<void>();
    CO_TRY(report_progress(progress, chunk.disk_offset, total));
    if (chunk.bytes.empty()) CO_TRY(hash_zeroes(hasher, chunk, total, progress));
    hasher.update(chunk.bytes);
  }
}

}  // namespace

std::optional<HashAlgorithm> parse_hash_algorithm(std::string_view name) {
  if (name == "xxh3" || name == "xxh128") return HashAlgorithm::xxh3_128;
  if (name == "sha256") return HashAlgorithm::sha256;
  if (name == "sha1") return HashAlgorithm::sha1;
  if (name == "md5") return HashAlgorithm::md5;
  return std::nullopt;
}

Async<std::string> hash(Image& image, HashAlgorithm algorithm, Progress* progress) {
  CO_TRY(co_await image.disk().audit());
  const ReadAhead::Options options{};
  ContentCursor cursor(image.disk());
  ReadAhead reader(image.disk(), cursor, options);
  Hasher hasher(algorithm);
  const auto hashed =
      co_await hash_all(reader, hasher, image.disk().geometry().size_bytes, progress);
  const auto closed = co_await reader.close();
  CO_TRY(hashed);
  CO_TRY(closed);
  co_return hasher.finish();
}

}  // namespace vhdkit::image
