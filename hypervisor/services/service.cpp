#include "hypervisor/services/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

namespace vhdkit::services {
namespace {

// A guest answers with what it was sent: none of our messages comes near it.
constexpr uint32_t max_packet_bytes = 8192;

const char* name_of(Service::State state) {
  switch (state) {
    case Service::State::offered:
      return "offered";
    case Service::State::negotiating:
      return "negotiating";
    case Service::State::ready:
      return "ready";
    case Service::State::refused:
      return "refused";
    case Service::State::broken:
      return "broken";
    case Service::State::closed:
      break;
  }
  return "closed";
}

std::string why_not_ready(Service::State state) {
  switch (state) {
    case Service::State::negotiating:
      return "the guest has not agreed on a version of the service yet";
    case Service::State::refused:
      return "the guest knows no version of the service that is offered";
    case Service::State::broken:
      return "the guest broke the service's protocol";
    default:
      return "the guest does not use the service: it has no driver for it, or is not that far yet";
  }
}

std::array<std::byte, vmbus::user_defined_bytes> pipe_offer() {
  std::array<std::byte, vmbus::user_defined_bytes> user_defined{};
  const le32 mode = pipe_mode_message;
  std::ranges::copy(bytes_of(mode), user_defined.begin());
  return user_defined;
}

template <OnDisk T>
void append(std::vector<std::byte>& bytes, const T& value) {
  const auto more = bytes_of(value);
  bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

Service::Service(const Host& host, const Kind& kind)
    : host_(host),
      kind_(kind),
      bell_letter_(*this),
      opened_letter_(*this),
      broken_letter_(*this),
      closed_letter_(*this),
      bell_(host.mailbox, bell_letter_) {}

Service::~Service() { assert(is_gone()); }

// --- the offer and the channel ---

Result<void> Service::offer() {
  const vmbus::Offer offer{.interface_type = kind_.interface_type,
                           .interface_instance = kind_.instance,
                           .flags = offer_named_pipe,
                           .user_defined = pipe_offer()};
  TRY_LET(relid_, host_.server.offer(offer, *this));
  is_rescinded_ = false;
  return {};
}

void Service::rescind() {
  if (relid_ && !std::exchange(is_rescinded_, true)) host_.server.rescind(*relid_);
}

Result<vmbus::Doorbell*> Service::open(vmbus::OpenedChannel opened) {
  channel_.emplace(vmbus::RingReader(std::move(opened.from_guest), max_packet_bytes),
                   vmbus::RingWriter(std::move(opened.to_guest)), opened.relid, opened.destination);
  state_ = State::negotiating;
  stray_count_ = 0;
  // The guest first learns that the channel is open.
  host_.mailbox.post(opened_letter_);
  return &bell_;
}

void Service::close() {
  channel_.reset();
  forget_what_was_asked();
  host_.mailbox.post(closed_letter_);
}

void Service::guest_is_off() {
  if (channel_) forget_what_was_asked();
}

void Service::forget_what_was_asked() {
  unanswered_.clear();
  set_due(never);
  if (state_ != State::broken) state_ = State::closed;
  ended();
}

void Service::finish_closing() { host_.server.channel_closed(*relid_); }

void Service::break_off(const std::string& reason) {
  if (std::exchange(state_, State::broken) == State::broken) return;
  breakage_ = reason;
  host_.mailbox.post(broken_letter_);
}

void Service::tell_of_breakage() {
  host_.server.break_off(*relid_, std::string(kind_.name) + ": " + breakage_);
}

// --- versions ---

void Service::negotiate() {
  if (!channel_ || state_ != State::negotiating || !unanswered_.empty()) return;
  std::vector<std::byte> body;
  append(body, Negotiation{.framework_count = uint16_t(framework_versions.size()),
                           .version_count = uint16_t(kind_.versions.size()),
                           .reserved = 0});
  for (const Version& framework : framework_versions) append(body, framework.stored());
  for (const Version& version : kind_.versions) append(body, version.stored());
  framework_ = version_ = Version();
  // A guest may take its time, as for a daemon that is not there yet.
  if (const auto sent = send(MessageType::negotiation, body, never); !sent)
    break_off(sent.error().message);
}

Result<void> Service::take_versions(std::span<const std::byte> body) {
  const auto counts = load<Negotiation>(body);
  if (!counts) return fail(Errc::corrupt, "its answer to the negotiation is cut off");
  if (counts->framework_count != 1 || counts->version_count != 1) {
    state_ = State::refused;
    return {};
  }
  const auto framework = load<StoredVersion>(body, sizeof *counts);
  const auto version = load<StoredVersion>(body, sizeof *counts + sizeof *framework);
  if (!framework || !version)
    return fail(Errc::corrupt, "its answer to the negotiation ends before its versions");
  framework_ = Version::of(*framework);
  version_ = Version::of(*version);
  if (std::ranges::find(framework_versions, framework_) == framework_versions.end() ||
      std::ranges::find(kind_.versions, version_) == kind_.versions.end())
    return fail(Errc::corrupt,
                fmt::format("it has chosen framework {} and version {}, which were not offered",
                            framework_.to_string(), version_.to_string()));
  state_ = State::ready;
  agreed();
  return {};
}

// --- what the host sends ---

Result<uint8_t> Service::request(std::span<const std::byte> body, Time deadline) {
  if (state_ != State::ready) return fail(Errc::not_found, why_not_ready(state_));
  if (unanswered_.size() >= max_unanswered)
    return fail(Errc::busy, "the guest has not answered what it was asked before");
  auto sent = send(kind_.type, body, deadline);
  if (!sent && sent.error().code != Errc::busy) break_off(sent.error().message);
  return sent;
}

Result<uint8_t> Service::send(MessageType type, std::span<const std::byte> body, Time deadline) {
  const uint8_t transaction = next_transaction();
  const MessageHeader header{.framework = framework_.stored(),
                             .type = uint16_t(type),
                             .version = version_.stored(),
                             .body_bytes = uint16_t(body.size()),
                             .status = status_success,
                             .transaction = transaction,
                             .flags = flag_transaction | flag_request,
                             .reserved = {}};
  std::vector<std::byte> message;
  append(message,
         PipeHeader{.flags = pipe_data, .message_bytes = uint32_t(sizeof header + body.size())});
  append(message, header);
  message.insert(message.end(), body.begin(), body.end());
  TRY_LET(const bool is_written,
          channel_->writer.write(vmbus::PacketType::in_band, transaction, message));
  if (!is_written) return fail(Errc::busy, "the guest does not read what it is sent");
  channel_->writer.publish();
  // Also where something lies in the ring already: Linux reads one message for each signal.
  signal();
  unanswered_.push_back({.transaction = transaction, .type = type, .deadline = deadline});
  if (deadline != never) host_.timekeeper.wake_at(deadline);
  return transaction;
}

uint8_t Service::next_transaction() {
  const auto is_taken = [this](const Unanswered& one) {
    return one.transaction == last_transaction_;
  };
  do ++last_transaction_;
  while (std::ranges::any_of(unanswered_, is_taken));
  return last_transaction_;
}

void Service::signal() { host_.partition.set_event_flag(channel_->destination, channel_->relid); }

// --- what the guest sends ---

void Service::hear() {
  if (!channel_ || state_ == State::broken || state_ == State::closed) return;
  if (const auto heard = read_packets(); !heard) break_off(heard.error().message);
}

// Few at a time, whatever the guest does: there is an answer to each request, and an end to strays.
Result<void> Service::read_packets() {
  vmbus::RingReader& reader = channel_->reader;
  do {
    for (;;) {
      TRY_LET(const auto packet, reader.next());
      if (!packet) break;
      TRY(take(*packet));
      if (state_ == State::broken) return {};
    }
    if (reader.give_back()) signal();
  } while (!reader.unmask_signals());
  return {};
}

Result<void> Service::take(const vmbus::Packet& packet) {
  if (packet.type != vmbus::PacketType::in_band)
    return fail(Errc::corrupt,
                fmt::format("a packet of type {} is none of a service", uint16_t(packet.type)));
  const auto pipe = load<PipeHeader>(packet.payload);
  const auto header = load<MessageHeader>(packet.payload, sizeof *pipe);
  if (!pipe || !header)
    return fail(Errc::corrupt, fmt::format("a message of {} bytes ends before its header does",
                                           packet.payload.size()));
  const size_t room = packet.payload.size() - sizeof *pipe;
  const uint32_t message_bytes = pipe->message_bytes;
  if (pipe->flags != pipe_data || message_bytes > room || message_bytes < sizeof *header ||
      header->body_bytes > message_bytes - sizeof *header)
    return fail(Errc::corrupt, fmt::format("a message with pipe flags {:#x} says that it has {} "
                                           "bytes, {} of them its body; the packet has {}",
                                           uint32_t{pipe->flags}, message_bytes,
                                           uint16_t{header->body_bytes}, room));
  const auto body = packet.payload.subspan(sizeof *pipe + sizeof *header, header->body_bytes);
  return take_answer(*header, body);
}

Result<void> Service::take_answer(const MessageHeader& header, std::span<const std::byte> body) {
  const auto asked = std::ranges::find(unanswered_, header.transaction, &Unanswered::transaction);
  const bool is_answer = (header.flags & flag_response) != 0 && asked != unanswered_.end() &&
                         asked->type == MessageType(uint16_t{header.type});
  if (!is_answer) {
    if (++stray_count_ <= max_strays) return {};
    return fail(Errc::corrupt,
                fmt::format("{} messages answer nothing, the last one of type {}, transaction {}",
                            stray_count_, uint16_t{header.type}, header.transaction));
  }
  const Unanswered what = *asked;
  unanswered_.erase(asked);
  if (what.is_late) return {};
  if (what.type == MessageType::negotiation) return take_versions(body);
  return answered({.transaction = what.transaction, .status = header.status, .body = body});
}

// --- time ---

void Service::set_due(Time when, Clock::duration slack) {
  due_ = when;
  may_be_done_ = when - slack;
  if (when != never) host_.timekeeper.wake_at(when);
}

void Service::look_at_clock(Time now) {
  // Who hears of one may ask for another.
  for (size_t i = 0; i < unanswered_.size(); ++i) {
    if (unanswered_[i].deadline > now) continue;
    unanswered_[i].deadline = never;
    unanswered_[i].is_late = true;
    unanswered(unanswered_[i].transaction);
  }
  if (may_be_done_ > now) return;
  set_due(never);
  due();
}

Time Service::next_time() const {
  Time next = due_;
  for (const Unanswered& one : unanswered_) next = std::min(next, one.deadline);
  return next;
}

// --- for people ---

nlohmann::ordered_json Service::report() const {
  nlohmann::ordered_json report;
  report["state"] = name_of(state_);
  if (version_ != Version()) {
    report["framework-version"] = framework_.to_string();
    report["version"] = version_.to_string();
  }
  if (state_ == State::broken) report["broken-by"] = breakage_;
  if (stray_count_ > 0) report["stray-answers"] = stray_count_;
  add_to(report);
  return report;
}

std::string to_string_of_status(uint32_t status) {
  const char* meaning = "";
  switch (status) {
    case status_fail:
      meaning = " (it failed)";
      break;
    case status_no_more_items:
      meaning = " (there is none)";
      break;
    case 0x80070032:
      meaning = " (not supported)";
      break;
    case 0x800704f7:
      meaning = " (somebody is using it)";
      break;
    case 0x8007048f:
      meaning = " (not connected)";
      break;
    case 0x80070057:
      meaning = " (invalid argument)";
      break;
    case 0x80070070:
      meaning = " (its disk is full)";
      break;
    default:
      break;
  }
  return fmt::format("status {:#010x}{}", status, meaning);
}

}  // namespace vhdkit::services
