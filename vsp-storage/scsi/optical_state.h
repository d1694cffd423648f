// What the commands of an optical unit share.
#pragma once

#include <string>

#include "vsp-storage/scsi/unit_state.h"

namespace vhdkit::scsi {

struct OpticalUnitOptions {
  std::string vendor = "Msft    ";
  std::string product = "Virtual DVD-ROM ";
  std::string revision = "1.0 ";
  std::array<std::byte, 16> identifier{};  // of page 83: the drive's own, not the medium's
};

// MMC-6 table 281.
enum class MediaEvent : uint8_t { none = 0, eject_request = 1, new_media = 2, removal = 3 };

struct OpticalState : UnitState {
  static constexpr uint32_t block_bytes = 2048;

  explicit OpticalState(OpticalUnitOptions chosen) : options(std::move(chosen)) {}

  const OpticalUnitOptions options;
  std::atomic<uint64_t> block_count = 0;  // 0: there is no medium
  std::atomic<bool> is_tray_open = false;
  std::atomic<MediaEvent> event = MediaEvent::none;  // not told yet

  // A medium in an open tray cannot be used.
  bool has_medium() const { return block_count != 0 && !is_tray_open; }
};

}  // namespace vhdkit::scsi
