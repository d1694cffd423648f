// The words of vhd-mount.
#pragma once

#include "fuse/background.h"
#include "fuse/mounting.h"
#include "tools/verb.h"

namespace vhdkit::fuse {

class Mount final : public tools::Verb {
 public:
  const tools::Page& page() const override;
  void declare(tools::Arguments& arguments) override;
  // Returns when the mount has ended.
  Result<int> run(async::Loop& loop) override;

  bool stays_in_foreground() const;
  // The process that waits for the mount, where there is one.
  Background& background() { return background_; }

 private:
  Result<void> settle();
  Result<void> settle_overlay();

  std::string image_;
  std::string mount_point_;
  std::optional<std::string> overlay_;
  bool commits_ = false;
  bool discards_ = false;
  bool only_file_system_ = false;
  bool is_foreground_ = false;
  MountPlan plan_;
  Background background_;
};

}  // namespace vhdkit::fuse
