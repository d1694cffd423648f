// The host's side of the guest's disks: a VMBus server, storage controllers, the threads that serve
// them, and the images.
#pragma once

#include "hypervisor/hyperv/hypercalls.h"
#include "image/image.h"
#include "vsp-storage/storvsp/controller.h"
#include "vsp-storage/storvsp/throttle.h"

namespace vhdkit::hypervisor {

struct DiskPlan {
  std::string path;
  image::OpenOptions open;  // writable unless it is to be read-only
  storvsp::Limits limits;
};

// Thread-safe for the guest's side (Connections, slot_is_free()); the rest is for one thread that
// is none of its own.
class Storage final : public Connections {
 public:
  static constexpr unsigned max_controllers = 2;
  static constexpr unsigned max_disks = storvsp::max_units;

  struct Options {
    unsigned controller_count = 1;
    unsigned sub_channel_count = 0;  // of each controller, beside its first channel
    unsigned worker_count = 1;
    vmbus::Server::Log log;  // what was wrong with something that the guest did
  };

  // Memory and partition outlive it. Errors: those of the system.
  static Result<std::unique_ptr<Storage>> create(vmbus::GuestMemory& memory,
                                                 vmbus::Partition& partition,
                                                 const Options& options);
  // Closes what was not closed.
  ~Storage() override;

  // Opens the image and puts it in: disks go to the controllers in turn, each to the next free
  // unit. What the image warns of is returned. Errors: those of Image::open(), naming the file.
  Result<std::vector<std::string>> attach(const DiskPlan& plan);

  HypercallStatus post_message(uint32_t connection_id, std::span<const std::byte> message) override;
  HypercallStatus signal_event(uint32_t connection_id) override;
  // A message slot of the guest's may have become free.
  void slot_is_free();

  // As if the guest had been switched off: returns when nothing of it runs any more. REQUIRES: no
  // processor runs.
  void reset();
  // After reset(): closes all images, whatever happens to some of them. Errors: the first one.
  Result<void> close();

  // Channels and units of all controllers, with what was counted of them, as JSON.
  std::string report();

 private:
  struct OpenDisk {
    std::shared_ptr<image::Image> image;
    storvsp::Worker* owner;
    bool is_writable;
  };

  Storage() = default;
  Result<void> start(vmbus::GuestMemory& memory, vmbus::Partition& partition,
                     const Options& options);
  Result<OpenDisk> open(const DiskPlan& plan);
  storvsp::Controller::Unit unit_of(const OpenDisk& disk, const DiskPlan& plan);
  Result<void> close(OpenDisk& disk);
  void take_controllers_away();
  void hear_free_slot() { server_->slot_is_free(); }

  std::unique_ptr<storvsp::WorkerThread> control_;
  std::vector<std::unique_ptr<storvsp::WorkerThread>> worker_threads_;
  std::vector<storvsp::Worker*> workers_;
  std::unique_ptr<vmbus::Server> server_;  // of the control thread, as the controllers are
  std::vector<std::unique_ptr<storvsp::Controller>> controllers_;
  std::vector<OpenDisk> disks_;
  async::LetterTo<Storage, &Storage::hear_free_slot> free_slot_letter_{*this};
};

}  // namespace vhdkit::hypervisor
