#include "hypervisor/bios/video_services.h"

#include "hypervisor/bios/test_pc.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::Pc;

BiosCall video(Pc& pc, BiosCall call) { return pc.call(Service::video, call); }

void type(Pc& pc, std::string_view text) {
  for (const char character : text) video(pc, {.eax = 0x0e00U | uint8_t(character), .ebx = 0x07});
}
void move(Pc& pc, unsigned row, unsigned column) {
  video(pc, {.eax = 0x0200, .edx = row << 8 | column});
}
uint16_t cursor(Pc& pc) { return video(pc, {.eax = 0x0300}).dx(); }
// Character and attribute, as function 08h has them.
uint16_t cell(Pc& pc, unsigned row, unsigned column) {
  const uint16_t before = cursor(pc);
  move(pc, row, column);
  const uint16_t read = video(pc, {.eax = 0x0800}).ax();
  move(pc, before >> 8, before & 0xff);
  return read;
}

// RBIL, "INT 10".
TEST_CASE("text that is written line by line comes as it is") {
  Pc pc;
  type(pc, "GRUB loading.\r\nWelcome to GRUB!\r\n\r\n");
  CHECK(pc.terminal.take() == "GRUB loading.\r\nWelcome to GRUB!\r\n\r\n");
  CHECK(cursor(pc) == 0x0300);
  CHECK(cell(pc, 1, 11) == 0x0747);  // the G of GRUB, grey on black
}

TEST_CASE("a bell rings, a backspace goes back in its line") {
  Pc pc;
  type(pc, "\b\aab\bc");
  CHECK(pc.terminal.take() == "\aab\bc");
  CHECK(cursor(pc) == 0x0002);
}

TEST_CASE("a line that is full goes on in the next one, and the last one scrolls") {
  Pc pc;
  type(pc, std::string(80, 'x') + "y");
  CHECK(cursor(pc) == 0x0101);
  CHECK(pc.terminal.take() == std::string(80, 'x') + "\r\ny");
  move(pc, 24, 79);
  type(pc, "z");
  CHECK(cursor(pc) == 0x1800);
  CHECK(cell(pc, 23, 79) == 0x077a);
  CHECK(cell(pc, 0, 0) == 0x0779);
  CHECK(cell(pc, 24, 79) == 0x0720);
}

TEST_CASE("a program that puts its text anywhere moves the terminal's cursor by as much") {
  Pc pc;
  move(pc, 2, 5);
  type(pc, "a");
  CHECK(pc.terminal.take() == "\r\n\n\x1b[5Ca");
  move(pc, 0, 3);
  type(pc, "b");
  CHECK(pc.terminal.take() == "\x1b[2A\r\x1b[3Cb");
  move(pc, 0, 10);
  type(pc, "c");
  CHECK(pc.terminal.take() == "\x1b[6Cc");
  move(pc, 200, 200);
  CHECK(cursor(pc) == 0x184f);
}

TEST_CASE("colours are the terminal's, in its order, and are taken back") {
  Pc pc;
  // Bright white on blue, then grey on black.
  video(pc, {.eax = 0x0941, .ebx = 0x001f, .ecx = 1});
  CHECK(pc.terminal.take() == "\x1b[0;1;37;44mA");
  CHECK(cell(pc, 0, 0) == 0x1f41);
  move(pc, 0, 1);
  video(pc, {.eax = 0x0942, .ebx = 0x0004, .ecx = 1});  // red
  CHECK(pc.terminal.take() == "\x1b[0;31;40mB");
  pc.bios->hand_over();
  CHECK(pc.terminal.take() == "\x1b[0m");
  pc.bios->hand_over();
  CHECK(pc.terminal.take() == "");
}

TEST_CASE("a character as often as asked for leaves the cursor, and ends with the screen") {
  Pc pc;
  move(pc, 24, 78);
  video(pc, {.eax = 0x0a2a, .ebx = 0, .ecx = 0xffff});
  CHECK(cursor(pc) == 0x184e);
  CHECK(cell(pc, 24, 78) == 0x072a);
  CHECK(cell(pc, 24, 79) == 0x072a);
  CHECK(cell(pc, 0, 0) == 0x0720);
  pc.terminal.take();
  move(pc, 0, 0);
  video(pc, {.eax = 0x0920, .ebx = 7, .ecx = 2000});  // all blank: GRUB's way
  CHECK(cell(pc, 24, 79) == 0x0720);
  CHECK(pc.terminal.take() == "\r\x1b[78C  ");
  video(pc, {.eax = 0x0920, .ebx = 7, .ecx = 0});
  CHECK(pc.terminal.take() == "");
}

// CP437.TXT: C9h 2554h, CDh 2550h, BBh 2557h; 18h is an arrow in IBMGRAPH.TXT, 2191h.
TEST_CASE("boxes and arrows look as they did") {
  Pc pc;
  type(pc, "\xc9\xcd\xbb");
  video(pc, {.eax = 0x0918, .ebx = 7, .ecx = 1});
  CHECK(pc.terminal.take() == "\u2554\u2550\u2557\u2191");
}

TEST_CASE("windows scroll up and down") {
  Pc pc;
  type(pc, "one\r\ntwo\r\nthree");
  video(pc, {.eax = 0x0601, .ebx = 0x0700, .ecx = 0x0000, .edx = 0x0203});
  CHECK(cell(pc, 0, 0) == 0x0774);
  CHECK(cell(pc, 0, 2) == 0x076f);
  CHECK(cell(pc, 1, 3) == 0x0765);  // thre|e: the last letter is outside
  CHECK(cell(pc, 2, 4) == 0x0765);
  CHECK(cell(pc, 2, 0) == 0x0720);
  video(pc, {.eax = 0x0702, .ebx = 0x1700, .ecx = 0x0000, .edx = 0x184f});
  CHECK(cell(pc, 0, 0) == 0x1720);
  CHECK(cell(pc, 2, 0) == 0x0774);
  video(pc, {.eax = 0x0600, .ebx = 0x0700, .ecx = 0x0000, .edx = 0x184f});
  CHECK(cell(pc, 2, 0) == 0x0720);
  type(pc, "x");
  pc.terminal.take();
  // Windows that are none: the corners the wrong way round, or outside.
  for (const uint32_t corner : {0x0005U, 0x0500U, 0x1900U, 0x0050U, 0xffffU}) {
    video(pc, {.eax = 0x0600, .ecx = corner, .edx = 0x0000});
    video(pc, {.eax = 0x0700, .ecx = corner, .edx = 0x0000});
  }
  CHECK(pc.terminal.take() == "");
  video(pc, {.eax = 0x06ff, .ebx = 0x0700, .ecx = 0x0000, .edx = 0xffff});
  CHECK(cell(pc, 2, 5) == 0x0720);
}

TEST_CASE("modes of text clear the screen unless told not to, others are not there") {
  Pc pc;
  for (const unsigned mode : {0x00, 0x01, 0x02, 0x03, 0x07}) {
    CAPTURE(mode);
    move(pc, 3, 3);
    type(pc, "x");
    video(pc, {.eax = 0x80 | mode});
    CHECK(cell(pc, 3, 3) == 0x0778);
    video(pc, {.eax = mode});
    CHECK(cell(pc, 3, 3) == 0x0720);
    CHECK(cursor(pc) == 0);
  }
  type(pc, "x");
  (void)pc.terminal.take();
  video(pc, {.eax = 0x12});
  CHECK(pc.terminal.take().contains("Pictures are not shown here"));
  for (const unsigned mode : {0x04, 0x06, 0x0d, 0x12, 0x13, 0x7f}) video(pc, {.eax = mode});
  CHECK(pc.terminal.take() == "");
  CHECK(cell(pc, 0, 0) == 0x0778);
  const auto mode = video(pc, {.eax = 0x0f00, .ebx = 0xff00});
  CHECK(mode.ax() == 0x5003);
  CHECK(mode.bx() == 0x0000);
}

TEST_CASE("the cursor and its shape are told and kept in the variables") {
  Pc pc;
  REQUIRE_OK(pc.bios->boot());
  CHECK(pc.value<uint8_t>(0x449) == 3);
  CHECK(pc.value<uint16_t>(0x44a) == 80);
  CHECK(pc.value<uint8_t>(0x484) == 24);
  CHECK(pc.value<uint16_t>(0x460) == 0x0607);
  video(pc, {.eax = 0x0100, .ecx = 0x2000});
  move(pc, 7, 9);
  const auto told = video(pc, {.eax = 0x0300, .ebx = 0});
  CHECK(told.ax() == 0);
  CHECK(told.cx() == 0x2000);
  CHECK(told.dx() == 0x0709);
  CHECK(pc.value<uint16_t>(0x450) == 0x0709);
  CHECK(pc.value<uint16_t>(0x460) == 0x2000);
}

TEST_CASE("strings are written with one attribute or many, and move the cursor where asked") {
  Pc pc;
  pc.put(0x5010, "hi\r\n!");
  video(pc, {.eax = 0x1301, .ebx = 0x0002, .ecx = 5, .edx = 0x0304, .ebp = 0x10, .es = 0x500});
  CHECK(cell(pc, 3, 4) == 0x0268);
  CHECK(cell(pc, 4, 0) == 0x0221);
  CHECK(cursor(pc) == 0x0401);
  pc.put(0x5010,
         "a\x01"
         "b\x02");
  video(pc, {.eax = 0x1302, .ebx = 0, .ecx = 2, .edx = 0x0000, .ebp = 0x10, .es = 0x500});
  CHECK(cell(pc, 0, 0) == 0x0161);
  CHECK(cell(pc, 0, 1) == 0x0262);
  CHECK(cursor(pc) == 0x0401);
  // The longest that can be, at the end of what segments reach.
  video(pc, {.eax = 0x1303, .ebx = 0, .ecx = 0xffff, .edx = 0, .ebp = 0xffff, .es = 0xffff});
}

// RBIL, "INT 10/AH=12h/BL=10h", "INT 10/AX=1A00h", "INT 10/AX=1130h".
TEST_CASE("programs that ask find a VGA, and no graphics") {
  Pc pc;
  const auto ega = video(pc, {.eax = 0x1200, .ebx = 0xff10, .ecx = 0xffff});
  CHECK(ega.bx() == 0x0003);
  CHECK(ega.cx() == 0x0000);
  const auto vga = video(pc, {.eax = 0x1a00});
  CHECK(vga.al() == 0x1a);
  CHECK(vga.bx() == 0x0008);
  const auto font = video(pc, {.eax = 0x1130, .ebx = 0x0600, .edx = 0xffff});
  CHECK(font.cx() == 16);
  CHECK(font.dl() == 24);
  CHECK(real_mode_address(font.es, font.bp()) >= 0xf'0000);
  for (const uint32_t eax : {0x4f00U, 0x4f01U, 0x4f02U, 0x1b00U, 0x1003U, 0x0500U, 0xfe00U}) {
    const auto unknown = video(pc, {.eax = eax, .ebx = 0x1234, .ecx = 0x5678});
    CHECK(unknown.eax == eax);
    CHECK(unknown.bx() == 0x1234);
    CHECK(unknown.cx() == 0x5678);
  }
}

}  // namespace
}  // namespace vhdkit::hypervisor
