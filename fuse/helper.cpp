#include "fuse/helper.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cassert>
#include <utility>

namespace vhdkit::fuse {

Helper::Helper() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { assert(descriptor_ >= 0); }

Helper::~Helper() {
  if (thread_.joinable()) thread_.join();
  close(descriptor_);
}

void Helper::start(Job job, Then then) {
  if (then_) {
    waiting_.push_back({std::move(job), std::move(then)});
    return;
  }
  then_ = std::move(then);
  thread_ = std::thread(&Helper::run, this, std::move(job));
}

void Helper::run(Job job) {
  outcome_ = job();
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t told = write(descriptor_, &one, sizeof one);
}

void Helper::finish_job() {
  uint64_t count = 0;
  if (read(descriptor_, &count, sizeof count) < 0) return;
  thread_.join();
  const Then then = *std::exchange(then_, std::nullopt);
  const Result<void> outcome = std::move(outcome_);
  if (!waiting_.empty()) {
    Work next = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    start(std::move(next.job), std::move(next.then));
  }
  then(outcome);
}

}  // namespace vhdkit::fuse
