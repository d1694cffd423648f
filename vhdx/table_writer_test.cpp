#include "vhdx/table_writer.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <vector>

#include "async/forwarding_file.h"
#include "async/sim_file.h"
#include "async/task_group.h"
#include "disk/layered_disk.h"
#include "tests/support/await.h"
#include "tests/support/byte_at.h"
#include "tests/support/vhdx_check.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

using Access = async::SimFile::Access;

// An image on a simulated file, open for writing.
class Writing {
 public:
  Writing() : loop_(1), file_(loop_, *tests::clean_image().build()) {
    const OpenOptions options{.writable = true};
    auto layer = loop_.run(open_layer(std::make_unique<async::ForwardingFile>(file_), options));
    REQUIRE_OK(layer);
    std::vector<std::unique_ptr<disk::Layer>> layers;
    layers.push_back(std::move(*layer));
    disk_ = std::make_unique<disk::LayeredDisk>(std::move(layers));
  }

  async::SimFile& file() { return file_; }
  Result<void> write(uint64_t block) {
    const std::vector<std::byte> bytes(512, std::byte{7});
    const std::span<const std::byte> view(bytes);
    return loop_.run(disk_->write(block * MiB, view));
  }
  Result<void> flush() { return loop_.run(disk_->flush()); }
  Result<void> flush_at_once(size_t count) { return loop_.run(flush_side_by_side(count)); }
  Result<void> close() { return loop_.run(disk_->close()); }

 private:
  Async<void> flush_side_by_side(size_t count) {
    async::TaskGroup flushes;
    for (size_t i = 0; i < count; ++i) flushes.start(disk_->flush());
    co_return co_await flushes.finish();
  }

  async::SimLoop loop_;
  async::SimFile file_;
  std::unique_ptr<disk::LayeredDisk> disk_;
};

TEST_CASE("a table that could not be written ends all writing, and what was flushed is there") {
  const auto in_log = [](Access access, uint64_t file_offset, uint64_t) {
    return access == Access::write && file_offset / MiB == 1 ? EIO : 0;
  };
  const auto at_flush = [](Access access, uint64_t, uint64_t) {
    return access == Access::flush ? EIO : 0;
  };
  for (const async::SimFile::Fault& fault :
       {async::SimFile::Fault(in_log), async::SimFile::Fault(at_flush)}) {
    Writing writing;
    REQUIRE_OK(writing.write(3));
    REQUIRE_OK(writing.flush());
    REQUIRE_OK(writing.write(5));
    writing.file().set_fault(fault);
    const auto failed = writing.flush();
    REQUIRE_FAILS(Errc::io, "Input/output error", failed);
    writing.file().set_fault({});
    const uint64_t writes = writing.file().write_count();
    for (const auto& later : {writing.flush(), writing.write(3), writing.write(6), writing.close()})
      REQUIRE_FAILS(Errc::io, failed.error().message, later);
    CHECK(writing.file().write_count() == writes);

    async::MemoryFile left = writing.file().content();
    CHECK(tests::checked(left).findings.count(disk::Severity::corruption) == 0);
    auto layer = tests::await(open_layer(std::make_unique<async::MemoryFile>(left), {}));
    REQUIRE_OK(layer);
    std::vector<std::unique_ptr<disk::Layer>> layers;
    layers.push_back(std::move(*layer));
    disk::LayeredDisk disk(std::move(layers));
    CHECK(tests::byte_at(disk, 3 * MiB) == 7);
  }
}

TEST_CASE("flushes at the same time are one, or two where one runs already") {
  Writing writing;
  REQUIRE_OK(writing.write(3));
  REQUIRE_OK(writing.flush());
  REQUIRE_OK(writing.write(5));
  const uint64_t before = writing.file().flush_count();
  REQUIRE_OK(writing.flush());
  const uint64_t of_one = writing.file().flush_count() - before;
  REQUIRE_OK(writing.write(6));
  REQUIRE_OK(writing.flush_at_once(16));
  CHECK(writing.file().flush_count() - before <= 3 * of_one);
  REQUIRE_OK(writing.close());
}

}  // namespace
}  // namespace vhdkit::vhdx
