#include "image/stream_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include "tests/support/await.h"
#include "tests/support/content.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::image {
namespace {

using tests::Content;

// A stream into a file, which shows what came.
struct Streamed {
  tests::TemporaryFolder folder;
  int descriptor = open(folder.path("stream").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  StreamFile stream{descriptor, "standard output", nullptr};

  ~Streamed() { close(descriptor); }
  Result<void> write(uint64_t file_offset, const Content& bytes) {
    return tests::await(stream.write(file_offset, bytes));
  }
  Content content() { return tests::file_content(folder.path("stream")); }
};

// Fills gaps with a byte, and remembers them.
class Filler final : public GapFiller {
 public:
  explicit Filler(StreamFile& stream) : stream_(stream) {}
  Async<void> fill(uint64_t file_offset, uint64_t length) override {
    gaps.emplace_back(file_offset, length);
    if (gaps.size() == failing_gap) co_return fail(Errc::corrupt, "nothing to fill it with");
    const Content bytes(length, std::byte{'f'});
    co_return stream_.append(bytes);
  }

  std::vector<std::pair<uint64_t, uint64_t>> gaps;
  size_t failing_gap = 0;  // counted from 1

 private:
  StreamFile& stream_;
};

TEST_CASE("what lies between two writes, and behind the last one, is zero without a filler") {
  Streamed out;
  REQUIRE_OK(out.write(3, Content(2, std::byte{'a'})));
  REQUIRE_OK(out.write(5, Content(1, std::byte{'b'})));
  REQUIRE_OK(out.write(100'000, Content(1, std::byte{'c'})));
  REQUIRE_OK(out.stream.resize(200'000));
  CHECK(out.stream.size_bytes() == 100'001);
  REQUIRE_OK(tests::await(out.stream.finish()));
  Content wanted(200'000);
  wanted[3] = wanted[4] = std::byte{'a'};
  wanted[5] = std::byte{'b'};
  wanted[100'000] = std::byte{'c'};
  REQUIRE_EQUAL(out.content(), wanted);
}

TEST_CASE("a filler is asked for every gap, in order, once") {
  Streamed out;
  Filler filler(out.stream);
  out.stream.set_gap_filler(&filler);
  REQUIRE_OK(out.write(0, Content(2, std::byte{'a'})));
  REQUIRE_OK(out.write(5, Content(2, std::byte{'b'})));
  REQUIRE_OK(out.write(7, Content(1, std::byte{'c'})));
  REQUIRE_OK(out.stream.resize(10));
  REQUIRE_OK(tests::await(out.stream.finish()));
  using Gaps = std::vector<std::pair<uint64_t, uint64_t>>;
  CHECK(filler.gaps == Gaps{{2, 3}, {8, 2}});
  const std::string_view wanted = "aafffbbcff";
  REQUIRE_EQUAL(out.content(), std::as_bytes(std::span(wanted)));
}

TEST_CASE("a gap that cannot be filled fails the write behind it") {
  Streamed out;
  Filler filler(out.stream);
  filler.failing_gap = 1;
  out.stream.set_gap_filler(&filler);
  REQUIRE_OK(out.write(0, Content(2, std::byte{'a'})));
  REQUIRE_FAILS(Errc::corrupt, "nothing to fill it with", out.write(5, Content(1)));
  CHECK(out.stream.size_bytes() == 2);
}

TEST_CASE("a stream cannot be read, searched or punched") {
  Streamed out;
  Content buffer(1);
  const std::span<std::byte> bytes(buffer);
  REQUIRE_FAILS(Errc::unsupported, "cannot be read", tests::await(out.stream.read(0, bytes)));
  REQUIRE_FAILS(Errc::unsupported, "cannot be searched", out.stream.next_data(0, 1));
  REQUIRE_FAILS(Errc::unsupported, "no holes", out.stream.punch_hole(0, 1));
  CHECK(out.stream.descriptor(0, 1) == -1);
}

std::atomic<bool> signalled = false;

class Interruptible final : public Progress {
 public:
  void update(uint64_t, uint64_t) override {}
  bool cancelled() const override { return signalled; }
};

TEST_CASE("whoever interrupts a stream is heard while its reader keeps it waiting") {
  struct sigaction action{};
  struct sigaction old_action;
  action.sa_handler = [](int) { signalled = true; };
  REQUIRE(sigaction(SIGUSR1, &action, &old_action) == 0);
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const Interruptible progress;
  StreamFile stream(ends[1], "standard output", &progress);
  const Content bytes(1 * MiB);  // more than the pipe takes, and nobody reads
  std::atomic<bool> ended = false;
  std::thread user([&, writer = pthread_self()] {
    for (int waiting = 0; waiting < int(64 * KiB); ioctl(ends[0], FIONREAD, &waiting))
      std::this_thread::yield();
    while (!ended) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      pthread_kill(writer, SIGUSR1);
    }
  });
  const auto written = stream.append(bytes);
  ended = true;
  user.join();
  sigaction(SIGUSR1, &old_action, nullptr);
  close(ends[0]);
  close(ends[1]);
  REQUIRE_FAILS(Errc::interrupted, "interrupted", written);
  CHECK(stream.size_bytes() == 64 * KiB);  // what a pipe takes
}

}  // namespace
}  // namespace vhdkit::image
