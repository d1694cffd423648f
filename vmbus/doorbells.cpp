#include "vmbus/doorbells.h"

#include <cassert>
#include <mutex>

namespace vhdkit::vmbus {

void Doorbells::connect(size_t index, Doorbell& doorbell) {
  const std::unique_lock lock(mutex_);
  assert(doorbells_[index] == nullptr);
  doorbells_[index] = &doorbell;
}

void Doorbells::disconnect(size_t index) {
  const std::unique_lock lock(mutex_);
  doorbells_[index] = nullptr;
}

bool Doorbells::ring(size_t index) const {
  const std::shared_lock lock(mutex_);
  if (index >= doorbells_.size() || doorbells_[index] == nullptr) return false;
  doorbells_[index]->ring();
  return true;
}

}  // namespace vhdkit::vmbus
