// A machine for tests of the control socket: it remembers what was asked of it.
#pragma once

#include <mutex>
#include <vector>

#include "hypervisor/control/controls.h"

namespace vhdkit::hypervisor {

// Thread-safe.
class TestControls final : public Controls {
 public:
  std::vector<std::string> calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  // What commands fail with from now on.
  void fail_with(Error error) {
    const std::lock_guard lock(mutex_);
    outcome_ = std::unexpected(std::move(error));
  }
  // The next answers to status are so long.
  void set_status_bytes(size_t bytes) {
    const std::lock_guard lock(mutex_);
    status_bytes_ = bytes;
  }

  Json status() override {
    (void)note("status");
    const std::lock_guard lock(mutex_);
    return {{"state", std::string(status_bytes_, 'x')}};
  }
  Json counters() override {
    (void)note("counters");
    return {{"exits", 3}};
  }
  Result<void> pause() override { return note("pause"); }
  Result<void> resume() override { return note("resume"); }
  Result<void> shut_down(bool restarts) override {
    return note(restarts ? "restart" : "shut-down");
  }
  Result<void> power_off() override { return note("power-off"); }
  Result<void> reset() override { return note("reset"); }
  Result<Json> add_disk(const std::string& words) override {
    TRY(note("add-disk " + words));
    return Json{{"disk", 1}};
  }
  Result<void> remove_disk(const DiskName& name) override {
    return note("remove-disk " + text(name));
  }
  Result<Json> snapshot(const std::optional<DiskName>& name, bool freezes) override {
    TRY(note("snapshot " + (name ? text(*name) : "of all") + (freezes ? ", frozen" : "")));
    return Json{{"snapshots", Json::array()}};
  }
  Result<Json> resize_disk(const DiskName& name, const std::string& size, bool shrinks) override {
    TRY(note("resize-disk " + text(name) + " to " + size + (shrinks ? ", shrinking" : "")));
    return Json{{"virtual-size", 1}};
  }
  Result<void> insert_media(const std::string& path) override {
    return note("insert-media " + path);
  }
  Result<void> eject_media() override { return note("eject-media"); }

 private:
  static std::string text(const DiskName& name) {
    if (const auto* const number = std::get_if<uint64_t>(&name))
      return "number " + std::to_string(*number);
    return "file " + std::get<std::string>(name);
  }
  Result<void> note(std::string call) {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    return outcome_;
  }

  mutable std::mutex mutex_;
  std::vector<std::string> calls_;
  Result<void> outcome_;
  size_t status_bytes_ = 7;
};

}  // namespace vhdkit::hypervisor
