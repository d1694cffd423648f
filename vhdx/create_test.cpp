#include "vhdx/create.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "async/memory_file.h"
#include "support/crc32c.h"
#include "tests/support/await.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

const Guid some_id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");
const Guid write_id = Guid::literal("00112233-4455-6677-8899-aabbccddeeff");
const Guid parent_id = Guid::literal("83ED0EC3-24C8-49A6-A959-5E4BF1288BFB");

// What a test of one type asks for: 32 MiB blocks in chunks of 128, with 512-byte sectors.
CreateOptions options_of(DiskType type, uint64_t size_bytes) {
  CreateOptions options{.type = type,
                        .size_bytes = size_bytes,
                        .disk_id = some_id,
                        .data_write_guid = write_id,
                        .parent = std::nullopt};
  if (type == DiskType::differencing)
    options.parent = ParentLink{
        .data_write_guid = parent_id, .relative_path = R"(.\parent.vhdx)", .absolute_path = ""};
  return options;
}

// A file that takes each byte once, in ascending order, as a pipe does.
class AscendingFile final : public File {
 public:
  explicit AscendingFile(async::MemoryFile& file) : file_(file) {}

  const std::string& name() const override { return file_.name(); }
  uint64_t size_bytes() const override { return file_.size_bytes(); }
  Async<void> readv(uint64_t, Buffers) override { co_return fail(Errc::unsupported, "a pipe"); }
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override {
    CHECK(file_offset >= position_);
    position_ = file_offset;
    for (const iovec& vector : buffers) position_ += vector.iov_len;
    co_return co_await file_.writev(file_offset, buffers, durability);
  }
  Async<void> flush() override { co_return Result<void>(); }
  Result<void> resize(uint64_t size_bytes) override {
    CHECK(size_bytes >= position_);
    return file_.resize(size_bytes);
  }
  Result<std::optional<async::FileRange>> next_data(uint64_t, uint64_t) override {
    return fail(Errc::unsupported, "a pipe");
  }
  Result<void> punch_hole(uint64_t, uint64_t) override { return fail(Errc::unsupported, "a pipe"); }
  int descriptor(uint64_t, uint64_t) const override { return -1; }

 private:
  async::MemoryFile& file_;
  uint64_t position_ = 0;
};

std::unique_ptr<disk::BulkWriter> writer_for(File& file, const CreateOptions& options) {
  auto writer = create(file, options);
  REQUIRE_OK(writer);
  return std::move(*writer);
}

void create_empty(File& file, const CreateOptions& options) {
  const auto writer = writer_for(file, options);
  REQUIRE_OK(tests::await(writer->finish()));
  CHECK(file.size_bytes() == writer->file_size_bytes());
}

std::vector<std::byte> bytes_at(const async::MemoryFile& file, uint64_t offset, size_t length) {
  std::vector<std::byte> bytes(length);
  file.fetch(offset, bytes);
  return bytes;
}

template <class Integer>
uint64_t number_at(const async::MemoryFile& file, uint64_t offset) {
  return *load<Integer>(bytes_at(file, offset, sizeof(Integer)));
}
const auto u16_at = number_at<le16>;
const auto u32_at = number_at<le32>;
const auto u64_at = number_at<le64>;

std::string text_at(const async::MemoryFile& file, uint64_t offset, size_t length) {
  const auto bytes = bytes_at(file, offset, length);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// "66 77 c2 2d …" of the specification's GUIDs, stored by hand: three groups swapped.
std::vector<std::byte> stored_guid(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(std::byte(value));
  return bytes;
}
const auto bat_guid = stored_guid({0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11,
                                   0x5e, 0x9b, 0xfd, 0x4a, 0x08});
const auto metadata_guid = stored_guid({0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe,
                                        0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e});
const auto parameters_guid = stored_guid({0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3,
                                          0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b});
const auto size_guid = stored_guid({0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11,
                                    0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8});
const auto disk_id_guid = stored_guid({0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef,
                                       0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46});
const auto logical_guid = stored_guid({0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47,
                                       0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f});
const auto physical_guid = stored_guid({0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9,
                                        0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56});
const auto locator_guid = stored_guid({0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7,
                                       0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c});

// A metadata item as its table entry says. [MS-VHDX] 2.6.1.2.
struct Item {
  uint64_t file_offset;
  uint64_t length;
  uint64_t flags;
};
constexpr uint64_t metadata_at = 2 * MiB;

Item item_of(const async::MemoryFile& file, const std::vector<std::byte>& guid) {
  const uint64_t count = u16_at(file, metadata_at + 10);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t entry = metadata_at + 32 + i * 32;
    if (bytes_at(file, entry, 16) != guid) continue;
    const uint64_t in_region = u32_at(file, entry + 16);
    CHECK(in_region >= 64 * KiB);
    return {metadata_at + in_region, u32_at(file, entry + 20), u32_at(file, entry + 24)};
  }
  FAIL("no such item");
  return {};
}

// The BAT entries of payload blocks, by the formulas of [MS-VHDX] 2.5 alone.
class BatReader {
 public:
  BatReader(const async::MemoryFile& file, const CreateOptions& options)
      : file_(file),
        bat_at_(u64_at(file, 192 * KiB + 16 + 16)),
        chunk_ratio_((uint64_t{1} << 23) * options.logical_sector_bytes /
                     options.block_size_bytes) {}

  uint64_t payload(uint64_t block) const { return entry(block + block / chunk_ratio_); }
  uint64_t bitmap(uint64_t chunk) const { return entry(chunk * (chunk_ratio_ + 1) + chunk_ratio_); }
  uint64_t entry(uint64_t index) const { return u64_at(file_, bat_at_ + index * 8); }

 private:
  const async::MemoryFile& file_;
  uint64_t bat_at_;
  uint64_t chunk_ratio_;
};

void check_header_bytes(const async::MemoryFile& file, uint64_t offset, uint64_t sequence_number) {
  INFO("header at ", offset);
  const auto header = bytes_at(file, offset, 4096);
  CHECK(text_at(file, offset, 4) == "head");
  CHECK(u32_at(file, offset + 4) == crc32c_without(header, 4));
  CHECK(u64_at(file, offset + 8) == sequence_number);
  CHECK_FALSE(is_zero(std::span(header).subspan(16, 16)));
  CHECK(text_at(file, offset + 32, 16) == std::string("\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99"
                                                      "\xaa\xbb\xcc\xdd\xee\xff",
                                                      16));
  CHECK(is_zero(std::span(header).subspan(48, 16)));
  CHECK(u16_at(file, offset + 64) == 0);
  CHECK(u16_at(file, offset + 66) == 1);
  CHECK(u32_at(file, offset + 68) == 1 * MiB);
  CHECK(u64_at(file, offset + 72) == 1 * MiB);
  CHECK(is_zero(std::span(header).subspan(80)));
}

void check_region_table_bytes(const async::MemoryFile& file, uint64_t offset, uint64_t bat_bytes) {
  INFO("region table at ", offset);
  const auto table = bytes_at(file, offset, 64 * KiB);
  CHECK(text_at(file, offset, 4) == "regi");
  CHECK(u32_at(file, offset + 4) == crc32c_without(table, 4));
  CHECK(u32_at(file, offset + 8) == 2);
  CHECK(u32_at(file, offset + 12) == 0);
  CHECK(bytes_at(file, offset + 16, 16) == bat_guid);
  CHECK(u64_at(file, offset + 32) == 3 * MiB);
  CHECK(u32_at(file, offset + 40) == bat_bytes);
  CHECK(u32_at(file, offset + 44) == 1);
  CHECK(bytes_at(file, offset + 48, 16) == metadata_guid);
  CHECK(u64_at(file, offset + 64) == 2 * MiB);
  CHECK(u32_at(file, offset + 72) == 1 * MiB);
  CHECK(u32_at(file, offset + 76) == 1);
  CHECK(is_zero(std::span(table).subspan(80)));
}

TEST_CASE("bug class 25: a new image has two valid headers and an empty log") {
  for (const DiskType type : {DiskType::fixed, DiskType::dynamic, DiskType::differencing}) {
    async::MemoryFile file("new.vhdx");
    create_empty(file, options_of(type, 64 * MiB));
    check_header_bytes(file, 64 * KiB, 1);
    check_header_bytes(file, 128 * KiB, 2);
    CHECK(bytes_at(file, 64 * KiB + 16, 16) == bytes_at(file, 128 * KiB + 16, 16));
    CHECK(is_zero(bytes_at(file, 1 * MiB, 1 * MiB)));
  }
}

TEST_CASE("the header section is as the specification draws it") {
  async::MemoryFile file("new.vhdx");
  create_empty(file, options_of(DiskType::dynamic, 1 * GiB));
  CHECK(text_at(file, 0, 8) == "vhdxfile");
  CHECK(text_at(file, 8, 16) == std::string("v\0h\0d\0k\0i\0t\0 \0000\0", 16));
  CHECK(is_zero(bytes_at(file, 520, 64 * KiB - 520)));
  check_region_table_bytes(file, 192 * KiB, 1 * MiB);
  check_region_table_bytes(file, 256 * KiB, 1 * MiB);
  CHECK(is_zero(bytes_at(file, 320 * KiB, 1 * MiB - 320 * KiB)));
  CHECK(file.size_bytes() == 4 * MiB);
}

TEST_CASE("metadata items have their values and the flags of 2.6.2") {
  struct Case {
    DiskType type;
    uint32_t logical;
    uint32_t physical;
    uint64_t parameters;
  };
  for (const Case& test :
       {Case{DiskType::fixed, 512, 512, 1}, Case{DiskType::dynamic, 512, 4096, 0},
        Case{DiskType::differencing, 4096, 4096, 2}}) {
    async::MemoryFile file("new.vhdx");
    CreateOptions options = options_of(test.type, 3 * GiB + 4096);
    options.block_size_bytes = 8 * MiB;
    options.logical_sector_bytes = test.logical;
    options.physical_sector_bytes = test.physical;
    create_empty(file, options);
    CHECK(text_at(file, metadata_at, 8) == "metadata");
    CHECK(u16_at(file, metadata_at + 8) == 0);
    CHECK(u16_at(file, metadata_at + 10) == (test.type == DiskType::differencing ? 6 : 5));
    const Item parameters = item_of(file, parameters_guid);
    CHECK(parameters.length == 8);
    CHECK(parameters.flags == 4);
    CHECK(u32_at(file, parameters.file_offset) == 8 * MiB);
    CHECK(u32_at(file, parameters.file_offset + 4) == test.parameters);
    const Item size = item_of(file, size_guid);
    CHECK(size.length == 8);
    CHECK(size.flags == 6);
    CHECK(u64_at(file, size.file_offset) == 3 * GiB + 4096);
    const Item disk_id = item_of(file, disk_id_guid);
    CHECK(disk_id.length == 16);
    CHECK(disk_id.flags == 6);
    CHECK(u32_at(file, disk_id.file_offset) == 0x01234567);
    const Item logical = item_of(file, logical_guid);
    CHECK(logical.length == 4);
    CHECK(logical.flags == 6);
    CHECK(u32_at(file, logical.file_offset) == test.logical);
    const Item physical = item_of(file, physical_guid);
    CHECK(physical.length == 4);
    CHECK(physical.flags == 6);
    CHECK(u32_at(file, physical.file_offset) == test.physical);
  }
}

// The locator's pairs, read by hand from the item. [MS-VHDX] 2.6.2.6. Only characters of ASCII.
std::map<std::string, std::string> locator_pairs(const async::MemoryFile& file) {
  const Item item = item_of(file, locator_guid);
  CHECK(item.flags == 4);
  CHECK(u32_at(file, item.file_offset) == 0xb04aefb7);
  const auto string_at = [&](uint64_t in_item, uint64_t length) {
    CHECK(in_item + length <= item.length);
    std::string text;
    for (uint64_t i = 0; i < length; i += 2)
      text += char(u16_at(file, item.file_offset + in_item + i));
    return text;
  };
  std::map<std::string, std::string> pairs;
  const uint64_t count = u16_at(file, item.file_offset + 18);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t entry = item.file_offset + 20 + i * 12;
    pairs[string_at(u32_at(file, entry), u16_at(file, entry + 8))] =
        string_at(u32_at(file, entry + 4), u16_at(file, entry + 10));
  }
  CHECK(pairs.size() == count);
  return pairs;
}

TEST_CASE("a differencing image names its parent by linkage and paths") {
  using Pairs = std::map<std::string, std::string>;
  const std::string linkage = "{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}";
  struct Case {
    const char* relative;
    const char* absolute;
    Pairs pairs;
  };
  const Case cases[] = {
      {R"(..\p.vhdx)", "", {{"relative_path", R"(..\p.vhdx)"}}},
      {"", R"(d:\vm\p.vhdx)", {{"absolute_win32_path", R"(\\?\d:\vm\p.vhdx)"}}},
      {"", R"(\\?\D:\vm\p.vhdx)", {{"absolute_win32_path", R"(\\?\D:\vm\p.vhdx)"}}},
      {"", R"(\??\D:\vm\p.vhdx)", {{"absolute_win32_path", R"(\\?\D:\vm\p.vhdx)"}}},
      {"", R"(\\srv\share\p.vhdx)", {{"absolute_win32_path", R"(\\?\UNC\srv\share\p.vhdx)"}}},
      {R"(.\p.vhdx)",
       R"(\\?\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\p.vhdx)",
       {{"relative_path", R"(.\p.vhdx)"},
        {"volume_path", R"(\\?\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\p.vhdx)"}}},
  };
  for (const Case& test : cases) {
    async::MemoryFile file("child.vhdx");
    CreateOptions options = options_of(DiskType::differencing, 1 * GiB);
    options.parent->relative_path = test.relative;
    options.parent->absolute_path = test.absolute;
    create_empty(file, options);
    Pairs expected = test.pairs;
    expected["parent_linkage"] = linkage;
    CHECK(locator_pairs(file) == expected);
  }
}

TEST_CASE("a fixed image has its whole length and every block fully present, in order") {
  async::MemoryFile file("fixed.vhdx");
  // 130 blocks: the chunk of 128 ends in between.
  const CreateOptions options = options_of(DiskType::fixed, 129 * 32 * MiB + 512);
  const auto writer = writer_for(file, options);
  CHECK(writer->block_size_bytes() == 0);
  CHECK(writer->file_size_bytes() == 4 * MiB + 130 * 32 * MiB);
  const auto place = writer->place(31 * MiB, 127 * 32 * MiB);  // over many blocks
  REQUIRE_OK(place);
  CHECK(*place == 4 * MiB + 31 * MiB);
  REQUIRE_OK(tests::await(writer->finish()));
  CHECK(file.size_bytes() == 4 * MiB + 130 * 32 * MiB);
  const BatReader bat(file, options);
  for (uint64_t block = 0; block < 130; ++block)
    CHECK(bat.payload(block) == ((4 + block * 32) * MiB | 6));
  CHECK(bat.bitmap(0) == 0);
  CHECK(bat.entry(131) == 0);
  const auto data = file.next_data(4 * MiB, file.size_bytes());
  REQUIRE_OK(data);
  CHECK_FALSE(data->has_value());
}

TEST_CASE("bug classes 14 and 15: the BAT has exactly the disk's entries") {
  struct Case {
    uint64_t size_bytes;
    uint64_t block_count;
  };
  // 1 MiB blocks in chunks of 4096. A BAT region of 1 MiB has 131072 entries: 131041 payload
  // entries with the 31 bitmap entries between them, 131040 and 32 for a differencing disk.
  const uint64_t block = 1 * MiB;
  const Case cases[] = {
      {block - 512, 1},           {block, 1},
      {block + 512, 2},           {4096 * block, 4096},
      {4096 * block - 512, 4096}, {4096 * block + 512, 4097},
      {131041 * block, 131041},   {131041 * block + 512, 131042},
  };
  for (const DiskType type : {DiskType::fixed, DiskType::dynamic, DiskType::differencing}) {
    for (const Case& test : cases) {
      CAPTURE(test.size_bytes);
      CreateOptions options = options_of(type, test.size_bytes);
      options.block_size_bytes = block;
      async::MemoryFile file("new.vhdx");
      const auto writer = writer_for(file, options);
      const auto last = writer->place(test.size_bytes - 512, 512);
      REQUIRE_OK(last);
      REQUIRE_OK(tests::await(writer->finish()));
      const uint64_t bitmaps =
          (test.block_count + (type == DiskType::differencing ? 4095 : -1)) / 4096;
      const uint64_t entries =
          type == DiskType::differencing ? bitmaps * 4097 : test.block_count + bitmaps;
      const uint64_t region = (entries * 8 + MiB - 1) / MiB * MiB;
      CHECK(u32_at(file, 192 * KiB + 40) == region);
      const BatReader bat(file, options);
      const uint64_t in_block = (test.size_bytes - 512) % block;
      CHECK(bat.payload(test.block_count - 1) == ((*last - in_block) | 6));
      const auto rest = bytes_at(file, 3 * MiB + entries * 8, region - entries * 8);
      CHECK(is_zero(rest));
      const uint64_t placed = type == DiskType::fixed ? test.block_count : 1;
      CHECK(file.size_bytes() == 3 * MiB + region + placed * block);
    }
  }
}

TEST_CASE("bug class 16: blocks are found again, whatever the order in which they came") {
  struct Case {
    DiskType type;
    uint32_t block_bytes;
    uint32_t sector_bytes;
    uint64_t block_count;
  };
  const Case cases[] = {
      {DiskType::dynamic, 32 * MiB, 512, 300},   {DiskType::differencing, 32 * MiB, 512, 300},
      {DiskType::dynamic, 256 * MiB, 512, 50},   {DiskType::dynamic, 1 * MiB, 512, 20000},
      {DiskType::dynamic, 256 * MiB, 4096, 300}, {DiskType::fixed, 32 * MiB, 512, 300},
  };
  for (const Case& test : cases) {
    for (const bool shuffled : {false, true}) {
      CreateOptions options = options_of(test.type, test.block_count * test.block_bytes - 4096);
      options.block_size_bytes = test.block_bytes;
      options.logical_sector_bytes = test.sector_bytes;
      std::vector<uint64_t> blocks;
      for (uint64_t block = 0; block < test.block_count; ++block)
        if (block % 7 != 3) blocks.push_back(block);
      if (shuffled) std::ranges::shuffle(blocks, std::mt19937(1));
      async::MemoryFile file("new.vhdx");
      const auto writer = writer_for(file, options);
      std::map<uint64_t, uint64_t> offsets;
      for (const uint64_t block : blocks) {
        const auto place = writer->place(block * test.block_bytes + 512, 512);
        REQUIRE_OK(place);
        const auto again = writer->place(block * test.block_bytes, 512);
        REQUIRE_OK(again);
        CHECK(*place == *again + 512);
        offsets[block] = *again;
      }
      REQUIRE_OK(tests::await(writer->finish()));
      const BatReader bat(file, options);
      std::vector<uint64_t> used;
      for (uint64_t block = 0; block < test.block_count; ++block) {
        const bool is_placed = test.type == DiskType::fixed || block % 7 != 3;
        const uint64_t entry = bat.payload(block);
        CHECK((entry & 0xfffff) == (is_placed ? 6 : 0));
        if (offsets.contains(block)) CHECK((entry >> 20) * MiB == offsets[block]);
        if (is_placed) used.push_back((entry >> 20) * MiB);
      }
      // Side by side to the end of the file.
      std::ranges::sort(used);
      for (size_t i = 1; i < used.size(); ++i) CHECK(used[i] == used[i - 1] + test.block_bytes);
      CHECK(file.size_bytes() == used.back() + test.block_bytes);
      const uint64_t chunk_ratio = (uint64_t{1} << 23) * test.sector_bytes / test.block_bytes;
      for (uint64_t chunk = 0; chunk < test.block_count / chunk_ratio; ++chunk)
        CHECK(bat.bitmap(chunk) == 0);
    }
  }
}

TEST_CASE("metadata is written in ascending order, each byte once") {
  for (const DiskType type : {DiskType::fixed, DiskType::dynamic, DiskType::differencing}) {
    async::MemoryFile content("pipe");
    AscendingFile pipe(content);
    CreateOptions options = options_of(type, 1 * TiB);
    options.block_size_bytes = 1 * MiB;
    const auto writer = writer_for(pipe, options);
    for (const uint64_t block : {1000000, 3, 17, 500000, 8191, 8192})
      REQUIRE_OK(writer->place(block * MiB, 1 * MiB));
    REQUIRE_OK(tests::await(writer->finish()));
    async::MemoryFile file("file");
    const auto other = writer_for(file, options);
    for (const uint64_t block : {1000000, 3, 17, 500000, 8191, 8192})
      REQUIRE_OK(other->place(block * MiB, 1 * MiB));
    REQUIRE_OK(tests::await(other->finish()));
    CHECK(content.size_bytes() == file.size_bytes());
    CHECK(bytes_at(content, 1 * MiB, 11 * MiB) == bytes_at(file, 1 * MiB, 11 * MiB));
  }
}

uint64_t data_bytes(async::MemoryFile& file) {
  uint64_t bytes = 0;
  for (uint64_t at = 0; at < file.size_bytes();) {
    const auto data = file.next_data(at, file.size_bytes());
    REQUIRE_OK(data);
    if (!*data) break;
    bytes += (*data)->length;
    at = (*data)->file_offset + (*data)->length;
  }
  return bytes;
}

TEST_CASE("an empty disk of 64 TiB costs next to nothing") {
  async::MemoryFile file("huge.vhdx");
  CreateOptions options = options_of(DiskType::dynamic, 64 * TiB);
  options.block_size_bytes = 1 * MiB;
  create_empty(file, options);
  CHECK(file.write_count() == 7);
  CHECK(data_bytes(file) == 7 * 4 * KiB);
  CHECK(file.size_bytes() == 3 * MiB + 513 * MiB);
  const auto data = file.next_data(3 * MiB, file.size_bytes());
  REQUIRE_OK(data);
  CHECK_FALSE(data->has_value());
}

TEST_CASE("the BAT of a huge disk is written only where it has entries") {
  async::MemoryFile file("huge.vhdx");
  CreateOptions options = options_of(DiskType::differencing, 64 * TiB);
  options.block_size_bytes = 1 * MiB;
  const auto writer = writer_for(file, options);
  for (const uint64_t disk_offset : {64 * TiB - 1 * MiB, uint64_t{0}, 32 * TiB})
    REQUIRE_OK(writer->place(disk_offset, 1 * MiB));
  REQUIRE_OK(tests::await(writer->finish()));
  CHECK(file.write_count() == 7 + 3);
  CHECK(data_bytes(file) == 10 * 4 * KiB);
  const BatReader bat(file, options);
  CHECK(bat.payload(0) == ((516 + 1) * MiB | 6));
  CHECK(bat.payload(32 * MiB) == ((516 + 2) * MiB | 6));
  CHECK(bat.payload(64 * MiB - 1) == (516 * MiB | 6));
  CHECK(bat.payload(64 * MiB - 2) == 0);
}

TEST_CASE("a new image opens and shows what was written") {
  for (const DiskType type : {DiskType::fixed, DiskType::dynamic, DiskType::differencing}) {
    auto file = std::make_unique<async::MemoryFile>("new.vhdx");
    const CreateOptions options = options_of(type, 200 * 32 * MiB + 512);
    const auto writer = writer_for(*file, options);
    const std::vector<std::byte> bytes(512, std::byte{0x5a});
    for (const uint64_t disk_offset : {200 * 32 * MiB, 127 * 32 * MiB + 512, 128 * 32 * MiB}) {
      const auto place = writer->place(disk_offset, bytes.size());
      REQUIRE_OK(place);
      REQUIRE_OK(tests::await(file->write(*place, bytes)));
    }
    REQUIRE_OK(tests::await(writer->finish()));
    auto layer = tests::await(open_layer(std::move(file), {}));
    REQUIRE_OK(layer);
    REQUIRE_OK(tests::await((*layer)->audit()));
    CHECK((*layer)->geometry().size_bytes == 200 * 32 * MiB + 512);
    CHECK((*layer)->geometry().physical_sector_bytes == 4096);
    CHECK((*layer)->identity() == write_id);
    for (const uint64_t disk_offset : {200 * 32 * MiB, 127 * 32 * MiB + 512, 128 * 32 * MiB}) {
      disk::ExtentList extents;
      REQUIRE_OK(tests::await((*layer)->resolve(disk_offset, 512, extents)));
      REQUIRE(extents.size() == 1);
      CHECK(extents[0].kind == disk::ExtentKind::data);
      std::vector<std::byte> read(512);
      REQUIRE_OK(tests::await((*layer)->file().read(extents[0].file_offset, read)));
      CHECK(read == bytes);
    }
    if (type == DiskType::differencing) CHECK((*layer)->parent()->identities[0] == parent_id);
  }
}

TEST_CASE("options that a VHDX cannot have are refused by name") {
  struct Case {
    const char* text;
    void (*change)(CreateOptions& options);
  };
  const Case cases[] = {
      {"disk type 7: it must be fixed, dynamic or differencing",
       [](CreateOptions& o) { o.type = DiskType(7); }},
      {"size 0 of a VHDX", [](CreateOptions& o) { o.size_bytes = 0; }},
      {"size 1000 of a VHDX: it must be a multiple of the logical sector size from 512 to "
       "70368744177664",
       [](CreateOptions& o) { o.size_bytes = 1000; }},
      {"size 70368744178176", [](CreateOptions& o) { o.size_bytes = 64 * TiB + 512; }},
      {"size 1049088 of a VHDX: it must be a multiple of the logical sector size from 4096",
       [](CreateOptions& o) {
         o.size_bytes = MiB + 512;
         o.logical_sector_bytes = 4096;
       }},
      {"logical sector size 1024: it must be 512 or 4096",
       [](CreateOptions& o) { o.logical_sector_bytes = 1024; }},
      {"physical sector size 0: it must be 512 or 4096",
       [](CreateOptions& o) { o.physical_sector_bytes = 0; }},
      {"physical sector size 512: it must be at least the logical, 4096",
       [](CreateOptions& o) {
         o.logical_sector_bytes = 4096;
         o.physical_sector_bytes = 512;
       }},
      {"block size 524288: it must be a power of two from 1048576 to 268435456",
       [](CreateOptions& o) { o.block_size_bytes = 512 * KiB; }},
      {"block size 3145728", [](CreateOptions& o) { o.block_size_bytes = 3 * MiB; }},
      {"block size 536870912", [](CreateOptions& o) { o.block_size_bytes = 512 * MiB; }},
      {"only a differencing VHDX has a parent",
       [](CreateOptions& o) { o.type = DiskType::dynamic; }},
      {"a differencing VHDX needs a parent", [](CreateOptions& o) { o.parent.reset(); }},
      {"needs its parent's path", [](CreateOptions& o) { o.parent->relative_path.clear(); }},
      {"absolute path \"vm\\p.vhdx\" of the parent: it must begin with a drive",
       [](CreateOptions& o) { o.parent->absolute_path = R"(vm\p.vhdx)"; }},
      {"absolute path \"C:/p.vhdx\"",
       [](CreateOptions& o) { o.parent->absolute_path = "C:/p.vhdx"; }},
      {"absolute path \"C:p.vhdx\"",
       [](CreateOptions& o) { o.parent->absolute_path = "C:p.vhdx"; }},
      {"the parent's path has 32768 UTF-16 units: a VHDX takes at most 32767",
       [](CreateOptions& o) { o.parent->relative_path.assign(32768, 'p'); }},
      {"32768 UTF-16 units",
       [](CreateOptions& o) { o.parent->absolute_path = "C:\\" + std::string(32761, 'p'); }},
      {"NUL inside", [](CreateOptions& o) { o.parent->relative_path.push_back('\0'); }},
  };
  for (const Case& test : cases) {
    async::MemoryFile file("new.vhdx");
    CreateOptions options = options_of(DiskType::differencing, 1 * GiB);
    test.change(options);
    REQUIRE_FAILS(Errc::invalid_argument, test.text, create(file, options));
    CHECK(file.write_count() == 0);
  }
}

TEST_CASE("the longest paths fit") {
  async::MemoryFile file("child.vhdx");
  CreateOptions options = options_of(DiskType::differencing, 1 * GiB);
  options.parent->relative_path = std::string(32767, 'r');
  options.parent->absolute_path = "C:\\" + std::string(32760, 'a');
  create_empty(file, options);
  auto pairs = locator_pairs(file);
  CHECK(pairs["relative_path"] == options.parent->relative_path);
  CHECK(pairs["absolute_win32_path"] == R"(\\?\)" + options.parent->absolute_path);
}

TEST_CASE("a full disk is an error of finish") {
  for (uint64_t writes = 0; writes < 7; ++writes) {
    async::MemoryFile file("new.vhdx");
    const auto writer = writer_for(file, options_of(DiskType::fixed, 1 * GiB));
    file.fail_writes_from(writes);
    REQUIRE_FAILS(Errc::no_space, "new.vhdx", tests::await(writer->finish()));
  }
}

}  // namespace
}  // namespace vhdkit::vhdx
