// A PC for tests: memory, disks in memory, a serial line with a terminal at its end, a clock that
// stands still.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <string>

#include "hypervisor/bios/bios.h"
#include "hypervisor/boot/platform.h"
#include "hypervisor/boot/test_kernel.h"
#include "hypervisor/devices/rtc.h"
#include "hypervisor/devices/uart.h"

namespace vhdkit::hypervisor::tests {

// A sector that was never written holds its own number in its first 8 bytes.
class TestDrive final : public Drive {
 public:
  explicit TestDrive(uint64_t sectors) : count(sectors) {}

  uint64_t sector_count() const override { return count; }
  bool may_begin(uint64_t bytes) override {
    counted_bytes += bytes;
    if (refusal_count == 0) return true;
    --refusal_count;
    counted_bytes -= bytes;
    return false;
  }
  Result<void> read(uint64_t sector, std::span<std::byte> bytes) override {
    if (is_broken) return fail(Errc::io, "broken");
    REQUIRE(sector + bytes.size() / sector_bytes <= count);
    for (size_t at = 0; at < bytes.size(); at += sector_bytes, ++sector) {
      const auto found = written.find(sector);
      const auto target = bytes.subspan(at, sector_bytes);
      std::ranges::fill(target, std::byte{0});
      std::memcpy(target.data(), &sector, sizeof sector);
      if (found != written.end()) std::ranges::copy(found->second, target.begin());
    }
    return {};
  }
  Result<void> write(uint64_t sector, std::span<const std::byte> bytes) override {
    if (is_broken) return fail(Errc::io, "broken");
    if (is_read_only) return fail(Errc::read_only, "read only");
    REQUIRE(sector + bytes.size() / sector_bytes <= count);
    for (size_t at = 0; at < bytes.size(); at += sector_bytes, ++sector) {
      const auto source = bytes.subspan(at, sector_bytes);
      written[sector].assign(source.begin(), source.end());
    }
    return {};
  }
  // 55 AA at its end, and an instruction at its beginning.
  void make_bootable() {
    std::vector<std::byte> sector(sector_bytes);
    sector[0] = std::byte{0xf4};
    sector[510] = std::byte{0x55};
    sector[511] = std::byte{0xaa};
    written[0] = sector;
  }

  uint64_t count;
  bool is_broken = false;
  bool is_read_only = false;
  unsigned refusal_count = 0;  // so often it may not begin
  uint64_t counted_bytes = 0;
  std::map<uint64_t, std::vector<std::byte>> written;
};

struct Terminal final : SerialHost {
  void write(std::span<const std::byte> bytes) override {
    for (const std::byte byte : bytes) shown += char(byte);
  }
  void has_room() override {}
  // What came since the last time.
  std::string take() { return std::exchange(shown, {}); }

  std::string shown;
};

struct NoInterrupt final : InterruptLine {
  void edge() override {}
};

// 2026-11-28 13:45:06 UTC, a Saturday.
inline Rtc::Time test_time() {
  using std::chrono::hours;
  using std::chrono::minutes;
  using std::chrono::seconds;
  return std::chrono::sys_days(std::chrono::year(2026) / 11 / 28) + hours(13) + minutes(45) +
         seconds(6);
}

struct Pc {
  explicit Pc(std::vector<uint64_t> disk_sectors = {4096}, uint64_t memory_bytes = 64 * mib)
      : ram(make_ram(memory_bytes)) {
    ports.add(platform::com1_port, platform::com1_port_count, uart);
    ports.add(platform::rtc_index_port, 2, rtc);
    uart.write(2, 1, 1);  // a FIFO, as every driver sets it up
    Bios::Parts parts{.ram = *ram, .ports = ports, .line = terminal, .drives = {}, .vp_count = 1};
    for (const uint64_t sectors : disk_sectors) {
      auto drive = std::make_unique<TestDrive>(sectors);
      drive->make_bootable();
      drives.push_back(drive.get());
      parts.drives.push_back(std::move(drive));
    }
    bios.emplace(
        std::move(parts), [this] { return now; },
        [this](std::chrono::milliseconds time) {
          now += time;
          ++pause_count;
        });
  }

  BiosAnswer ask(Service service, BiosCall& call) {
    call.vector = uint8_t(service);
    return bios->answer(call);
  }
  // Of a service that answers at once.
  BiosCall call(Service service, BiosCall call) {
    CHECK(ask(service, call) == BiosAnswer::done);
    return call;
  }
  void type(std::string_view text) {
    REQUIRE(uart.receive(std::as_bytes(std::span(text))) == text.size());
  }
  void put(uint64_t address, std::string_view bytes) {
    REQUIRE(ram->write(address, std::as_bytes(std::span(bytes))));
  }
  template <class T>
  void put_value(uint64_t address, T value) {
    REQUIRE(ram->write(address, std::as_bytes(std::span(&value, 1))));
  }
  std::string text(uint64_t address, size_t length) { return text_at(*ram, address, length); }
  template <class T>
  T value(uint64_t address) {
    return value_at<T>(*ram, address);
  }

  std::unique_ptr<GuestRam> ram;
  Terminal terminal;
  NoInterrupt no_interrupt;
  Uart uart{terminal, no_interrupt};
  Rtc rtc{test_time};
  Ports ports;
  std::vector<TestDrive*> drives;
  SystemServices::Time now{};
  int pause_count = 0;
  std::optional<Bios> bios;
};

inline bool has_carry(const BiosCall& call) { return (call.flags & 0x0001) != 0; }
inline bool has_zero(const BiosCall& call) { return (call.flags & 0x0040) != 0; }

}  // namespace vhdkit::hypervisor::tests
