#include "hypervisor/bios/bios.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "hypervisor/bios/low_memory.h"
#include "hypervisor/boot/acpi.h"
#include "hypervisor/boot/loader.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

// RBIL, "INT 19": the last two bytes of a boot sector.
constexpr size_t signature_offset = 510;
constexpr uint16_t boot_signature = 0xaa55;
// Behind the code: a disk's signature, partitions.
constexpr size_t code_bytes = 440;

constexpr uint8_t serial_time_out = 0x80;   // RBIL, "INT 14": AH
constexpr uint8_t printer_time_out = 0x01;  // RBIL, "INT 17": AH

Result<void> check_boot_sector(std::span<const std::byte> sector) {
  if (is_zero(sector))
    return fail(Errc::not_found, "there is nothing to boot: its first sector is empty");
  if (load<le16>(sector, signature_offset) != boot_signature)
    return fail(Errc::not_found, "there is no boot loader: its first sector does not end in 55 AA");
  if (is_zero(sector.first(code_bytes)))
    return fail(Errc::not_found,
                "there is no boot loader: its first sector has partitions, but no code");
  return {};
}

}  // namespace

Bios::Bios(Parts parts)
    : Bios(
          std::move(parts), [] { return std::chrono::steady_clock::now(); },
          [](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }) {}

Bios::Bios(Parts parts, Clock clock, Pause wait)
    : ram_(parts.ram),
      vp_count_(parts.vp_count),
      clock_(std::move(clock)),
      wait_(std::move(wait)),
      screen_(parts.line),
      video_(parts.ram, screen_),
      disks_(parts.ram, std::move(parts.drives)),
      keyboard_(parts.ram, parts.ports),
      memory_(parts.ram),
      time_(parts.ram, parts.ports) {}

Result<Entry> Bios::boot() {
  TRY(check_machine(ram_, vp_count_));
  TRY_LET(const uint16_t first_instruction,
          write_low_memory(ram_, uint8_t(disks_.count()), time_.ticks_of_day()));
  TRY(ram_.write(acpi_tables_address, acpi_tables(acpi_tables_address, vp_count_)));
  video_.begin();
  keyboard_.begin();
  TRY(load_boot_sector());
  return Entry{.mode = Entry::Mode::real_mode,
               .instruction = real_mode_address(bios_segment, first_instruction)};
}

Result<void> Bios::load_boot_sector() {
  if (disks_.count() == 0) return fail(Errc::not_found, "there is no disk to boot from");
  const auto sector = ram_.range(boot_sector_address, Drive::sector_bytes);
  TRY(disks_.drive(0).read(0, sector));
  return check_boot_sector(sector);
}

BiosAnswer Bios::answer(BiosCall& call) {
  std::unique_lock lock(mutex_);
  const auto [answer, is_waiting] = serve(call);
  lock.unlock();
  if (is_waiting) wait_(pause);
  return answer;
}

KeyboardServices::Answer Bios::serve(BiosCall& call) {
  const auto service = Service(call.vector);
  if (service == Service::keyboard) return serve_keyboard(call);
  keyboard_.forget_questions();
  switch (service) {
    case Service::video:
      video_.answer(call);
      break;
    case Service::equipment: {
      const auto word = load<le16>(ram_.range(bios_data::equipment, sizeof(le16)));
      set_word(call.eax, word ? uint16_t(*word) : 0);
      break;
    }
    case Service::memory_size:
      memory_.answer_size(call);
      break;
    case Service::disk: {
      const BiosAnswer answer = disks_.answer(call);
      return {.answer = answer, .is_waiting = answer == BiosAnswer::again};
    }
    case Service::serial:
      set_high_byte(call.eax, serial_time_out);
      break;
    case Service::system:
      return serve_system(call);
    case Service::printer:
      set_high_byte(call.eax, printer_time_out);
      break;
    case Service::no_boot:
    case Service::bootstrap:
      return {.answer = BiosAnswer::no_boot};
    case Service::time:
      time_.answer(call);
      break;
    default:
      break;
  }
  return {};
}

KeyboardServices::Answer Bios::serve_system(BiosCall& call) {
  if (memory_.answer(call)) return {};
  const BiosAnswer answer = system_.answer(call, clock_());
  return {.answer = answer, .is_waiting = answer == BiosAnswer::again};
}

// Whoever asks for keys sees the cursor where they will appear.
KeyboardServices::Answer Bios::serve_keyboard(BiosCall& call) {
  screen_.show_cursor();
  screen_.flush();
  return keyboard_.answer(call, clock_());
}

void Bios::hand_over() {
  const std::lock_guard lock(mutex_);
  screen_.reset_colours();
  screen_.flush();
}

}  // namespace vhdkit::hypervisor
