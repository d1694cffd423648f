#include "hypervisor/bios/disk_services.h"

#include <initializer_list>

#include "hypervisor/bios/test_pc.h"

namespace vhdkit::hypervisor {
namespace {

using tests::has_carry;
using tests::mib;
using tests::Pc;

BiosCall disk(Pc& pc, BiosCall call) { return pc.call(Service::disk, call); }

// EDD 3.0, "Disk address packet", at 0000:0600.
struct Packet {
  uint8_t length = 0x10;
  uint16_t count = 1;
  uint16_t offset = 0;
  uint16_t segment = 0x1000;
  uint64_t sector = 0;
  uint64_t flat = 0;
};

BiosCall with_packet(Pc& pc, uint16_t ax, const Packet& packet, uint8_t drive = 0x80) {
  pc.put_value(0x600, packet.length);
  pc.put_value(0x601, uint8_t{0});
  pc.put_value(0x602, packet.count);
  pc.put_value(0x604, packet.offset);
  pc.put_value(0x606, packet.segment);
  pc.put_value(0x608, packet.sector);
  pc.put_value(0x610, packet.flat);
  return disk(pc, {.eax = ax, .edx = drive, .esi = 0x600});
}

uint8_t status(const BiosCall& call) { return call.ah(); }

// RBIL, "INT 13".
TEST_CASE("what needs no more than a disk succeeds, and is an error without one") {
  Pc pc({4096, 4096});
  for (const unsigned function : {0x00, 0x09, 0x0d, 0x10, 0x11, 0x14}) {
    CAPTURE(function);
    for (const unsigned drive : {0x80, 0x81}) {
      const auto there = disk(pc, {.eax = function << 8, .edx = drive, .flags = 1});
      CHECK(status(there) == 0);
      CHECK_FALSE(has_carry(there));
    }
    for (const unsigned drive : {0x00, 0x01, 0x7f, 0x82, 0xe0, 0xff}) {
      CAPTURE(drive);
      const auto absent = disk(pc, {.eax = function << 8, .edx = drive});
      CHECK(status(absent) == 0x01);
      CHECK(has_carry(absent));
    }
  }
}

TEST_CASE("functions that there are not are said so, and the last status is kept") {
  Pc pc;
  for (const unsigned function : {0x05, 0x06, 0x07, 0x0a, 0x0b, 0x12, 0x16, 0x17, 0x18, 0x40, 0x45,
                                  0x46, 0x49, 0x4a, 0x4b, 0x4e, 0x50, 0xff}) {
    CAPTURE(function);
    const auto refused = disk(pc, {.eax = function << 8 | 0x01, .ebx = 0x55aa, .edx = 0x80});
    CHECK(status(refused) == 0x01);
    CHECK(has_carry(refused));
    CHECK(pc.value<uint8_t>(0x474) == 0x01);
    const auto last = disk(pc, {.eax = 0x0100, .edx = 0x80});
    CHECK(status(last) == 0x01);
    CHECK(has_carry(last));
    const auto then = disk(pc, {.eax = 0x0100, .edx = 0x80});
    CHECK(status(then) == 0x00);
    CHECK_FALSE(has_carry(then));
  }
}

// Phoenix's "LBA-assisted translation": 16, 32, 64, 128, 255 heads up to 504, 1008, 2016, 4032 and
// 8032.5 MB, 63 sectors.
TEST_CASE("geometries are those of other BIOSes") {
  struct Case {
    uint64_t sectors;
    uint32_t cylinders;
    uint32_t heads;
  };
  for (const Case& known :
       {Case{1, 1, 16}, Case{1008, 1, 16}, Case{2016, 2, 16}, Case{1'032'192, 1024, 16},
        Case{1'032'193, 512, 32}, Case{2'064'384, 1024, 32}, Case{4'128'768, 1024, 64},
        Case{8'257'536, 1024, 128}, Case{16'450'560, 1024, 255}, Case{16'777'216, 1024, 255},
        Case{uint64_t{1} << 40, 1024, 255}}) {
    CAPTURE(known.sectors);
    const auto geometry = DriveGeometry::of(known.sectors);
    CHECK(geometry.cylinders == known.cylinders);
    CHECK(geometry.heads == known.heads);
  }
}

TEST_CASE("a disk's geometry, number and type") {
  Pc pc({16'777'216, 4096});  // 8 GiB: 1024 cylinders, 255 heads
  const auto geometry = disk(pc, {.eax = 0x0800, .ecx = 0xdead'0000, .edx = 0x80});
  CHECK_FALSE(has_carry(geometry));
  CHECK(geometry.ax() == 0);
  CHECK(geometry.ecx == 0xdead'ffff);  // cylinder 1023: FF and the bits C0; sector 63
  CHECK(geometry.dx() == 0xfe02);      // the last head is 254; two disks
  const auto type = disk(pc, {.eax = 0x1500, .edx = 0x80});
  CHECK_FALSE(has_carry(type));
  CHECK(type.ah() == 0x03);
  CHECK((uint32_t{type.cx()} << 16 | type.dx()) == 1024 * 255 * 63);
  const auto absent = disk(pc, {.eax = 0x1500, .edx = 0x82, .flags = 1});
  CHECK(absent.ah() == 0x00);
  CHECK_FALSE(has_carry(absent));
}

TEST_CASE("sectors are read by cylinder, head and sector") {
  Pc pc({2'000'000});  // 32 heads, 63 sectors
  struct Case {
    uint16_t cx;
    uint8_t head;
    uint64_t sector;
  };
  for (const Case& known : {Case{0x0002, 0, 1}, Case{0x0001, 1, 63}, Case{0x0101, 0, 2016},
                            Case{0x0141, 5, 257 * 2016 + 5 * 63}, Case{0x003f, 31, 2015}}) {
    CAPTURE(known.cx);
    const auto read = disk(pc, {.eax = 0x0201,
                                .ebx = 0x0010,
                                .ecx = known.cx,
                                .edx = uint32_t{known.head} << 8 | 0x80,
                                .es = 0x2000});
    CHECK_FALSE(has_carry(read));
    CHECK(read.ax() == 0x0001);
    CHECK(pc.value<uint64_t>(0x20010) == known.sector);
  }
  const auto many = disk(pc, {.eax = 0x0280, .ecx = 0x0001, .edx = 0x80, .es = 0x2000});
  CHECK(many.ax() == 0x0080);
  CHECK(pc.value<uint64_t>(0x20000 + 127 * 512) == 127);
}

TEST_CASE("sectors that the geometry does not have are not found") {
  Pc pc({2'000'000});  // 992 cylinders, 32 heads, 63 sectors
  for (const uint32_t cx : {0x0000U, 0x0040U, 0xffc1U, 0xe0c1U})
    for (const unsigned function : {0x02, 0x03, 0x04, 0x0c}) {
      CAPTURE(cx);
      CAPTURE(function);
      const auto failed =
          disk(pc, {.eax = function << 8 | 1, .ecx = cx, .edx = 0x80, .es = 0x2000});
      CHECK(status(failed) == 0x04);
      CHECK(has_carry(failed));
    }
  CHECK(status(disk(pc, {.eax = 0x0201, .ecx = 1, .edx = 0x2080, .es = 0x2000})) == 0x04);
  CHECK_FALSE(has_carry(disk(pc, {.eax = 0x0c00, .ecx = 0xdfc1, .edx = 0x1f80})));
  for (const unsigned count : {0x00, 0x81, 0xff}) {
    const auto failed = disk(pc, {.eax = 0x0200 | count, .ecx = 1, .edx = 0x80, .es = 0x2000});
    CHECK(failed.ax() == 0x0100);
    CHECK(has_carry(failed));
  }
  // A disk that is smaller than a cylinder.
  Pc small({100});
  CHECK(status(disk(small, {.eax = 0x0201, .ecx = 0x0026, .edx = 0x0180, .es = 0x2000})) == 0x04);
  CHECK(status(disk(small, {.eax = 0x0201, .ecx = 0x0025, .edx = 0x0180, .es = 0x2000})) == 0x00);
}

TEST_CASE("sectors are written, and verified without being moved") {
  Pc pc;
  pc.put(0x20000, "written by place");
  const auto written = disk(pc, {.eax = 0x0301, .ecx = 0x0005, .edx = 0x80, .es = 0x2000});
  CHECK(written.ax() == 0x0001);
  CHECK(std::memcmp(pc.drives[0]->written[4].data(), "written by place", 16) == 0);
  const auto verified =
      disk(pc, {.eax = 0x0402, .ebx = 0xffff, .ecx = 0x0005, .edx = 0x80, .es = 0xffff});
  CHECK(verified.ax() == 0x0002);
  CHECK_FALSE(has_carry(verified));
  pc.drives[0]->is_read_only = true;
  const auto refused = disk(pc, {.eax = 0x0301, .ecx = 0x0005, .edx = 0x80, .es = 0x2000});
  CHECK(refused.ax() == 0x0300);
  CHECK(has_carry(refused));
  pc.drives[0]->is_broken = true;
  CHECK(disk(pc, {.eax = 0x0201, .ecx = 5, .edx = 0x80, .es = 0x2000}).ax() == 0x2000);
}

// EDD 3.0, functions 41h and 48h.
TEST_CASE("the extensions say that they are there, and what a disk is") {
  Pc pc({16'777'216, 2'000'000});
  const auto there = disk(pc, {.eax = 0x4100, .ebx = 0x55aa, .edx = 0x80});
  CHECK_FALSE(has_carry(there));
  CHECK(there.ah() == 0x30);
  CHECK(there.bx() == 0xaa55);
  CHECK(there.cx() == 0x0005);
  for (const auto& [bx, drive] : {std::pair{0x1234U, 0x80U}, {0x55aaU, 0x00U}, {0x55aaU, 0x82U}}) {
    const auto absent = disk(pc, {.eax = 0x4100, .ebx = bx, .edx = drive});
    CHECK(has_carry(absent));
    CHECK(absent.ah() == 0x01);
    CHECK(absent.bx() == bx);
  }
  pc.put(0x700, std::string(0x50, '\x77'));
  pc.put_value(0x700, uint16_t{0x4a});
  CHECK_FALSE(has_carry(disk(pc, {.eax = 0x4800, .edx = 0x81, .esi = 0x700})));
  CHECK(pc.value<uint16_t>(0x700) == 0x1e);
  CHECK(pc.value<uint16_t>(0x702) == 0x03);  // DMA boundaries need no care; the geometry is valid
  CHECK(pc.value<uint32_t>(0x704) == 992);
  CHECK(pc.value<uint32_t>(0x708) == 32);
  CHECK(pc.value<uint32_t>(0x70c) == 63);
  CHECK(pc.value<uint64_t>(0x710) == 2'000'000);
  CHECK(pc.value<uint16_t>(0x718) == 512);
  CHECK(pc.value<uint32_t>(0x71a) == 0xffff'ffff);
  CHECK(pc.value<uint8_t>(0x71e) == 0x77);
  CHECK_FALSE(has_carry(disk(pc, {.eax = 0x4800, .edx = 0x80, .esi = 0x700})));
  CHECK(pc.value<uint16_t>(0x702) == 0x01);  // larger than cylinders reach
  CHECK(pc.value<uint64_t>(0x710) == 16'777'216);
}

TEST_CASE("a disk's parameters are as long as there is room") {
  Pc pc;
  for (const auto& [room, answered] :
       {std::pair<uint16_t, uint16_t>{0x1a, 0x1a}, {0x1d, 0x1a}, {0x1e, 0x1e}, {0xffff, 0x1e}}) {
    pc.put(0x700, std::string(0x20, '\x77'));
    pc.put_value(0x700, room);
    CHECK_FALSE(has_carry(disk(pc, {.eax = 0x4800, .edx = 0x80, .esi = 0x700})));
    CHECK(pc.value<uint16_t>(0x700) == answered);
    CHECK(pc.value<uint8_t>(0x700 + answered) == 0x77);
  }
  for (const uint16_t room : std::initializer_list<uint16_t>{0, 2, 0x19}) {
    pc.put_value(0x700, room);
    CHECK(status(disk(pc, {.eax = 0x4800, .edx = 0x80, .esi = 0x700})) == 0x01);
    CHECK(pc.value<uint16_t>(0x700) == room);
  }
}

TEST_CASE("sectors are read and written by their numbers") {
  Pc pc({uint64_t{1} << 40});
  CHECK(with_packet(pc, 0x4200, {.count = 3, .sector = (uint64_t{1} << 40) - 3}).ah() == 0);
  CHECK(pc.value<uint64_t>(0x10000 + 1024) == (uint64_t{1} << 40) - 1);
  CHECK(pc.value<uint16_t>(0x602) == 3);
  pc.put(0x12345, "by number");
  const auto written = with_packet(pc, 0x4300, {.offset = 0x2345, .sector = 7'000'000'000});
  CHECK_FALSE(has_carry(written));
  CHECK(std::memcmp(pc.drives[0]->written[7'000'000'000].data(), "by number", 9) == 0);
  CHECK(with_packet(pc, 0x4400, {.segment = 0xffff, .sector = 5}).ah() == 0);
  CHECK(with_packet(pc, 0x4700, {.sector = 5}).ah() == 0);
  CHECK(with_packet(pc, 0x4700, {.sector = uint64_t{1} << 40}).ah() == 0x04);
}

TEST_CASE("a flat address counts where segment and offset say so, and the packet is long enough") {
  Pc pc;
  const Packet flat{
      .length = 0x18, .offset = 0xffff, .segment = 0xffff, .sector = 9, .flat = 0x200'0000};
  CHECK_FALSE(has_carry(with_packet(pc, 0x4200, flat)));
  CHECK(pc.value<uint64_t>(0x200'0000) == 9);
  Packet real = flat;
  real.length = 0x10;  // FFFF:FFFF is then 10FFEFh
  CHECK_FALSE(has_carry(with_packet(pc, 0x4200, real)));
  CHECK(pc.value<uint64_t>(0x10'ffef) == 9);
  Packet beyond = flat;
  for (const uint64_t address :
       {uint64_t{64 * mib}, 64 * mib - 511, UINT64_MAX, UINT64_MAX - 511}) {
    beyond.flat = address;
    CHECK(status(with_packet(pc, 0x4200, beyond)) == 0x09);
  }
}

TEST_CASE("counts and packets that cannot be") {
  Pc pc({4096});
  CHECK(with_packet(pc, 0x4200, {.count = 0, .sector = 4096}).ah() == 0);
  CHECK(with_packet(pc, 0x4200, {.count = 0x7f}).ah() == 0);
  CHECK(pc.value<uint64_t>(0x10000 + 126 * 512) == 126);
  // Not on the disk; nothing was moved, which is said.
  pc.put_value(0x10000, uint64_t{77});
  for (const Packet& packet :
       {Packet{.count = 0xffff}, Packet{.count = 2, .sector = 4095}, Packet{.sector = 4096},
        Packet{.sector = UINT64_MAX}, Packet{.count = 0xffff, .sector = UINT64_MAX - 3}}) {
    const auto failed = with_packet(pc, 0x4200, packet);
    CHECK(status(failed) == 0x04);
    CHECK(has_carry(failed));
    CHECK(pc.value<uint16_t>(0x602) == 0);
    CHECK(pc.value<uint64_t>(0x10000) == 77);
  }
  for (const uint8_t length : std::initializer_list<uint8_t>{0x00, 0x01, 0x0f})
    for (const uint16_t function : std::initializer_list<uint16_t>{0x4200, 0x4300, 0x4400, 0x4700})
      CHECK(status(with_packet(pc, function, {.length = length})) == 0x01);
}

TEST_CASE("a count that is on the disk must be in memory as well") {
  Pc pc({uint64_t{1} << 30}, 16 * mib);
  // 32 MiB, of which there are 16.
  CHECK(status(with_packet(pc, 0x4200, {.count = 0xffff})) == 0x09);
  CHECK(status(with_packet(pc, 0x4300, {.count = 0xffff})) == 0x09);
  CHECK(pc.drives[0]->written.size() == 1);
}

TEST_CASE("a packet and a buffer lie wherever segments reach") {
  Pc pc;
  // The packet at FFFF:FFF0, 10FFE0h.
  pc.put_value(0x10'ffe0, uint64_t{0x1000'0000'0001'0010});
  pc.put_value(0x10'ffe8, uint64_t{3});
  CHECK_FALSE(has_carry(disk(pc, {.eax = 0x4200, .edx = 0x80, .esi = 0xfff0, .ds = 0xffff})));
  CHECK(pc.value<uint64_t>(0x10000) == 3);
  CHECK_FALSE(
      has_carry(disk(pc, {.eax = 0x0202, .ebx = 0xffff, .ecx = 4, .edx = 0x80, .es = 0xffff})));
  CHECK(pc.value<uint64_t>(0x10'ffef + 512) == 4);
}

TEST_CASE("a call for more than the drive may move now comes again, as it was") {
  Pc pc;
  tests::TestDrive& drive = *pc.drives[0];
  const uint64_t counted_before = drive.counted_bytes;
  drive.refusal_count = 2;
  // Two sectors from the third one on to 1000:0000.
  const BiosCall wanted{.eax = 0x0202, .ecx = 0x0003, .edx = 0x80, .es = 0x1000, .flags = 1};
  BiosCall call = wanted;
  for (int i = 1; i <= 2; ++i) {
    CHECK(pc.ask(Service::disk, call) == BiosAnswer::again);
    CHECK(pc.pause_count == i);
    CHECK(call.eax == wanted.eax);
    CHECK(call.flags == wanted.flags);
    CHECK(pc.value<uint64_t>(0x10200) == 0);
  }
  CHECK(pc.ask(Service::disk, call) == BiosAnswer::done);
  CHECK(call.eax == 0x0002);
  CHECK_FALSE(has_carry(call));
  CHECK(pc.value<uint64_t>(0x10200) == 3);
  CHECK(drive.counted_bytes == counted_before + 1024);
}

TEST_CASE("the same for a packet, whose count stays meanwhile") {
  Pc pc;
  pc.drives[0]->refusal_count = 1;
  for (const auto& [offset, value] :
       {std::pair{0x600, 0x10}, {0x602, 2}, {0x606, 0x1000}, {0x608, 7}})
    pc.put_value(uint64_t(offset), uint16_t(value));
  BiosCall call{.eax = 0x4200, .edx = 0x80, .esi = 0x600, .flags = 0};
  CHECK(pc.ask(Service::disk, call) == BiosAnswer::again);
  CHECK(pc.value<uint16_t>(0x602) == 2);
  CHECK(call.eax == 0x4200);
  CHECK_FALSE(has_carry(call));
  CHECK(pc.ask(Service::disk, call) == BiosAnswer::done);
  CHECK(status(call) == 0);
  CHECK(pc.value<uint64_t>(0x10200) == 8);
}

TEST_CASE("what moves nothing is not counted") {
  Pc pc;
  tests::TestDrive& drive = *pc.drives[0];
  drive.counted_bytes = 0;
  drive.refusal_count = 1;
  disk(pc, {.eax = 0x0402, .ecx = 0x0003, .edx = 0x80});    // verify
  disk(pc, {.eax = 0x0800, .edx = 0x80});                   // geometry
  disk(pc, {.eax = 0x0202, .ecx = 0x0003, .edx = 0xff80});  // no such head
  with_packet(pc, 0x4200, {.count = 0});                    // nothing
  with_packet(pc, 0x4200, {.count = 1, .offset = 0, .segment = 0x1000, .sector = 1 << 20});
  CHECK(drive.refusal_count == 1);
  CHECK(drive.counted_bytes == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
