// A hash of a disk's whole content, whatever its format.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

enum class HashAlgorithm { xxh3_128, sha256, sha1, md5 };
std::optional<HashAlgorithm> parse_hash_algorithm(std::string_view name);
// Lower-case hexadecimal of the hash over all guest bytes, as xxh128sum and sha256sum give it for
// the raw disk: whole sectors, so a raw file that ends inside one is hashed with zeroes up to the
// sector's end. Errors: corrupt, io, interrupted.
Async<std::string> hash(Image& image, HashAlgorithm algorithm, Progress* progress);

}  // namespace vhdkit::image
