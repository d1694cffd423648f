// qcow2 images as qemu-img and qemu-io make them, read as they read them.
#include <doctest/doctest.h>

#include <fstream>

#include "image/map.h"
#include "tests/support/image_place.h"
#include "tests/support/programs.h"

namespace vhdkit::image {
namespace {

using tests::Content;

class QemuPlace : public tests::ImagePlace {
 public:
  bool is_usable() const { return tests::has_program("qemu-img") && tests::has_program("qemu-io"); }

  // A shell command in the folder.
  void run(const std::string& command) {
    INFO(command);
    REQUIRE(tests::run("cd '" + path("") + "' && " + command));
  }

  void io(const std::string& name, const std::vector<std::string>& commands) {
    std::string line = "qemu-io -f qcow2";
    for (const std::string& command : commands) line += " -c '" + command + "'";
    run(line + " " + name);
  }

  // What qemu-img reads there is what we read there.
  void check(const std::string& name) {
    CAPTURE(name);
    run("rm -f oracle && qemu-img convert -f qcow2 -O raw " + name + " oracle");
    auto image = open(name);
    REQUIRE_OK(image);
    CHECK((*image)->format() == Format::qcow2);
    REQUIRE_OK(loop().run((*image)->disk().audit()));
    REQUIRE_EQUAL(content(**image), tests::file_content(path("oracle")));
    // The same in parallel, in pieces, with holes left out.
    const ConvertOptions options{.target = {.format = Format::raw}, .replace = true};
    REQUIRE_OK(convert(name, "converted", options));
    REQUIRE_EQUAL(tests::file_content(path("converted")), tests::file_content(path("oracle")));
  }
};

template <class T>
std::optional<T> described(Image& image, std::string_view key) {
  const disk::Description description = image.disk().layer(0).describe();
  for (const disk::Description::Field& field : description.fields())
    if (field.key == key) return std::get<T>(field.value);
  return std::nullopt;
}

#define PLACE_OR_SKIP(place) \
  QemuPlace place;           \
  if (!place.is_usable()) return tests::skip("no qemu-img or qemu-io")

TEST_CASE("both versions, every cluster size, compressed or not") {
  PLACE_OR_SKIP(place);
  tests::put_file(place.path("raw"), tests::scattered(5 * MiB + 512, 40, 1));
  for (const std::string version : {"0.10", "1.1"})
    for (const std::string cluster : {"512", "65536", "2M"}) {
      const std::string options = "-O qcow2 -o compat=" + version + ",cluster_size=" + cluster;
      place.run("qemu-img convert -f raw " + options + " raw plain");
      place.check("plain");
      place.run("qemu-img convert -c -f raw " + options + " raw packed");
      place.check("packed");
    }
}

TEST_CASE("clusters compressed with zstd") {
  PLACE_OR_SKIP(place);
  Content content = tests::scattered(5 * MiB + 512, 40, 2);
  std::ranges::fill(std::span(content).subspan(1 * MiB, 1 * MiB), std::byte{'t'});
  tests::put_file(place.path("raw"), content);
  for (const std::string cluster : {"4096", "2M"}) {
    place.run("qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd,cluster_size=" +
              cluster + " raw packed");
    place.check("packed");
    REQUIRE_EQUAL(place.content("packed"), content);
  }
}

TEST_CASE("extended L2 entries: subclusters of data, zeroes and the backing file") {
  PLACE_OR_SKIP(place);
  tests::put_file(place.path("base"), tests::random_bytes(4 * MiB, 1));
  for (const std::string cluster : {"16k", "64k", "2M"}) {
    place.run("rm -f child && qemu-img create -f qcow2 -o extended_l2=on,cluster_size=" + cluster +
              ",backing_file=base,backing_fmt=raw child 5M");
    place.io("child",
             {"write -P 1 0 512", "write -P 2 70k 3k", "write -z 200k 40k", "write -P 3 1M 256k",
              "write -z 1100k 8k", "discard 1200k 16k", "write -P 4 4M 4k"});
    place.check("child");
  }
}

TEST_CASE("a backing file may be raw, qcow2 or VHD, and shorter or longer") {
  PLACE_OR_SKIP(place);
  tests::put_file(place.path("base.raw"), tests::random_bytes(3 * MiB + 512, 1));
  place.run("qemu-img convert -f raw -O qcow2 base.raw base.qcow2");
  place.run("qemu-img convert -f raw -O vpc -o force_size=on base.raw base.vpc");
  for (const std::string format : {"raw", "qcow2", "vpc"})
    for (const std::string size : {"3145728", "6M"}) {
      place.run("rm -f child && qemu-img create -f qcow2 -b base." + format + " -F " + format +
                " child " + size);
      place.io("child", {"write -P 1 100k 200k", "write -z 1M 128k", "discard 2M 64k"});
      place.check("child");
      place.run("qemu-img create -f qcow2 -b child -F qcow2 grandchild");
      place.io("grandchild", {"write -P 5 150k 10k", "write -z 2100k 100k"});
      place.check("grandchild");
    }
}

TEST_CASE("zero clusters, with and without a place, hide the backing file") {
  PLACE_OR_SKIP(place);
  tests::put_file(place.path("base"), tests::random_bytes(1 * MiB, 1));
  place.run("qemu-img create -f qcow2 -b base -F raw child");
  place.io("child", {"write -P 1 0 256k", "write -z 64k 64k", "write -z 512k 64k"});
  place.check("child");
  Content wanted = tests::random_bytes(1 * MiB, 1);
  std::ranges::fill(std::span(wanted).first(256 * KiB), std::byte{1});
  std::ranges::fill(std::span(wanted).subspan(64 * KiB, 64 * KiB), std::byte{0});
  std::ranges::fill(std::span(wanted).subspan(512 * KiB, 64 * KiB), std::byte{0});
  REQUIRE_EQUAL(place.content("child"), wanted);
}

class Collector final : public MapVisitor {
 public:
  void visit(const MapEntry& entry) override {
    text += std::to_string(entry.disk_offset / 1024) + "k+" + std::to_string(entry.length / 1024) +
            "k" + (entry.present ? " present" : "") + (entry.zero ? " zero" : "") +
            (entry.encoded ? " encoded" : "") + "\n";
  }
  std::string text;
};

TEST_CASE("a map tells zero clusters from those that nobody allocated, as qemu-img map does") {
  PLACE_OR_SKIP(place);
  place.run("qemu-img create -f qcow2 image 1M");
  place.io("image", {"write -P 1 0 64k", "write -z 128k 64k", "write -c -P 2 256k 64k"});
  const auto image = place.open("image");
  REQUIRE_OK(image);
  Collector collector;
  REQUIRE_OK(place.loop().run(map(**image, false, collector)));
  CHECK(collector.text ==
        "0k+64k present\n64k+64k zero\n128k+64k present zero\n192k+64k zero\n"
        "256k+64k present encoded\n320k+704k zero\n");
  place.run(
      "qemu-img map --output=json image >map && test $(grep -c start map) = 6 && "
      "test $(grep -c '\"present\": false' map) = 3");
}

TEST_CASE("internal snapshots are not the disk") {
  PLACE_OR_SKIP(place);
  place.run("qemu-img create -f qcow2 image 2M");
  place.io("image", {"write -P 1 0 1M"});
  place.run("qemu-img snapshot -c first image");
  place.io("image", {"write -P 2 512k 1M"});
  place.run("qemu-img snapshot -c second image");
  place.io("image", {"write -P 3 0 64k"});
  place.check("image");
  const auto image = place.open("image");
  REQUIRE_OK(image);
  CHECK(described<uint64_t>(**image, "internal-snapshots") == 2);
  Content wanted(2 * MiB);
  std::ranges::fill(std::span(wanted).first(64 * KiB), std::byte{3});
  std::ranges::fill(std::span(wanted).subspan(64 * KiB, 448 * KiB), std::byte{1});
  std::ranges::fill(std::span(wanted).subspan(512 * KiB, 1 * MiB), std::byte{2});
  REQUIRE_EQUAL(place.content("image"), wanted);
}

TEST_CASE("preallocated images, whose file may end before their clusters do") {
  PLACE_OR_SKIP(place);
  for (const std::string how : {"metadata", "falloc", "full"}) {
    place.run("rm -f image && qemu-img create -f qcow2 -o preallocation=" + how + " image 3M");
    place.io("image", {"write -P 1 1M 70k"});
    place.check("image");
  }
  place.run("qemu-img create -f qcow2 image 3M");
  place.io("image", {"write -P 1 1M 512"});
  place.check("image");
}

TEST_CASE("sizes that are no multiple of a cluster, an L2 table or a page") {
  PLACE_OR_SKIP(place);
  for (const std::string size : {"512", "66048", "33554944", "2147484160"}) {
    place.run("rm -f image && qemu-img create -f qcow2 -o cluster_size=512 image " + size);
    place.io("image", {"write -P 7 " + std::to_string(std::stoull(size) - 512) + " 512"});
    if (size != "2147484160") {
      place.check("image");
      continue;
    }
    const auto image = place.open("image");
    REQUIRE_OK(image);
    Content last(1024);
    REQUIRE_OK(place.loop().run((*image)->disk().read(2147484160 - 1024, last)));
    CHECK(last[511] == std::byte{0});
    CHECK(last[512] == std::byte{7});
  }
  place.run("rm -f image && qemu-img create -f qcow2 image 0");
  const auto image = place.open("image");
  REQUIRE_OK(image);
  CHECK((*image)->disk().geometry().size_bytes == 0);
}

TEST_CASE("lazy refcounts, other refcount widths, a resized disk, the dirty bit") {
  PLACE_OR_SKIP(place);
  for (const std::string options : {"lazy_refcounts=on", "refcount_bits=1", "refcount_bits=64"}) {
    place.run("rm -f image && qemu-img create -f qcow2 -o " + options + " image 2M");
    place.io("image", {"write -P 1 64k 1M"});
    place.check("image");
  }
  place.run("qemu-img resize -f qcow2 image 700M");
  place.io("image", {"write -P 2 699M 64k"});
  place.run("qemu-img resize -f qcow2 --shrink image 1M");
  place.check("image");
  // Killed while it was written to with lazy refcounts: only the refcounts may be wrong.
  place.run("rm -f image && qemu-img create -f qcow2 -o lazy_refcounts=on image 2M");
  place.run("qemu-io -f qcow2 -c 'write -P 9 0 64k' -c 'flush' -c 'abort' image; true");
  const auto image = place.open("image");
  REQUIRE_OK(image);
  CHECK(described<bool>(**image, "dirty") == true);
  CHECK(place.content(**image)[65535] == std::byte{9});
}

TEST_CASE("an external data file is refused by name") {
  PLACE_OR_SKIP(place);
  place.run("qemu-img create -f qcow2 -o data_file=data.raw,data_file_raw=on image 1M");
  REQUIRE_FAILS(Errc::unsupported, "external data file (\"data.raw\")", place.open("image"));
}

TEST_CASE("a source is read once, however its clusters lie") {
  PLACE_OR_SKIP(place);
  // Written backwards, so that the file's order is the reverse of the guest's.
  place.run("qemu-img create -f qcow2 image 4M");
  std::vector<std::string> writes;
  for (int i = 63; i >= 0; --i)
    writes.push_back("write -P " + std::to_string(i + 1) + " " + std::to_string(i * 64) + "k 64k");
  place.io("image", writes);
  place.check("image");
  const ConvertOptions options{.target = {.format = Format::vhd}};
  const auto report = place.convert("image", "target", options);
  REQUIRE_OK(report);
  CHECK(report->copied_bytes == 4 * MiB);
  REQUIRE_EQUAL(place.content("target"), place.content("image"));
}

}  // namespace
}  // namespace vhdkit::image
