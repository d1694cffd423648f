// VHD 1.0 files made byte by byte from the specification's tables, apart from libvhd's own code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "async/memory_file.h"

namespace vhdkit::tests {

// A structure under construction. Integers are big-endian.
struct VhdBytes {
  std::vector<std::byte> bytes;

  VhdBytes& put(size_t offset, size_t length, uint64_t value) {
    for (size_t i = 0; i < length; ++i)
      bytes.at(offset + i) = std::byte(value >> 8 * (length - 1 - i));
    return *this;
  }
  VhdBytes& put(size_t offset, std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) bytes.at(offset + i) = std::byte(text[i]);
    return *this;
  }
  // The checksum: the one's complement of the sum of all other bytes.
  VhdBytes& seal(size_t checksum_offset) {
    put(checksum_offset, 4, 0);
    uint32_t sum = 0;
    for (const std::byte byte : bytes) sum += std::to_integer<uint32_t>(byte);
    return put(checksum_offset, 4, ~sum);
  }
};

// Where fields lie. Spec "Hard Disk Footer Format".
namespace vhd_footer {
inline constexpr size_t features = 8, version = 12, data_offset = 16, time_stamp = 24, creator = 28,
                        creator_version = 32, creator_os = 36, original_size = 40,
                        current_size = 48, cylinders = 56, heads = 58, sectors = 59, type = 60,
                        checksum = 64, unique_id = 68, saved_state = 84, reserved = 85;
}
// Spec "Dynamic Disk Header Format".
namespace vhd_header {
inline constexpr size_t data_offset = 8, table_offset = 16, version = 24, max_entries = 28,
                        block_size = 32, checksum = 36, parent_id = 40, parent_time_stamp = 56,
                        reserved = 60, parent_name = 64, locators = 576, reserved2 = 768;
// Of a locator.
inline constexpr size_t locator_bytes = 24, code = 0, space = 4, length = 8, locator_reserved = 12,
                        offset = 16;
}  // namespace vhd_header

inline constexpr uint32_t vhd_fixed = 2, vhd_dynamic = 3, vhd_differencing = 4;

// As Windows 10 writes it, with a geometry of zero.
inline VhdBytes vhd_footer_bytes(uint32_t type, uint64_t size_bytes) {
  VhdBytes footer{std::vector<std::byte>(512)};
  footer.put(0, "conectix").put(vhd_footer::features, 4, 2).put(vhd_footer::version, 4, 0x10000);
  footer.put(vhd_footer::data_offset, 8, type == vhd_fixed ? ~uint64_t{0} : 512);
  footer.put(vhd_footer::time_stamp, 4, 0x260cf355).put(vhd_footer::creator, "win ");
  footer.put(vhd_footer::creator_version, 4, 0xa0000).put(vhd_footer::creator_os, "Wi2k");
  footer.put(vhd_footer::original_size, 8, size_bytes);
  footer.put(vhd_footer::current_size, 8, size_bytes);
  footer.put(vhd_footer::type, 4, type);
  for (size_t i = 0; i < 16; ++i) footer.put(vhd_footer::unique_id + i, 1, 0x10 + i);
  return footer.seal(vhd_footer::checksum);
}

inline VhdBytes vhd_header_bytes(uint32_t entry_count, uint32_t block_bytes) {
  VhdBytes header{std::vector<std::byte>(1024)};
  header.put(0, "cxsparse").put(vhd_header::data_offset, 8, ~uint64_t{0});
  header.put(vhd_header::table_offset, 8, 1536).put(vhd_header::version, 4, 0x10000);
  header.put(vhd_header::max_entries, 4, entry_count);
  header.put(vhd_header::block_size, 4, block_bytes);
  return header.seal(vhd_header::checksum);
}

// A dynamic or differencing image: copy of the footer, header, BAT, blocks, footer. Change its
// parts, then take the file. Checksums are right unless a part says that it is sealed.
class VhdImage {
 public:
  VhdImage(uint32_t type, uint64_t disk_bytes, uint32_t block_bytes_of_image = 2 << 20)
      : footer(vhd_footer_bytes(type, disk_bytes)), block_bytes(block_bytes_of_image) {
    const auto count = uint32_t((disk_bytes + block_bytes - 1) / block_bytes);
    header = vhd_header_bytes(count, block_bytes);
    table.assign(count, 0xffffffff);
    content_end = 1536 + (uint64_t{count} * 4 + 511) / 512 * 512;
  }

  struct Piece {
    uint64_t file_offset;
    std::vector<std::byte> bytes;
  };

  VhdBytes footer;
  VhdBytes header;
  uint32_t block_bytes;
  uint64_t header_offset = 512;
  uint64_t table_offset = 1536;
  uint64_t content_end;  // where the footer goes
  std::vector<uint32_t> table;
  std::vector<Piece> pieces;  // bitmaps, locators' data
  bool has_copy = true;
  bool has_tail = true;
  bool is_sealed = false;  // the checksums stay as they are

  size_t bitmap_bytes() const { return (block_bytes / 4096 + 511) / 512 * 512; }

  // A whole block at the sector. bitmap: its first bytes; the others are set.
  VhdImage& place(uint32_t block_index, uint32_t sector, std::vector<uint8_t> bitmap = {}) {
    table.at(block_index) = sector;
    std::vector<std::byte> bits(bitmap_bytes(), std::byte{0xff});
    for (size_t i = 0; i < bitmap.size(); ++i) bits.at(i) = std::byte(bitmap[i]);
    pieces.push_back({uint64_t{sector} * 512, std::move(bits)});
    content_end = std::max(content_end, uint64_t{sector} * 512 + bitmap_bytes() + block_bytes);
    return *this;
  }

  // A parent locator with its data at the end of the content; the room in bytes.
  VhdImage& locate(size_t index, std::string_view code, std::string_view data) {
    put_locator(index, code, content_end, 512, uint32_t(data.size()));
    VhdBytes text{std::vector<std::byte>(data.size())};
    pieces.push_back({content_end, text.put(0, data).bytes});
    content_end += 512;
    return *this;
  }
  VhdImage& put_locator(size_t index, std::string_view code, uint64_t file_offset, uint32_t space,
                        uint32_t length) {
    const size_t at = vhd_header::locators + index * vhd_header::locator_bytes;
    header.put(at, code).put(at + vhd_header::space, 4, space);
    header.put(at + vhd_header::length, 4, length).put(at + vhd_header::offset, 8, file_offset);
    return *this;
  }

  std::unique_ptr<async::MemoryFile> file() {
    auto made = std::make_unique<async::MemoryFile>("a.vhd");
    if (!is_sealed) {
      footer.seal(vhd_footer::checksum);
      header.seal(vhd_header::checksum);
    }
    VhdBytes entries{std::vector<std::byte>(table.size() * 4)};
    for (size_t i = 0; i < table.size(); ++i) entries.put(i * 4, 4, table[i]);
    made->store(table_offset, entries.bytes);
    made->store(header_offset, header.bytes);
    if (has_copy) made->store(0, footer.bytes);
    for (const Piece& piece : pieces) made->store(piece.file_offset, piece.bytes);
    // Growth cannot fail in memory.
    (void)made->resize(std::max(made->size_bytes(), content_end));
    if (has_tail) made->store(content_end, footer.bytes);
    return made;
  }
};

}  // namespace vhdkit::tests
