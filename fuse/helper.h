// One more thread, for what would wait for the loop's own: work that goes through the mount.
#pragma once

#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "support/result.h"

namespace vhdkit::fuse {

// Loop-bound, but for the jobs. One job at a time.
class Helper {
 public:
  using Job = std::function<Result<void>()>;              // runs on the helper's thread
  using Then = std::function<void(const Result<void>&)>;  // runs on the loop's thread

  Helper();
  ~Helper();  // waits for the job
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  // What the job uses outlives it. A job that is started while another runs waits for it.
  void start(Job job, Then then);

  // Readable once a job has ended; then finish_job() calls its `then`.
  int descriptor() const { return descriptor_; }
  void finish_job();

 private:
  struct Work {
    Job job;
    Then then;
  };
  void run(Job job);

  int descriptor_;  // eventfd
  std::thread thread_;
  Result<void> outcome_;  // written by the job's thread before the event, read after it
  std::optional<Then> then_;
  std::vector<Work> waiting_;
};

}  // namespace vhdkit::fuse
