// Standard input and output as source and target.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <thread>

#include "image/hash.h"
#include "libvhd/format.h"
#include "tests/support/image_place.h"
#include "tests/support/programs.h"
#include "vhdx/format.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;
using tests::Content;
using tests::ImagePlace;

const Guid disk_id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");

// Both ends of a pipe; each closed once.
class Pipe {
 public:
  explicit Pipe(int flags = 0) { REQUIRE(pipe2(ends_, flags | O_CLOEXEC) == 0); }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  int reading() const { return ends_[0]; }
  int writing() const { return ends_[1]; }
  void close_end(int index) {
    if (ends_[index] >= 0) close(ends_[index]);
    ends_[index] = -1;
  }

 private:
  int ends_[2];
};

Content read_to_end(int descriptor) {
  Content content;
  Content buffer(100'000);
  while (true) {
    const ssize_t got = read(descriptor, buffer.data(), buffer.size());
    if (got <= 0) return content;
    content.insert(content.end(), buffer.begin(), buffer.begin() + got);
  }
}

// Pieces of odd sizes, as a slow network gives them.
void write_pieces(int descriptor, std::span<const std::byte> bytes) {
  for (size_t piece = 1; !bytes.empty(); piece = piece * 3 % 70'001) {
    const size_t length = std::min(piece, bytes.size());
    const ssize_t written = write(descriptor, bytes.data(), length);
    if (written > 0) bytes = bytes.subspan(size_t(written));
  }
}

// What differs between two images made one after the other: the time stamps of a VHD's footers, the
// FileWriteGuid of a VHDX's headers, and so their checksums.
void blank_differences(Content& image) {
  for (const size_t header : {size_t{64 * KiB}, size_t{128 * KiB}}) {
    auto raw = load<vhdx::Header>(image, header);
    if (!raw || raw->signature != vhdx::header_signature) continue;
    raw->file_write_guid = {};
    raw->checksum = 0;
    std::ranges::copy(bytes_of(*raw), image.begin() + ptrdiff_t(header));
  }
  for (const size_t footer : {size_t{0}, image.size() - sizeof(libvhd::Footer)}) {
    auto raw = load<libvhd::Footer>(image, footer);
    if (!raw || raw->cookie != libvhd::footer_cookie) continue;
    raw->time_stamp = 0;
    raw->checksum = 0;
    std::ranges::copy(bytes_of(*raw), image.begin() + ptrdiff_t(footer));
  }
}

const CreateOptions raw{.format = Format::raw};
const CreateOptions fixed{.format = Format::vhd, .subformat = Subformat::fixed, .disk_id = disk_id};
const CreateOptions dynamic{.format = Format::vhd, .disk_id = disk_id};
const CreateOptions small_blocks{
    .format = Format::vhd, .block_size_bytes = 512 * KiB, .disk_id = disk_id};
const CreateOptions larger{.format = Format::vhd, .size_bytes = 7 * MiB, .disk_id = disk_id};
const CreateOptions larger_raw{.format = Format::raw, .size_bytes = 7 * MiB};
const CreateOptions fixed_vhdx{.format = Format::vhdx,
                               .subformat = Subformat::fixed,
                               .disk_id = disk_id,
                               .data_write_guid = disk_id};
const CreateOptions dynamic_vhdx{.format = Format::vhdx,
                                 .block_size_bytes = 1 * MiB,
                                 .disk_id = disk_id,
                                 .data_write_guid = disk_id};
const CreateOptions all_targets[] = {raw,    fixed,      dynamic,    small_blocks,
                                     larger, larger_raw, fixed_vhdx, dynamic_vhdx};

TEST_CASE("a stream is byte for byte what a file would be, and as long as measure says") {
  for (const uint64_t size : {uint64_t{512}, 2 * MiB, 5 * MiB + 512}) {
    for (const unsigned pieces : {0u, 9u}) {
      ImagePlace place;
      const Content content = tests::scattered(size, pieces, unsigned(size));
      tests::put_file(place.path("source"), content);
      const auto source = place.open("source");
      REQUIRE_OK(source);
      for (const CreateOptions& target : all_targets) {
        CAPTURE(size);
        CAPTURE(pieces);
        const ConvertOptions options{.target = target, .replace = true};
        REQUIRE_OK(place.convert("source", "file", options));
        Pipe pipe;
        Content streamed;
        std::thread reader([&] { streamed = read_to_end(pipe.reading()); });
        const auto report = place.loop().run(
            convert_to_stream(place.loop(), **source, pipe.writing(), options, nullptr));
        pipe.close_end(1);
        reader.join();
        REQUIRE_OK(report);
        CHECK(report->file_bytes == streamed.size());
        const auto measured = place.loop().run(measure(place.loop(), **source, options, nullptr));
        REQUIRE_OK(measured);
        CHECK(measured->required_bytes == streamed.size());
        Content file = tests::file_content(place.path("file"));
        blank_differences(file);
        blank_differences(streamed);
        REQUIRE_EQUAL(streamed, file);
      }
    }
  }
}

class Watcher final : public Progress {
 public:
  explicit Watcher(uint64_t patience) : patience_(patience) {}
  void update(uint64_t done_bytes, uint64_t total_bytes) override {
    CHECK(done_bytes >= done);
    CHECK(done_bytes <= total_bytes);
    done = done_bytes;
    total = total_bytes;
    ++count;
  }
  bool cancelled() const override { return count > patience_; }
  uint64_t done = 0;
  uint64_t total = 0;
  uint64_t count = 0;

 private:
  uint64_t patience_;
};

TEST_CASE("a stream can be interrupted in both of its passes") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(6 * MiB, 1));
  const auto source = place.open("source");
  REQUIRE_OK(source);
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  const ConvertOptions options{.target = small_blocks};
  Watcher whole(UINT64_MAX);
  REQUIRE_OK(place.loop().run(convert_to_stream(place.loop(), **source, nowhere, options, &whole)));
  CHECK(whole.done == whole.total);
  for (uint64_t patience = 0; patience < whole.count; ++patience) {
    Watcher watcher(patience);
    REQUIRE_FAILS(
        Errc::interrupted, "interrupted",
        place.loop().run(convert_to_stream(place.loop(), **source, nowhere, options, &watcher)));
  }
  close(nowhere);
}

TEST_CASE("bad options write nothing into a stream") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(1 * MiB, 1));
  const auto source = place.open("source");
  REQUIRE_OK(source);
  const int file = open(place.path("stream").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const ConvertOptions options{.target = {.format = Format::vhd, .block_size_bytes = 7}};
  REQUIRE_FAILS(
      Errc::invalid_argument, "block size 7",
      place.loop().run(convert_to_stream(place.loop(), **source, file, options, nullptr)));
  close(file);
  CHECK(fs::file_size(place.path("stream")) == 0);
}

TEST_CASE("a reader that goes away is an error") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(6 * MiB, 1));
  const auto source = place.open("source");
  REQUIRE_OK(source);
  const auto old_handler = std::signal(SIGPIPE, SIG_IGN);
  for (const CreateOptions& target : all_targets) {
    Pipe pipe;
    std::thread reader([&] {
      Content buffer(300'000);
      REQUIRE(read(pipe.reading(), buffer.data(), buffer.size()) > 0);
      pipe.close_end(0);
    });
    const ConvertOptions options{.target = target};
    const auto report = place.loop().run(
        convert_to_stream(place.loop(), **source, pipe.writing(), options, nullptr));
    reader.join();
    REQUIRE_FAILS(Errc::io, "standard output: writing: Broken pipe", report);
  }
  std::signal(SIGPIPE, old_handler);
}

TEST_CASE("a full device is an error of the stream") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(1 * MiB, 1));
  const auto source = place.open("source");
  REQUIRE_OK(source);
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  const ConvertOptions options{.target = dynamic};
  REQUIRE_FAILS(
      Errc::no_space, "standard output: writing",
      place.loop().run(convert_to_stream(place.loop(), **source, full, options, nullptr)));
  close(full);
}

TEST_CASE("pipes that do not block are waited for, on both sides") {
  ImagePlace place;
  const Content content = tests::random_bytes(3 * MiB, 1);
  Pipe in(O_NONBLOCK);
  Pipe out(O_NONBLOCK);
  std::thread writer([&] {
    write_pieces(in.writing(), content);
    in.close_end(1);
  });
  const auto source =
      place.loop().run(open_stream(place.loop(), in.reading(), place.path(""), nullptr));
  writer.join();
  REQUIRE_OK(source);
  Content streamed;
  std::thread reader([&] {
    REQUIRE(fcntl(out.reading(), F_SETFL, 0) == 0);
    streamed = read_to_end(out.reading());
  });
  const ConvertOptions options{.target = raw};
  const auto report =
      place.loop().run(convert_to_stream(place.loop(), **source, out.writing(), options, nullptr));
  out.close_end(1);
  reader.join();
  REQUIRE_OK(report);
  REQUIRE_EQUAL(streamed, content);
}

// --- standard input ---

TEST_CASE("a pipe is spooled, holes and odd ends and all, and leaves no file behind") {
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{3 * MiB + 77}}) {
    CAPTURE(size);
    ImagePlace place;
    Content content = tests::scattered(size, 4, 1);
    Pipe pipe;
    std::thread writer([&] {
      write_pieces(pipe.writing(), content);
      pipe.close_end(1);
    });
    Watcher watcher(UINT64_MAX);
    auto image =
        place.loop().run(open_stream(place.loop(), pipe.reading(), place.path(""), &watcher));
    writer.join();
    REQUIRE_OK(image);
    CHECK(place.file_count() == 0);
    CHECK((*image)->path() == "standard input");
    CHECK(watcher.done == size);
    content.resize(align_up(size, 512));
    REQUIRE_EQUAL(place.content(**image), content);
    const ConvertOptions options{.target = dynamic};
    REQUIRE_OK(
        place.loop().run(convert(place.loop(), **image, place.path("target"), options, nullptr)));
    REQUIRE_EQUAL(place.content("target"), content);
  }
}

TEST_CASE("zeroes from a pipe take no room in the spool") {
  ImagePlace place;
  const tests::Mount mount("-t tmpfs -o size=2m none", place.path("mount"));
  if (!mount.is_mounted()) return tests::skip("mounting is not allowed here");
  Content content(40 * MiB);
  content[30 * MiB] = std::byte{1};
  Pipe pipe;
  std::thread writer([&] {
    write_pieces(pipe.writing(), content);
    pipe.close_end(1);
  });
  auto image =
      place.loop().run(open_stream(place.loop(), pipe.reading(), place.path("mount"), nullptr));
  writer.join();
  REQUIRE_OK(image);
  REQUIRE_EQUAL(place.content(**image), content);
}

TEST_CASE("a full disk below the spool is said") {
  ImagePlace place;
  const tests::Mount mount("-t tmpfs -o size=1m none", place.path("mount"));
  if (!mount.is_mounted()) return tests::skip("mounting is not allowed here");
  const int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  REQUIRE_FAILS(Errc::no_space, "mount: spooling",
                place.loop().run(open_stream(place.loop(), random, place.path("mount"), nullptr)));
  close(random);
  CHECK(place.file_count("mount") == 0);
}

TEST_CASE("a regular file or block device at its beginning is read in place") {
  ImagePlace place;
  const Content content = tests::scattered(1 * MiB, 3, 1);
  tests::put_file(place.path("raw"), content);
  const tests::LoopDevice device(place.path("raw"));
  for (const std::string& path : {place.path("raw"), device.path()}) {
    if (path.empty()) {
      tests::skip("loop devices are not allowed here");
      continue;
    }
    const int input = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    // There is no such folder: nothing is spooled.
    auto image = place.loop().run(open_stream(place.loop(), input, "/absent", nullptr));
    REQUIRE_OK(image);
    CHECK(close(input) == 0);  // still the caller's
    REQUIRE_EQUAL(place.content(**image), content);
    CHECK((*image)->contains_file(path));
    const ConvertOptions options{.target = dynamic, .replace = true};
    REQUIRE_FAILS(Errc::invalid_argument, "one of the source's files",
                  place.loop().run(convert(place.loop(), **image, path, options, nullptr)));
  }
}

TEST_CASE("a file that was read in part already goes on from there") {
  ImagePlace place;
  const Content content = tests::random_bytes(1 * MiB, 1);
  tests::put_file(place.path("raw"), content);
  const int input = open(place.path("raw").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(lseek(input, 4096, SEEK_SET) == 4096);
  auto image = place.loop().run(open_stream(place.loop(), input, place.path(""), nullptr));
  close(input);
  REQUIRE_OK(image);
  REQUIRE_EQUAL(place.content(**image), std::span(content).subspan(4096));
}

TEST_CASE("empty input is an empty disk: hashed and compared, not converted") {
  ImagePlace place;
  tests::put_file(place.path("empty"), Content());
  for (const std::string& path : {std::string("/dev/null"), place.path("empty")}) {
    const int input = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    auto image = place.loop().run(open_stream(place.loop(), input, place.path(""), nullptr));
    close(input);
    REQUIRE_OK(image);
    CHECK((*image)->disk().geometry().size_bytes == 0);
    const auto hashed = place.loop().run(hash(**image, HashAlgorithm::md5, nullptr));
    REQUIRE_OK(hashed);
    CHECK(*hashed == "d41d8cd98f00b204e9800998ecf8427e");  // RFC 1321, A.5
    for (const CreateOptions& target : {raw, fixed, dynamic}) {
      const ConvertOptions options{.target = target};
      REQUIRE_FAILS(
          Errc::invalid_argument, "standard input: is empty",
          place.loop().run(convert(place.loop(), **image, place.path("a"), options, nullptr)));
    }
    const ConvertOptions sized{.target = larger, .replace = true};
    REQUIRE_OK(
        place.loop().run(convert(place.loop(), **image, place.path("sized"), sized, nullptr)));
    REQUIRE_EQUAL(place.content("sized"), Content(7 * MiB));
  }
}

TEST_CASE("what cannot be read or spooled is said") {
  ImagePlace place;
  Pipe pipe;
  REQUIRE_FAILS(Errc::not_found, "/absent: making a file to spool",
                place.loop().run(open_stream(place.loop(), pipe.reading(), "/absent", nullptr)));
  const int folder = open(place.path("").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE_FAILS(Errc::io, "standard input: reading",
                place.loop().run(open_stream(place.loop(), folder, place.path(""), nullptr)));
  close(folder);
  Watcher watcher(2);
  const int endless = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  REQUIRE_FAILS(Errc::interrupted, "interrupted",
                place.loop().run(open_stream(place.loop(), endless, place.path(""), &watcher)));
  close(endless);
  CHECK(place.file_count() == 0);
}

// From now on this thread's file systems know no O_TMPFILE.
bool forbid_unnamed_files() {
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, field))
  sock_filter program[] = {
      LOAD(nr),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
      LOAD(args[2]),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, uint32_t(O_TMPFILE & ~O_DIRECTORY), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
#undef LOAD
  const sock_fprog filter{.len = uint16_t(std::size(program)), .filter = program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_CASE("a file system without unnamed files spools into one that has no name any more") {
  ImagePlace place;
  const Content content = tests::random_bytes(100'000, 1);
  Pipe pipe;
  REQUIRE(fcntl(pipe.writing(), F_SETPIPE_SZ, 1 << 20) > 0);
  write_pieces(pipe.writing(), content);
  pipe.close_end(1);
  Result<bool> outcome = false;
  std::thread([&] {
    if (!forbid_unnamed_files()) return;
    const auto loop = std::move(*async::Loop::create());
    const int unnamed = open(place.path("").c_str(), O_TMPFILE | O_RDWR, 0600);
    REQUIRE(unnamed < 0);
    auto image = loop->run(open_stream(*loop, pipe.reading(), place.path(""), nullptr));
    if (!image) {
      outcome = std::unexpected(image.error());
      return;
    }
    CHECK(place.file_count() == 0);
    Content got((*image)->disk().geometry().size_bytes);
    REQUIRE_OK(loop->run((*image)->disk().read(0, got)));
    got.resize(content.size());
    outcome = !tests::difference(got, content).has_value();
  }).join();
  REQUIRE_OK(outcome);
  CHECK(*outcome);
}

}  // namespace
}  // namespace vhdkit::image
