// One open channel: its guest's packets, the requests that run, and their completions.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "async/task_group.h"
#include "vmbus/channel.h"
#include "vmbus/gpa_ranges.h"
#include "vsp-storage/scsi/target.h"
#include "vsp-storage/storvsp/protocol.h"
#include "vsp-storage/storvsp/units.h"
#include "vsp-storage/storvsp/worker.h"

namespace vhdkit::storvsp {

// Which of Hyper-V's controllers it is.
enum class Variant : uint8_t {
  scsi,  // 64 units at path 0, target 0
  ide,   // one disk, whatever path and target the guest names
};

// Bound to its worker's thread, but for what says otherwise. Serves from its construction on until
// close().
class Channel final : public Served {
 public:
  struct Options {
    Variant variant = Variant::scsi;
    unsigned queue_depth = 256;  // requests that run at once; further ones wait in the ring
    uint32_t max_transfer_bytes = uint32_t{1} << 20;
    uint16_t max_sub_channel_count = 0;  // 0 for a sub-channel, too
    bool is_sub_channel = false;         // nothing is agreed on: its controller's own channel did
    uint64_t initiator = 0;
  };
  // What the channel asks of its controller. Called on the worker's thread.
  class Owner {
   public:
    virtual ~Owner() = default;
    // Once at most, as long as the channel is open.
    virtual void create_sub_channels(uint16_t count) = 0;
    // The guest broke the protocol: the channel reads no more. Once at most.
    virtual void broken(std::string reason) = 0;
  };

  enum class Phase : uint8_t { begun, initializing, version_agreed, ready };
  // All that a channel is while it is paused; what the guest has sent meanwhile lies in its ring.
  struct Saved {
    struct Answer {
      uint64_t transaction_id;
      std::vector<std::byte> packet;
    };
    Phase phase;
    Version version;
    bool has_sub_channels;
    bool has_units_to_announce;
    uint32_t read_index;
    uint32_t write_index;
    std::vector<Answer> unsent;  // for which the guest has had no room yet
  };

  // All of them outlive it. saved: where another host, or this one before, has served the channel.
  Channel(Worker& worker, vmbus::GuestMemory& memory, vmbus::Partition& partition,
          scsi::Target& target, UnitTable& units, Owner& owner, vmbus::OpenedChannel opened,
          const Options& options, const Saved* saved = nullptr);
  ~Channel() override;

  // Rung by the guest's signals. Thread-safe.
  vmbus::Doorbell& doorbell() { return bell_; }
  // Thread-safe.
  void retarget(uint32_t vp) { vp_.store(vp, std::memory_order_relaxed); }
  const ChannelCounters& counters() const { return counters_; }

  // Tells the guest to look at its units anew, once it has finished initialization.
  void announce_units();
  // Reads no more, and returns when nothing runs any more: what ran is finished and answered. One
  // of pause() and close() at a time.
  Async<void> pause();
  void resume();
  // REQUIRES: paused.
  Saved save() const;
  // Ends it, as pause() does, and for good. Its requests that wait for a limit are not begun.
  Async<void> close();

  bool serve() override;
  bool fall_asleep() override;
  void wake_up() override;

 private:
  struct Request final : scsi::Pace {
    explicit Request(Channel& owner) : channel(owner) {}
    async::Task<bool> admit(uint64_t bytes) override { return channel.admit_piece(*this, bytes); }

    Channel& channel;
    uint64_t transaction_id;
    bool wants_completion;
    size_t packet_bytes;  // as the guest sent it, and will be answered
    ScsiRequest packet;   // its command; then its completion
    std::vector<iovec> parts;
    scsi::Command command;
    std::shared_ptr<UnitAccess> access;
    Worker::Clock::time_point start;
  };
  class Bell final : public vmbus::Doorbell, public async::Letter {
   public:
    explicit Bell(Worker& worker) : worker_(worker) {}
    void ring() noexcept override { worker_.mailbox().post(*this); }
    std::optional<int> event() const noexcept override { return worker_.mailbox().event(); }
    void open() override { worker_.wake(); }

   private:
    Worker& worker_;
  };

  void restore(const Saved& saved);
  bool reads() const { return !is_paused_ && !is_closing_ && !is_broken_; }
  Async<void> come_to_rest();
  Result<unsigned> read_packets();
  Result<void> begin(const vmbus::Packet& packet);
  Result<void> begin_srb(const vmbus::Packet& packet, Request& request);
  Result<void> take_data(const vmbus::Packet& packet, Request& request);
  void handle_control(Operation operation, Request& request);
  Status initialize(Operation operation, Request& request);
  Status agree_on_version(uint16_t version);
  void describe(Request& request);
  Status create_sub_channels(const Request& request);
  Async<void> execute(Request& request);
  async::Task<bool> admit(const Request& request, uint64_t bytes);
  async::Task<bool> admit_piece(const Request& request, uint64_t bytes);
  bool is_wanted(const Request& request) const;
  void reset(Request& request, Operation operation);
  std::shared_ptr<UnitAccess> find_unit(const ScsiRequest& packet) const;
  void complete_absent(Request& request);
  void complete(Request& request, const scsi::Outcome& outcome);
  void answer(Request& request, Status status);
  bool write(const Request& request);
  bool write_unsent();
  void announce_waiting_units();
  bool is_at_the_units(const ScsiRequest& packet) const;
  void count(const Request& request, const scsi::Outcome& outcome);
  void signal();
  void break_off(const std::string& reason);

  Worker& worker_;
  vmbus::GuestMemory& memory_;
  vmbus::Partition& partition_;
  scsi::Target& target_;
  UnitTable& units_;
  Owner& owner_;
  Options options_;
  vmbus::Relid relid_;
  uint8_t sint_;
  std::atomic<uint32_t> vp_;
  vmbus::RingReader reader_;
  vmbus::RingWriter writer_;
  Bell bell_;

  Phase phase_;
  Version version_ = Version::win6;
  bool has_sub_channels_ = false;
  bool has_units_to_announce_ = false;
  bool is_paused_ = false;
  bool is_closing_ = false;
  bool is_broken_ = false;
  bool is_masked_ = false;
  bool was_woken_ = false;
  bool has_written_ = false;  // since serve() was last called

  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<Request*> free_requests_;
  std::deque<Request*> unsent_;
  async::TaskGroup running_;
  ChannelCounters counters_;
};

}  // namespace vhdkit::storvsp
