// One channel's offer and, while the guest has it open, the channel.
#pragma once

#include "vsp-storage/storvsp/controller.h"

namespace vhdkit::storvsp {

// Bound to the server's thread. What the channel says on its worker's thread comes here by letters.
class Controller::Port final : public vmbus::ChannelDevice, public Channel::Owner {
 public:
  // index: 0 for the controller's first channel.
  Port(Controller& controller, uint16_t index);

  Result<void> offer();
  // Once or more often.
  void rescind();
  void announce_units();
  // Null unless it is open. Its counters may be read here.
  const Channel* channel() const { return channel_.get(); }

  Result<vmbus::Doorbell*> open(vmbus::OpenedChannel opened) override;
  void close() override;
  void retarget(uint32_t vp) override { channel_->retarget(vp); }
  void released() override;  // ends its life

 private:
  void create_sub_channels(uint16_t count) override;
  void broken(std::string reason) override;

  Worker& worker() { return *controller_.host_.workers[worker_number_]; }
  Channel::Options channel_options() const;
  Async<void> close_channel();
  void finish_closing();
  void break_off();
  void offer_sub_channels();

  Controller& controller_;
  uint16_t index_;
  size_t worker_number_;
  vmbus::Relid relid_ = 0;
  bool is_rescinded_ = false;
  std::unique_ptr<Channel> channel_;  // made, used and destroyed on the worker's thread
  // Each letter comes once while the channel is open, so what it says does not change under way.
  std::string breakage_;
  uint16_t sub_channel_count_ = 0;
  async::LetterTo<Port, &Port::break_off> broken_letter_;
  async::LetterTo<Port, &Port::finish_closing> closed_letter_;
  async::LetterTo<Port, &Port::offer_sub_channels> sub_channels_letter_;
};

}  // namespace vhdkit::storvsp
