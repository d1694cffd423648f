// A file as it will be after replay of its log, with the file itself unchanged.
#pragma once

#include <memory>

#include "async/file.h"
#include "vhdx/headers.h"
#include "vhdx/replay_plan.h"

namespace vhdkit::vhdx {

// A base file with the updates of a plan over it. Holes stay holes, zeroed ranges are holes too.
// Updates are not kept in memory: data sectors are read from the log again, zeroes cost an
// interval. Read-only. Loop-bound.
class ReplayedFile final : public File {
 public:
  // The base outlives this, and its log does not change.
  ReplayedFile(File& base, ReplayPlan plan) : base_(base), plan_(std::move(plan)) {}
  // Owns the base.
  ReplayedFile(std::unique_ptr<File> base, ReplayPlan plan)
      : owned_(std::move(base)), base_(*owned_), plan_(std::move(plan)) {}

  const ReplayPlan& plan() const { return plan_; }

  const std::string& name() const override { return base_.name(); }
  uint64_t size_bytes() const override { return plan_.file_size_bytes; }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  Async<void> flush() override;
  Result<void> resize(uint64_t size_bytes) override;
  Result<std::optional<async::FileRange>> next_data(uint64_t file_offset, uint64_t end) override;
  Result<void> punch_hole(uint64_t file_offset, uint64_t length) override;
  // The base's where the range has no update and lies inside the base.
  int descriptor(uint64_t file_offset, uint64_t length) const override;

 private:
  enum class Source : uint8_t { base, zero, data };
  // Bytes that come from one place, up to `end`.
  struct Run {
    uint64_t end;
    Source source;
    uint64_t update_offset = 0;      // data: where the update begins, in the file
    const Update* update = nullptr;  // data
  };
  Run run_at(uint64_t file_offset, uint64_t end) const;
  Result<Run> run_without_holes(uint64_t file_offset, uint64_t end);
  Async<void> read_run(const Run& run, uint64_t file_offset, Buffers buffers);

  std::unique_ptr<File> owned_;
  File& base_;
  ReplayPlan plan_;
};

// Reads the log that the header names and lays its active sequence over the file. Nothing is
// written. A file whose log is empty comes back as it is. [MS-VHDX] 2.3.3.
// Errors: as plan_replay(); io.
Async<std::unique_ptr<File>> replay_in_memory(std::unique_ptr<File> file, const FileHeader& header);

}  // namespace vhdkit::vhdx
