// The host's end of the protocol by which a guest finds, opens and closes channels.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "vmbus/channel.h"
#include "vmbus/gpadls.h"
#include "vmbus/messages.h"

namespace vhdkit::vmbus {

// What a guest can make us keep. At a limit the guest is answered with a failure, or, where it does
// not collect its answers, not heard until it does.
struct ServerLimits {
  GpadlLimits gpadls;
  size_t waiting_message_count = 1024;
};

// Loop-bound; the memory and the partition outlive it, and a device lives until its released().
//
// A guest that breaks the protocol is ignored where that harms only itself, with a line in the log;
// a channel whose memory it takes back is closed first.
class Server {
 public:
  // What was wrong with something that the guest did; at most log_limit lines until reset().
  using Log = std::function<void(const std::string&)>;
  static constexpr unsigned log_limit = 100;
  static constexpr Relid max_relid = 2047;  // what an event flag page has

  Server(GuestMemory& memory, Partition& partition, Log log, const ServerLimits& limits);
  Server(GuestMemory& memory, Partition& partition, Log log)
      : Server(memory, partition, std::move(log), ServerLimits()) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();  // REQUIRES: no channel is open

  // --- the guest ---

  // A message that it posted. False: too many answers wait for it; it has to try again later.
  bool receive(std::span<const std::byte> message);
  // A message slot of the connection has become free.
  void slot_is_free();
  // Thread-safe. The guest signals a channel by its connection_id. False: no channel is open there.
  bool signal(uint32_t connection_id) const;
  // As if the guest had unloaded, without an answer: the partition starts anew. Channels are
  // closed; is_quiet() says when that is done.
  void reset();
  bool is_quiet() const { return open_count_ == 0; }

  // --- the devices ---

  // The guest is told at once if it has asked for offers. Errors: no_space (2047 channels); exists
  // (the same identifiers and index are offered).
  Result<Relid> offer(const Offer& offer, ChannelDevice& device);
  // Takes the offer back: the guest closes the channel, and the device's released() is the end.
  void rescind(Relid relid);
  // The device ends a channel by itself since its guest broke the device's protocol. The guest
  // may close it and open it anew.
  void break_off(Relid relid, const std::string& reason);
  // The device has finished close().
  void channel_closed(Relid relid);

 private:
  enum class Use : uint8_t {
    offered,  // or about to be
    open,
    closing,  // the device finishes; then what waits for it goes on
  };
  struct Channel {
    Offer offer;
    ChannelDevice* device;
    Use use = Use::offered;
    uint32_t ring_gpadl = 0;       // unless offered
    std::optional<int> event;      // open: what the partition was told to write to
    bool is_known = false;         // to the guest: it was told, and has not released it
    bool is_rescinded = false;     // by its device
    bool ring_is_awaited = false;  // the guest has taken its pages back and waits for the answer
    bool was_broken_off = false;   // the guest may not know yet that it is not open any more
  };
  using Channels = std::map<Relid, Channel>;
  // What the guest waits for while channels are being closed.
  enum class Awaits : uint8_t { nothing, unload_response, version_response };
  struct Farewell {
    Awaits awaits;
    InitiateContact contact;  // version_response
  };

  Result<void> handle(std::span<const std::byte> message);
  Result<void> handle_connected(MessageType type, std::span<const std::byte> message);
  Result<void> initiate_contact(std::span<const std::byte> message);
  Result<void> request_offers();
  Result<void> open_channel(std::span<const std::byte> message);
  Result<void> open(Relid relid, Channel& channel, const OpenChannel& request);
  Result<void> close_channel(std::span<const std::byte> message);
  Result<void> begin_gpadl(std::span<const std::byte> message);
  Result<void> continue_gpadl(std::span<const std::byte> message);
  Result<void> answer_gpadl(const Result<bool>& complete, Relid relid, uint32_t gpadl);
  Result<void> tear_down_gpadl(std::span<const std::byte> message);
  Result<void> release_relid(std::span<const std::byte> message);
  Result<void> modify_channel(std::span<const std::byte> message);

  void accept_contact(const InitiateContact& contact);
  void disconnect(const Farewell& farewell);
  void finish_farewell();
  void begin_to_close(Channels::iterator channel);
  void tear_down(uint32_t gpadl);
  void send_offer(Relid relid, Channel& channel);
  void settle(Channels::iterator channel);
  Result<Channels::iterator> known_channel(Relid relid);
  Channels::iterator user_of(uint32_t gpadl);

  template <class Message>
  void send(Message message, MessageType type);
  void complain(const std::string& what);

  Partition& partition_;
  Log log_;
  size_t waiting_message_limit_;
  Doorbells doorbells_;
  Gpadls gpadls_;
  Channels channels_;
  size_t open_count_ = 0;  // or closing

  std::optional<Version> version_;  // nothing: not connected
  Destination destination_;         // of messages and signals
  bool has_requested_offers_ = false;
  std::optional<Farewell> farewell_;
  std::deque<std::vector<std::byte>> waiting_messages_;
  unsigned complaint_count_ = 0;
};

}  // namespace vhdkit::vmbus
