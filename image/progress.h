// How long work tells how far it is, and learns that nobody wants it any more.
#pragma once

#include <cstdint>

namespace vhdkit::image {

class Progress {
 public:
  virtual ~Progress() = default;
  // done_bytes of total_bytes; called often, so an implementation decides when to print.
  virtual void update(uint64_t done_bytes, uint64_t total_bytes) = 0;
  // True: stop at the next safe point; the work fails with Errc::interrupted and leaves no trace.
  virtual bool cancelled() const { return false; }
};

}  // namespace vhdkit::image
