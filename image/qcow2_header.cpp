#include "image/qcow2_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <string_view>

namespace vhdkit::image::qcow2 {
namespace {

using Bytes = std::span<const std::byte>;

std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads one image's first cluster from front to back.
class Parser {
 public:
  // head: the first cluster, or what the file has of it.
  Parser(const std::string& name, uint64_t file_bytes, Bytes head)
      : name_(name), file_bytes_(file_bytes), head_(head) {}

  Result<ImageHeader> parse();

 private:
  struct Extensions {
    std::string backing_format;
    std::string external_data_file;
    Bytes feature_names;
  };

  template <class... Arguments>
  std::unexpected<Error> refuse(Errc code, fmt::format_string<Arguments...> format,
                                Arguments&&... arguments) const {
    return fail(code,
                name_ + ": header: " + fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  Result<void> parse_fields(const Header& header);
  Result<void> parse_version_3();
  Result<void> parse_compression_type(uint32_t header_length);
  Result<void> parse_extensions(const Header& header);
  Result<void> keep_extension(uint32_t type, Bytes data, uint64_t file_offset);
  Result<void> refuse_features() const;
  std::string unknown_feature(unsigned bit) const;
  Result<void> check_disk_size() const;
  Result<void> check_l1_table(const Header& header) const;
  Result<void> parse_backing_file(const Header& header);

  const std::string& name_;
  uint64_t file_bytes_;
  Bytes head_;
  uint64_t header_length_ = sizeof(Header);
  Extensions extensions_;
  ImageHeader image_;
};

Result<ImageHeader> Parser::parse() {
  const auto header = load<Header>(head_);
  if (!header) return refuse(Errc::corrupt, "the file ends inside it, at {:#x}", file_bytes_);
  TRY(parse_fields(*header));
  if (image_.version == 3) TRY(parse_version_3());
  TRY(parse_extensions(*header));
  TRY(refuse_features());
  if (image_.version == 3) TRY(parse_compression_type(uint32_t(header_length_)));
  TRY(check_disk_size());
  TRY(check_l1_table(*header));
  TRY(parse_backing_file(*header));
  return image_;
}

Result<void> Parser::parse_fields(const Header& header) {
  image_.version = header.version;
  image_.cluster_bits = header.cluster_bits;
  image_.size_bytes = header.size;
  image_.l1_table_offset = header.l1_table_offset;
  image_.snapshot_count = header.nb_snapshots;
  switch (CryptMethod{uint32_t(header.crypt_method)}) {
    case CryptMethod::none:
      return {};
    case CryptMethod::aes:
      return refuse(Errc::unsupported, "the image is encrypted (AES, crypt_method 1)");
    case CryptMethod::luks:
      return refuse(Errc::unsupported, "the image is encrypted (LUKS, crypt_method 2)");
  }
  return refuse(Errc::unsupported, "crypt_method {} at offset 0x20 is unknown",
                uint32_t(header.crypt_method));
}

Result<void> Parser::parse_version_3() {
  const auto header = load<HeaderV3>(head_, sizeof(Header));
  if (!header) return refuse(Errc::corrupt, "the file ends inside it, at {:#x}", file_bytes_);
  header_length_ = header->header_length;
  if (header_length_ < min_header_v3_length || header_length_ % 8 != 0 ||
      header_length_ > head_.size())
    return refuse(Errc::corrupt,
                  "header_length {} at offset 0x64 is not a multiple of 8 from {} to {}",
                  header_length_, min_header_v3_length, head_.size());
  if (header->refcount_order > max_refcount_order)
    return refuse(Errc::corrupt, "refcount_order {} at offset 0x60 is above {}",
                  uint32_t(header->refcount_order), max_refcount_order);
  image_.refcount_bits = 1u << header->refcount_order;
  image_.incompatible_features = header->incompatible_features;
  image_.compatible_features = header->compatible_features;
  return {};
}

Result<void> Parser::parse_extensions(const Header& header) {
  // The backing file's name ends the area, or the first cluster does.
  uint64_t end = head_.size();
  if (header.backing_file_offset != 0)
    end = std::min<uint64_t>(end, uint64_t(header.backing_file_offset));
  uint64_t at = header_length_;
  while (at < end && end - at >= sizeof(ExtensionHeader)) {
    const auto extension = load<ExtensionHeader>(head_, at);
    if (extension->type == extension_end) break;
    const uint64_t data = at + sizeof(ExtensionHeader);
    if (extension->length > end - data)
      return refuse(Errc::corrupt,
                    "extension {:#x} at offset {:#x}: length {:#x} goes past the end of the "
                    "extensions ({:#x})",
                    uint32_t(extension->type), at, uint32_t(extension->length), end);
    TRY(keep_extension(extension->type, head_.subspan(data, extension->length), at));
    at = data + align_up(extension->length, 8);
  }
  return {};
}

Result<void> Parser::keep_extension(uint32_t type, Bytes data, uint64_t file_offset) {
  switch (type) {
    case extension_backing_format:
      image_.backing_format = text_of(data);
      break;
    case extension_external_data_file:
      extensions_.external_data_file = text_of(data);
      break;
    case extension_feature_names:
      if (data.size() % sizeof(FeatureName) != 0)
        return refuse(Errc::corrupt,
                      "feature name table at offset {:#x}: length {} is no multiple of {}",
                      file_offset, data.size(), sizeof(FeatureName));
      extensions_.feature_names = data;
      break;
    default:  // the specification lets readers ignore every other one
      break;
  }
  return {};
}

Result<void> Parser::refuse_features() const {
  constexpr uint64_t known = incompatible::dirty | incompatible::corrupt |
                             incompatible::external_data_file | incompatible::compression_type |
                             incompatible::extended_l2;
  const uint64_t unknown = image_.incompatible_features & ~known;
  if (unknown != 0)
    return refuse(Errc::unsupported, "incompatible feature {} at offset 0x48 is not supported",
                  unknown_feature(unsigned(std::countr_zero(unknown))));
  if (image_.has(incompatible::external_data_file))
    return refuse(Errc::unsupported, "the data lies in an external data file (\"{}\")",
                  extensions_.external_data_file);
  if (image_.has(incompatible::corrupt))
    return refuse(Errc::corrupt,
                  "the corrupt bit (incompatible feature 1) is set: a program found the image "
                  "damaged; repair it with \"qemu-img check -r all\"");
  if (image_.has(incompatible::extended_l2) && image_.cluster_bits < min_cluster_bits_extended_l2)
    return refuse(Errc::corrupt, "cluster_bits {} at offset 0x14: extended L2 entries need {}",
                  image_.cluster_bits, min_cluster_bits_extended_l2);
  return {};
}

std::string Parser::unknown_feature(unsigned bit) const {
  for (size_t at = 0; at < extensions_.feature_names.size(); at += sizeof(FeatureName)) {
    const auto feature = load<FeatureName>(extensions_.feature_names, at);
    if (feature->type != 0 || feature->bit != bit) continue;
    const std::string_view name(feature->name.data(), feature->name.size());
    return fmt::format("{} (\"{}\")", bit, name.substr(0, name.find('\0')));
  }
  return fmt::format("{} (the image has no name for it)", bit);
}

Result<void> Parser::parse_compression_type(uint32_t header_length) {
  uint8_t type = 0;
  if (header_length > compression_type_offset) type = uint8_t(head_[compression_type_offset]);
  if (image_.has(incompatible::compression_type) != (type != 0))
    return refuse(Errc::corrupt,
                  "compression_type {} at offset 0x68 contradicts incompatible feature 3, which "
                  "says whether it is other than 0",
                  type);
  if (type > uint8_t(CompressionType::zstd))
    return refuse(Errc::unsupported, "compression_type {} at offset 0x68 is neither zlib nor zstd",
                  type);
  image_.compression = CompressionType{type};
  return {};
}

Result<void> Parser::check_disk_size() const {
  if (image_.size_bytes % 512 != 0)
    return refuse(Errc::unsupported, "size {:#x} at offset 0x18 is no multiple of 512 bytes",
                  image_.size_bytes);
  const uint64_t l1_bytes = image_.l1_entries_used() * sizeof(be64);
  if (l1_bytes > max_l1_bytes)
    return refuse(Errc::unsupported,
                  "size {:#x} at offset 0x18 needs an L1 table of {:#x} bytes, above QEMU's limit "
                  "of {:#x}",
                  image_.size_bytes, l1_bytes, max_l1_bytes);
  return {};
}

Result<void> Parser::check_l1_table(const Header& header) const {
  const uint64_t bytes = uint64_t{header.l1_size} * sizeof(be64);
  if (header.l1_size < image_.l1_entries_used())
    return refuse(Errc::corrupt, "l1_size {} at offset 0x24: the disk's size needs {} entries",
                  uint32_t(header.l1_size), image_.l1_entries_used());
  if (bytes > max_l1_bytes)
    return refuse(Errc::unsupported, "l1_size {} at offset 0x24 is above QEMU's limit of {}",
                  uint32_t(header.l1_size), max_l1_bytes / sizeof(be64));
  if (!is_aligned(image_.l1_table_offset, image_.cluster_bytes()))
    return refuse(Errc::corrupt, "l1_table_offset {:#x} at offset 0x28 is no multiple of {:#x}",
                  image_.l1_table_offset, image_.cluster_bytes());
  if (bytes > 0 && image_.l1_table_offset == 0)
    return refuse(Errc::corrupt, "l1_table_offset 0 at offset 0x28 lies in the header");
  if (!range_fits(image_.l1_table_offset, bytes, file_bytes_))
    return refuse(Errc::corrupt,
                  "l1_table_offset {:#x} at offset 0x28 puts {} entries past the end of the file "
                  "({:#x})",
                  image_.l1_table_offset, uint32_t(header.l1_size), file_bytes_);
  return {};
}

Result<void> Parser::parse_backing_file(const Header& header) {
  const uint64_t offset = header.backing_file_offset;
  const uint32_t length = header.backing_file_size;
  if (offset == 0 || length == 0) return {};
  if (length > max_backing_file_size)
    return refuse(Errc::corrupt, "backing_file_size {} at offset 0x10 is above {}", length,
                  max_backing_file_size);
  if (offset < header_length_ || !range_fits(offset, length, head_.size()))
    return refuse(Errc::corrupt,
                  "backing_file_offset {:#x} at offset 0x8: {} bytes there do not lie between the "
                  "header's end ({:#x}) and the first cluster's ({:#x})",
                  offset, length, header_length_, head_.size());
  const std::string_view path = text_of(head_.subspan(offset, length));
  if (path.find('\0') != std::string_view::npos)
    return refuse(Errc::corrupt, "the backing file's name at offset {:#x} has a zero byte in it",
                  offset);
  // As QEMU has it: what stands before a colon, with no slash in it, names a protocol.
  const size_t colon = path.find_first_of(":/");
  if (colon != std::string_view::npos && path[colon] == ':')
    return refuse(Errc::unsupported, "the backing file \"{}\" is no plain path", path);
  image_.backing_file = path;
  return {};
}

// What has to be known before the first cluster can be read.
Result<uint64_t> cluster_bytes_of(const std::string& name, const Header& header) {
  if (header.magic != magic)
    return fail(Errc::corrupt, fmt::format("{}: header: magic {:#x} at offset 0 is not {:#x}", name,
                                           uint32_t(header.magic), magic));
  if (header.version == 1)
    return fail(Errc::unsupported, name + ": header: version 1 at offset 0x4 is qcow, not qcow2");
  if (header.version != 2 && header.version != 3)
    return fail(Errc::unsupported,
                fmt::format("{}: header: version {} at offset 0x4 is neither 2 nor 3", name,
                            uint32_t(header.version)));
  if (header.cluster_bits < min_cluster_bits || header.cluster_bits > max_cluster_bits)
    return fail(Errc::corrupt,
                fmt::format("{}: header: cluster_bits {} at offset 0x14 is not from {} to {}", name,
                            uint32_t(header.cluster_bits), min_cluster_bits, max_cluster_bits));
  return uint64_t{1} << header.cluster_bits;
}

}  // namespace

Async<ImageHeader> read_header(File& file) {
  Header header;
  if (file.size_bytes() < sizeof header)
    co_return fail(Errc::corrupt, fmt::format("{}: header: the file ends inside it, at {:#x}",
                                              file.name(), file.size_bytes()));
  CO_TRY(co_await file.read(0, writable_bytes_of(header)));
  CO_TRY_LET(const uint64_t cluster_bytes, cluster_bytes_of(file.name(), header));
  std::vector<std::byte> head(std::min(cluster_bytes, file.size_bytes()));
  CO_TRY(co_await file.read(0, head));
  co_return Parser(file.name(), file.size_bytes(), head).parse();
}

}  // namespace vhdkit::image::qcow2
