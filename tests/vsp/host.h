// A whole host around a storage controller, and the memory and interrupts of its guest.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

#include "vsp-storage/storvsp/controller.h"

namespace vhdkit::tests {

// RAM in one piece, page 0 first.
class FlatMemory final : public vmbus::GuestMemory {
 public:
  explicit FlatMemory(size_t page_count);
  ~FlatMemory() override;
  std::byte* page(uint64_t number) override {
    return number < page_count_ ? bytes_ + number * page_bytes : nullptr;
  }
  size_t page_count() const { return page_count_; }

 private:
  size_t page_count_;
  std::byte* bytes_;
};

// What the guest's processors would see of messages and event flags. Thread-safe.
class Interrupts final : public vmbus::Partition {
 public:
  using Message = std::vector<std::byte>;

  bool post_message(vmbus::Destination destination, std::span<const std::byte> message) override;
  void set_event_flag(vmbus::Destination destination, uint32_t flag) override;
  void connect_signal(uint32_t connection_id, int event) override;
  void disconnect_signal(uint32_t connection_id, int event) override;

  // Waits for a message and empties the slot. Then the server has to be told.
  Message take_message();
  // Waits until the flag is set, and clears it. False: it was not, for that long.
  bool wait_for_flag(uint32_t flag, std::chrono::milliseconds longest);
  uint64_t signal_count() const { return signal_count_; }
  // As the kernel does with the signals of a guest. False: nobody is connected.
  bool signal_by_event(uint32_t connection_id);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Message slot_;
  std::array<bool, 2048> flags_{};
  std::atomic<uint64_t> signal_count_ = 0;
  std::map<uint32_t, int> events_;  // by connection
};

// The server on a thread of its own, a controller, and workers.
class Host {
 public:
  struct Options {
    size_t page_count = 4096;
    unsigned worker_count = 1;
    storvsp::Controller::Options controller{
        .instance = Guid::literal("5ca1ab1e-0000-4000-8000-000000000001")};
    storvsp::Worker::Options worker;
    bool signals_by_event = true;  // where the channel has one
  };
  explicit Host(const Options& options);
  ~Host();

  // As the guest's hypercalls do. Waits where the server says that it should.
  void post(std::span<const std::byte> message);
  Interrupts::Message take_message();
  bool signal(uint32_t connection_id);

  Result<void> attach(uint8_t lun, storvsp::Controller::Unit unit);
  // view: for every worker.
  Result<void> attach(uint8_t lun, std::shared_ptr<scsi::LogicalUnit> unit,
                      const std::shared_ptr<disk::Disk>& view,
                      std::vector<storvsp::Share> shares = {});
  Result<void> detach(uint8_t lun);
  // view: for every worker.
  Result<void> exchange(uint8_t lun, const std::shared_ptr<disk::Disk>& view);
  Result<void> change_capacity(uint8_t lun, std::vector<storvsp::Controller::DiskView> views);
  void rescind();
  nlohmann::ordered_json report();
  std::vector<std::string> log();
  storvsp::Worker& worker(size_t number) { return *workers_[number]; }
  std::span<storvsp::Worker* const> workers() const { return workers_; }

  FlatMemory memory;
  Interrupts interrupts;

 private:
  bool signals_by_event_;
  std::unique_ptr<storvsp::WorkerThread> control_;
  std::vector<std::unique_ptr<storvsp::WorkerThread>> worker_threads_;
  std::vector<storvsp::Worker*> workers_;
  std::vector<std::string> log_;  // of the server's thread
  std::unique_ptr<vmbus::Server> server_;
  std::unique_ptr<storvsp::Controller> controller_;
};

}  // namespace vhdkit::tests
