// Content of whole disks, whatever their format: compare and hash.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

struct Comparison {
  std::optional<uint64_t> first_difference;  // disk offset, bytes
  uint64_t size_a = 0;
  uint64_t size_b = 0;
  // The same content: one disk may be longer if the rest of it is zeroes, unless strict.
  bool same = false;
};
Async<Comparison> compare(Image& a, Image& b, bool strict, Progress* progress);

enum class HashAlgorithm { xxh3_128, sha256, sha1, md5 };
std::optional<HashAlgorithm> parse_hash_algorithm(std::string_view name);
// Lower-case hexadecimal of the hash over all guest bytes, as xxh128sum and sha256sum give it for
// the raw disk.
Async<std::string> hash(Image& image, HashAlgorithm algorithm, Progress* progress);

}  // namespace vhdkit::image
