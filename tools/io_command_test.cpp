#include "tools/io_command.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/support/await.h"

namespace vhdkit::tools {
namespace {

TEST_CASE("commands have their options before an offset and a length") {
  const auto write = parse_io_command("write -P 0xab -f 1M 64K");
  REQUIRE_OK(write);
  CHECK(write->kind == IoCommand::Kind::write);
  CHECK(write->disk_offset == 1048576);
  CHECK(write->length == 65536);
  CHECK(write->is_durable);
  CHECK(write->pattern->value == 0xab);
  const auto read = parse_io_command(" read  -S 7 0 512");
  REQUIRE_OK(read);
  CHECK(read->pattern->is_seeded);
  CHECK_FALSE(parse_io_command("read 0 512")->pattern.has_value());
  CHECK(parse_io_command("trim 0 1G")->kind == IoCommand::Kind::zero);
  CHECK(parse_io_command("flush")->kind == IoCommand::Kind::flush);
}

TEST_CASE("what is no command is refused with its text") {
  for (const char* text :
       {"", "write", "write 0", "write 0 1 2", "flush 1", "erase 0 1", "write -P 256 0 512",
        "write -P", "read -f 0 512", "zero -P 1 0 512", "write x 512", "write -P 0xg 0 512"}) {
    CAPTURE(text);
    REQUIRE_FAILS(Errc::invalid_argument,
                  std::string("\"") + text + "\": ", parse_io_command(text));
  }
}

TEST_CASE("a seeded pattern is the same for any part of a range") {
  const IoPattern pattern{.is_seeded = true, .value = 3};
  std::vector<std::byte> whole(4096);
  std::vector<std::byte> part(512);
  pattern.fill(8192, whole);
  pattern.fill(8192 + 1024, part);
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 1024));
  CHECK_FALSE(std::equal(part.begin(), part.end(), whole.begin()));
}

}  // namespace
}  // namespace vhdkit::tools
