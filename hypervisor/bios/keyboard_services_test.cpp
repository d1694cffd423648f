#include "hypervisor/bios/keyboard_services.h"

#include <initializer_list>

#include "hypervisor/bios/test_pc.h"

namespace vhdkit::hypervisor {
namespace {

using tests::has_zero;
using tests::Pc;
using namespace std::chrono_literals;

BiosCall keyboard(Pc& pc, BiosCall call) { return pc.call(Service::keyboard, call); }
uint16_t take(Pc& pc, uint32_t function = 0x00) {
  return keyboard(pc, {.eax = function << 8}).ax();
}

// RBIL, table 00006 "keyboard scan codes".
TEST_CASE("what is typed are a US keyboard's keys") {
  struct Case {
    std::string_view typed;
    uint16_t key;
  };
  for (const Case& known :
       {Case{"a", 0x1e61},    Case{"A", 0x1e41},    Case{"z", 0x2c7a},    Case{"1", 0x0231},
        Case{"!", 0x0221},    Case{"0", 0x0b30},    Case{")", 0x0b29},    Case{"-", 0x0c2d},
        Case{"=", 0x0d3d},    Case{"q", 0x1071},    Case{"]", 0x1b5d},    Case{"'", 0x2827},
        Case{"`", 0x2960},    Case{"\\", 0x2b5c},   Case{"|", 0x2b7c},    Case{"/", 0x352f},
        Case{"?", 0x353f},    Case{" ", 0x3920},    Case{"\r", 0x1c0d},   Case{"\n", 0x1c0d},
        Case{"\t", 0x0f09},   Case{"\b", 0x0e08},   Case{"\x7f", 0x0e08}, Case{"\x18", 0x2d18},
        Case{"\x01", 0x1e01}, Case{"\x03", 0x2e03}, Case{"\x1a", 0x2c1a}, Case{"\x1c", 0x2b1c},
        Case{"\x1d", 0x1b1d}, Case{"\x1e", 0x071e}, Case{"\x1f", 0x0c1f}}) {
    CAPTURE(known.key);
    Pc pc;
    pc.type(known.typed);
    CHECK(take(pc) == known.key);
  }
}

TEST_CASE("a terminal's sequences are keys, and those of later keyboards can be told apart") {
  struct Case {
    std::string_view typed;
    uint16_t key;
    uint16_t key_of_all;
  };
  for (const Case& known : {Case{"\x1b[A", 0x4800, 0x48e0}, Case{"\x1bOA", 0x4800, 0x48e0},
                            Case{"\x1b[B", 0x5000, 0x50e0}, Case{"\x1b[C", 0x4d00, 0x4de0},
                            Case{"\x1b[D", 0x4b00, 0x4be0}, Case{"\x1b[H", 0x4700, 0x47e0},
                            Case{"\x1b[1~", 0x4700, 0x47e0}, Case{"\x1b[F", 0x4f00, 0x4fe0},
                            Case{"\x1b[4~", 0x4f00, 0x4fe0}, Case{"\x1b[2~", 0x5200, 0x52e0},
                            Case{"\x1b[3~", 0x5300, 0x53e0}, Case{"\x1b[5~", 0x4900, 0x49e0},
                            Case{"\x1b[6~", 0x5100, 0x51e0}, Case{"\x1bOP", 0x3b00, 0x3b00},
                            Case{"\x1b[11~", 0x3b00, 0x3b00}, Case{"\x1b[21~", 0x4400, 0x4400},
                            Case{"\x1b[24~", 0x8600, 0x8600}}) {
    CAPTURE(known.typed);
    Pc pc;
    pc.type(known.typed);
    CHECK(keyboard(pc, {.eax = 0x0100}).ax() == known.key);
    CHECK(keyboard(pc, {.eax = 0x1100}).ax() == known.key_of_all);
    CHECK(take(pc, 0x10) == known.key_of_all);
    pc.type(known.typed);
    CHECK(take(pc, 0x00) == known.key);
    CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
  }
}

TEST_CASE("an escape alone is a key when nothing has followed for a while") {
  Pc pc;
  pc.type("\x1b");
  CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
  pc.now += 49ms;
  CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
  pc.now += 1ms;
  CHECK(keyboard(pc, {.eax = 0x0100}).ax() == 0x011b);
  CHECK(take(pc) == 0x011b);
  // A sequence in two pieces.
  pc.type("\x1b");
  CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
  pc.now += 30ms;
  pc.type("[");
  CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
  pc.now += 30ms;
  pc.type("A");
  CHECK(take(pc) == 0x4800);
  // One that there is not: its characters.
  pc.type("\x1b[Zx");
  CHECK(take(pc) == 0x011b);
  CHECK(take(pc) == 0x1a5b);
  CHECK(take(pc) == 0x2c5a);
  CHECK(take(pc) == 0x2d78);
}

TEST_CASE("characters that no key has are dropped") {
  Pc pc;
  pc.type("\xc3\xa4 x");
  CHECK(take(pc) == 0x3920);
  CHECK(take(pc) == 0x2d78);
}

TEST_CASE("who takes a key that was not typed waits, with interrupts in between") {
  Pc pc;
  for (const uint32_t eax : {0x0000U, 0x1000U}) {
    BiosCall call{.eax = eax};
    const int before = pc.pause_count;
    for (int i = 0; i < 3; ++i) CHECK(pc.ask(Service::keyboard, call) == BiosAnswer::again);
    CHECK(pc.pause_count == before + 3);
    CHECK(call.eax == eax);
    pc.type("k");
    CHECK(pc.ask(Service::keyboard, call) == BiosAnswer::done);
    CHECK(call.ax() == 0x256b);
    CHECK(pc.pause_count == before + 3);
  }
}

TEST_CASE("who looks for keys and does nothing else is slowed down, and others are not") {
  Pc pc;
  for (int i = 0; i < 15; ++i) keyboard(pc, {.eax = 0x0100});
  CHECK(pc.pause_count == 0);
  for (int i = 0; i < 5; ++i) keyboard(pc, {.eax = 0x0100});
  CHECK(pc.pause_count == 5);
  for (int i = 0; i < 100; ++i) {
    pc.call(Service::disk, {.eax = 0, .edx = 0x80});
    keyboard(pc, {.eax = 0x0100});
  }
  CHECK(pc.pause_count == 5);
}

TEST_CASE("looking leaves a key where it is, taking does not") {
  Pc pc;
  pc.type("ab");
  for (int i = 0; i < 3; ++i) {
    const auto seen = keyboard(pc, {.eax = 0x0100, .flags = 0x40});
    CHECK_FALSE(has_zero(seen));
    CHECK(seen.ax() == 0x1e61);
  }
  CHECK(take(pc) == 0x1e61);
  CHECK(take(pc) == 0x3062);
  CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
}

TEST_CASE("keys can be put, up to fifteen") {
  Pc pc;
  for (uint32_t i = 0; i < 15; ++i)
    CHECK(keyboard(pc, {.eax = 0x0500, .ecx = 0x1e00 | i}).al() == 0);
  CHECK(keyboard(pc, {.eax = 0x0500, .ecx = 0x1e61}).al() == 1);
  // What is typed meanwhile stays in the port.
  pc.type("0123456789");
  for (uint32_t i = 0; i < 15; ++i) CHECK(take(pc) == (0x1e00 | i));
  for (const uint16_t key : std::initializer_list<uint16_t>{0x0b30, 0x0231, 0x0332})
    CHECK(take(pc) == key);
}

TEST_CASE("a flood of keys is taken as there is room for it") {
  Pc pc;
  for (int i = 0; i < 1000; ++i) {
    (void)pc.uart.receive(std::as_bytes(std::span("\x1b[\x1b[\x1b[x", 7)));
    keyboard(pc, {.eax = 0x0100});
  }
  for (int i = 0; i < 15; ++i) take(pc);
}

TEST_CASE("a program that has the serial port to itself loses nothing to the keyboard") {
  Pc pc;
  pc.type("x");
  pc.uart.write(3, 1, 0x83);  // the divisor latch
  CHECK(has_zero(keyboard(pc, {.eax = 0x0100})));
  pc.uart.write(3, 1, 0x03);
  CHECK(pc.uart.read(0, 1) == 'x');
}

TEST_CASE("the flags are those in the variables, and the twins are said to be there") {
  Pc pc;
  pc.put_value(0x417, uint16_t{0x1240});
  CHECK(keyboard(pc, {.eax = 0x02ff}).ax() == 0x0240);
  CHECK(keyboard(pc, {.eax = 0x12ff}).ax() == 0x1240);
  CHECK((keyboard(pc, {.eax = 0x0900}).al() & 0x20) != 0);
  for (const uint32_t eax : {0x0305U, 0x0400U, 0x9200U, 0xa200U, 0xff00U})
    CHECK(keyboard(pc, {.eax = eax}).eax == eax);
}

TEST_CASE("who waits for keys sees the cursor where they will appear") {
  Pc pc;
  pc.call(Service::video, {.eax = 0x0e78});
  pc.call(Service::video, {.eax = 0x0200, .edx = 0x0305});
  CHECK(pc.terminal.take() == "x");
  keyboard(pc, {.eax = 0x0100});
  CHECK(pc.terminal.take() == "\r\n\n\n\x1b[5C");
  keyboard(pc, {.eax = 0x0100});
  CHECK(pc.terminal.take() == "");
}

}  // namespace
}  // namespace vhdkit::hypervisor
