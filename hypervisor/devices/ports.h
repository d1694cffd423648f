// The I/O ports of the guest, and who answers behind them.
#pragma once

#include <cstdint>
#include <vector>

namespace vhdkit::hypervisor {

// Thread-safe: any of the guest's processors may come at any time.
class PortDevice {
 public:
  virtual ~PortDevice() = default;
  // offset: from the device's first port. size: 1, 2 or 4 bytes, all of them inside the device's
  // ports. What a device does not have reads as all ones and ignores writes, as on a bus.
  virtual uint32_t read(uint16_t offset, unsigned size) = 0;
  virtual void write(uint16_t offset, unsigned size, uint32_t value) = 0;
};

// A device on a bus of 8 bits: a wider access comes as single bytes, the lowest port first.
class ByteDevice : public PortDevice {
 public:
  uint32_t read(uint16_t offset, unsigned size) final;
  void write(uint16_t offset, unsigned size, uint32_t value) final;

 private:
  virtual uint8_t read_byte(uint16_t offset) = 0;
  virtual void write_byte(uint16_t offset, uint8_t value) = 0;
};

// Built once, before the guest runs; then read by all processors.
class Ports {
 public:
  // The device outlives this. REQUIRES: none of its ports is taken.
  void add(uint16_t first, uint16_t count, PortDevice& device);

  // size: 1, 2 or 4 bytes. An access is for whom its first port belongs to: of one that runs over
  // the device's end, the device sees its own part, byte by byte, and the rest is nobody's. Nobody
  // there: all ones; writes are lost.
  uint32_t read(uint16_t port, unsigned size) const;
  void write(uint16_t port, unsigned size, uint32_t value) const;

 private:
  struct Range {
    uint16_t first;
    uint16_t count;
    PortDevice* device;
  };
  const Range* find(uint16_t port) const;

  std::vector<Range> ranges_;  // by their first ports
};

}  // namespace vhdkit::hypervisor
