#include "hypervisor/runner/storage.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstring>
#include <thread>

#include "disk/ram_disk.h"
#include "hypervisor/runner/iso.h"
#include "hypervisor/sandbox/sandbox.h"
#include "vsp-storage/scsi/disk_unit.h"
#include "vsp-storage/storvsp/remote_disk.h"

namespace vhdkit::hypervisor {
namespace {

// The connections that a guest posts its messages to: the first one before 5.0, the other one
// since.
constexpr uint32_t message_connections[] = {1, 4};

// The guest knows its controllers by these: they stay.
constexpr Guid controller_instances[Storage::max_controllers] = {
    Guid::literal("6f3a9c54-2e1b-4d87-9a60-76686b697430"),
    Guid::literal("6f3a9c54-2e1b-4d87-9a60-76686b697431")};

// For images that do not allocate blocks: a page of the file system they lie in.
constexpr uint64_t smallest_trim_bytes = 4096;

constexpr std::chrono::milliseconds patience{1};

// A disk's own identifier where it has one that stays when it is written. That of an undo disk is
// its parent's: the guest shall find the disk that it knows.
std::array<std::byte, 16> identifier_of(const OpenDisk& disk, unsigned number) {
  const disk::Layer& layer = disk.image->disk().layer(disk.undo ? 1 : 0);
  Guid identifier =
      Guid::parse(layer.describe().text("disk-id")).value_or(layer.identity().value_or(Guid()));
  std::array<std::byte, 16> bytes;
  std::ranges::copy(identifier.big_endian(), bytes.begin());
  if (!identifier.is_zero()) return bytes;
  // A raw disk has none: it is known by its place.
  std::ranges::copy(controller_instances[0].big_endian(), bytes.begin());
  bytes.back() = std::byte(0x80 | number);
  return bytes;
}

std::array<std::byte, 16> identifier_of_drive() {
  std::array<std::byte, 16> bytes;
  std::ranges::copy(controller_instances[0].big_endian(), bytes.begin());
  bytes.back() = std::byte{0xff};
  return bytes;
}

// What a drive without a medium has: nobody looks at it.
storvsp::Controller::DiskView no_medium() {
  return std::make_shared<disk::RamDisk>(disk::Geometry{.size_bytes = 2048});
}

Async<void> open_image(async::Loop& loop, const std::string& path,
                       std::shared_ptr<image::Image>& image) {
  const image::OpenOptions reading;
  CO_TRY_LET(image, co_await image::Image::open(loop, path, reading));
  auto checked = co_await check_medium(image->disk());
  co_return with_context(std::move(checked), path);
}

Result<void> check_can_change(const OpenDisk& disk) {
  if (!disk.is_writable())
    return fail(Errc::read_only, disk.path + ": is read-only, and so stays as it is");
  if (disk.image == nullptr) return fail(Errc::io, disk.path + ": is not open any more");
  return {};
}

Async<void> plan_into(OpenDisk& disk, const image::ResizeOptions& options,
                      image::ResizeReport& report) {
  CO_TRY_LET(report, co_await image::plan_resize(disk.owner->loop(), *disk.image, options));
  co_return Result<void>();
}

}  // namespace

Result<std::unique_ptr<Storage>> Storage::create(vmbus::GuestMemory& memory,
                                                 vmbus::Partition& partition,
                                                 const Options& options) {
  std::unique_ptr<Storage> storage(new Storage(options));
  TRY(storage->start(memory, partition, options));
  return storage;
}

Result<void> Storage::start(vmbus::GuestMemory& memory, vmbus::Partition& partition,
                            const Options& options) {
  partition_ = &partition;
  TRY_LET(control_, storvsp::WorkerThread::start({}, [] { enter(ThreadKind::bus); }));
  for (unsigned i = 0; i < options.worker_count; ++i) {
    TRY_LET(auto thread, storvsp::WorkerThread::start({}, [] { enter(ThreadKind::storage); }));
    workers_.push_back(&thread->worker());
    worker_threads_.push_back(std::move(thread));
  }
  Result<void> offered;
  control_->worker().run([&] {
    server_ = std::make_unique<vmbus::Server>(memory, partition, options.log);
    const storvsp::Controller::Host host{.server = *server_,
                                         .memory = memory,
                                         .partition = partition,
                                         .mailbox = control_->worker().mailbox(),
                                         .workers = workers_};
    for (unsigned i = 0; i < options.controller_count && offered; ++i) {
      controllers_.push_back(std::make_unique<storvsp::Controller>(
          host, storvsp::Controller::Options{
                    .instance = controller_instances[i],
                    .max_sub_channel_count = uint16_t(options.sub_channel_count)}));
      offered = controllers_.back()->offer();
    }
  });
  return offered;
}

Storage::~Storage() {
  if (server_ != nullptr) reset();
  (void)abandon();
}

// --- disks ---

Result<Place> Storage::free_place() const {
  for (unsigned number = 0; number < max_disks; ++number) {
    const bool is_used = disks_.contains(number) || (drive_ && drive_->place.number == number);
    if (!is_used && std::ranges::find(left_numbers_, number) == left_numbers_.end())
      return place_of(number);
  }
  if (!left_numbers_.empty()) return place_of(left_numbers_.front());
  return fail(Errc::out_of_range, "there are " + std::to_string(max_disks) + " disks already");
}

Place Storage::place_of(unsigned number) const {
  const auto count = unsigned(controllers_.size());
  return {.number = number, .controller = number % count, .lun = uint8_t(number / count)};
}

storvsp::Worker* Storage::owner_of(const Place& place) const {
  return workers_[place.number % workers_.size()];
}

Result<void> Storage::check(const DiskPlan& plan) {
  storvsp::Worker& worker = *workers_.front();
  return worker.await([&] {
    return undo_ && plan.open.writable ? check_undo(worker.loop(), plan.path, plan.open, *undo_)
                                       : check_is_whole(worker.loop(), plan.path, plan.open);
  });
}

Result<unsigned> Storage::attach(const DiskPlan& plan) {
  TRY_LET(const Place place, free_place());
  OpenDisk disk{.owner = owner_of(place),
                .path = {},
                .undo = std::nullopt,
                .open = {},
                .image = nullptr,
                .front = nullptr,
                .limit = nullptr};
  TRY(disk.owner->await([&] { return open_disk(plan, undo_, disk); }));
  for (const std::string& warning : disk.image->warnings()) log_(warning);
  if (disk.undo)
    for (const std::string& note : disk.undo->notes) tell_(note);
  if (plan.limits.is_limited())
    disk.limit = std::make_shared<storvsp::Throttle>(*disk.owner, plan.limits, 1);
  auto unit = unit_of(disk, place);
  disks_.emplace(place.number, std::move(disk));
  TRY(attach(place, std::move(unit)));
  return place.number;
}

storvsp::Controller::Unit Storage::unit_of(const OpenDisk& disk, const Place& place) const {
  const uint64_t block = disk.image->disk().layer(0).block_size_bytes();
  const scsi::DiskUnitOptions options{
      .identifier = identifier_of(disk, place.number),
      .trim_granularity_bytes = uint32_t(std::max(block, smallest_trim_bytes))};
  storvsp::Controller::Unit unit{.unit = std::make_shared<scsi::DiskUnit>(options)};
  unit.views = views_of(disk.front, disk.owner);
  if (disk.limit != nullptr) unit.shares.push_back({.throttle = disk.limit, .line = 0});
  return unit;
}

std::vector<storvsp::Controller::DiskView> Storage::views_of(storvsp::Controller::DiskView disk,
                                                             const storvsp::Worker* owner) const {
  const auto number = size_t(std::ranges::find(workers_, owner) - workers_.begin());
  return storvsp::views_of(std::move(disk), number, workers_);
}

Result<void> Storage::attach(const Place& place, storvsp::Controller::Unit unit) {
  Result<void> attached;
  control_->worker().run(
      [&] { attached = controllers_[place.controller]->attach(place.lun, std::move(unit)); });
  if (attached) std::erase(left_numbers_, place.number);
  return attached;
}

Result<OpenDisk*> Storage::find(unsigned number) {
  const auto found = disks_.find(number);
  if (found == disks_.end())
    return fail(Errc::not_found, "there is no disk " + std::to_string(number));
  return &found->second;
}

Result<void> Storage::detach(unsigned number) {
  TRY_LET(OpenDisk* const disk, find(number));
  const Place place = place_of(number);
  Result<void> detached;
  control_->worker().run([&] { detached = controllers_[place.controller]->detach(place.lun); });
  TRY(detached);
  TRY(disk->owner->await([&] { return hold(*disk); }));
  auto closed = close(*disk, undo_);
  // What still waited for a limit finds no image.
  disk->owner->run([&] { let_go(*disk); });
  disks_.erase(number);
  left_numbers_.push_back(number);
  return closed;
}

Result<void> Storage::close(OpenDisk& disk, std::optional<UndoEnd> undo_end) {
  TRY(disk.owner->await([&] { return close_disk(disk, undo_end); }));
  if (disk.undo && undo_end == UndoEnd::keep)
    tell_(disk.path + ": the changes are in " + disk.undo->path + "; vhd merge puts them into it");
  return {};
}

// --- snapshots ---

Result<std::vector<unsigned>> Storage::disks_for_snapshot(std::vector<unsigned> numbers) {
  if (numbers.empty())
    for (const auto& [number, disk] : disks_)
      if (disk.is_writable()) numbers.push_back(number);
  if (numbers.empty()) return fail(Errc::not_found, "there is no writable disk");
  std::ranges::sort(numbers);
  numbers.erase(std::ranges::unique(numbers).begin(), numbers.end());
  for (const unsigned number : numbers) {
    TRY_LET(const OpenDisk* const disk, find(number));
    TRY(check_can_change(*disk));
    if (disk->undo)
      return fail(Errc::unsupported, disk->path + ": has an undo disk, whose end was decided on");
    const image::Format format = disk->image->format();
    if (format != image::Format::vhd && format != image::Format::vhdx)
      return fail(Errc::unsupported, disk->path + ": a " + std::string(image::format_name(format)) +
                                         " disk has no children");
  }
  return numbers;
}

Result<void> Storage::check_snapshot(std::vector<unsigned> numbers) {
  TRY(disks_for_snapshot(std::move(numbers)));
  return {};
}

Result<std::vector<Snapshot>> Storage::snapshot(std::vector<unsigned> numbers) {
  TRY_LET(numbers, disks_for_snapshot(std::move(numbers)));
  for (const unsigned number : numbers) {
    OpenDisk& disk = disks_.at(number);
    TRY(disk.owner->await([&] { return hold(disk); }));
  }
  auto snapshots = move_to_children(numbers);
  for (const unsigned number : numbers) {
    OpenDisk& disk = disks_.at(number);
    disk.owner->run([&] { let_go(disk); });
  }
  return snapshots;
}

Result<std::vector<Snapshot>> Storage::move_to_children(const std::vector<unsigned>& numbers) {
  std::vector<Snapshot> done;
  std::vector<image::OpenOptions> opened_before;
  for (const unsigned number : numbers) {
    OpenDisk& disk = disks_.at(number);
    const std::string parent = disk.image->path();
    opened_before.push_back(disk.open);
    const auto moved = disk.owner->await([&] { return move_to_child(disk); });
    if (moved) {
      done.push_back({.number = number, .parent = parent, .child = disk.image->path()});
      continue;
    }
    std::string message = moved.error().message;
    for (size_t i = 0; i < done.size(); ++i) {
      OpenDisk& other = disks_.at(done[i].number);
      const auto back =
          other.owner->await([&] { return move_back(other, done[i].parent, opened_before[i]); });
      if (!back) message += "; " + back.error().message;
    }
    return fail(moved.error().code, message);
  }
  return done;
}

// --- another size ---

Result<image::ResizeReport> Storage::resize(unsigned number, const image::ResizeOptions& options) {
  TRY_LET(OpenDisk* const disk, find(number));
  TRY(check_can_change(*disk));
  image::ResizeReport report;
  TRY(disk->owner->await([&] { return plan_into(*disk, options, report); }));
  if (report.new_bytes == report.old_bytes) return report;
  const auto resized = resize_held(*disk, options);
  // A resize that failed late may have been done.
  if (disk->front->geometry().size_bytes != report.old_bytes) announce_capacity(number, *disk);
  TRY(resized);
  return report;
}

Result<void> Storage::resize_held(OpenDisk& disk, const image::ResizeOptions& options) {
  TRY(disk.owner->await([&] { return hold(disk); }));
  auto resized = disk.owner->await([&] { return resize_disk(disk, options); });
  disk.owner->run([&] { let_go(disk); });
  return resized;
}

// Each worker's view keeps the size that the disk had when it was made.
void Storage::announce_capacity(unsigned number, const OpenDisk& disk) {
  const Place place = place_of(number);
  auto views = views_of(disk.front, disk.owner);
  control_->worker().run([&] {
    const auto changed =
        controllers_[place.controller]->change_capacity(place.lun, std::move(views));
    assert(changed);
  });
}

// --- the DVD drive ---

Result<void> Storage::add_drive() {
  TRY_LET(const Place place, free_place());
  const scsi::OpticalUnitOptions options{.identifier = identifier_of_drive()};
  drive_ = Drive{.place = place,
                 .owner = owner_of(place),
                 .unit = std::make_shared<scsi::OpticalUnit>(options),
                 .medium = nullptr};
  storvsp::Controller::Unit unit{.unit = drive_->unit, .views = {}, .shares = {}};
  unit.views = views_of(no_medium(), drive_->owner);
  return attach(place, std::move(unit));
}

Result<std::shared_ptr<image::Image>> Storage::open_medium(const std::string& path,
                                                           storvsp::Worker& owner) const {
  std::shared_ptr<image::Image> medium;
  const auto opened = owner.await([&] { return open_image(owner.loop(), path, medium); });
  if (opened) return medium;
  owner.run([&] { medium.reset(); });
  return std::unexpected(opened.error());
}

Result<void> Storage::check_medium(const std::string& path) {
  storvsp::Worker& worker = *workers_.front();
  TRY_LET(auto medium, open_medium(path, worker));
  worker.run([&] { medium.reset(); });
  return {};
}

Result<void> Storage::insert_medium(const std::string& path) {
  if (drive_) {
    TRY_LET(auto medium, open_medium(path, *drive_->owner));
    exchange_medium(std::move(medium));
  } else {
    TRY_LET(const Place place, free_place());
    TRY_LET(auto medium, open_medium(path, *owner_of(place)));
    TRY(add_drive());
    exchange_medium(std::move(medium));
  }
  return drive_->unit->insert(drive_->medium->disk().geometry());
}

Result<void> Storage::eject_medium() {
  if (!drive_ || drive_->medium == nullptr)
    return fail(Errc::not_found, "there is no medium in a drive");
  exchange_medium(nullptr);
  return {};
}

// The old medium lives until the last request that reads it has ended.
void Storage::exchange_medium(std::shared_ptr<image::Image> medium) {
  drive_->unit->eject();
  auto view =
      medium == nullptr ? no_medium() : storvsp::Controller::DiskView(medium, &medium->disk());
  auto views = views_of(std::move(view), drive_->owner);
  drive_->owner->run([&] { drive_->medium.swap(medium); });
  control_->worker().run([&] {
    const auto exchanged =
        controllers_[drive_->place.controller]->exchange(drive_->place.lun, std::move(views));
    assert(exchanged);
  });
  drive_->owner->run([&] { medium.reset(); });
}

// --- the firmware ---

std::vector<Storage::Entrance> Storage::entrances() const {
  std::vector<Entrance> entrances;
  for (const auto& [number, disk] : disks_)
    entrances.push_back(
        {.path = disk.path, .worker = disk.owner, .disk = disk.front, .limit = disk.limit});
  return entrances;
}

// --- the guest ---

HypercallStatus Storage::post_message(uint32_t connection_id, std::span<const std::byte> message) {
  if (std::ranges::find(message_connections, connection_id) == std::end(message_connections))
    return HypercallStatus::invalid_connection_id;
  bool is_heard = false;
  control_->worker().run([&] { is_heard = server_->receive(message); });
  return is_heard ? HypercallStatus::success : HypercallStatus::insufficient_buffers;
}

HypercallStatus Storage::signal_event(uint32_t connection_id) {
  return server_->signal(connection_id) ? HypercallStatus::success
                                        : HypercallStatus::invalid_connection_id;
}

void Storage::slot_is_free() { control_->worker().mailbox().post(free_slot_letter_); }

void Storage::reset() {
  control_->worker().run([this] { server_->reset(); });
  for (bool is_quiet = false; !is_quiet;) {
    control_->worker().run([&] { is_quiet = server_->is_quiet(); });
    if (!is_quiet) std::this_thread::sleep_for(patience);
  }
  control_->worker().run([this] {
    for (const auto& controller : controllers_) controller->power_on();
  });
  left_numbers_.clear();
}

Result<void> Storage::close() { return close_all(true); }

Result<void> Storage::abandon() { return close_all(false); }

Result<void> Storage::close_all(bool has_run) {
  if (server_ != nullptr) take_controllers_away();
  Result<void> first;
  for (auto& [number, disk] : disks_) {
    const bool was_made_in_vain = !has_run && disk.undo && disk.undo->is_new;
    auto closed = close(disk, has_run            ? undo_
                              : was_made_in_vain ? std::optional(UndoEnd::discard)
                                                 : std::nullopt);
    if (!closed && !first) log_(closed.error().message);
    if (first) first = std::move(closed);
  }
  disks_.clear();
  if (drive_) drive_->owner->run([this] { drive_->medium.reset(); });
  drive_.reset();
  return first;
}

void Storage::take_controllers_away() {
  control_->worker().run([this] {
    for (const auto& controller : controllers_) controller->rescind();
  });
  for (bool are_gone = false; !are_gone;) {
    control_->worker().run([&] {
      are_gone = std::ranges::all_of(controllers_, [](const auto& one) { return one->is_gone(); });
    });
    if (!are_gone) std::this_thread::sleep_for(patience);
  }
  control_->worker().run([this] {
    controllers_.clear();
    server_.reset();
  });
}

std::vector<DiskStatus> Storage::disks() const {
  std::vector<DiskStatus> all;
  for (const auto& [number, disk] : disks_) {
    DiskStatus status{.place = place_of(number),
                      .path = disk.image == nullptr ? disk.path : disk.image->path(),
                      .format = disk.image == nullptr ? image::Format::raw : disk.image->format(),
                      .size_bytes = disk.front->geometry().size_bytes,
                      .is_read_only = !disk.is_writable(),
                      .undo_of = std::nullopt};
    if (disk.undo) status.undo_of = disk.path;
    all.push_back(std::move(status));
  }
  return all;
}

std::optional<DriveStatus> Storage::drive() const {
  if (!drive_) return std::nullopt;
  DriveStatus status{.place = drive_->place, .medium = std::nullopt};
  if (drive_->medium != nullptr && drive_->unit->has_medium())
    status.medium = drive_->medium->path();
  return status;
}

tools::Json Storage::report() {
  tools::Json report = tools::Json::array();
  control_->worker().run([&] {
    for (const auto& controller : controllers_) report.push_back(controller->report());
  });
  return report;
}

}  // namespace vhdkit::hypervisor
