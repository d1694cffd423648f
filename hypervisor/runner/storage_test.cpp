#include "hypervisor/runner/storage.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "hypervisor/runner/firmware_drives.h"
#include "tests/support/images_on_disk.h"
#include "tests/support/temporary_folder.h"
#include "tests/vsp/host.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;
using image::Format;
using tests::make_image;
using tests::value_in;
using tests::write_sectors;
using tests::write_to;

DiskPlan plan_of(const std::string& path, bool writable = true) {
  return {.path = path, .open = {.writable = writable}, .limits = {}};
}

// A machine's disks, whose guest was never switched on.
struct Machine {
  explicit Machine(std::optional<UndoEnd> undo = std::nullopt, unsigned controllers = 1) {
    auto created =
        Storage::create(memory, interrupts,
                        {.controller_count = controllers,
                         .worker_count = 2,
                         .undo = undo,
                         .log = [this](const std::string& line) { warnings.push_back(line); },
                         .tell = [this](const std::string& line) { notes.push_back(line); }});
    REQUIRE_OK(created);
    storage = std::move(*created);
  }
  std::string disk(const std::string& name, Format format = Format::vhdx) {
    make_image(folder.path(name), format);
    return folder.path(name);
  }
  std::vector<unsigned> numbers() const {
    std::vector<unsigned> all;
    for (const DiskStatus& one : storage->disks()) all.push_back(one.place.number);
    return all;
  }
  void write(unsigned number, uint64_t disk_offset, int value) const {
    const Storage::Entrance entrance = storage->entrances().at(number);
    REQUIRE_OK(
        entrance.worker->await([&] { return write_sectors(*entrance.disk, disk_offset, value); }));
  }
  Result<void> end() {
    storage->reset();
    return storage->close();
  }

  tests::TemporaryFolder folder;
  tests::FlatMemory memory{64};
  tests::Interrupts interrupts;
  std::vector<std::string> warnings;
  std::vector<std::string> notes;
  std::unique_ptr<Storage> storage;
};

std::string make_iso(const std::string& path, const char* identifier = "CD001") {
  std::string content(64 << 10, '\0');
  content.replace(16 * 2048 + 1, 5, identifier);
  std::ofstream(path) << content;
  return path;
}

TEST_CASE("what the firmware moves counts for a disk's limit, too") {
  Machine machine;
  DiskPlan limited = plan_of(machine.disk("limited.vhdx"));
  limited.limits.bytes_per_second = 1;
  REQUIRE_OK(machine.storage->attach(limited));
  REQUIRE_OK(machine.storage->attach(plan_of(machine.disk("free.vhdx"))));
  {
    const auto drives = firmware_drives(*machine.storage, limited.path);
    REQUIRE_OK(drives);
    CHECK((*drives)[0]->may_begin(512));
    CHECK_FALSE((*drives)[0]->may_begin(512));
    for (int i = 0; i < 10; ++i) CHECK((*drives)[1]->may_begin(1 << 20));
  }
  REQUIRE_OK(machine.end());
}

TEST_CASE("the firmware finds the disk that is booted from first, at whatever number it is") {
  Machine machine;
  const DiskPlan disks[] = {plan_of(machine.disk("a.vhdx")), plan_of(machine.disk("b.vhdx"))};
  for (const DiskPlan& disk : disks) REQUIRE_OK(machine.storage->attach(disk));
  for (unsigned number : {0U, 1U}) machine.write(number, 0, int(number) + 1);
  for (unsigned number : {0U, 1U}) {
    const auto drives = firmware_drives(*machine.storage, disks[number].path);
    REQUIRE_OK(drives);
    CHECK(drives->size() == 2);
    std::byte sector[512];
    REQUIRE_OK((*drives)[0]->read(0, sector));
    CHECK(int(sector[0]) == int(number) + 1);
  }
  REQUIRE_OK(machine.storage->detach(0));
  REQUIRE_FAILS(Errc::not_found, "was taken away",
                firmware_drives(*machine.storage, disks[0].path));
  REQUIRE_OK(machine.end());
}

// --- an open disk, with requests that come while its image changes ---

class Bench {
 public:
  Bench() {
    auto started = storvsp::WorkerThread::start({});
    REQUIRE_OK(started);
    thread_ = std::move(*started);
  }
  void open(OpenDisk& disk, const DiskPlan& plan, std::optional<UndoEnd> undo = std::nullopt) {
    disk.owner = &worker();
    REQUIRE_OK(worker().await([&] { return open_disk(plan, undo, disk); }));
  }
  void close(OpenDisk& disk, std::optional<UndoEnd> undo = std::nullopt) {
    REQUIRE_OK(worker().await([&] { return close_disk(disk, undo); }));
    worker().run([&] { disk.front.reset(); });
  }
  void write(OpenDisk& disk, uint64_t disk_offset, int value) {
    REQUIRE_OK(worker().await([&] { return write_sectors(*disk.front, disk_offset, value); }));
  }
  // Makes the change while the disk is held.
  template <class Change>
  Result<void> exchange(OpenDisk& disk, Change change) {
    REQUIRE_OK(worker().await([&] { return hold(disk); }));
    auto changed = worker().await(change);
    worker().run([&] { let_go(disk); });
    return changed;
  }
  // The same with a write of 2 at 4096 that comes meanwhile, and waits.
  template <class Change>
  Result<void> exchange_under_write(OpenDisk& disk, Change change) {
    std::thread other;
    auto changed = exchange(disk, [&] {
      other = std::thread([&] { write(disk, 4096, 2); });
      return change();
    });
    other.join();
    return changed;
  }
  storvsp::Worker& worker() { return thread_->worker(); }

 private:
  std::unique_ptr<storvsp::WorkerThread> thread_;
};

OpenDisk closed_disk() {
  return {.owner = nullptr,
          .path = {},
          .undo = std::nullopt,
          .open = {},
          .image = nullptr,
          .front = nullptr,
          .limit = nullptr};
}

TEST_CASE("a child takes an image's place between two requests") {
  for (const Format format : {Format::vhdx, Format::vhd}) {
    tests::TemporaryFolder folder;
    const std::string path = folder.path(format == Format::vhdx ? "disk.vhdx" : "disk.vhd");
    make_image(path, format);
    Bench bench;
    OpenDisk disk = closed_disk();
    bench.open(disk, plan_of(path));
    bench.write(disk, 0, 1);
    // What comes meanwhile is the child's.
    REQUIRE_OK(bench.exchange_under_write(disk, [&] { return move_to_child(disk); }));
    const std::string child = disk.image->path();
    CHECK(child != path);
    CHECK(value_in(path, 0) == 1);
    CHECK(value_in(path, 4096) == 0);
    bench.close(disk);
    CHECK(value_in(child, 0) == 1);
    CHECK(value_in(child, 4096) == 2);
  }
}

// So long that its checkpoint's would be too long.
std::string long_name() { return std::string(230, 'x') + ".vhdx"; }

TEST_CASE("a child that cannot be made changes nothing") {
  tests::TemporaryFolder folder;
  const std::string path = folder.path(long_name());
  make_image(path);
  Bench bench;
  OpenDisk disk = closed_disk();
  bench.open(disk, plan_of(path));
  bench.write(disk, 0, 1);
  const auto failed = bench.exchange_under_write(disk, [&] { return move_to_child(disk); });
  CHECK_FALSE(failed.has_value());
  CHECK(disk.image->path() == path);
  bench.close(disk);
  CHECK(value_in(path, 0) == 1);
  CHECK(value_in(path, 4096) == 2);
}

TEST_CASE("a disk that cannot be opened again fails what comes") {
  tests::TemporaryFolder folder;
  const std::string inner = folder.path("folder");
  fs::create_directory(inner);
  const std::string path = inner + "/disk.vhdx";
  make_image(path);
  Bench bench;
  OpenDisk disk = closed_disk();
  bench.open(disk, plan_of(path));
  bench.write(disk, 0, 1);
  fs::rename(inner, inner + "-moved");
  const auto failed = bench.exchange(disk, [&] { return move_to_child(disk); });
  REQUIRE_FAILS(Errc::io, "could not be opened again", failed);
  const auto flushed = bench.worker().await([&] { return disk.front->flush(); });
  REQUIRE_FAILS(Errc::io, "not open any more", flushed);
  bench.close(disk);
  CHECK(value_in(inner + "-moved/disk.vhdx", 0) == 1);
}

TEST_CASE("a snapshot of several disks is taken back where one fails") {
  Machine machine;
  const std::string first = machine.disk("a.vhdx");
  REQUIRE_OK(machine.storage->attach(plan_of(first)));
  REQUIRE_OK(machine.storage->attach(plan_of(machine.disk(long_name()))));
  CHECK_FALSE(machine.storage->snapshot({}).has_value());
  CHECK(machine.storage->disks()[0].path == first);
  CHECK(std::distance(fs::directory_iterator(machine.folder.path("")), {}) == 2);
  REQUIRE_OK(machine.storage->snapshot({0}));
  REQUIRE_OK(machine.end());
}

// --- another size ---

constexpr uint64_t MiB = uint64_t{1} << 20;

constexpr image::ResizeOptions to(uint64_t bytes, bool shrinks = false) {
  return {.size = {.bytes = bytes}, .shrink = shrinks};
}

void make_fixed_vhd(const std::string& path) {
  const image::CreateOptions options{.format = Format::vhd,
                                     .subformat = image::Subformat::fixed,
                                     .size_bytes = tests::image_bytes};
  const image::OpenOptions open;
  REQUIRE_OK(
      tests::run_on_images_loop(image::create(tests::images_loop(), path, options, open, false)));
}

// A disk of each kind that can have another size.
std::vector<std::string> resizable_disks(const tests::TemporaryFolder& folder) {
  std::vector<std::string> paths;
  for (const char* const name : {"disk.raw", "dynamic.vhd", "fixed.vhd", "disk.vhdx"})
    paths.push_back(folder.path(name));
  std::ofstream(paths[0]) << std::string(tests::image_bytes, '\0');
  make_image(paths[1], Format::vhd);
  make_fixed_vhd(paths[2]);
  make_image(paths[3]);
  return paths;
}

Async<uint64_t> open_and_measure(std::string path) {
  const image::OpenOptions options;
  CO_TRY_LET(const auto image, co_await image::Image::open(tests::images_loop(), path, options));
  co_return image->disk().geometry().size_bytes;
}

// What somebody finds who opens the image.
uint64_t size_of(const std::string& path) {
  const auto size = tests::run_on_images_loop(open_and_measure(path));
  REQUIRE_OK(size);
  return *size;
}

TEST_CASE("a disk gets another size between two requests") {
  for (const uint64_t size : {12 * MiB, 4 * MiB}) {
    tests::TemporaryFolder folder;
    for (const std::string& path : resizable_disks(folder)) {
      CAPTURE(path);
      Bench bench;
      OpenDisk disk = closed_disk();
      bench.open(disk, plan_of(path));
      bench.write(disk, 0, 1);
      // What comes meanwhile waits for the disk as it will be.
      REQUIRE_OK(
          bench.exchange_under_write(disk, [&] { return resize_disk(disk, to(size, true)); }));
      CHECK(disk.front->geometry().size_bytes == size);
      bench.write(disk, size - 4096, 3);
      const auto behind = bench.worker().await([&] { return write_sectors(*disk.front, size, 4); });
      REQUIRE_FAILS(Errc::out_of_range, "", behind);
      bench.close(disk);
      CHECK(size_of(path) == size);
      CHECK(value_in(path, 0) == 1);
      CHECK(value_in(path, 4096) == 2);
      CHECK(value_in(path, size - 4096) == 3);
      if (size > tests::image_bytes) CHECK(value_in(path, tests::image_bytes) == 0);
    }
  }
}

Async<void> write_text(disk::Disk& disk, std::string_view text) {
  std::vector<std::byte> sector(512);
  std::ranges::copy(std::as_bytes(std::span(text)), sector.begin());
  CO_TRY(co_await disk.write(0, std::span<const std::byte>(sector)));
  co_return Result<void>();
}

TEST_CASE("what a guest writes makes its disk no other image when that is opened again") {
  tests::TemporaryFolder folder;
  const auto paths = resizable_disks(folder);
  for (const std::string& path : {paths[0], paths[2]}) {
    CAPTURE(path);
    Bench bench;
    OpenDisk disk = closed_disk();
    DiskPlan plan = plan_of(path);
    if (path == paths[0]) plan.open.format = Format::raw;  // else it would not get the header
    bench.open(disk, plan);
    REQUIRE_OK(bench.worker().await([&] { return write_text(*disk.front, "vhdxfile"); }));
    REQUIRE_OK(bench.exchange(disk, [&] { return resize_disk(disk, to(12 * MiB)); }));
    CHECK(disk.image->format() == (path == paths[0] ? Format::raw : Format::vhd));
    CHECK(disk.front->geometry().size_bytes == 12 * MiB);
    bench.close(disk);
  }
}

TEST_CASE("a fixed VHD with another header at its head gets a child") {
  Machine machine;
  const std::string path = machine.folder.path("fixed.vhd");
  make_fixed_vhd(path);
  REQUIRE_OK(machine.storage->attach(plan_of(path)));
  const auto entrance = machine.storage->entrances().front();
  REQUIRE_OK(entrance.worker->await([&] { return write_text(*entrance.disk, "vhdxfile"); }));
  const auto snapshots = machine.storage->snapshot({});
  REQUIRE_OK(snapshots);
  CHECK(fs::exists(snapshots->front().child));
  CHECK(machine.storage->disks().front().path == snapshots->front().child);
  REQUIRE_OK(machine.end());
}

TEST_CASE("a disk that could not get its size is as it was, and served") {
  Machine machine;
  const std::string path = machine.disk("a.vhd", Format::vhd);
  REQUIRE_OK(machine.storage->attach(plan_of(path)));
  machine.write(0, 0, 1);
  // More than a VHD can have, which is found when its image was closed already.
  CHECK_FALSE(machine.storage->resize(0, to(uint64_t{3} << 40)).has_value());
  CHECK(machine.storage->disks()[0].size_bytes == tests::image_bytes);
  machine.write(0, 4096, 2);
  REQUIRE_OK(machine.end());
  CHECK(size_of(path) == tests::image_bytes);
  CHECK(value_in(path, 0) == 1);
  CHECK(value_in(path, 4096) == 2);
}

TEST_CASE("a disk that cannot be opened again after it got its size fails what comes") {
  tests::TemporaryFolder folder;
  const std::string inner = folder.path("folder");
  fs::create_directory(inner);
  make_image(inner + "/disk.vhdx");
  Bench bench;
  OpenDisk disk = closed_disk();
  bench.open(disk, plan_of(inner + "/disk.vhdx"));
  fs::rename(inner, inner + "-moved");
  const auto failed = bench.exchange(disk, [&] { return resize_disk(disk, to(12 * MiB)); });
  REQUIRE_FAILS(Errc::io, "could not be opened again", failed);
  const auto flushed = bench.worker().await([&] { return disk.front->flush(); });
  REQUIRE_FAILS(Errc::io, "not open any more", flushed);
  bench.close(disk);
  CHECK(size_of(inner + "-moved/disk.vhdx") == tests::image_bytes);
}

TEST_CASE("sizes that are refused change nothing") {
  Machine machine;
  const std::string vhdx = machine.disk("a.vhdx");
  const std::string vhd = machine.disk("b.vhd", Format::vhd);
  const std::string parent = machine.disk("c.vhdx");
  const std::string child = machine.folder.path("c-child.avhdx");
  make_image(child, Format::vhdx, parent);
  for (const std::string& path : {vhdx, vhd, parent})
    REQUIRE_OK(machine.storage->attach(plan_of(path)));
  REQUIRE_OK(machine.storage->attach(plan_of(machine.disk("d.vhdx"), false)));
  REQUIRE_OK(machine.storage->insert_medium(make_iso(machine.folder.path("medium.iso"))));
  REQUIRE_OK(machine.storage->snapshot({1}));

  using Kind = image::SizeChange::Kind;
  const image::ResizeOptions nothing_left{.size = {.kind = Kind::by_less, .bytes = 8 * MiB},
                                          .shrink = true};
  const struct {
    unsigned number;
    image::ResizeOptions options;
    Errc code;
    const char* says;
  } cases[] = {
      {0, to(8 * MiB + 1), Errc::invalid_argument, "must be a multiple of the sector's 512"},
      {0, to(0), Errc::invalid_argument, "must be a multiple"},
      {0, to(4 * MiB), Errc::invalid_argument, "--shrink allows it"},
      {0, nothing_left, Errc::invalid_argument, "leave nothing"},
      {1, to(12 * MiB), Errc::unsupported, "a differencing VHD"},
      {2, to(12 * MiB), Errc::invalid_argument, "is the parent of"},
      {3, to(12 * MiB), Errc::read_only, "d.vhdx: is read-only"},
      {4, to(12 * MiB), Errc::not_found, "there is no disk 4"},  // a drive
      {9, to(12 * MiB), Errc::not_found, "there is no disk 9"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.says);
    REQUIRE_FAILS(one.code, one.says, machine.storage->resize(one.number, one.options));
  }
  for (const DiskStatus& disk : machine.storage->disks())
    CHECK(disk.size_bytes == tests::image_bytes);
  for (const unsigned number : {0u, 1u, 2u}) machine.write(number, 4096, 1);
  REQUIRE_OK(machine.end());
  CHECK(value_in(vhdx, 4096) == 1);
}

TEST_CASE("a disk gets its size again and again, between snapshots too") {
  Machine machine;
  const std::string first = machine.disk("a.vhdx");
  REQUIRE_OK(machine.storage->attach(plan_of(machine.disk("b.vhdx"))));
  // Not the first worker's.
  REQUIRE_OK(machine.storage->attach(plan_of(first)));
  const auto larger =
      machine.storage->resize(1, {.size = {image::SizeChange::Kind::by_more, 4 * MiB}});
  REQUIRE_OK(larger);
  CHECK(larger->old_bytes == 8 * MiB);
  CHECK(larger->new_bytes == 12 * MiB);
  REQUIRE_OK(machine.storage->resize(1, to(12 * MiB)));
  machine.write(1, 10 * MiB, 1);
  const auto snapshots = machine.storage->snapshot({1});
  REQUIRE_OK(snapshots);
  REQUIRE_OK(machine.storage->resize(1, to(16 * MiB)));
  machine.write(1, 14 * MiB, 2);
  REQUIRE_OK(machine.storage->resize(1, to(11 * MiB, true)));
  CHECK(machine.storage->disks()[1].size_bytes == 11 * MiB);
  CHECK(machine.storage->disks()[0].size_bytes == 8 * MiB);
  REQUIRE_OK(machine.end());
  CHECK(size_of(first) == 12 * MiB);
  CHECK(size_of((*snapshots)[0].child) == 11 * MiB);
  CHECK(value_in((*snapshots)[0].child, 10 * MiB) == 1);
}

TEST_CASE("an undo disk gets its disk's size, and the disk gets it by a merge") {
  for (const UndoEnd end : {UndoEnd::merge, UndoEnd::discard, UndoEnd::keep}) {
    for (const uint64_t size : {12 * MiB, 4 * MiB}) {
      CAPTURE(int(end));
      CAPTURE(size);
      Machine machine(end);
      const std::string path = machine.disk("a.vhdx");
      REQUIRE_OK(machine.storage->attach(plan_of(path)));
      REQUIRE_OK(machine.storage->resize(0, to(size, true)));
      machine.write(0, size - 1 * MiB, 1);
      CHECK(size_of(path) == tests::image_bytes);
      REQUIRE_OK(machine.end());
      CHECK(size_of(path) == (end == UndoEnd::merge ? size : tests::image_bytes));
      if (end == UndoEnd::merge) CHECK(value_in(path, size - 1 * MiB) == 1);
      if (end == UndoEnd::keep) CHECK(size_of(path + ".undo.avhdx") == size);
    }
  }
}

// --- disks that come and go ---

TEST_CASE("disks have the lowest number that none has had, and their places by it") {
  Machine machine(std::nullopt, 2);
  for (unsigned i = 0; i < 4; ++i) {
    const auto number = machine.storage->attach(plan_of(machine.disk(std::to_string(i) + ".vhdx")));
    REQUIRE_OK(number);
    CHECK(*number == i);
  }
  REQUIRE_OK(machine.storage->detach(1));
  REQUIRE_FAILS(Errc::not_found, "no disk 1", machine.storage->detach(1));
  CHECK(machine.numbers() == std::vector<unsigned>{0, 2, 3});
  // Its image is closed: somebody else may write it.
  write_to(machine.folder.path("1.vhdx"), 0, 7);
  // The guest may still take what is at that place for the old disk.
  CHECK(*machine.storage->attach(plan_of(machine.folder.path("1.vhdx"))) == 4);
  const DiskStatus last = machine.storage->disks().back();
  CHECK(last.place.controller == 0);
  CHECK(last.place.lun == 2);
  REQUIRE_OK(machine.end());
}

TEST_CASE("a guest that is switched on anew knows no number") {
  Machine machine;
  const std::string path = machine.disk("a.vhdx");
  for (unsigned i = 0; i < 2; ++i) REQUIRE_OK(machine.storage->attach(plan_of(path, false)));
  REQUIRE_OK(machine.storage->detach(0));
  const std::string iso = make_iso(machine.folder.path("a.iso"));
  REQUIRE_OK(machine.storage->insert_medium(iso));
  CHECK(machine.storage->drive()->place.number == 2);
  machine.storage->reset();
  CHECK(*machine.storage->attach(plan_of(path, false)) == 0);
  REQUIRE_OK(machine.end());
}

TEST_CASE("there are so many disks at most") {
  Machine machine;
  const std::string path = machine.disk("a.vhdx");
  for (unsigned i = 0; i < Storage::max_disks; ++i)
    REQUIRE_OK(machine.storage->attach(plan_of(path, false)));
  REQUIRE_FAILS(Errc::out_of_range, "64 disks", machine.storage->attach(plan_of(path, false)));
  // None that was never used is left: those that were free for longest come first.
  for (const unsigned number : {17u, 3u, 40u}) REQUIRE_OK(machine.storage->detach(number));
  CHECK(*machine.storage->attach(plan_of(path, false)) == 17);
  CHECK(*machine.storage->attach(plan_of(path, false)) == 3);
  REQUIRE_OK(machine.storage->detach(17));
  CHECK(*machine.storage->attach(plan_of(path, false)) == 40);
  CHECK(*machine.storage->attach(plan_of(path, false)) == 17);
  REQUIRE_FAILS(Errc::out_of_range, "64 disks", machine.storage->attach(plan_of(path, false)));
  REQUIRE_OK(machine.end());
}

TEST_CASE("which disks get children") {
  Machine machine;
  const std::string first = machine.disk("a.vhdx");
  const std::string second = machine.disk("b.vhd", Format::vhd);
  const std::string third = machine.disk("c.vhdx");
  REQUIRE_OK(machine.storage->attach(plan_of(first)));
  REQUIRE_OK(machine.storage->attach(plan_of(second)));
  REQUIRE_OK(machine.storage->attach(plan_of(third, false)));
  const auto all = machine.storage->snapshot({});
  REQUIRE_OK(all);
  REQUIRE(all->size() == 2);
  CHECK((*all)[0].parent == first);
  CHECK((*all)[1].parent == second);
  CHECK((*all)[1].child == machine.storage->disks()[1].path);
  // And once more, one of them.
  const auto one = machine.storage->snapshot({1});
  REQUIRE_OK(one);
  CHECK((*one)[0].parent == (*all)[1].child);
  REQUIRE_FAILS(Errc::read_only, third, machine.storage->snapshot({2}));
  REQUIRE_FAILS(Errc::not_found, "no disk 9", machine.storage->snapshot({9}));
  // A raw disk among them: none of them.
  const std::string raw = machine.folder.path("d.raw");
  std::ofstream(raw) << std::string(4096, 'x');
  REQUIRE_OK(machine.storage->attach(plan_of(raw)));
  REQUIRE_FAILS(Errc::unsupported, "a raw disk", machine.storage->snapshot({}));
  REQUIRE_FAILS(Errc::unsupported, "a raw disk", machine.storage->check_snapshot({}));
  REQUIRE_FAILS(Errc::read_only, third, machine.storage->check_snapshot({2}));
  REQUIRE_OK(machine.storage->check_snapshot({0, 1}));
  CHECK(machine.storage->disks()[0].path == (*all)[0].child);
  REQUIRE_OK(machine.end());
}

// --- undo disks ---

TEST_CASE("undo disks end with the run, or with the disk") {
  Machine machine(UndoEnd::discard);
  const std::string first = machine.disk("a.vhdx");
  const std::string second = machine.disk("b.vhdx");
  const std::string read_only = machine.disk("c.vhdx");
  for (const std::string& path : {first, second})
    REQUIRE_OK(machine.storage->attach(plan_of(path)));
  REQUIRE_OK(machine.storage->attach(plan_of(read_only, false)));
  CHECK(fs::exists(first + ".undo.avhdx"));
  CHECK_FALSE(fs::exists(read_only + ".undo.avhdx"));
  CHECK(machine.storage->disks()[0].undo_of == first);
  REQUIRE_FAILS(Errc::unsupported, "undo disk", machine.storage->snapshot({}));
  REQUIRE_OK(machine.storage->detach(0));
  CHECK_FALSE(fs::exists(first + ".undo.avhdx"));
  CHECK(fs::exists(second + ".undo.avhdx"));
  REQUIRE_OK(machine.end());
  CHECK_FALSE(fs::exists(second + ".undo.avhdx"));
  CHECK(machine.warnings.empty());
}

TEST_CASE("a machine that does not come to be leaves no undo disk behind") {
  Machine machine(UndoEnd::keep);
  const std::string first = machine.disk("a.vhdx");
  const std::string second = machine.disk("b.vhdx");
  const std::string left = second + ".undo.avhdx";
  make_image(left, Format::vhdx, second);
  REQUIRE_OK(machine.storage->attach(plan_of(first)));
  REQUIRE_OK(machine.storage->attach(plan_of(second)));
  machine.storage.reset();
  CHECK_FALSE(fs::exists(first + ".undo.avhdx"));
  CHECK(fs::exists(left));  // an earlier run's
}

TEST_CASE("a kept undo disk is told of") {
  Machine machine(UndoEnd::keep);
  const std::string path = machine.disk("a.vhdx");
  REQUIRE_OK(machine.storage->attach(plan_of(path)));
  REQUIRE_OK(machine.end());
  REQUIRE(machine.notes.size() == 1);
  CHECK(machine.notes[0].find(path + ".undo.avhdx") != std::string::npos);
  CHECK(fs::exists(path + ".undo.avhdx"));
}

// --- the DVD drive ---

TEST_CASE("media come and go") {
  Machine machine;
  REQUIRE_OK(machine.storage->attach(plan_of(machine.disk("a.vhdx"))));
  CHECK_FALSE(machine.storage->drive().has_value());
  REQUIRE_FAILS(Errc::not_found, "no medium", machine.storage->eject_medium());
  const std::string first = make_iso(machine.folder.path("first.iso"));
  const std::string second = make_iso(machine.folder.path("second.iso"), "NSR02");
  REQUIRE_OK(machine.storage->insert_medium(first));
  REQUIRE(machine.storage->drive().has_value());
  CHECK(machine.storage->drive()->place.number == 1);
  CHECK(machine.storage->drive()->medium == first);
  // The drive's number is taken.
  CHECK(*machine.storage->attach(plan_of(machine.disk("b.vhdx"))) == 2);
  REQUIRE_FAILS(Errc::not_found, "no disk 1", machine.storage->detach(1));
  REQUIRE_OK(machine.storage->insert_medium(second));
  CHECK(machine.storage->drive()->medium == second);
  REQUIRE_FAILS(Errc::corrupt, "no ISO image",
                machine.storage->insert_medium(machine.disk("c.vhdx")));
  CHECK(machine.storage->drive()->medium == second);
  REQUIRE_OK(machine.storage->eject_medium());
  CHECK_FALSE(machine.storage->drive()->medium.has_value());
  REQUIRE_OK(machine.storage->insert_medium(first));
  REQUIRE_OK(machine.end());
}

TEST_CASE("what is no ISO image makes no drive") {
  Machine machine;
  const std::string path = machine.folder.path("x.iso");
  for (const size_t size : {size_t{0}, size_t{100}, size_t{1} << 20}) {
    std::ofstream(path) << std::string(size, 'x');
    CHECK_FALSE(machine.storage->insert_medium(path).has_value());
    CHECK_FALSE(machine.storage->drive().has_value());
  }
  REQUIRE_OK(machine.end());
}

}  // namespace
}  // namespace vhdkit::hypervisor
