#include "tools/progress_bar.h"

#include <doctest/doctest.h>

#include "support/checked.h"

namespace vhdkit::tools {
namespace {

TEST_CASE("progress has percentage, rate and time left") {
  CHECK(progress_text({.done_bytes = 2560 * MiB, .total_bytes = 10 * GiB, .seconds = 5}) ==
        " 25.0 %  2.5 GiB of 10 GiB  512 MiB/s  0:15 left");
  CHECK(progress_text({.done_bytes = 1 * GiB, .total_bytes = 8 * TiB, .seconds = 1}) ==
        "  0.0 %  1 GiB of 8 TiB  1 GiB/s  2:16:31 left");
}

TEST_CASE("the end says how long it took") {
  CHECK(progress_text({.done_bytes = 10 * GiB, .total_bytes = 10 * GiB, .seconds = 80}) ==
        "100.0 %  10 GiB of 10 GiB  128 MiB/s  in 1:20");
}

TEST_CASE("what nobody knows is not made up") {
  CHECK(progress_text({.done_bytes = 0, .total_bytes = 10 * GiB, .seconds = 0}) ==
        "  0.0 %  0 bytes of 10 GiB");
  CHECK(progress_text({.done_bytes = 4 * MiB, .total_bytes = 0, .seconds = 2}) == "4 MiB  2 MiB/s");
  CHECK(progress_text({.done_bytes = 512, .total_bytes = 64 * TiB, .seconds = 1}) ==
        "  0.0 %  512 bytes of 64 TiB  512 bytes/s");
}

TEST_CASE("the bar is as wide as its line allows") {
  const ProgressState half{.done_bytes = 1 * GiB, .total_bytes = 2 * GiB, .seconds = 1};
  const std::string text = " 50.0 %  1 GiB of 2 GiB  1 GiB/s  0:01 left";
  CHECK(progress_text(half) == text);
  CHECK(progress_line(half, 200) == "[====================                    ]  " + text);
  CHECK(progress_line(half, text.size() + 14) == "[=====     ]  " + text);
  CHECK(progress_line(half, text.size() + 13) == text);
  CHECK(progress_line(half, 0) == text);
}

}  // namespace
}  // namespace vhdkit::tools
