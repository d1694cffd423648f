// Calls to the BIOS by a loader that means no good. The input: records of a call's registers, each
// with up to 255 bytes that it finds at an address below 2 MiB, and up to 16 that are typed before.
#include "fuzz/input.h"
#include "hypervisor/bios/bios.h"
#include "hypervisor/boot/platform.h"
#include "hypervisor/devices/rtc.h"
#include "hypervisor/devices/uart.h"

namespace vhdkit {
namespace {

using namespace hypervisor;

// Each sector holds what was written last to any sector.
class FuzzDrive final : public Drive {
 public:
  FuzzDrive(uint64_t count, bool is_writable) : count_(count), is_writable_(is_writable) {}

  uint64_t sector_count() const override { return count_; }
  bool may_begin(uint64_t bytes) override {
    fuzz::require(bytes > 0, "nothing is no transfer");
    return ++asked_count_ % 4 != 0;
  }
  Result<void> read(uint64_t sector, std::span<std::byte> bytes) override {
    check(sector, bytes.size());
    for (size_t at = 0; at < bytes.size(); at += sector_bytes)
      std::ranges::copy(content_, bytes.begin() + ptrdiff_t(at));
    return {};
  }
  Result<void> write(uint64_t sector, std::span<const std::byte> bytes) override {
    check(sector, bytes.size());
    if (!is_writable_) return fail(Errc::read_only, "read only");
    std::ranges::copy(bytes.last(sector_bytes), content_.begin());
    return {};
  }

 private:
  void check(uint64_t sector, size_t byte_count) const {
    fuzz::require(byte_count > 0 && byte_count % sector_bytes == 0, "whole sectors");
    fuzz::require(sector < count_ && byte_count / sector_bytes <= count_ - sector,
                  "sectors that the disk has");
  }

  uint64_t count_;
  bool is_writable_;
  unsigned asked_count_ = 0;
  std::array<std::byte, sector_bytes> content_{std::byte{0xf4}};
};

struct Line final : SerialHost, InterruptLine {
  void write(std::span<const std::byte> bytes) override { shown_bytes += bytes.size(); }
  void has_room() override {}
  void edge() override {}

  size_t shown_bytes = 0;
};

struct Record {
  uint8_t vector;
  uint8_t typed_count;
  uint8_t byte_count;
  le32 address;
  std::array<le32, 7> registers;
  le16 ds;
  le16 es;
};
static_assert(OnDisk<Record>);

GuestRam& guest_ram() {
  static const auto ram = GuestRam::create(uint64_t{16} << 20);
  fuzz::require(ram.has_value(), "there are 16 MiB");
  return **ram;
}

BiosCall call_of(const Record& record) {
  return {.vector = uint8_t(first_service + record.vector % (last_service - first_service + 1)),
          .eax = record.registers[0],
          .ebx = record.registers[1],
          .ecx = record.registers[2],
          .edx = record.registers[3],
          .esi = record.registers[4],
          .edi = record.registers[5],
          .ebp = record.registers[6],
          .ds = record.ds,
          .es = record.es,
          .flags = 0x0202,
          .stack = record.address};
}

// A screen is redrawn for one call, and no more: a cell is at most a colour, a move and a
// character.
constexpr size_t most_shown_bytes = size_t{80} * 25 * 40 + 0x20000 * 40;

void answer(Bios& bios, const Record& record, Line& line) {
  BiosCall call = call_of(record);
  line.shown_bytes = 0;
  const BiosAnswer said = bios.answer(call);
  fuzz::require((call.flags & ~(BiosCall::carry | BiosCall::zero)) == 0x0202,
                "carry and zero are all that a service says");
  fuzz::require(call.vector >= first_service && call.vector <= last_service, "the vector stays");
  fuzz::require(call.esi == record.registers[4] && call.ds == record.ds,
                "no service changes where its caller looks");
  fuzz::require(said != BiosAnswer::again ||
                    (call.eax == record.registers[0] && call.ecx == record.registers[2]),
                "a call that comes again is the same one");
  fuzz::require(line.shown_bytes <= most_shown_bytes, "no more is shown than there is");
}

void call_bios(std::span<const std::byte> bytes) {
  fuzz::Input input(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  GuestRam& ram = guest_ram();
  fuzz::require(ram.clear().has_value(), "memory is cleared");
  Line line;
  Uart uart(line, line);
  Rtc rtc([] { return Rtc::Time(std::chrono::seconds(1'800'000'000)); });
  Ports ports;
  ports.add(platform::com1_port, platform::com1_port_count, uart);
  ports.add(platform::rtc_index_port, 2, rtc);
  Bios::Parts parts{.ram = ram, .ports = ports, .line = line, .drives = {}, .vp_count = 2};
  parts.drives.push_back(std::make_unique<FuzzDrive>(3000, true));
  parts.drives.push_back(std::make_unique<FuzzDrive>(uint64_t{1} << 54, false));
  SystemServices::Time now;
  Bios bios(
      std::move(parts), [&] { return now; }, [&](std::chrono::milliseconds time) { now += time; });
  (void)bios.boot();
  while (!input.empty()) {
    const auto record = input.take_value<Record>();
    constexpr uint32_t reachable = 0x20'0000;
    (void)ram.write(record.address % reachable, input.take(record.byte_count));
    (void)uart.receive(input.take(record.typed_count % 17));
    answer(bios, record, line);
  }
}

}  // namespace
}  // namespace vhdkit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vhdkit::call_bios(std::as_bytes(std::span(data, size)));
  return 0;
}
