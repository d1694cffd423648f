#include "disk/flusher.h"

namespace vhdkit::disk {

Async<void> Flusher::flush() {
  const uint64_t wanted = begun_count_ + 1;
  const async::Mutex::Guard guard = co_await flushing_.lock();
  if (error_) co_return std::unexpected(*error_);
  if (begun_count_ >= wanted) co_return Result<void>();
  ++begun_count_;
  auto flushed = co_await file_.flush();
  if (!flushed) error_ = flushed.error();
  co_return flushed;
}

}  // namespace vhdkit::disk
