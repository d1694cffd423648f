// qcow2 images that no program would write, built by hand after QEMU's docs/interop/qcow2.
#include <doctest/doctest.h>

#include <functional>

#include "async/memory_file.h"
#include "disk/layered_disk.h"
#include "image/qcow2_format.h"
#include "image/qcow2_layer.h"
#include "tests/support/await.h"
#include "tests/support/content.h"

namespace vhdkit::image {
namespace {

using async::MemoryFile;
using namespace qcow2;
using tests::Content;

// The smallest whole image: a disk of four clusters, the first three of them data, in a file of
// the header, the L1 table, the L2 table and the data, one cluster each.
struct Builder {
  explicit Builder(uint32_t bits = min_cluster_bits) : cluster_bytes(uint64_t{1} << bits) {
    header.magic = magic;
    header.version = 3;
    header.backing_file_offset = 0;
    header.backing_file_size = 0;
    header.cluster_bits = bits;
    header.size = 4 * cluster_bytes;
    header.crypt_method = 0;
    header.l1_size = 1;
    header.l1_table_offset = cluster_bytes;
    header.refcount_table_offset = 0;
    header.refcount_table_clusters = 0;
    header.nb_snapshots = 0;
    header.snapshots_offset = 0;
    v3.incompatible_features = 0;
    v3.compatible_features = 0;
    v3.autoclear_features = 0;
    v3.refcount_order = 4;
    v3.header_length = min_header_v3_length;
    l1 = {2 * cluster_bytes | entry_copied};
    l2.resize(cluster_bytes / 8);
    for (uint64_t i = 0; i < 3; ++i) l2[i] = (3 + i) * cluster_bytes | entry_copied;
    data = tests::random_bytes(3 * cluster_bytes, 1);
  }

  Content build() const {
    Content file(6 * cluster_bytes);
    const auto put = [&file](uint64_t at, std::span<const std::byte> bytes) {
      std::ranges::copy(bytes, file.begin() + ptrdiff_t(at));
    };
    put(0, bytes_of(header));
    if (header.version == 3) put(sizeof header, bytes_of(v3));
    put(header.version == 3 ? sizeof header + sizeof v3 : sizeof header, behind_header);
    const std::vector<be64> stored_l1(l1.begin(), l1.end());
    const std::vector<be64> stored_l2(l2.begin(), l2.end());
    put(cluster_bytes, std::as_bytes(std::span(stored_l1)));
    put(2 * cluster_bytes, std::as_bytes(std::span(stored_l2)));
    put(3 * cluster_bytes, data);
    return file;
  }

  void add_extension(uint32_t type, std::span<const std::byte> bytes) {
    ExtensionHeader extension;
    extension.type = type;
    extension.length = uint32_t(bytes.size());
    std::ranges::copy(bytes_of(extension), std::back_inserter(behind_header));
    std::ranges::copy(bytes, std::back_inserter(behind_header));
    behind_header.resize(align_up(behind_header.size(), 8));
  }
  void set_backing_file(std::string_view path) {
    header.backing_file_offset = 256;
    header.backing_file_size = uint32_t(path.size());
    behind_header.resize(256 - sizeof header - sizeof v3);
    std::ranges::copy(std::as_bytes(std::span(path)), std::back_inserter(behind_header));
  }

  uint64_t cluster_bytes;
  Header header;
  HeaderV3 v3;
  Content behind_header;
  std::vector<uint64_t> l1;
  std::vector<uint64_t> l2;
  Content data;
};

// One loop for all: thousands of images are opened here, and files in memory never suspend.
template <class T>
T wait(async::Task<T> task) {
  static const std::unique_ptr<async::Loop> loop = std::move(*async::Loop::create());
  return loop->run(std::move(task));
}

Result<std::unique_ptr<disk::LayeredDisk>> open(const Content& file) {
  TRY_LET(auto layer, wait(open_qcow2_layer(std::make_unique<MemoryFile>("a", file))));
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(layer));
  return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

Result<Content> content_of(disk::LayeredDisk& disk) {
  Content content(disk.geometry().size_bytes);
  const std::span<std::byte> buffer(content);
  TRY(wait(disk.read(0, buffer)));
  return content;
}

TEST_CASE("the image that the others are made from is whole") {
  for (const uint32_t bits : {9u, 14u}) {
    const Builder builder(bits);
    auto disk = open(builder.build());
    REQUIRE_OK(disk);
    REQUIRE_OK(wait((*disk)->audit()));
    const auto content = content_of(**disk);
    REQUIRE_OK(content);
    Content wanted = builder.data;
    wanted.resize(4 * builder.cluster_bytes);
    REQUIRE_EQUAL(*content, wanted);
  }
}

struct Case {
  Errc code;
  const char* text;
  std::function<void(Builder&)> change;
};

TEST_CASE("every field of the header is checked, and named") {
  const Case cases[] = {
      {Errc::corrupt, "magic 0x51464900", [](Builder& b) { b.header.magic = 0x51464900; }},
      {Errc::unsupported, "version 1 ", [](Builder& b) { b.header.version = 1; }},
      {Errc::unsupported, "version 4 ", [](Builder& b) { b.header.version = 4; }},
      {Errc::corrupt, "cluster_bits 8 ", [](Builder& b) { b.header.cluster_bits = 8; }},
      {Errc::corrupt, "cluster_bits 22 ", [](Builder& b) { b.header.cluster_bits = 22; }},
      {Errc::unsupported, "encrypted (AES", [](Builder& b) { b.header.crypt_method = 1; }},
      {Errc::unsupported, "encrypted (LUKS", [](Builder& b) { b.header.crypt_method = 2; }},
      {Errc::unsupported, "crypt_method 3", [](Builder& b) { b.header.crypt_method = 3; }},
      {Errc::corrupt, "header_length 96 ", [](Builder& b) { b.v3.header_length = 96; }},
      {Errc::corrupt, "header_length 105 ", [](Builder& b) { b.v3.header_length = 105; }},
      {Errc::corrupt, "header_length 520 ", [](Builder& b) { b.v3.header_length = 520; }},
      {Errc::corrupt, "refcount_order 7 ", [](Builder& b) { b.v3.refcount_order = 7; }},
      {Errc::corrupt, "corrupt bit", [](Builder& b) { b.v3.incompatible_features = 2; }},
      {Errc::unsupported, "external data file", [](Builder& b) { b.v3.incompatible_features = 4; }},
      {Errc::unsupported, "incompatible feature 63 (the image has no name",
       [](Builder& b) { b.v3.incompatible_features = uint64_t{1} << 63; }},
      {Errc::corrupt, "extended L2 entries need 14",
       [](Builder& b) { b.v3.incompatible_features = 16; }},
      {Errc::corrupt, "compression_type 0 at offset 0x68 contradicts",
       [](Builder& b) { b.v3.incompatible_features = 8; }},
      {Errc::corrupt, "compression_type 1 at offset 0x68 contradicts",
       [](Builder& b) {
         b.v3.header_length = 112;
         b.behind_header.assign(1, std::byte{1});
       }},
      {Errc::unsupported, "compression_type 2 ",
       [](Builder& b) {
         b.v3.header_length = 112;
         b.v3.incompatible_features = 8;
         b.behind_header.assign(1, std::byte{2});
       }},
      {Errc::unsupported, "size 0x7ff ", [](Builder& b) { b.header.size = 0x7ff; }},
      {Errc::unsupported, "size 0x8000000000000000 ",
       [](Builder& b) { b.header.size = uint64_t{1} << 63; }},
      {Errc::corrupt, "l1_size 0 ", [](Builder& b) { b.header.l1_size = 0; }},
      {Errc::corrupt, "l1_size 1 ", [](Builder& b) { b.header.size = 64 * 512 + 512; }},
      {Errc::unsupported, "l1_size 4194305 ", [](Builder& b) { b.header.l1_size = 4194305; }},
      {Errc::corrupt, "past the end of the file", [](Builder& b) { b.header.l1_size = 4194304; }},
      {Errc::corrupt, "l1_table_offset 0x100 ", [](Builder& b) { b.header.l1_table_offset = 256; }},
      {Errc::corrupt, "l1_table_offset 0 ", [](Builder& b) { b.header.l1_table_offset = 0; }},
      {Errc::corrupt, "past the end of the file",
       [](Builder& b) { b.header.l1_table_offset = ~uint64_t{511}; }},
  };
  for (const Case& test : cases) {
    CAPTURE(test.text);
    Builder builder;
    test.change(builder);
    REQUIRE_FAILS(test.code, test.text, open(builder.build()));
    REQUIRE_FAILS(test.code, "a: header: ", open(builder.build()));
  }
}

TEST_CASE("header extensions and the backing file's name are checked, and named") {
  const auto text = [](std::string_view string) { return std::as_bytes(std::span(string)); };
  FeatureName name{};
  name.type = 0;
  name.bit = 9;
  std::ranges::copy(std::string_view("telepathy"), name.name.begin());
  const Case cases[] = {
      {Errc::unsupported, "incompatible feature 9 (\"telepathy\")",
       [&](Builder& b) {
         b.v3.incompatible_features = 1 << 9;
         b.add_extension(extension_feature_names, bytes_of(name));
       }},
      {Errc::corrupt, "length 20 is no multiple of 48",
       [&](Builder& b) { b.add_extension(extension_feature_names, Content(20)); }},
      {Errc::unsupported, "external data file (\"far.raw\")",
       [&](Builder& b) {
         b.v3.incompatible_features = 4;
         b.add_extension(extension_external_data_file, text("far.raw"));
       }},
      {Errc::corrupt, "extension 0x12345678 at offset 0x68: length 0x200 goes past",
       [&](Builder& b) {
         b.add_extension(0x12345678, Content(8));
         b.behind_header[6] = std::byte{2};
         b.behind_header[7] = std::byte{0};
       }},
      {Errc::corrupt, "goes past",  // into the backing file's name
       [&](Builder& b) {
         b.set_backing_file("base");
         b.behind_header[3] = std::byte{1};
         b.behind_header[7] = std::byte{200};
       }},
      {Errc::unsupported, "\"nbd://host/disk\" is no plain path",
       [&](Builder& b) { b.set_backing_file("nbd://host/disk"); }},
      {Errc::unsupported, "\"json:{}\" is no plain path",
       [&](Builder& b) { b.set_backing_file("json:{}"); }},
      {Errc::corrupt, "has a zero byte in it",
       [&](Builder& b) { b.set_backing_file(std::string_view("a\0b", 3)); }},
      {Errc::corrupt, "backing_file_size 1024 ",
       [&](Builder& b) {
         b.set_backing_file("base");
         b.header.backing_file_size = 1024;
       }},
      {Errc::corrupt, "backing_file_offset 0x50",
       [&](Builder& b) {
         b.set_backing_file("base");
         b.header.backing_file_offset = 0x50;
       }},
      {Errc::corrupt, "do not lie between",
       [&](Builder& b) {
         b.set_backing_file("base");
         b.header.backing_file_size = 300;
       }},
  };
  for (const Case& test : cases) {
    CAPTURE(test.text);
    Builder builder;
    test.change(builder);
    REQUIRE_FAILS(test.code, test.text, open(builder.build()));
  }
  Builder builder;
  builder.set_backing_file("dir/a:b");  // the colon is behind a slash
  const auto disk = open(builder.build());
  REQUIRE_OK(disk);
  CHECK((*disk)->layer(0).parent()->paths.front().path == "dir/a:b");
}

// Opens; the audit finds it, and so does reading.
void check_refused(const Builder& builder, const char* text) {
  CAPTURE(text);
  auto disk = open(builder.build());
  REQUIRE_OK(disk);
  REQUIRE_FAILS(Errc::corrupt, text, wait((*disk)->audit()));
  REQUIRE_FAILS(Errc::corrupt, text, content_of(**disk));
}

TEST_CASE("entries that point nowhere are named where they stand") {
  const Case cases[] = {
      {{},
       "a: L1 entry 0 at offset 0x200: 0x401 has reserved bits",
       [](Builder& b) { b.l1[0] = 0x401; }},
      {{},
       "puts the L2 table past the end of the file (0xc00)",
       [](Builder& b) { b.l1[0] = 0xc00; }},
      {{}, "past the end of the file", [](Builder& b) { b.l1[0] = offset_mask; }},
      {{},
       "a: L2 entry 0x602 at offset 0x408 has reserved bits set (0x2)",
       [](Builder& b) { b.l2[1] = 0x602; }},
      {{}, "the cluster at offset 0 is the header's", [](Builder& b) { b.l2[1] = entry_copied; }},
      {{},
       "puts the cluster past the end of the file (0xc00)",
       [](Builder& b) { b.l2[2] = 0xc00; }},
      {{}, "past the end of the file", [](Builder& b) { b.l2[2] = offset_mask; }},
      {{},
       "bit 63 is set on a compressed cluster",
       [](Builder& b) { b.l2[0] = l2_compressed | entry_copied | 0x600; }},
      {{},
       "host offset 0xc00 is past the end",
       [](Builder& b) { b.l2[0] = l2_compressed | 0xc00; }},
      {{}, "has bits above 55", [](Builder& b) { b.l2[0] = l2_compressed | uint64_t{1} << 56; }},
      {{},
       "has reserved bits set (0x1)",
       [](Builder& b) {
         b.header.version = 2;
         b.l2[0] |= l2_zero;
       }},
  };
  for (const Case& test : cases) {
    Builder builder;
    test.change(builder);
    check_refused(builder, test.text);
  }
  Builder large(12);
  large.l1[0] = large.cluster_bytes + 512;
  check_refused(large, "is not aligned to the clusters of 0x1000");
  large = Builder(12);
  large.l2[0] = large.cluster_bytes + 512;
  check_refused(large, "is not aligned to the clusters of 0x1000");
}

TEST_CASE("subclusters that contradict each other are named") {
  Builder builder(14);
  builder.v3.incompatible_features = incompatible::extended_l2;
  builder.l2.assign(builder.l2.size(), 0);
  builder.l2[0] = 3 * builder.cluster_bytes;
  builder.l2[1] = uint64_t{1} << 32 | 1;
  check_refused(builder, "allocated and zero");
  builder.l2[0] = 0;
  builder.l2[1] = 1;
  check_refused(builder, "there is no cluster");
  builder.l2[0] = 6 * builder.cluster_bytes;
  check_refused(builder, "past the end of the file");
  builder.l2[0] = 3 * builder.cluster_bytes | l2_zero;  // means nothing with extended entries
  check_refused(builder, "reserved bits set (0x1)");
}

TEST_CASE("an L2 table that stands for two parts of the disk is refused before it is walked") {
  Builder builder;
  builder.header.size = 2 * 64 * 512;
  builder.header.l1_size = 2;
  builder.l1 = {1024 | entry_copied, 1024 | entry_copied};
  auto disk = open(builder.build());
  REQUIRE_OK(disk);
  REQUIRE_FAILS(Errc::corrupt, "two entries name the L2 table at 0x400", wait((*disk)->audit()));
}

TEST_CASE("tables that point at each other and at themselves are read as what they hold") {
  // L1 as its own L2 table, and the L2 table as data: bounded work, whatever comes out.
  Builder builder;
  builder.l1[0] = 512 | entry_copied;
  auto disk = open(builder.build());
  REQUIRE_OK(disk);
  REQUIRE_OK(wait((*disk)->audit()));
  builder = Builder();
  builder.l2[0] = 1024 | entry_copied;
  disk = open(builder.build());
  REQUIRE_OK(disk);
  const auto content = content_of(**disk);
  REQUIRE_OK(content);
  CHECK((*content)[0] == std::byte{0x80});
}

TEST_CASE("compressed clusters that are damaged or too short are named") {
  struct Compressed {
    uint8_t type;
    std::vector<uint8_t> bytes;
    const char* text;
  };
  const Compressed cases[] = {
      // RFC 1951: block type 3 is an error; type 1 and an end of block at once are no bytes.
      {0, {0x07}, "invalid block type"},
      {0, {0x03, 0x00}, "0x0 bytes come out, not a cluster of 0x200"},
      {1, {0x00, 0x01, 0x02, 0x03}, "Unknown frame descriptor"},
      // RFC 8878: an empty frame of one segment, with one empty raw block.
      {1, {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00}, "come out"},
  };
  for (const Compressed& test : cases) {
    CAPTURE(test.text);
    Builder builder;
    if (test.type != 0) {
      builder.v3.header_length = 112;
      builder.v3.incompatible_features = incompatible::compression_type;
      builder.behind_header.assign(8, std::byte{0});
      builder.behind_header[0] = std::byte(test.type);
    }
    // It is the file's last, so that nothing follows the bytes but the file's end.
    const uint64_t start = 6 * 512 - test.bytes.size();
    builder.l2[0] = l2_compressed | start;
    std::ranges::copy(std::as_bytes(std::span(test.bytes)),
                      builder.data.end() - ptrdiff_t(test.bytes.size()));
    auto disk = open(builder.build());
    REQUIRE_OK(disk);
    REQUIRE_OK(wait((*disk)->audit()));  // it looks at no payload
    REQUIRE_FAILS(Errc::corrupt, test.text, content_of(**disk));
    REQUIRE_FAILS(Errc::corrupt, "a: compressed cluster of disk offset 0x0", content_of(**disk));
  }
}

TEST_CASE("bug class 21: cut off anywhere, an image gives its own bytes, zeroes or an error") {
  const Builder builder;
  const Content whole = builder.build();
  Content wanted = builder.data;
  wanted.resize(4 * 512);
  for (size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    const Content file(whole.begin(), whole.begin() + ptrdiff_t(length));
    auto disk = open(file);
    if (length < 512 + 8) REQUIRE_FALSE(disk.has_value());
    if (!disk) {
      REQUIRE(disk.error().code == Errc::corrupt);
      continue;
    }
    const auto audited = wait((*disk)->audit());
    REQUIRE(audited.has_value() == (length > 5 * 512));
    const auto content = content_of(**disk);
    REQUIRE(content.has_value() == audited.has_value());
    if (!content) continue;
    // Only the last cluster is incomplete.
    REQUIRE_EQUAL(std::span(*content).first(length - 3 * 512),
                  std::span(wanted).first(length - 3 * 512));
    REQUIRE(is_zero(std::span(*content).subspan(length - 3 * 512)));
  }
}

TEST_CASE("one bit flipped anywhere in the metadata crashes nothing and asks for little") {
  const Content whole = Builder().build();
  size_t refused_count = 0;
  for (size_t bit = 0; bit < 3 * 512 * 8; ++bit) {
    Content file = whole;
    file[bit / 8] ^= std::byte(1 << bit % 8);
    auto disk = open(file);
    if (!disk || (*disk)->geometry().size_bytes > 1 * MiB) {
      ++refused_count;
      continue;
    }
    const auto audited = wait((*disk)->audit());
    const auto content = content_of(**disk);
    if (!audited || !content) ++refused_count;
  }
  CHECK(refused_count > 100);
}

}  // namespace
}  // namespace vhdkit::image
