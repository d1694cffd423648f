#include "libvhd/repair.h"

#include <doctest/doctest.h>

#include <functional>

#include "async/forwarding_file.h"
#include "libvhd/check.h"
#include "libvhd/vhd_layer.h"
#include "support/checked.h"
#include "tests/support/await.h"
#include "tests/support/extents.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

namespace footer_at = tests::vhd_footer;
using async::MemoryFile;
using tests::await;
using tests::vhd_dynamic;
using tests::VhdBytes;
using tests::VhdImage;
using Sentences = std::vector<std::string>;

// Block 1 of two, with content, on 4 KiB; the footer where Windows wants it, at 0x201e00.
VhdImage image() {
  VhdImage made(vhd_dynamic, 4 * MiB);
  made.footer.put(footer_at::cylinders, 2, 120).put(footer_at::heads, 1, 4);
  made.footer.put(footer_at::sectors, 1, 17).put(footer_at::reserved, 1, 1);
  made.place(1, 7);
  made.pieces.push_back({4096, std::vector<std::byte>(2 * MiB, std::byte{0xab})});
  made.content_end += 3584;
  return made;
}

std::vector<std::byte> content(const MemoryFile& file, uint64_t file_offset, uint64_t length) {
  std::vector<std::byte> bytes(length);
  file.fetch(file_offset, bytes);
  return bytes;
}
std::vector<std::byte> content(const MemoryFile& file) {
  return content(file, 0, file.size_bytes());
}

std::string codes(File& file) {
  disk::Findings findings;
  disk::BlockUsage usage;
  REQUIRE_OK(await(check(file, findings, usage)));
  std::string text;
  for (const disk::Finding& finding : findings.kept()) text += finding.code + " ";
  return text;
}

const std::string wrote_tail = "wrote the footer at offset 0x201e00 from its copy at offset 0";
const std::string wrote_copy =
    "wrote the copy of the footer at offset 0 from the footer at offset 0x201e00";

TEST_CASE("a whole image is not touched") {
  const auto file = image().file();
  const auto done = await(repair_footers(*file));
  REQUIRE_OK(done);
  CHECK(*done == Sentences{});
  CHECK(file->write_count() == 0);
}

TEST_CASE("a damaged tail is written again in its place, byte for byte") {
  const auto whole = image().file();
  const std::vector<std::byte> expected = content(*whole);
  for (const uint64_t at : {0, 20, 64, 511}) {
    CAPTURE(at);
    const auto file = image().file();
    file->store(0x201e00 + at, std::vector<std::byte>(1, std::byte{0x99}));
    const auto done = await(repair_footers(*file));
    REQUIRE_OK(done);
    CHECK(*done == Sentences{wrote_tail});
    CHECK(content(*file) == expected);
  }
}

TEST_CASE("a tail that was cut off comes behind the last block") {
  const auto whole = image().file();
  const std::vector<std::byte> expected = content(*whole);
  for (const uint64_t cut : {2, 300, 511}) {
    CAPTURE(cut);
    const auto file = image().file();
    REQUIRE_OK(file->resize(file->size_bytes() - cut));
    const auto done = await(repair_footers(*file));
    REQUIRE_OK(done);
    CHECK(*done == Sentences{wrote_tail});
    CHECK(content(*file) == expected);
  }
  // Into the padding before it, to the last byte of the block
  for (const uint64_t size_bytes :
       {0x201e00, 0x201dff, 0x201c00, 0x201201, 0x201200, 0x2011ff, 0x201001, 0x201000}) {
    CAPTURE(size_bytes);
    const auto file = image().file();
    REQUIRE_OK(file->resize(size_bytes));
    REQUIRE_OK(await(repair_footers(*file)));
    CHECK(file->size_bytes() % 512 == 0);
    CHECK(file->size_bytes() >= 0x201200);
    CHECK(content(*file, 512, 0x201000 - 512) == content(*whole, 512, 0x201000 - 512));
    CHECK(codes(*file) == "vhd-footer-reserved vhd-footer-reserved ");
  }
}

TEST_CASE("a damaged copy is written again from the tail") {
  const auto whole = image().file();
  const std::vector<std::byte> expected = content(*whole);
  for (const uint64_t at : {0, 20, 64, 511}) {
    CAPTURE(at);
    const auto file = image().file();
    file->store(at, std::vector<std::byte>(1, std::byte{0x99}));
    const auto done = await(repair_footers(*file));
    REQUIRE_OK(done);
    CHECK(*done == Sentences{wrote_copy});
    CHECK(content(*file) == expected);
  }
  // From a footer of 511 bytes, whose last one is zero
  const auto file = image().file();
  REQUIRE_OK(file->resize(file->size_bytes() - 1));
  file->store(0, std::vector<std::byte>(512, std::byte{0x99}));
  REQUIRE_OK(await(repair_footers(*file)));
  CHECK(content(*file, 0, 512) == content(*whole, 0, 512));
}

TEST_CASE("two whole footers stay, though they differ") {
  VhdImage made = image();
  const auto file = made.file();
  file->store(0, made.footer.put(footer_at::time_stamp, 4, 1).seal(footer_at::checksum).bytes);
  const auto done = await(repair_footers(*file));
  REQUIRE_OK(done);
  CHECK(*done == Sentences{});
  CHECK(file->write_count() == 0);
}

TEST_CASE("a last block that old QEMU cut off gets its room back before the footer") {
  VhdImage made(vhd_dynamic, 2 * MiB + 1024);
  made.place(1, 7);
  made.content_end = 4096 + 1024;
  made.has_tail = false;
  const auto file = made.file();
  REQUIRE_OK(await(repair_footers(*file)));
  CHECK(file->size_bytes() == 4096 + 2 * MiB + 512);
  CHECK(codes(*file) == "vhd-geometry vhd-geometry ");
}

TEST_CASE("nothing is written where it is not sure what would be hit") {
  struct {
    std::string message;
    Errc code;
    std::function<void(VhdImage&)> damage;
  } const cases[] = {
      {"it is not sure where the footer belongs: BAT entry 1 at offset 0x604: sector 0x7 puts the "
       "block's end (0x201000) past the end",
       Errc::corrupt,
       [](VhdImage& made) {
         made.content_end = 0x200fff;
         made.pieces.pop_back();
       }},
      {"it is not sure where the footer belongs: the BAT at offset 0x600 has 999999 entries",
       Errc::corrupt,
       [](VhdImage& made) { made.header.put(tests::vhd_header::max_entries, 4, 999999); }},
      {"sector 0x0 puts the block upon the copy of the footer", Errc::corrupt,
       [](VhdImage& made) { made.table[0] = 0; }},
      {"dynamic disk header at offset 0x200: cookie", Errc::corrupt,
       [](VhdImage& made) { made.header.put(0, "x"); }},
      {"footer at offset 0x201c00: cookie", Errc::corrupt,
       [](VhdImage& made) { made.has_copy = false; }},
      {"file format version 0x20000", Errc::unsupported,
       [](VhdImage& made) {
         made.footer.put(footer_at::version, 4, 0x20000);
         made.has_tail = true;
       }},
  };
  for (const auto& test : cases) {
    CAPTURE(test.message);
    VhdImage made = image();
    made.has_tail = false;
    test.damage(made);
    const auto file = made.file();
    const std::vector<std::byte> before = content(*file);
    REQUIRE_FAILS(test.code, test.message, await(repair_footers(*file)));
    CHECK(file->write_count() == 0);
    CHECK(content(*file) == before);
  }
}

TEST_CASE("a copy is not written over what may be no VHD's first sector") {
  VhdImage made = image();
  made.has_copy = false;
  made.header.put(0, "x");
  const auto file = made.file();
  REQUIRE_FAILS(Errc::corrupt, "dynamic disk header", await(repair_footers(*file)));
  CHECK(file->write_count() == 0);
}

TEST_CASE("a fixed disk has no copy to mend or to mend from") {
  VhdBytes footer = tests::vhd_footer_bytes(tests::vhd_fixed, MiB);
  MemoryFile file("a.vhd");
  file.store(0, footer.bytes);  // the guest's
  file.store(MiB, footer.bytes);
  const auto done = await(repair_footers(file));
  REQUIRE_OK(done);
  CHECK(*done == Sentences{});
  file.store(MiB, std::vector<std::byte>(1));
  REQUIRE_FAILS(Errc::corrupt, "cookie", await(repair_footers(file)));
  CHECK(file.write_count() == 0);
}

// Writes only the first bytes and fails, as a crash would leave it.
class TornFile final : public async::ForwardingFile {
 public:
  TornFile(MemoryFile& file, size_t written_bytes)
      : ForwardingFile(file), memory_(file), written_bytes_(written_bytes) {}
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability) override {
    const std::span all(static_cast<const std::byte*>(buffers[0].iov_base), buffers[0].iov_len);
    memory_.store(file_offset, all.first(written_bytes_));
    co_return fail(Errc::io, "torn");
  }

 private:
  MemoryFile& memory_;
  size_t written_bytes_;
};

TEST_CASE("a write that fails or is torn leaves the image readable, and can be repeated") {
  const auto whole = image().file();
  const std::vector<std::byte> expected = content(*whole);
  for (const bool tail_is_lost : {true, false})
    for (size_t written = 0; written <= 512; written += 32) {
      CAPTURE(tail_is_lost);
      CAPTURE(written);
      const auto file = image().file();
      if (tail_is_lost) {
        REQUIRE_OK(file->resize(0x201e01));
      } else {
        file->store(0, std::vector<std::byte>(512));
      }
      TornFile torn(*file, written);
      REQUIRE_FAILS(Errc::io, "torn", await(repair_footers(torn)));
      const std::vector<std::byte> between = content(*file);
      const auto layer = await(open_layer(std::make_unique<MemoryFile>("a.vhd", between)));
      REQUIRE_OK(layer);
      REQUIRE_OK(await((*layer)->audit()));
      REQUIRE_OK(await(repair_footers(*file)));
      CHECK(content(*file) == expected);
    }
}

TEST_CASE("a full file system is an error") {
  VhdImage made = image();
  made.has_tail = false;
  const auto file = made.file();
  file->fail_writes_from(0);
  REQUIRE_FAILS(Errc::no_space, "a.vhd: writing at offset", await(repair_footers(*file)));
  CHECK(file->size_bytes() == made.content_end);
}

}  // namespace
}  // namespace vhdkit::libvhd
