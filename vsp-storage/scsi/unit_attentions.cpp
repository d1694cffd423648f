#include "vsp-storage/scsi/unit_attentions.h"

#include <bit>

namespace vhdkit::scsi {

Sense sense_of(Attention attention) {
  static constexpr std::pair<uint8_t, uint8_t> codes[] = {{0x29, 0x00}, {0x29, 0x03}, {0x28, 0x00},
                                                          {0x2a, 0x09}, {0x2a, 0x01}, {0x2a, 0x03},
                                                          {0x2a, 0x04}, {0x2a, 0x05}, {0x3f, 0x0e}};
  const auto [asc, ascq] = codes[size_t(attention)];
  return {SenseKey::unit_attention, asc, ascq};
}

const UnitAttentions::Known* UnitAttentions::find(uint64_t initiator) const {
  const size_t count = known_count_.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i)
    if (known_[i].initiator.load(std::memory_order_relaxed) == initiator) return &known_[i];
  return nullptr;
}

// Null: there are too many.
UnitAttentions::Known* UnitAttentions::find_or_add(uint64_t initiator) {
  if (const Known* const known = find(initiator)) return &known_[size_t(known - known_.data())];
  const size_t count = known_count_.load();
  if (count == max_initiators) return nullptr;
  known_[count].initiator = initiator;
  known_[count].pending = bit(Attention::power_on);
  known_count_.store(count + 1, std::memory_order_release);
  return &known_[count];
}

bool UnitAttentions::is_pending(uint64_t initiator) const {
  if (const Known* const known = find(initiator))
    return known->pending.load(std::memory_order_acquire) != 0;
  return known_count_.load() < max_initiators;
}

std::optional<Attention> UnitAttentions::take(uint64_t initiator) {
  const std::scoped_lock lock(mutex_);
  Known* const known = find_or_add(initiator);
  if (known == nullptr || known->pending == 0) return std::nullopt;
  const auto next = Attention(std::countr_zero(known->pending.load()));
  known->pending &= ~bit(next);
  return next;
}

void UnitAttentions::forget(uint64_t initiator, Attention attention) {
  const std::scoped_lock lock(mutex_);
  if (Known* const known = find_or_add(initiator)) known->pending &= ~bit(attention);
}

void UnitAttentions::establish(Attention attention) {
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < known_count_; ++i) known_[i].pending |= bit(attention);
}

void UnitAttentions::power_on() {
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < known_count_; ++i) known_[i].pending = bit(Attention::power_on);
}

void UnitAttentions::establish_for_others(Attention attention, uint64_t initiator) {
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < known_count_; ++i)
    if (known_[i].initiator != initiator) known_[i].pending |= bit(attention);
}

void UnitAttentions::establish_for(Attention attention, uint64_t initiator) {
  const std::scoped_lock lock(mutex_);
  if (Known* const known = find_or_add(initiator)) known->pending |= bit(attention);
}

}  // namespace vhdkit::scsi
