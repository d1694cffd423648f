// The host's side of the guest's disks: a VMBus server, storage controllers, the threads that serve
// them, and the images.
#pragma once

#include <map>

#include "hypervisor/hyperv/hypercalls.h"
#include "hypervisor/runner/open_disk.h"
#include "tools/json.h"
#include "vsp-storage/scsi/optical_unit.h"
#include "vsp-storage/storvsp/controller.h"

namespace vhdkit::hypervisor {

// Where the guest finds a disk. Numbers are spread over the controllers in turn.
struct Place {
  unsigned number;
  unsigned controller;
  uint8_t lun;
};

// What a disk is now.
struct DiskStatus {
  Place place;
  std::string path;  // of the image that is written: a child, after a snapshot
  image::Format format;
  uint64_t size_bytes;
  bool is_read_only;
  std::optional<std::string> undo_of;  // the path is that of an undo disk: the disk's own
};
struct DriveStatus {
  Place place;
  std::optional<std::string> medium;  // nothing: it is empty
};
struct Snapshot {
  unsigned number;     // of the disk
  std::string parent;  // stays as it is from now on
  std::string child;   // has taken its place
};

// Thread-safe for the guest's side (Connections, slot_is_free()); the rest is for one thread at a
// time that is none of its own.
class Storage final : public Connections {
 public:
  static constexpr unsigned max_controllers = 2;
  static constexpr unsigned max_disks = storvsp::max_units;

  struct Options {
    unsigned controller_count = 1;
    unsigned sub_channel_count = 0;  // of each controller, beside its first channel
    unsigned worker_count = 1;
    std::optional<UndoEnd> undo;  // writable disks have undo disks, and that becomes of them
    // What was wrong with something that the guest did, and what an image warns of.
    vmbus::Server::Log log = [](const std::string&) {};
    // What people should know besides.
    std::function<void(const std::string&)> tell = [](const std::string&) {};
  };

  // Memory and partition outlive it. Errors: those of the system.
  static Result<std::unique_ptr<Storage>> create(vmbus::GuestMemory& memory,
                                                 vmbus::Partition& partition,
                                                 const Options& options);
  // Without close(), as abandon().
  ~Storage() override;

  // For further devices on the guest's VMBus: the server, which lives on this worker's thread. They
  // are gone before close().
  struct Bus {
    storvsp::Worker& worker;
    vmbus::Server& server;
    vmbus::Partition& partition;
  };
  Bus bus() { return {control_->worker(), *server_, *partition_}; }

  // Whether attach() can give it the undo disk that is wanted, or it can be without one; only
  // reads. Errors: those of check_undo() and check_is_whole().
  Result<void> check(const DiskPlan& plan);
  // Whether insert_medium() would take it. Errors: insert_medium()'s.
  Result<void> check_medium(const std::string& path);
  // Opens the image and puts it in; a guest that runs is told. Returns the number, which is the
  // lowest one that no disk and no drive has had since the last reset(): to a guest that has not
  // looked yet, another disk at a place that it knows is the one that was there. Where all have
  // been used, it is the one that has been free for longest. Errors: those of open_disk();
  // out_of_range: no number is free.
  Result<unsigned> attach(const DiskPlan& plan);
  // Takes the disk from the guest, which is told: requests that run are finished, those that wait
  // fail. Then the image is closed, and its undo disk ended as wanted. Errors: not_found; those of
  // close_disk(): it is gone all the same.
  Result<void> detach(unsigned number);

  // Children take the places of all these images, at one moment: requests wait meanwhile, and those
  // that run are finished, so all children together hold what a plug that was pulled would leave.
  // Empty: of all writable disks. All or none. Errors: not_found; read_only; unsupported: an undo
  // disk, or a format without children; as move_to_child(). A disk that could not be opened again
  // after that fails all its requests, which the error says.
  Result<std::vector<Snapshot>> snapshot(std::vector<unsigned> numbers);
  // Whether snapshot() would begin. Errors: not_found; read_only; unsupported; io: not open.
  Result<void> check_snapshot(std::vector<unsigned> numbers);

  // Gives the disk another size, and an undo disk in its place where it has one: as
  // image::resize(). Requests wait meanwhile, which takes long only where a fixed VHD is copied;
  // the guest is told. Errors: not_found; read_only; as plan_resize() and resize_disk(). A disk
  // that could not be opened again after that fails all its requests, which the error says.
  Result<image::ResizeReport> resize(unsigned number, const image::ResizeOptions& options);

  // Puts an ISO image into the DVD drive, instead of what was in it; the guest sees the change.
  // The first time it gets the drive, at a number as attach() takes it. Errors: corrupt: no ISO
  // image; as Image::open() and attach(). Then the drive is as it was.
  Result<void> insert_medium(const std::string& path);
  // Takes it out, whether the guest has locked it or not. Errors: not_found: there is none.
  Result<void> eject_medium();

  HypercallStatus post_message(uint32_t connection_id, std::span<const std::byte> message) override;
  HypercallStatus signal_event(uint32_t connection_id) override;
  // A message slot of the guest's may have become free.
  void slot_is_free();

  // For the firmware: the disks as they are now, in the order of their numbers. They may be used,
  // on their workers, for as long as one likes; of those that were taken away all requests fail.
  struct Entrance {
    std::string path;  // as the user named it
    storvsp::Worker* worker;
    std::shared_ptr<disk::Disk> disk;
    std::shared_ptr<storvsp::Throttle> limit;  // null: none
  };
  std::vector<Entrance> entrances() const;

  // As if the guest had been switched off: returns when nothing of it runs any more. REQUIRES: no
  // processor runs.
  void reset();
  // After reset(): closes all images and ends their undo disks, whatever happens to some of them.
  // Errors: the first one; the log has the others.
  Result<void> close();
  // The same where the guest has never run: undo disks that were made for it are removed, and those
  // of earlier runs stay.
  Result<void> abandon();

  std::vector<DiskStatus> disks() const;
  std::optional<DriveStatus> drive() const;
  // Channels and units of all controllers, with what was counted of them.
  tools::Json report();

 private:
  struct Drive {
    Place place;
    storvsp::Worker* owner;
    std::shared_ptr<scsi::OpticalUnit> unit;
    std::shared_ptr<image::Image> medium;  // null: none
  };

  explicit Storage(const Options& options)
      : undo_(options.undo), log_(options.log), tell_(options.tell) {}
  Result<void> start(vmbus::GuestMemory& memory, vmbus::Partition& partition,
                     const Options& options);
  Result<Place> free_place() const;
  storvsp::Worker* owner_of(const Place& place) const;
  std::vector<storvsp::Controller::DiskView> views_of(storvsp::Controller::DiskView disk,
                                                      const storvsp::Worker* owner) const;
  storvsp::Controller::Unit unit_of(const OpenDisk& disk, const Place& place) const;
  Result<void> attach(const Place& place, storvsp::Controller::Unit unit);
  Result<OpenDisk*> find(unsigned number);
  Place place_of(unsigned number) const;
  Result<std::vector<unsigned>> disks_for_snapshot(std::vector<unsigned> numbers);
  Result<std::vector<Snapshot>> move_to_children(const std::vector<unsigned>& numbers);
  Result<void> resize_held(OpenDisk& disk, const image::ResizeOptions& options);
  void announce_capacity(unsigned number, const OpenDisk& disk);
  Result<std::shared_ptr<image::Image>> open_medium(const std::string& path,
                                                    storvsp::Worker& owner) const;
  Result<void> add_drive();
  void exchange_medium(std::shared_ptr<image::Image> medium);
  Result<void> close(OpenDisk& disk, std::optional<UndoEnd> undo_end);
  Result<void> close_all(bool has_run);
  void take_controllers_away();
  void hear_free_slot() { server_->slot_is_free(); }

  std::optional<UndoEnd> undo_;
  vmbus::Server::Log log_;
  std::function<void(const std::string&)> tell_;
  vmbus::Partition* partition_ = nullptr;
  std::unique_ptr<storvsp::WorkerThread> control_;
  std::vector<std::unique_ptr<storvsp::WorkerThread>> worker_threads_;
  std::vector<storvsp::Worker*> workers_;
  std::unique_ptr<vmbus::Server> server_;  // of the control thread, as the controllers are
  std::vector<std::unique_ptr<storvsp::Controller>> controllers_;
  std::map<unsigned, OpenDisk> disks_;  // by number
  std::vector<unsigned> left_numbers_;  // by disks that the guest may still know, first one first
  std::optional<Drive> drive_;
  async::LetterTo<Storage, &Storage::hear_free_slot> free_slot_letter_{*this};
};

}  // namespace vhdkit::hypervisor
