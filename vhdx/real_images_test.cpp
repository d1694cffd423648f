// Images that other programs made, read as those programs read them.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nettle/sha2.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "disk/layered_disk.h"
#include "tests/support/await.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using tests::await;
using tests::TemporaryFolder;

void skip(const std::string& reason) {
  std::printf("skipped: %s: %s\n", doctest::getContextOptions()->currentTest->m_name,
              reason.c_str());
}

bool run(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

std::vector<std::byte> content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  REQUIRE(file.is_open());
  std::vector<std::byte> bytes(size_t(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), std::streamsize(bytes.size()));
  return bytes;
}

std::unique_ptr<MemoryFile> loaded(const std::string& path) {
  return std::make_unique<MemoryFile>(path, content_of(path));
}

// What the guest sees of the image, after an audit.
std::vector<std::byte> guest_content(std::unique_ptr<File> file) {
  auto layer = await(open_layer(std::move(file), {}));
  REQUIRE_OK(layer);
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(*layer));
  disk::LayeredDisk disk(std::move(layers));
  REQUIRE_OK(await(disk.audit()));
  std::vector<std::byte> bytes(disk.geometry().size_bytes);
  const std::span<std::byte> buffer(bytes);
  REQUIRE_OK(await(disk.disk::Disk::read(0, buffer)));
  return bytes;
}

std::string sha256(std::span<const std::byte> bytes) {
  sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, bytes.size(), reinterpret_cast<const uint8_t*>(bytes.data()));
  std::array<uint8_t, SHA256_DIGEST_SIZE> digest;
  sha256_digest(&context, digest.size(), digest.data());
  std::string text;
  for (const uint8_t byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

// The unpacked sample; empty where it is not on this machine.
std::string unpacked_sample(const TemporaryFolder& folder, const std::string& name) {
  const char* samples = std::getenv("VHDKIT_SAMPLES");
  const std::string packed = std::string(samples ? samples : "../shared/samples") + "/" + name;
  const std::string path = folder.path("sample.vhdx");
  return run("gzip -dc '" + packed + "' > " + path) ? path : "";
}

// Figures: the samples' README, from dissect.hypervisor's tests.
TEST_CASE("an image of Hyper-V has its content") {
  const TemporaryFolder folder;
  const std::string path = unpacked_sample(folder, "hyperv-dynamic-10M.vhdx.gz");
  if (path.empty()) return skip("no sample hyperv-dynamic-10M.vhdx.gz (VHDKIT_SAMPLES)");
  const auto layer = await(open_layer(loaded(path), {}));
  REQUIRE_OK(layer);
  CHECK((*layer)->geometry().size_bytes == 10485760);
  CHECK((*layer)->block_size_bytes() == 32 * MiB);
  CHECK((*layer)->identity()->to_string() == "28e09ae1-ab94-4815-a155-f143e2d00a3f");
  const disk::Description description = (*layer)->describe();
  const auto& disk_id = description.fields()[4];
  CHECK(disk_id.key == "disk-id");
  CHECK(std::get<std::string>(disk_id.value) == "788015f0-5e93-4bd2-a5de-b0cd8459db11");
  CHECK(sha256(guest_content(loaded(path))) ==
        "8e2b5e9265d694b42b81819e3bff29770eff4ed0f4f9f311693ff3dbdc93efac");
}

TEST_CASE("images of QEMU have the content that QEMU reads of them") {
  if (!run("command -v qemu-img && command -v qemu-io")) return skip("no qemu-img and qemu-io");
  struct Case {
    const char* options;
    const char* size;
  };
  const Case cases[] = {
      {"subformat=dynamic,block_size=1M", "9M"},
      {"subformat=dynamic,block_size=2M,block_state_zero=off", "9728K"},
      {"subformat=dynamic,block_size=8M", "9437696"},
      {"subformat=fixed,block_size=1M", "9M"},
      {"subformat=dynamic,block_size=256M", "20M"},
  };
  const TemporaryFolder folder;
  const std::string image = folder.path("q.vhdx");
  for (const Case& test : cases) {
    CAPTURE(test.options);
    REQUIRE(
        run(fmt::format("qemu-img create -f vhdx -o {} {} {}", test.options, image, test.size)));
    REQUIRE(
        run("qemu-io -f vhdx -c 'write -P 0x11 0 512' -c 'write -P 0x22 3670016 1572864' "
            "-c 'write -P 0x33 9436672 512' -c 'write -z 4M 64k' " +
            image));
    REQUIRE(run("qemu-img convert -f vhdx -O raw " + image + " " + folder.path("raw")));
    CHECK(guest_content(loaded(image)) == content_of(folder.path("raw")));
  }
}

TEST_CASE("an image of no bytes that QEMU made opens") {
  const TemporaryFolder folder;
  const std::string image = folder.path("q.vhdx");
  if (!run("qemu-img create -f vhdx " + image + " 0")) return skip("no qemu-img");
  CHECK(guest_content(loaded(image)).empty());
}

}  // namespace
}  // namespace vhdkit::vhdx
