// A SCSI command as a transport hands it over, and what became of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "async/file.h"
#include "async/task.h"

namespace vhdkit::scsi {

class Resumer;

// SAM-5 5.3.1.
enum class Status : uint8_t {
  good = 0x00,
  check_condition = 0x02,
  condition_met = 0x04,
  busy = 0x08,
  reservation_conflict = 0x18,
  task_set_full = 0x28,
  aca_active = 0x30,
  task_aborted = 0x40,
};

enum class Direction : uint8_t { none, from_device, to_device };

// What a command asks that does more than its buffers hold: VERIFY, WRITE SAME. Called on the
// disk's thread.
class Pace {
 public:
  virtual ~Pace() = default;
  // Ends when that many further bytes of the disk may be read or written, after others have had
  // their turn. False: nobody waits for the command any more, it is to end as aborted.
  virtual async::Task<bool> admit(uint64_t bytes) = 0;
};

// The command, and what its spans point to, outlive its execution.
struct Command {
  // 6 to 16 bytes, the caller's own copy: it does not change. A shorter or longer one is refused,
  // never read beyond its end.
  std::span<const std::byte> cdb;
  Direction direction = Direction::none;  // what the transport says
  // The guest's memory, whose bytes may change at any time: parameters are copied once and the copy
  // is checked. Nothing outside is touched, whatever the CDB says.
  Buffers data;
  // Who sends it (I_T nexus): reservations, unit attentions and locks of the medium are kept for
  // each.
  uint64_t initiator = 0;
  // How a command that waits for another one goes on, see gate.h. Null: it does not wait, it ends
  // with Status::busy.
  Resumer* resumer = nullptr;
  // Null: it does all at once.
  Pace* pace = nullptr;
};
static_assert(std::is_trivially_destructible_v<Command>);

inline constexpr size_t sense_bytes = 18;

struct Outcome {
  Status status = Status::good;
  uint64_t transferred_bytes = 0;  // moved in either direction
  bool overrun = false;            // the device had more to move than Command::data holds
  uint8_t sense_length = 0;        // 0, or 18 with check_condition
  std::array<std::byte, sense_bytes> sense{};  // fixed format, SPC-4 4.5.3
};
static_assert(std::is_trivially_destructible_v<Outcome>);

}  // namespace vhdkit::scsi
