#include "vmbus/server.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

namespace vhdkit::vmbus {
namespace {

// Signals carry a connection's number: a channel's is its relid with this in front.
constexpr uint32_t channel_connection = 0x2000;
// For the guest's further messages, from version 5.0 on.
constexpr uint32_t message_connection = 4;
constexpr uint8_t default_sint = 2;

constexpr std::array supported_versions = {
    Version::win8,     Version::win8_1,    Version::win10,     Version::win10_v41,
    Version::win10_v5, Version::win10_v51, Version::win10_v52, Version::win10_v53,
};

// NTSTATUS, as the answers have it.
enum class Status : uint32_t {
  success = 0,
  unsuccessful = 0xc0000001,
  invalid_parameter = 0xc000000d,
  insufficient_resources = 0xc000009a,
};

Status status_of(const Result<void>& result) {
  if (result) return Status::success;
  switch (result.error().code) {
    case Errc::invalid_argument:
    case Errc::not_found:
      return Status::invalid_parameter;
    case Errc::no_space:
      return Status::insufficient_resources;
    default:
      return Status::unsuccessful;
  }
}

template <class Message>
Result<Message> parse(std::span<const std::byte> bytes, const char* name) {
  const auto message = load<Message>(bytes);
  if (message) return *message;
  return fail(Errc::invalid_argument,
              std::string(name) + " of " + std::to_string(bytes.size()) + " bytes is cut off");
}

std::unexpected<Error> refuse(Relid relid, const std::string& what) {
  return fail(Errc::invalid_argument, "channel " + std::to_string(relid) + ": " + what);
}

bool is_same_place(const Offer& a, const Offer& b) {
  return a.interface_type == b.interface_type && a.interface_instance == b.interface_instance &&
         a.sub_channel_index == b.sub_channel_index;
}

OfferChannel message_of(const Offer& offer, Relid relid) {
  return {.header = {},
          .interface_type = offer.interface_type.stored(),
          .interface_instance = offer.interface_instance.stored(),
          .reserved = {},
          .flags = offer.flags,
          .mmio_megabytes = offer.mmio_megabytes,
          .user_defined = offer.user_defined,
          .sub_channel_index = offer.sub_channel_index,
          .reserved2 = 0,
          .relid = relid,
          .monitor_id = 0xff,
          .monitor_allocated = 0,
          .is_dedicated_interrupt = 1,
          .connection_id = channel_connection | relid};
}

struct RingPair {
  Ring from_guest;
  Ring to_guest;
};

// The guest's sending ring, then from that page on the one that it receives with.
Result<RingPair> rings_of(const Gpadl& list, uint32_t receiving_page) {
  if (list.byte_offset != 0 || list.byte_count % GuestMemory::page_bytes != 0)
    return fail(Errc::invalid_argument, "the rings' memory does not begin and end with pages");
  if (receiving_page > list.pages.size())
    return fail(Errc::invalid_argument, "the second ring begins at page " +
                                            std::to_string(receiving_page) + " of " +
                                            std::to_string(list.pages.size()));
  const auto middle = list.pages.begin() + receiving_page;
  TRY_LET(Ring from_guest, Ring::create(PageList(list.pages.begin(), middle)));
  TRY_LET(Ring to_guest, Ring::create(PageList(middle, list.pages.end())));
  return RingPair{std::move(from_guest), std::move(to_guest)};
}

}  // namespace

Server::Server(GuestMemory& memory, Partition& partition, Log log, const ServerLimits& limits)
    : partition_(partition),
      log_(std::move(log)),
      waiting_message_limit_(limits.waiting_message_count),
      doorbells_(max_relid + 1),
      gpadls_(memory, limits.gpadls) {}

Server::~Server() { assert(is_quiet()); }

// --- messages ---

bool Server::receive(std::span<const std::byte> message) {
  if (waiting_messages_.size() >= waiting_message_limit_) return false;
  if (const auto handled = handle(message); !handled) complain(handled.error().message);
  return true;
}

Result<void> Server::handle(std::span<const std::byte> message) {
  TRY_LET(const auto header, parse<MessageHeader>(message, "a message"));
  const auto type = MessageType(uint32_t{header.type});
  if (type == MessageType::initiate_contact) return initiate_contact(message);
  if (type == MessageType::unload) {
    disconnect({.awaits = Awaits::unload_response, .contact = {}});
    return {};
  }
  if (!version_ || farewell_)
    return fail(Errc::invalid_argument,
                "message " + std::to_string(uint32_t(type)) + " of a guest that is not connected");
  return handle_connected(type, message);
}

Result<void> Server::handle_connected(MessageType type, std::span<const std::byte> message) {
  switch (type) {
    case MessageType::request_offers:
      return request_offers();
    case MessageType::gpadl_header:
      return begin_gpadl(message);
    case MessageType::gpadl_body:
      return continue_gpadl(message);
    case MessageType::gpadl_teardown:
      return tear_down_gpadl(message);
    case MessageType::open_channel:
      return open_channel(message);
    case MessageType::close_channel:
      return close_channel(message);
    case MessageType::modify_channel:
      return modify_channel(message);
    case MessageType::relid_released:
      return release_relid(message);
    default:
      return fail(Errc::unsupported,
                  "message " + std::to_string(uint32_t(type)) + " is none that a guest sends");
  }
}

template <class Message>
void Server::send(Message message, MessageType type) {
  message.header = {.type = uint32_t(type), .padding = 0};
  const auto bytes = bytes_of(message);
  if (waiting_messages_.empty() && partition_.post_message(destination_, bytes)) return;
  waiting_messages_.emplace_back(bytes.begin(), bytes.end());
}

void Server::slot_is_free() {
  while (!waiting_messages_.empty() &&
         partition_.post_message(destination_, waiting_messages_.front()))
    waiting_messages_.pop_front();
}

void Server::complain(const std::string& what) {
  if (complaint_count_ < log_limit) log_(what);
  ++complaint_count_;
}

// --- connecting and leaving ---

Result<void> Server::initiate_contact(std::span<const std::byte> message) {
  TRY_LET(const auto contact, parse<InitiateContact>(message, "an initiate_contact"));
  disconnect({.awaits = Awaits::version_response, .contact = contact});
  return {};
}

// A guest that makes contact begins anew, whatever it had: the kernel before may have crashed.
void Server::disconnect(const Farewell& farewell) {
  farewell_ = farewell;
  version_.reset();
  has_requested_offers_ = false;
  waiting_messages_.clear();
  for (auto channel = channels_.begin(); channel != channels_.end(); ++channel) {
    channel->second.is_known = false;
    channel->second.ring_is_awaited = false;
    if (channel->second.use == Use::open) begin_to_close(channel);
  }
  if (is_quiet()) finish_farewell();
}

void Server::finish_farewell() {
  const Farewell farewell = *std::exchange(farewell_, std::nullopt);
  gpadls_.tear_down_all();
  for (auto channel = channels_.begin(); channel != channels_.end();) settle(channel++);
  if (farewell.awaits == Awaits::version_response) accept_contact(farewell.contact);
  if (farewell.awaits == Awaits::unload_response) send(BareMessage(), MessageType::unload_response);
}

void Server::accept_contact(const InitiateContact& contact) {
  const auto version = Version(uint32_t{contact.version});
  const bool is_supported =
      std::ranges::find(supported_versions, version) != supported_versions.end();
  const bool has_sint = version >= Version::win10_v5;
  destination_ = {.vp = contact.target_vp,
                  .sint = has_sint ? uint8_t(contact.interrupt_page_or_sint) : default_sint};
  if (is_supported) version_ = version;
  const VersionResponse response{
      .header = {},
      .version_supported = is_supported,
      .connection_state = 0,
      .padding = 0,
      .connection_id = is_supported && has_sint ? message_connection : 0};
  send(response, MessageType::version_response);
}

void Server::reset() {
  complaint_count_ = 0;
  disconnect({.awaits = Awaits::nothing, .contact = {}});
}

// --- offers ---

Result<void> Server::request_offers() {
  if (has_requested_offers_)
    return fail(Errc::invalid_argument, "the guest has asked for the offers before");
  has_requested_offers_ = true;
  for (auto& [relid, channel] : channels_)
    if (!channel.is_rescinded) send_offer(relid, channel);
  send(BareMessage(), MessageType::all_offers_delivered);
  return {};
}

void Server::send_offer(Relid relid, Channel& channel) {
  channel.is_known = true;
  send(message_of(channel.offer, relid), MessageType::offer_channel);
}

Result<Relid> Server::offer(const Offer& offer, ChannelDevice& device) {
  Relid relid = 1;
  for (const auto& [taken, channel] : channels_) {
    if (!channel.is_rescinded && is_same_place(channel.offer, offer))
      return fail(Errc::exists, "channel " + std::to_string(taken) + " is offered as " +
                                    offer.interface_instance.to_string() + " already");
    if (taken == relid) ++relid;
  }
  if (relid > max_relid) return fail(Errc::no_space, "there are as many channels as can be");
  Channel& channel = channels_[relid];
  channel.offer = offer;
  channel.device = &device;
  if (has_requested_offers_) send_offer(relid, channel);
  return relid;
}

void Server::rescind(Relid relid) {
  const auto channel = channels_.find(relid);
  assert(channel != channels_.end() && !channel->second.is_rescinded);
  channel->second.is_rescinded = true;
  if (channel->second.is_known) {
    const RelidMessage message{.header = {}, .relid = relid};
    send(message, MessageType::rescind_offer);
  }
  settle(channel);
}

Result<void> Server::release_relid(std::span<const std::byte> message) {
  TRY_LET(const auto request, parse<RelidMessage>(message, "a relid_released"));
  TRY_LET(const auto channel, known_channel(request.relid));
  channel->second.is_known = false;
  if (channel->second.use == Use::open) begin_to_close(channel);
  settle(channel);
  return {};
}

// A channel that the guest does not know has no memory of it, and may go for good.
void Server::settle(Channels::iterator channel) {
  const auto& [relid, state] = *channel;
  if (state.is_known || state.use != Use::offered) return;
  gpadls_.tear_down_all_of(relid);
  if (!state.is_rescinded) return;
  ChannelDevice& device = *state.device;
  channels_.erase(channel);
  device.released();
}

Result<Server::Channels::iterator> Server::known_channel(Relid relid) {
  const auto channel = channels_.find(relid);
  if (channel != channels_.end() && channel->second.is_known) return channel;
  return fail(Errc::not_found, "channel " + std::to_string(relid) + " is not offered");
}

// --- memory ---

Result<void> Server::begin_gpadl(std::span<const std::byte> message) {
  TRY_LET(const auto header, parse<GpadlHeader>(message, "a gpadl_header"));
  Result<bool> complete = false;
  if (const auto channel = known_channel(header.relid); channel) {
    complete = gpadls_.begin(message);
  } else {
    complete = std::unexpected(channel.error());
  }
  return answer_gpadl(complete, header.relid, header.gpadl);
}

Result<void> Server::continue_gpadl(std::span<const std::byte> message) {
  TRY_LET(const auto body, parse<GpadlBody>(message, "a gpadl_body"));
  const auto relid = gpadls_.relid_of(body.gpadl);
  const auto complete = gpadls_.add(message);
  if (!complete && complete.error().code == Errc::not_found)
    return std::unexpected(complete.error());  // the rest of one that was refused
  return answer_gpadl(complete, *relid, body.gpadl);
}

Result<void> Server::answer_gpadl(const Result<bool>& complete, Relid relid, uint32_t gpadl) {
  if (complete && !*complete) return {};
  Result<void> outcome;
  if (!complete) outcome = std::unexpected(complete.error());
  const GpadlCreated created{
      .header = {}, .relid = relid, .gpadl = gpadl, .status = uint32_t(status_of(outcome))};
  send(created, MessageType::gpadl_created);
  return outcome;
}

Result<void> Server::tear_down_gpadl(std::span<const std::byte> message) {
  TRY_LET(const auto request, parse<GpadlTeardown>(message, "a gpadl_teardown"));
  if (gpadls_.relid_of(request.gpadl) != uint32_t{request.relid})
    return refuse(request.relid,
                  "it has no GPADL " + std::to_string(request.gpadl) + " to take back");
  const auto user = user_of(request.gpadl);
  if (user == channels_.end()) {
    tear_down(request.gpadl);
    return {};
  }
  user->second.ring_is_awaited = true;
  if (user->second.use == Use::closing) return {};
  begin_to_close(user);
  return refuse(user->first, "the guest takes its rings back, so it is closed");
}

void Server::tear_down(uint32_t gpadl) {
  const auto torn_down = gpadls_.tear_down(gpadl);
  assert(torn_down);
  const GpadlTorndown message{.header = {}, .gpadl = gpadl};
  send(message, MessageType::gpadl_torndown);
}

Server::Channels::iterator Server::user_of(uint32_t gpadl) {
  return std::ranges::find_if(channels_, [gpadl](const auto& entry) {
    return entry.second.use != Use::offered && entry.second.ring_gpadl == gpadl;
  });
}

// --- opening and closing ---

Result<void> Server::open_channel(std::span<const std::byte> message) {
  TRY_LET(const auto request, parse<OpenChannel>(message, "an open_channel"));
  Result<void> outcome;
  if (const auto channel = known_channel(request.relid); channel) {
    outcome = open(request.relid, (*channel)->second, request);
  } else {
    outcome = std::unexpected(channel.error());
  }
  const OpenChannelResult result{.header = {},
                                 .relid = request.relid,
                                 .open_id = request.open_id,
                                 .status = uint32_t(status_of(outcome))};
  send(result, MessageType::open_channel_result);
  return outcome;
}

Result<void> Server::open(Relid relid, Channel& channel, const OpenChannel& request) {
  if (channel.use != Use::offered) return refuse(relid, "it is open already");
  if (channel.is_rescinded) return refuse(relid, "its offer was taken back");
  const Gpadl* const list = gpadls_.find(request.ring_gpadl);
  if (list == nullptr || list->relid != relid || user_of(request.ring_gpadl) != channels_.end())
    return refuse(relid, "GPADL " + std::to_string(request.ring_gpadl) + " is none for its rings");
  const std::string name = "channel " + std::to_string(relid) + ": ";
  TRY_LET(RingPair rings, with_context(rings_of(*list, request.downstream_page_offset), name));
  TRY_LET(Doorbell* const doorbell,
          channel.device->open({.relid = relid,
                                .from_guest = std::move(rings.from_guest),
                                .to_guest = std::move(rings.to_guest),
                                .destination = {.vp = request.target_vp, .sint = destination_.sint},
                                .user_data = request.user_data}));
  doorbells_.connect(relid, *doorbell);
  channel.event = doorbell->event();
  if (channel.event) partition_.connect_signal(channel_connection | relid, *channel.event);
  channel.use = Use::open;
  channel.was_broken_off = false;
  channel.ring_gpadl = request.ring_gpadl;
  ++open_count_;
  return {};
}

Result<void> Server::close_channel(std::span<const std::byte> message) {
  TRY_LET(const auto request, parse<RelidMessage>(message, "a close_channel"));
  TRY_LET(const auto channel, known_channel(request.relid));
  const bool device_was_first = std::exchange(channel->second.was_broken_off, false);
  if (channel->second.use == Use::closing || device_was_first) return {};
  if (channel->second.use != Use::open) return refuse(request.relid, "it is not open");
  begin_to_close(channel);
  return {};
}

void Server::break_off(Relid relid, const std::string& reason) {
  const auto channel = channels_.find(relid);
  assert(channel != channels_.end());
  if (channel->second.use != Use::open) return;
  complain("channel " + std::to_string(relid) + ": " + reason + "; it is closed");
  channel->second.was_broken_off = true;
  begin_to_close(channel);
}

void Server::begin_to_close(Channels::iterator channel) {
  const auto event = std::exchange(channel->second.event, std::nullopt);
  if (event) partition_.disconnect_signal(channel_connection | channel->first, *event);
  doorbells_.disconnect(channel->first);
  channel->second.use = Use::closing;
  channel->second.device->close();
}

void Server::channel_closed(Relid relid) {
  const auto found = channels_.find(relid);
  assert(found != channels_.end() && found->second.use == Use::closing);
  Channel& channel = found->second;
  channel.use = Use::offered;
  --open_count_;
  if (std::exchange(channel.ring_is_awaited, false)) tear_down(channel.ring_gpadl);
  if (farewell_ && is_quiet()) return finish_farewell();
  settle(found);
}

Result<void> Server::modify_channel(std::span<const std::byte> message) {
  TRY_LET(const auto request, parse<ModifyChannel>(message, "a modify_channel"));
  Result<void> outcome;
  const auto channel = known_channel(request.relid);
  if (!channel) {
    outcome = std::unexpected(channel.error());
  } else if (*version_ < Version::win10_v41 || (*channel)->second.use != Use::open) {
    outcome = refuse(request.relid, "it cannot be modified");
  } else {
    (*channel)->second.device->retarget(request.target_vp);
  }
  if (*version_ >= Version::win10_v53) {
    const ModifyChannelResponse response{
        .header = {}, .relid = request.relid, .status = uint32_t(status_of(outcome))};
    send(response, MessageType::modify_channel_response);
  }
  return outcome;
}

bool Server::signal(uint32_t connection_id) const {
  const bool is_channel = (connection_id & ~max_relid) == channel_connection;
  return is_channel && doorbells_.ring(connection_id & max_relid);
}

}  // namespace vhdkit::vmbus
