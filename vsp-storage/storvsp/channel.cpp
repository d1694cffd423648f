#include "vsp-storage/storvsp/channel.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "disk/buffer_cutter.h"
#include "vsp-storage/scsi/sense.h"

namespace vhdkit::storvsp {
namespace {

// Packets that are read before others have their turn.
constexpr unsigned batch_size = 64;
// A header, the page numbers of the largest transfer, and the request; guests add some more.
constexpr uint32_t descriptor_slack_bytes = 1024;

uint32_t max_ring_packet_bytes(uint32_t max_transfer_bytes) {
  const uint32_t pages = max_transfer_bytes / uint32_t(vmbus::GuestMemory::page_bytes) + 1;
  return pages * uint32_t{sizeof(le64)} + descriptor_slack_bytes;
}

// The body of a packet as the operation has it.
template <OnDisk Body>
Body body_of(const ScsiRequest& packet) {
  return *load<Body>(bytes_of(packet));
}
template <OnDisk Body>
void set_body(ScsiRequest& packet, const Body& body) {
  std::ranges::copy(bytes_of(body), writable_bytes_of(packet).begin());
}

scsi::Direction direction_of(uint8_t data_in) {
  switch (DataIn(data_in)) {
    case DataIn::write:
      return scsi::Direction::to_device;
    case DataIn::read:
      return scsi::Direction::from_device;
    default:
      return scsi::Direction::none;
  }
}

uint8_t srb_status_of(const scsi::Outcome& outcome) {
  const uint8_t autosense = outcome.sense_length > 0 ? srb_autosense_valid : 0;
  if (outcome.status != scsi::Status::good && outcome.status != scsi::Status::condition_met)
    return uint8_t(uint8_t(SrbStatus::error) | autosense);
  // What is shorter than its buffer is a success to every guest, and an overrun to none.
  return uint8_t(outcome.overrun ? SrbStatus::data_overrun : SrbStatus::success);
}

}  // namespace

Channel::Channel(Worker& worker, vmbus::GuestMemory& memory, vmbus::Partition& partition,
                 scsi::Target& target, UnitTable& units, Owner& owner, vmbus::OpenedChannel opened,
                 const Options& options, const Saved* saved)
    : worker_(worker),
      memory_(memory),
      partition_(partition),
      target_(target),
      units_(units),
      owner_(owner),
      options_(options),
      relid_(opened.relid),
      sint_(opened.destination.sint),
      vp_(opened.destination.vp),
      reader_(std::move(opened.from_guest), max_ring_packet_bytes(options.max_transfer_bytes),
              saved == nullptr ? 0 : saved->read_index),
      writer_(std::move(opened.to_guest), saved == nullptr ? 0 : saved->write_index),
      bell_(worker),
      phase_(options.is_sub_channel ? Phase::ready : Phase::begun) {
  for (unsigned i = 0; i < options.queue_depth; ++i) {
    requests_.push_back(std::make_unique<Request>(*this));
    free_requests_.push_back(requests_.back().get());
  }
  if (saved != nullptr) restore(*saved);
  worker_.add(*this);
}

Channel::~Channel() { assert(is_closing_); }

// --- what the worker calls ---

bool Channel::serve() {
  bool is_signal_due = false;
  bool was_active = write_unsent();
  if (reads()) {
    const auto count = read_packets();
    if (!count) {
      break_off(count.error().message);
    } else if (*count > 0) {
      was_active = true;
      counters_.packets.add(*count);
      counters_.batches.add(*count);
      is_signal_due = reader_.give_back();
    } else if (was_woken_ && !has_written_) {
      counters_.spurious_wakes.add(1);
    }
    was_woken_ = false;
    announce_waiting_units();
  }
  is_signal_due |= writer_.publish();
  if (is_signal_due) signal();
  return was_active || std::exchange(has_written_, false);
}

bool Channel::fall_asleep() {
  // Where no request is free, the end of one wakes the worker.
  if (!reads() || free_requests_.empty()) return true;
  is_masked_ = false;
  return reader_.unmask_signals();
}

void Channel::wake_up() {
  if (is_masked_) return;
  reader_.mask_signals();
  is_masked_ = true;
  was_woken_ = true;
  counters_.wakes.add(1);
}

void Channel::signal() {
  counters_.signals.add(1);
  partition_.set_event_flag({.vp = vp_.load(std::memory_order_relaxed), .sint = sint_}, relid_);
}

void Channel::break_off(const std::string& reason) {
  if (!std::exchange(is_broken_, true)) owner_.broken(reason);
}

// --- pausing and ending ---

Async<void> Channel::come_to_rest() {
  CO_TRY(co_await running_.finish());
  // What does not fit now stays: the guest may never make room.
  write_unsent();
  if (writer_.publish()) signal();
  co_return Result<void>();
}

Async<void> Channel::pause() {
  is_paused_ = true;
  co_return co_await come_to_rest();
}

void Channel::resume() {
  is_paused_ = false;
  worker_.wake();
}

Channel::Saved Channel::save() const {
  assert(is_paused_);
  Saved saved{.phase = phase_,
              .version = version_,
              .has_sub_channels = has_sub_channels_,
              .has_units_to_announce = has_units_to_announce_,
              .read_index = reader_.read_index(),
              .write_index = writer_.write_index(),
              .unsent = {}};
  for (const Request* const request : unsent_) {
    const auto bytes = bytes_of(request->packet).first(request->packet_bytes);
    saved.unsent.push_back({request->transaction_id, {bytes.begin(), bytes.end()}});
  }
  return saved;
}

void Channel::restore(const Saved& saved) {
  phase_ = saved.phase;
  version_ = saved.version;
  has_sub_channels_ = saved.has_sub_channels;
  has_units_to_announce_ = saved.has_units_to_announce;
  for (const Saved::Answer& answer : saved.unsent) {
    assert(!free_requests_.empty() && answer.packet.size() <= packet_bytes);
    Request& request = *free_requests_.back();
    free_requests_.pop_back();
    request.transaction_id = answer.transaction_id;
    request.packet_bytes = answer.packet.size();
    std::ranges::copy(answer.packet, writable_bytes_of(request.packet).begin());
    unsent_.push_back(&request);
  }
}

Async<void> Channel::close() {
  is_closing_ = true;
  for (const auto& request : requests_)
    if (request->access != nullptr) request->access->turn_away(this);
  CO_TRY(co_await come_to_rest());
  worker_.remove(*this);
  // The doorbell is rung no more, but may have been.
  co_await worker_.loop().turn();
  worker_.mailbox().look();
  co_return Result<void>();
}

// --- packets ---

Result<unsigned> Channel::read_packets() {
  unsigned count = 0;
  while (count < batch_size && !free_requests_.empty()) {
    TRY_LET(const auto packet, reader_.next());
    if (!packet) break;
    ++count;
    TRY(begin(*packet));
    if (is_broken_) break;
  }
  return count;
}

Result<void> Channel::begin(const vmbus::Packet& packet) {
  if (packet.type != vmbus::PacketType::in_band && packet.type != vmbus::PacketType::gpa_direct)
    return fail(Errc::corrupt, "a packet of type " + std::to_string(uint16_t(packet.type)) +
                                   " is none of storage");
  if (packet.payload.size() < short_packet_bytes)
    return fail(Errc::corrupt, "a storage packet of " + std::to_string(packet.payload.size()) +
                                   " bytes is cut off");
  Request& request = *free_requests_.back();
  free_requests_.pop_back();
  request.transaction_id = packet.transaction_id;
  request.wants_completion = (packet.flags & vmbus::flag_completion_requested) != 0;
  request.packet_bytes = std::min(packet.payload.size(), packet_bytes);
  request.packet = {};
  std::memcpy(&request.packet, packet.payload.data(), request.packet_bytes);
  const auto operation = Operation(uint32_t{request.packet.header.operation});
  if (operation == Operation::execute_srb && phase_ == Phase::ready)
    return begin_srb(packet, request);
  handle_control(operation, request);
  return {};
}

Result<void> Channel::begin_srb(const vmbus::Packet& packet, Request& request) {
  TRY(take_data(packet, request));
  request.start = worker_.now();
  const size_t cdb_bytes = std::min<size_t>(request.packet.cdb_length, max_cdb_bytes);
  request.command = {.cdb = std::span(request.packet.cdb_or_sense).first(cdb_bytes),
                     .direction = direction_of(request.packet.data_in),
                     .data = request.parts,
                     .initiator = options_.initiator,
                     .resumer = &worker_,
                     .pace = &request};
  request.access = find_unit(request.packet);
  if (request.access == nullptr) {
    complete_absent(request);
  } else {
    running_.start(execute(request));
  }
  return {};
}

Result<void> Channel::take_data(const vmbus::Packet& packet, Request& request) {
  request.parts.clear();
  if (packet.type == vmbus::PacketType::in_band) return {};
  TRY_LET(const uint64_t length,
          vmbus::append_gpa_ranges(memory_, packet.descriptor, options_.max_transfer_bytes,
                                   request.parts));
  const uint64_t claimed = request.packet.data_transfer_length;
  if (claimed < length) request.parts = disk::BufferCutter(request.parts).next(claimed);
  return {};
}

// --- agreeing on the protocol ---

void Channel::handle_control(Operation operation, Request& request) {
  switch (operation) {
    case Operation::reset_lun:
    case Operation::reset_bus:
    case Operation::reset_adapter:
      reset(request, operation);
      break;
    case Operation::create_sub_channels:
      answer(request, create_sub_channels(request));
      break;
    default:
      answer(request, initialize(operation, request));
  }
}

Status Channel::initialize(Operation operation, Request& request) {
  if (operation == Operation::begin_initialization && phase_ == Phase::begun) {
    phase_ = Phase::initializing;
    return Status::success;
  }
  if (operation == Operation::query_protocol_version && phase_ == Phase::initializing)
    return agree_on_version(body_of<QueryVersion>(request.packet).version);
  if (operation == Operation::query_properties && phase_ == Phase::version_agreed) {
    describe(request);
    return Status::success;
  }
  if (operation == Operation::end_initialization && phase_ == Phase::version_agreed) {
    phase_ = Phase::ready;
    return Status::success;
  }
  return Status::invalid_device_state;
}

Status Channel::agree_on_version(uint16_t version) {
  switch (Version(version)) {
    case Version::win6:
    case Version::win7:
    case Version::win8:
    case Version::win8_1:
    case Version::win10:
      version_ = Version(version);
      phase_ = Phase::version_agreed;
      return Status::success;
  }
  return Status::revision_mismatch;
}

void Channel::describe(Request& request) {
  auto properties = body_of<Properties>(request.packet);
  const bool has_several = options_.max_sub_channel_count > 0 && version_ >= Version::win8;
  properties.reserved = 0;
  properties.max_sub_channel_count = has_several ? options_.max_sub_channel_count : 0;
  properties.reserved2 = 0;
  properties.flags = has_several ? property_multi_channel : 0;
  properties.max_transfer_bytes = options_.max_transfer_bytes;
  properties.reserved3 = 0;
  set_body(request.packet, properties);
}

Status Channel::create_sub_channels(const Request& request) {
  if (phase_ != Phase::ready || options_.is_sub_channel || version_ < Version::win8)
    return Status::invalid_device_state;
  const uint16_t count = body_of<CreateSubChannels>(request.packet).count;
  if (count == 0 || count > options_.max_sub_channel_count) return Status::invalid_parameter;
  if (std::exchange(has_sub_channels_, true)) return Status::invalid_device_state;
  owner_.create_sub_channels(count);
  return Status::success;
}

void Channel::announce_units() {
  has_units_to_announce_ = true;
  worker_.wake();
}

void Channel::announce_waiting_units() {
  if (!has_units_to_announce_ || phase_ != Phase::ready || is_broken_) return;
  ScsiRequest packet{};
  packet.header = {.operation = uint32_t(Operation::enumerate_bus), .flags = 0, .status = 0};
  const auto written = writer_.write(vmbus::PacketType::in_band, 0, bytes_of(packet));
  if (!written) return break_off(written.error().message);
  has_units_to_announce_ = !*written;
}

// --- requests ---

std::shared_ptr<UnitAccess> Channel::find_unit(const ScsiRequest& packet) const {
  if (options_.variant == Variant::ide) return packet.lun == 0 ? units_[0] : nullptr;
  if (!is_at_the_units(packet) || packet.lun >= max_units) return nullptr;
  return units_[packet.lun];
}

Async<void> Channel::execute(Request& request) {
  UnitAccess& access = *request.access;
  if (!access.shares.empty()) {
    const bool is_admitted = co_await admit(request, total_bytes(request.command.data));
    if (!is_admitted) {
      complete(request, scsi::check_condition(scsi::sense::aborted));
      co_return Result<void>();
    }
  }
  const scsi::Outcome outcome = co_await access.unit->execute(*access.disk, request.command);
  count(request, outcome);
  complete(request, outcome);
  co_return Result<void>();
}

// False: it must not begin.
async::Task<bool> Channel::admit(const Request& request, uint64_t bytes) {
  for (const Share& share : request.access->shares) {
    const bool is_admitted = co_await share.throttle->admit(share.line, bytes, worker_, this);
    // Who turns waiters away does not see one that is on its way to the next line.
    if (!is_admitted || !is_wanted(request)) co_return false;
  }
  co_return true;
}

// A command that reads a whole disk must hold up neither other channels nor the end of its own.
async::Task<bool> Channel::admit_piece(const Request& request, uint64_t bytes) {
  co_await worker_.yield();
  if (!is_wanted(request)) co_return false;
  co_return co_await admit(request, bytes);
}

bool Channel::is_wanted(const Request& request) const {
  const auto unit_now = find_unit(request.packet);
  return !is_closing_ && unit_now != nullptr && unit_now->unit == request.access->unit;
}

void Channel::count(const Request& request, const scsi::Outcome& outcome) {
  UnitCounters& counters = *request.access->counters;
  counters.requests.add(1);
  if (outcome.status != scsi::Status::good) counters.errors.add(1);
  if (request.command.direction == scsi::Direction::from_device)
    counters.bytes_read.add(outcome.transferred_bytes);
  if (request.command.direction == scsi::Direction::to_device)
    counters.bytes_written.add(outcome.transferred_bytes);
  // The worker's own clock stands still while it sleeps.
  const auto taken = Worker::Clock::now() - request.start;
  counters.latency_us(request.command.direction)
      .add(uint64_t(std::chrono::duration_cast<std::chrono::microseconds>(taken).count()));
}

// A unit that has gone makes the guest look for it in vain; at other places Linux would take the
// answer for one about the first unit.
void Channel::complete_absent(Request& request) {
  const ScsiRequest& packet = request.packet;
  const scsi::Address address{.path = packet.path, .target = packet.target, .lun = packet.lun};
  const scsi::Outcome outcome = target_.execute_absent(address, request.command);
  complete(request, outcome);
}

void Channel::complete(Request& request, const scsi::Outcome& outcome) {
  ScsiRequest& packet = request.packet;
  const bool is_removed = request.access == nullptr && is_at_the_units(packet) &&
                          outcome.status == scsi::Status::check_condition;
  packet.scsi_status = uint8_t(outcome.status);
  packet.srb_status = is_removed ? uint8_t(SrbStatus::invalid_lun) : srb_status_of(outcome);
  packet.data_transfer_length = uint32_t(outcome.transferred_bytes);
  packet.sense_length = outcome.sense_length;
  if (outcome.sense_length > 0) {
    std::ranges::fill(packet.cdb_or_sense, std::byte{0});
    std::ranges::copy(std::span(outcome.sense).first(outcome.sense_length),
                      packet.cdb_or_sense.begin());
  }
  request.access.reset();
  answer(request, Status::success);
}

// What waits for a limit is aborted. What runs goes on: a transfer that the kernel has cannot be
// taken back, and will be answered.
void Channel::reset(Request& request, Operation operation) {
  for (unsigned lun = 0; lun < max_units; ++lun) {
    const bool is_meant = operation != Operation::reset_lun || lun == request.packet.lun;
    if (!is_meant || units_[lun] == nullptr) continue;
    units_[lun]->unit->reset();
    units_[lun]->turn_away();
  }
  request.packet.srb_status = uint8_t(SrbStatus::success);
  answer(request, Status::success);
}

void Channel::answer(Request& request, Status status) {
  request.packet.header = {
      .operation = uint32_t(Operation::complete_io), .flags = 0, .status = uint32_t(status)};
  worker_.wake();
  if (request.wants_completion && (!unsent_.empty() || !write(request))) {
    counters_.ring_full.add(1);
    unsent_.push_back(&request);
    return;
  }
  free_requests_.push_back(&request);
}

// False: the ring is full.
bool Channel::write(const Request& request) {
  const auto bytes = bytes_of(request.packet).first(request.packet_bytes);
  const auto written = writer_.write(vmbus::PacketType::completion, request.transaction_id, bytes);
  if (written) {
    has_written_ |= *written;
    return *written;
  }
  break_off(written.error().message);
  return true;  // nobody will ever take it
}

bool Channel::write_unsent() {
  bool was_active = false;
  while (!unsent_.empty() && write(*unsent_.front())) {
    free_requests_.push_back(unsent_.front());
    unsent_.pop_front();
    was_active = true;
  }
  return was_active;
}

bool Channel::is_at_the_units(const ScsiRequest& packet) const {
  return options_.variant == Variant::ide || (packet.path == 0 && packet.target == 0);
}

}  // namespace vhdkit::storvsp
