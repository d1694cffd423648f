// The structures of a qcow2 file as they lie in it. Nothing else.
//
// First cluster: Header, header extensions, the backing file's name. Then, anywhere: the L1 table,
// L2 tables of one cluster each, clusters of guest data, compressed clusters, refcounts, snapshots.
//
// All integers are big-endian. "Spec" is QEMU's docs/interop/qcow2, "Qcow2 Image File Format".
#pragma once

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image::qcow2 {

// Spec "Header"
struct Header {
  be32 magic;  // "QFI\xfb"
  be32 version;
  be64 backing_file_offset;  // 0: no backing file
  be32 backing_file_size;    // bytes of its name
  be32 cluster_bits;
  be64 size;  // bytes of the guest's disk
  be32 crypt_method;
  be32 l1_size;  // entries
  be64 l1_table_offset;
  be64 refcount_table_offset;
  be32 refcount_table_clusters;
  be32 nb_snapshots;
  be64 snapshots_offset;
};
static_assert(OnDisk<Header> && sizeof(Header) == 72 && offsetof(Header, l1_table_offset) == 40);
inline constexpr uint32_t magic = 0x514649fb;
inline constexpr uint32_t max_backing_file_size = 1023;
// The least is the specification's, the most QEMU's.
inline constexpr uint32_t min_cluster_bits = 9;
inline constexpr uint32_t max_cluster_bits = 21;
inline constexpr uint64_t max_l1_bytes = 32 * MiB;  // QEMU's limit

enum class CryptMethod : uint32_t { none = 0, aes = 1, luks = 2 };

// What version 3 has behind it. Without it: no features, 16-bit refcounts.
struct HeaderV3 {
  be64 incompatible_features;
  be64 compatible_features;
  be64 autoclear_features;
  be32 refcount_order;
  be32 header_length;  // bytes, both structs included; a multiple of 8
};
static_assert(OnDisk<HeaderV3> && sizeof(HeaderV3) == 32);
inline constexpr uint32_t min_header_v3_length = sizeof(Header) + sizeof(HeaderV3);
inline constexpr uint32_t max_refcount_order = 6;
// Spec "Additional fields": a uint8_t, there if header_length is greater than its offset.
inline constexpr uint32_t compression_type_offset = 104;

namespace incompatible {
inline constexpr uint64_t dirty = 1 << 0;
inline constexpr uint64_t corrupt = 1 << 1;
inline constexpr uint64_t external_data_file = 1 << 2;
inline constexpr uint64_t compression_type = 1 << 3;
inline constexpr uint64_t extended_l2 = 1 << 4;
}  // namespace incompatible
namespace compatible {
inline constexpr uint64_t lazy_refcounts = 1 << 0;
}
inline constexpr uint32_t min_cluster_bits_extended_l2 = 14;

enum class CompressionType : uint8_t { zlib = 0, zstd = 1 };

// Spec "Header extensions": each padded to a multiple of 8 bytes
struct ExtensionHeader {
  be32 type;
  be32 length;  // bytes of data, without this header and the padding
};
static_assert(OnDisk<ExtensionHeader> && sizeof(ExtensionHeader) == 8);
inline constexpr uint32_t extension_end = 0;
inline constexpr uint32_t extension_backing_format = 0xe2792aca;
inline constexpr uint32_t extension_feature_names = 0x6803f857;
inline constexpr uint32_t extension_external_data_file = 0x44415441;

// Spec "Feature name table"
struct FeatureName {
  uint8_t type;  // 0: incompatible
  uint8_t bit;
  std::array<char, 46> name;  // padded with zeroes
};
static_assert(OnDisk<FeatureName> && sizeof(FeatureName) == 48);

// Spec "Cluster mapping": L1 entries and L2 entries are be64 each; an extended L2 entry has a
// subcluster allocation bitmap (be64) behind it.
inline constexpr uint64_t l1_reserved = 0x7f000000000001ff;
inline constexpr uint64_t offset_mask = 0x00fffffffffffe00;
inline constexpr uint64_t l2_compressed = uint64_t{1} << 62;
inline constexpr uint64_t entry_copied = uint64_t{1} << 63;  // nobody else refers to the cluster
inline constexpr uint64_t l2_zero = 1;                       // version 3, without extended entries
inline constexpr uint64_t l2_reserved = 0x3f000000000001fe;  // standard clusters
inline constexpr uint32_t subclusters_per_cluster = 32;

// Spec "Compressed Clusters Descriptor": bits 0-61 of the entry
inline constexpr uint64_t compressed_descriptor_mask = l2_compressed - 1;
inline constexpr uint64_t compressed_sector_bytes = 512;
inline constexpr uint32_t max_host_offset_bits = 56;

}  // namespace vhdkit::image::qcow2
