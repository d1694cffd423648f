// Unpacks a gzip file step by step, and can begin again in the middle.
#pragma once

#include <zlib.h>

#include <memory>
#include <vector>

#include "async/file.h"

namespace vhdkit::image {

// A place in the compressed file where unpacking can begin: a member's header or, with the 32 KiB
// of content before it, the beginning of a deflate block.
struct RestartPoint {
  uint64_t content_offset = 0;  // bytes, unpacked
  uint64_t file_offset = 0;     // of the first byte not yet used up
  unsigned unused_bits = 0;     // of the byte before it
  bool at_member = true;
  std::vector<std::byte> window;  // empty at a member
};

// Loop-bound; one caller at a time. The file outlives it. Keeps the last 4 MiB of the content.
// Errors: corrupt, with the offset in the compressed file; io.
class Inflater {
 public:
  static Result<std::unique_ptr<Inflater>> create(File& compressed);
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater();

  // Whether a step ends at each deflate block, so that restart points can be taken.
  void stop_at_blocks(bool stop) { flush_ = stop ? Z_BLOCK : Z_NO_FLUSH; }
  // Unpacks a little; produced() says what came of it, which may be nothing. REQUIRES: !ended().
  Async<void> step();
  std::span<const std::byte> produced() const { return produced_; }
  bool ended() const { return ended_; }

  // The content up to here has come out.
  uint64_t position() const { return position_; }
  bool at_restart_point() const;
  Result<RestartPoint> restart_point();
  Async<void> restart(const RestartPoint& point);

  // Whether the content at this offset is still, or already, here.
  bool keeps(uint64_t content_offset) const;
  // Copies what is here from content_offset on, at most the buffer; returns how much. REQUIRES:
  // keeps(content_offset).
  size_t copy(uint64_t content_offset, std::span<std::byte> buffer) const;

 private:
  explicit Inflater(File& compressed);
  Async<void> fill();
  Async<void> enter_block(const RestartPoint& point);
  Result<void> skip_to_member();
  Result<void> begin_member();
  Result<void> unpack();
  void end_member();
  uint64_t input_offset() const { return input_end_ - stream_.avail_in; }
  uint64_t kept_start() const;
  std::unexpected<Error> corrupt(std::string_view what) const;

  File& compressed_;
  z_stream stream_{};
  int flush_ = Z_NO_FLUSH;
  std::vector<std::byte> input_;
  uint64_t input_end_ = 0;  // in the file, behind what input_ holds
  std::vector<std::byte> ring_;
  uint64_t position_ = 0;
  uint64_t restarted_at_ = 0;  // the content offset where the ring's content begins
  std::span<const std::byte> produced_;
  uint64_t member_offset_ = 0;
  uint64_t trailer_bytes_ = 0;  // of the member that ended, left to skip: its checks were not
                                // made, since unpacking began in its middle
  bool raw_ = false;            // in a member that unpacking entered in its middle
  bool between_members_ = true;
  bool at_header_ = true;  // nothing of the member was taken yet
  bool ended_ = false;
};

}  // namespace vhdkit::image
