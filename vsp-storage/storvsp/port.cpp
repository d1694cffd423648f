#include "vsp-storage/storvsp/port.h"

#include <algorithm>
#include <utility>

namespace vhdkit::storvsp {

Controller::Port::Port(Controller& controller, uint16_t index)
    : controller_(controller),
      index_(index),
      worker_number_(index % controller.host_.workers.size()),
      broken_letter_(*this),
      closed_letter_(*this),
      sub_channels_letter_(*this) {}

// --- the server's thread ---

Result<void> Controller::Port::offer() {
  const Options& options = controller_.options_;
  const vmbus::Offer offer{
      .interface_type = options.variant == Variant::ide ? ide_interface : scsi_interface,
      .interface_instance = options.instance,
      .sub_channel_index = index_};
  TRY_LET(relid_, controller_.host_.server.offer(offer, *this));
  return {};
}

void Controller::Port::rescind() {
  if (!std::exchange(is_rescinded_, true)) controller_.host_.server.rescind(relid_);
}

void Controller::Port::released() {
  auto& ports = controller_.ports_;
  const auto own =
      std::ranges::find_if(ports, [this](const auto& entry) { return entry.second.get() == this; });
  ports.erase(own);
}

void Controller::Port::announce_units() {
  if (channel_ != nullptr) worker().run([this] { channel_->announce_units(); });
}

Channel::Options Controller::Port::channel_options() const {
  const Options& options = controller_.options_;
  const bool is_first = index_ == 0;
  return {.variant = options.variant,
          .queue_depth = options.queue_depth,
          .max_transfer_bytes = options.max_transfer_bytes,
          .max_sub_channel_count = is_first ? options.max_sub_channel_count : uint16_t{0},
          .is_sub_channel = !is_first,
          .initiator = options.initiator};
}

Result<vmbus::Doorbell*> Controller::Port::open(vmbus::OpenedChannel opened) {
  worker().run([&] {
    const Controller::Host& host = controller_.host_;
    channel_ = std::make_unique<Channel>(worker(), host.memory, host.partition, controller_.target_,
                                         controller_.tables_[worker_number_], *this,
                                         std::move(opened), channel_options());
  });
  return &channel_->doorbell();
}

void Controller::Port::close() {
  worker().run([this] { worker().start(close_channel()); });
}

void Controller::Port::finish_closing() {
  worker().run([this] { channel_.reset(); });
  // The guest will ask for them anew.
  if (index_ == 0) controller_.rescind_sub_channels();
  controller_.host_.server.channel_closed(relid_);
}

void Controller::Port::break_off() { controller_.host_.server.break_off(relid_, breakage_); }

void Controller::Port::offer_sub_channels() { controller_.offer_sub_channels(sub_channel_count_); }

// --- the worker's thread ---

Async<void> Controller::Port::close_channel() {
  CO_TRY(co_await channel_->close());
  controller_.host_.mailbox.post(closed_letter_);
  co_return Result<void>();
}

void Controller::Port::create_sub_channels(uint16_t count) {
  sub_channel_count_ = count;
  controller_.host_.mailbox.post(sub_channels_letter_);
}

void Controller::Port::broken(std::string reason) {
  breakage_ = std::move(reason);
  controller_.host_.mailbox.post(broken_letter_);
}

}  // namespace vhdkit::storvsp
