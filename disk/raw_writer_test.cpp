#include "disk/raw_writer.h"

#include <doctest/doctest.h>

#include <vector>

#include "async/memory_file.h"
#include "tests/support/await.h"

namespace vhdkit::disk {
namespace {

TEST_CASE("a raw image is its disk, byte for byte") {
  async::MemoryFile file("raw");
  RawWriter writer(file, 1 << 20);
  CHECK(writer.file_size_bytes() == 1 << 20);
  CHECK(writer.block_size_bytes() == 0);
  const auto place = writer.place(4096, 512);
  REQUIRE_OK(place);
  CHECK(*place == 4096);
  const std::vector<std::byte> bytes(512, std::byte{7});
  REQUIRE_OK(tests::await(writer.file().write(*place, bytes)));
  REQUIRE_OK(tests::await(writer.finish()));
  CHECK(file.size_bytes() == 1 << 20);
  std::vector<std::byte> got(512);
  file.fetch(4096, got);
  CHECK(got == bytes);
}

}  // namespace
}  // namespace vhdkit::disk
