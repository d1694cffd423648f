#include "disk/in_place_writer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "async/forwarding_file.h"
#include "async/sim_file.h"
#include "async/task_group.h"
#include "disk/layered_disk.h"
#include "disk/raw_layer.h"
#include "tests/support/await.h"

namespace vhdkit::disk {
namespace {

using Access = async::SimFile::Access;

// Bytes of it are lost, and it says so once, as Linux does: to the next that flushes or writes
// durably.
class ForgetfulFile final : public async::ForwardingFile {
 public:
  using ForwardingFile::ForwardingFile;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override {
    CO_TRY(co_await file_.writev(file_offset, buffers, durability));
    co_return durability == Durability::durable ? report() : Result<void>();
  }
  Async<void> flush() override {
    CO_TRY(co_await file_.flush());
    co_return report();
  }

 private:
  Result<void> report() {
    if (std::exchange(was_told_, true)) return {};
    return fail(Errc::io, "lost");
  }

  bool was_told_ = false;
};

LayeredDisk raw_disk(std::unique_ptr<File> file) {
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<RawLayer>(std::move(file), true));
  return LayeredDisk(std::move(layers));
}

async::MemoryFile empty_file() {
  async::MemoryFile file("raw");
  REQUIRE_OK(file.resize(1 << 20));
  return file;
}

Async<void> write(LayeredDisk& disk, Durability durability) {
  std::vector<std::byte> bytes(512, std::byte{7});
  const iovec vector{bytes.data(), bytes.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await disk.write(4096, buffers, durability);
}

void check_ended(async::SimLoop& loop, LayeredDisk& disk, async::SimFile& file,
                 const std::string& says) {
  const uint64_t writes = file.write_count();
  REQUIRE_FAILS(Errc::io, says, loop.run(disk.flush()));
  REQUIRE_FAILS(Errc::io, says, loop.run(write(disk, Durability::cached)));
  REQUIRE_FAILS(Errc::io, says, loop.run(write(disk, Durability::durable)));
  REQUIRE_FAILS(Errc::io, says, loop.run(disk.zero(0, 512)));
  REQUIRE_FAILS(Errc::io, says, loop.run(disk.close()));
  CHECK(file.write_count() == writes);
}

TEST_CASE("a flush that failed is not made good by the next one") {
  async::SimLoop loop(1);
  async::SimFile file(loop, empty_file());
  LayeredDisk disk = raw_disk(std::make_unique<async::ForwardingFile>(file));
  REQUIRE_OK(loop.run(write(disk, Durability::cached)));
  file.set_fault(
      [](Access access, uint64_t, uint64_t) { return access == Access::flush ? EIO : 0; });
  const auto failed = loop.run(disk.flush());
  REQUIRE_FAILS(Errc::io, "Input/output error", failed);
  file.set_fault({});
  check_ended(loop, disk, file, failed.error().message);
}

Async<void> flush_into(LayeredDisk& disk, std::vector<bool>& succeeded, size_t index) {
  const auto flushed = co_await disk.flush();
  succeeded[index] = flushed.has_value();
  co_return Result<void>();
}

Async<void> flush_at_once(LayeredDisk& disk, std::vector<bool>& succeeded) {
  async::TaskGroup flushes;
  for (size_t i = 0; i < succeeded.size(); ++i) flushes.start(flush_into(disk, succeeded, i));
  co_return co_await flushes.finish();
}

TEST_CASE("of flushes at one time, of which the system tells one that bytes are lost, all fail") {
  async::SimLoop loop(1);
  async::SimFile file(loop, empty_file());
  LayeredDisk disk = raw_disk(std::make_unique<async::ForwardingFile>(file));
  REQUIRE_OK(loop.run(write(disk, Durability::cached)));
  bool was_told = false;
  file.set_fault([&was_told](Access access, uint64_t, uint64_t) {
    return access == Access::flush && !std::exchange(was_told, true) ? EIO : 0;
  });
  std::vector<bool> succeeded(8, true);
  REQUIRE_OK(loop.run(flush_at_once(disk, succeeded)));
  CHECK(std::ranges::count(succeeded, true) == 0);
}

Async<void> write_into(LayeredDisk& disk, std::vector<bool>& succeeded, size_t index) {
  const auto written = co_await write(disk, Durability::durable);
  succeeded[index] = written.has_value();
  co_return Result<void>();
}

// The first one flushes, the others write.
Async<void> make_durable_at_once(LayeredDisk& disk, std::vector<bool>& succeeded) {
  async::TaskGroup group;
  for (size_t i = 1; i < succeeded.size(); ++i) group.start(write_into(disk, succeeded, i));
  group.start(flush_into(disk, succeeded, 0));
  co_return co_await group.finish();
}

TEST_CASE("what is lost is told to a flush and to durable writes at one time, each of them") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    async::SimLoop loop(seed);
    async::SimFile file(loop, empty_file());
    LayeredDisk disk = raw_disk(std::make_unique<ForgetfulFile>(file));
    REQUIRE_OK(loop.run(write(disk, Durability::cached)));
    std::vector<bool> succeeded(3, true);
    REQUIRE_OK(loop.run(make_durable_at_once(disk, succeeded)));
    CHECK(std::ranges::count(succeeded, true) == 0);
    check_ended(loop, disk, file, "lost");
  }
}

TEST_CASE("a durable write that fails ends all writing where the bytes were written, else not") {
  async::SimLoop loop(1);
  async::SimFile file(loop, empty_file());
  LayeredDisk forgetful = raw_disk(std::make_unique<ForgetfulFile>(file));
  REQUIRE_FAILS(Errc::io, "lost", loop.run(write(forgetful, Durability::durable)));
  check_ended(loop, forgetful, file, "lost");

  LayeredDisk full = raw_disk(std::make_unique<async::ForwardingFile>(file));
  file.set_fault(
      [](Access access, uint64_t, uint64_t) { return access == Access::write ? ENOSPC : 0; });
  REQUIRE_FALSE(loop.run(write(full, Durability::durable)).has_value());
  file.set_fault({});
  REQUIRE_OK(loop.run(write(full, Durability::durable)));
  REQUIRE_OK(loop.run(full.close()));
}

}  // namespace
}  // namespace vhdkit::disk
