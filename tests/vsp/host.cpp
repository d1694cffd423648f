#include "tests/vsp/host.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <nlohmann/json.hpp>
#include <thread>

namespace vhdkit::tests {

FlatMemory::FlatMemory(size_t page_count)
    : page_count_(page_count),
      bytes_(static_cast<std::byte*>(mmap(nullptr, page_count * page_bytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
  assert(bytes_ != MAP_FAILED);
}

FlatMemory::~FlatMemory() { munmap(bytes_, page_count_ * page_bytes); }

// --- Interrupts ---

bool Interrupts::post_message(vmbus::Destination, std::span<const std::byte> message) {
  const std::lock_guard lock(mutex_);
  if (!slot_.empty()) return false;
  slot_.assign(message.begin(), message.end());
  changed_.notify_all();
  return true;
}

void Interrupts::set_event_flag(vmbus::Destination, uint32_t flag) {
  const std::lock_guard lock(mutex_);
  flags_.at(flag) = true;
  ++signal_count_;
  changed_.notify_all();
}

Interrupts::Message Interrupts::take_message() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !slot_.empty(); });
  return std::exchange(slot_, {});
}

bool Interrupts::wait_for_flag(uint32_t flag, std::chrono::milliseconds longest) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, longest, [this, flag] { return flags_.at(flag); });
  return std::exchange(flags_.at(flag), false);
}

void Interrupts::connect_signal(uint32_t connection_id, int event) {
  const std::lock_guard lock(mutex_);
  events_[connection_id] = event;
}

void Interrupts::disconnect_signal(uint32_t connection_id, int) {
  const std::lock_guard lock(mutex_);
  events_.erase(connection_id);
}

bool Interrupts::signal_by_event(uint32_t connection_id) {
  const std::lock_guard lock(mutex_);
  const auto found = events_.find(connection_id);
  if (found == events_.end()) return false;
  const uint64_t one = 1;
  return write(found->second, &one, sizeof one) == sizeof one;
}

// --- Host ---

Host::Host(const Options& options)
    : memory(options.page_count), signals_by_event_(options.signals_by_event) {
  auto control = storvsp::WorkerThread::start({});
  assert(control);
  control_ = std::move(*control);
  for (unsigned i = 0; i < options.worker_count; ++i) {
    auto worker = storvsp::WorkerThread::start(options.worker);
    assert(worker);
    workers_.push_back(&(*worker)->worker());
    worker_threads_.push_back(std::move(*worker));
  }
  control_->worker().run([&] {
    const auto log = [this](const std::string& line) { log_.push_back(line); };
    server_ = std::make_unique<vmbus::Server>(memory, interrupts, log);
    const storvsp::Controller::Host host{.server = *server_,
                                         .memory = memory,
                                         .partition = interrupts,
                                         .mailbox = control_->worker().mailbox(),
                                         .workers = workers_};
    controller_ = std::make_unique<storvsp::Controller>(host, options.controller);
    [[maybe_unused]] const auto offered = controller_->offer();
    assert(offered);
  });
}

Host::~Host() {
  // As if the guest had been switched off.
  control_->worker().run([this] {
    server_->reset();
    if (!controller_->is_gone()) controller_->rescind();
  });
  for (bool is_gone = false; !is_gone;) {
    control_->worker().run([&] { is_gone = controller_->is_gone(); });
    if (!is_gone) std::this_thread::yield();
  }
  control_->worker().run([this] {
    controller_.reset();
    server_.reset();
  });
}

bool Host::signal(uint32_t connection_id) {
  return (signals_by_event_ && interrupts.signal_by_event(connection_id)) ||
         server_->signal(connection_id);
}

void Host::post(std::span<const std::byte> message) {
  for (bool is_heard = false; !is_heard;) {
    control_->worker().run([&] { is_heard = server_->receive(message); });
    if (!is_heard) std::this_thread::yield();
  }
}

Interrupts::Message Host::take_message() {
  auto message = interrupts.take_message();
  control_->worker().run([this] { server_->slot_is_free(); });
  return message;
}

Result<void> Host::attach(uint8_t lun, storvsp::Controller::Unit unit) {
  Result<void> result;
  control_->worker().run([&] { result = controller_->attach(lun, std::move(unit)); });
  return result;
}

Result<void> Host::attach(uint8_t lun, std::shared_ptr<scsi::LogicalUnit> unit,
                          const std::shared_ptr<disk::Disk>& view,
                          std::vector<storvsp::Share> shares) {
  storvsp::Controller::Unit attached{
      .unit = std::move(unit), .views = {}, .shares = std::move(shares)};
  attached.views.assign(workers_.size(), view);
  return attach(lun, std::move(attached));
}

Result<void> Host::exchange(uint8_t lun, const std::shared_ptr<disk::Disk>& view) {
  Result<void> result;
  control_->worker().run([&] {
    result = controller_->exchange(
        lun, std::vector<storvsp::Controller::DiskView>(workers_.size(), view));
  });
  return result;
}

Result<void> Host::change_capacity(uint8_t lun, std::vector<storvsp::Controller::DiskView> views) {
  Result<void> result;
  control_->worker().run([&] { result = controller_->change_capacity(lun, std::move(views)); });
  return result;
}

Result<void> Host::detach(uint8_t lun) {
  Result<void> result;
  control_->worker().run([&] { result = controller_->detach(lun); });
  return result;
}

void Host::rescind() {
  control_->worker().run([this] { controller_->rescind(); });
}

nlohmann::ordered_json Host::report() {
  nlohmann::ordered_json report;
  control_->worker().run([&] { report = controller_->report(); });
  return report;
}

std::vector<std::string> Host::log() {
  std::vector<std::string> log;
  control_->worker().run([&] { log = log_; });
  return log;
}

}  // namespace vhdkit::tests
