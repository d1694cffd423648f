// One integration service as its guest meets it: the offer, the channel, the versions that are
// agreed on, requests and their answers.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "async/mailbox.h"
#include "hypervisor/services/protocol.h"
#include "vmbus/server.h"

namespace vhdkit::services {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
inline constexpr Time never = Time::max();

// Tells services the time, and wakes them. Of the server's thread.
class Timekeeper {
 public:
  virtual ~Timekeeper() = default;
  virtual Time now() const = 0;
  // Service::look_at_clock() is called then, or before.
  virtual void wake_at(Time when) = 0;
};

// What all services have. Bound to the server's thread, whose loop serves the mailbox; server,
// partition, mailbox and timekeeper outlive it. Nothing of it waits.
//
// The host asks, and the guest answers each request by a message with the request's transaction;
// before anything else they agree on versions. At most four requests are unanswered at once: where
// a guest does not answer, there are no further ones. What breaks these rules breaks the channel
// off, with a line in the server's log: a message whose lengths contradict each other, versions
// that were not offered, more than sixteen answers to nothing. The guest may open the channel anew.
class Service : private vmbus::ChannelDevice {
 public:
  struct Host {
    vmbus::Server& server;
    vmbus::Partition& partition;
    async::Mailbox& mailbox;
    Timekeeper& timekeeper;
  };
  struct Kind {
    const char* name;  // for reports
    Guid interface_type;
    Guid instance;
    MessageType type;                   // of its messages
    std::span<const Version> versions;  // the best one first
  };
  // offered: the guest has not opened the channel yet; refused: there is no version that both know.
  enum class State : uint8_t { offered, negotiating, ready, refused, broken, closed };

  static constexpr size_t max_unanswered = 4;
  static constexpr unsigned max_strays = 16;

  Service(const Host& host, const Kind& kind);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service() override;  // REQUIRES: never offered, or is_gone()

  // Errors: those of Server::offer.
  Result<void> offer();
  // Takes it away from the guest; is_gone() once that has let go.
  void rescind();
  bool is_gone() const { return !relid_; }

  // The guest will not run again before it opens the channel anew: what waits for its answer ends
  // now, and nothing can be asked.
  void guest_is_off();

  // Does what is due, and what may be done by now with it.
  void look_at_clock(Time now);
  // When it has to look next.
  Time next_time() const;

  State state() const { return state_; }
  const char* name() const { return kind_.name; }
  // State and versions, and what the service knows of its guest.
  nlohmann::ordered_json report() const;

 protected:
  struct Answer {
    uint8_t transaction;
    uint32_t status;                  // HRESULT
    std::span<const std::byte> body;  // as long as the guest says, whatever was sent
  };

  // Sends a request. Where it is not answered in time, unanswered() is called, and what comes later
  // is dropped. Returns: its transaction. Errors: not_found (the guest does not take part); busy
  // (it has not answered what it was asked before, or not made room); corrupt (its ring).
  Result<uint8_t> request(std::span<const std::byte> body, Time deadline = never);
  // due() is called then, or up to `slack` earlier if the services look at the clock anyway. The
  // last call counts.
  void set_due(Time when, Clock::duration slack = {});
  // Of what is asked again and again: a guest that idles is woken once for all of it.
  static constexpr std::chrono::seconds slack_of_routine{1};
  Time now() const { return host_.timekeeper.now(); }
  const Version& version() const { return version_; }

  // Versions are agreed on: requests may be sent.
  virtual void agreed() = 0;
  // Errors: the guest broke the protocol.
  virtual Result<void> answered(const Answer& answer) = 0;
  virtual void unanswered(uint8_t transaction) = 0;
  virtual void due() = 0;
  // The channel or the guest is gone, with all that was asked. May be called twice.
  virtual void ended() = 0;
  virtual void add_to(nlohmann::ordered_json& report) const = 0;

 private:
  struct Channel {
    vmbus::RingReader reader;
    vmbus::RingWriter writer;
    vmbus::Relid relid;
    vmbus::Destination destination;
  };
  struct Unanswered {
    uint8_t transaction;
    MessageType type;
    Time deadline;
    bool is_late = false;  // nobody waits for it any more
  };
  class Bell final : public vmbus::Doorbell {
   public:
    Bell(async::Mailbox& mailbox, async::Letter& letter) : mailbox_(mailbox), letter_(letter) {}
    void ring() noexcept override { mailbox_.post(letter_); }

   private:
    async::Mailbox& mailbox_;
    async::Letter& letter_;
  };

  Result<vmbus::Doorbell*> open(vmbus::OpenedChannel opened) override;
  void close() override;
  void retarget(uint32_t vp) override { channel_->destination.vp = vp; }
  void released() override { relid_.reset(); }

  void negotiate();
  void hear();
  Result<void> read_packets();
  Result<void> take(const vmbus::Packet& packet);
  Result<void> take_answer(const MessageHeader& header, std::span<const std::byte> body);
  Result<void> take_versions(std::span<const std::byte> body);
  Result<uint8_t> send(MessageType type, std::span<const std::byte> body, Time deadline);
  uint8_t next_transaction();
  void signal();
  void break_off(const std::string& reason);
  void tell_of_breakage();
  void finish_closing();
  void forget_what_was_asked();

  Host host_;
  Kind kind_;
  std::optional<vmbus::Relid> relid_;
  bool is_rescinded_ = false;
  State state_ = State::offered;
  std::optional<Channel> channel_;
  Version framework_;
  Version version_;
  std::vector<Unanswered> unanswered_;
  uint8_t last_transaction_ = 0;
  unsigned stray_count_ = 0;
  Time due_ = never;
  Time may_be_done_ = never;  // from then on
  std::string breakage_;      // the last one

  async::LetterTo<Service, &Service::hear> bell_letter_;
  async::LetterTo<Service, &Service::negotiate> opened_letter_;
  async::LetterTo<Service, &Service::tell_of_breakage> broken_letter_;
  async::LetterTo<Service, &Service::finish_closing> closed_letter_;
  Bell bell_;
};

// "status 0x80004005", and what that means where it has a name.
std::string to_string_of_status(uint32_t status);

}  // namespace vhdkit::services
