#include "hypervisor/runner/storage.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

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

// A disk's own identifier where it has one that stays when it is written.
std::array<std::byte, 16> identifier_of(image::Image& image, size_t number) {
  const disk::Layer& layer = image.disk().layer(0);
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

Async<void> open_image(async::Loop& loop, const DiskPlan& plan,
                       std::shared_ptr<image::Image>& image) {
  CO_TRY_LET(image, co_await image::Image::open(loop, plan.path, plan.open));
  co_return Result<void>();
}

}  // namespace

Result<std::unique_ptr<Storage>> Storage::create(vmbus::GuestMemory& memory,
                                                 vmbus::Partition& partition,
                                                 const Options& options) {
  std::unique_ptr<Storage> storage(new Storage());
  TRY(storage->start(memory, partition, options));
  return storage;
}

Result<void> Storage::start(vmbus::GuestMemory& memory, vmbus::Partition& partition,
                            const Options& options) {
  TRY_LET(control_, storvsp::WorkerThread::start({}));
  for (unsigned i = 0; i < options.worker_count; ++i) {
    TRY_LET(auto thread, storvsp::WorkerThread::start({}));
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
  (void)close();
}

// --- disks ---

Result<std::vector<std::string>> Storage::attach(const DiskPlan& plan) {
  const size_t number = disks_.size();
  TRY_LET(OpenDisk disk, open(plan));
  storvsp::Controller& controller = *controllers_[number % controllers_.size()];
  const auto lun = uint8_t(number / controllers_.size());
  auto unit = unit_of(disk, plan);
  disks_.push_back(std::move(disk));
  Result<void> attached;
  control_->worker().run([&] { attached = controller.attach(lun, std::move(unit)); });
  TRY(std::move(attached));
  return disks_.back().image->warnings();
}

Result<Storage::OpenDisk> Storage::open(const DiskPlan& plan) {
  OpenDisk disk{.image = nullptr,
                .owner = workers_[disks_.size() % workers_.size()],
                .is_writable = plan.open.writable};
  TRY(disk.owner->await([&] { return open_image(disk.owner->loop(), plan, disk.image); }));
  return disk;
}

storvsp::Controller::Unit Storage::unit_of(const OpenDisk& disk, const DiskPlan& plan) {
  const size_t number = disks_.size();
  image::Image& image = *disk.image;
  const uint64_t block = image.disk().layer(0).block_size_bytes();
  const scsi::DiskUnitOptions options{
      .identifier = identifier_of(image, number),
      .trim_granularity_bytes = uint32_t(std::max(block, smallest_trim_bytes))};
  storvsp::Controller::Unit unit{.unit = std::make_shared<scsi::DiskUnit>(options)};
  const auto owner = size_t(std::ranges::find(workers_, disk.owner) - workers_.begin());
  unit.views =
      storvsp::views_of(storvsp::Controller::DiskView(disk.image, &image.disk()), owner, workers_);
  if (plan.limits.is_limited())
    unit.shares.push_back(
        {.throttle = std::make_shared<storvsp::Throttle>(*disk.owner, plan.limits, 1), .line = 0});
  return unit;
}

Result<void> Storage::close(OpenDisk& disk) {
  Result<void> closed;
  if (disk.is_writable) closed = disk.owner->await([&] { return disk.image->disk().close(); });
  const std::string path = disk.image->path();
  disk.owner->run([&] { disk.image.reset(); });
  return with_context(std::move(closed), path);
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
}

Result<void> Storage::close() {
  if (server_ != nullptr) take_controllers_away();
  Result<void> first;
  for (OpenDisk& disk : disks_) {
    auto closed = close(disk);
    if (first) first = std::move(closed);
  }
  disks_.clear();
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

std::string Storage::report() {
  std::string report = "[";
  control_->worker().run([&] {
    for (const auto& controller : controllers_)
      report += (report.size() > 1 ? ", " : "") + controller->report();
  });
  return report + "]";
}

}  // namespace vhdkit::hypervisor
