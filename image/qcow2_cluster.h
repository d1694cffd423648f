// Compressed clusters of qcow2 images.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "image/qcow2_format.h"
#include "support/result.h"

namespace vhdkit::image::qcow2 {

// Fills the whole cluster from compressed, which may go on behind the compressed data. where:
// begins messages. Errors: corrupt (damaged, or less than a cluster comes out). Spec: "Compressed
// Clusters Descriptor"; "Additional fields", compression_type.
Result<void> decompress_cluster(CompressionType type, std::span<const std::byte> compressed,
                                std::span<std::byte> cluster, const std::string& where);

}  // namespace vhdkit::image::qcow2
