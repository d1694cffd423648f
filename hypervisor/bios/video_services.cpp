#include "hypervisor/bios/video_services.h"

#include <algorithm>
#include <string_view>

#include "hypervisor/bios/low_memory.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

// RBIL, "INT 10".
enum Function : uint8_t {
  set_mode_function = 0x00,
  set_cursor_shape = 0x01,
  set_cursor = 0x02,
  get_cursor = 0x03,
  scroll_up = 0x06,
  scroll_down = 0x07,
  read_cell = 0x08,
  write_cell = 0x09,
  write_character = 0x0a,
  teletype = 0x0e,
  get_mode = 0x0f,
  fonts = 0x11,
  alternate_select = 0x12,
  write_string_function = 0x13,
  display_combination = 0x1a,
};

constexpr uint8_t text_mode = 0x03;  // 80 by 25, colours
constexpr uint8_t keep_screen = 0x80;
constexpr uint8_t last_colour_text_mode = 0x03;
constexpr uint8_t monochrome_text_mode = 0x07;
constexpr uint16_t usual_cursor_shape = 0x0607;
constexpr uint8_t character_height = 16;
constexpr uint16_t page_bytes = 0x1000;
constexpr uint16_t colour_port = 0x3d4;

constexpr uint8_t get_font = 0x30;         // AL of fonts
constexpr uint8_t get_ega_status = 0x10;   // BL of alternate_select
constexpr uint16_t ega_memory_256k = 0x3;  // BX: colours, 256 KiB
constexpr uint8_t is_supported = 0x1a;     // AL of display_combination
constexpr uint16_t vga_with_colours = 0x0008;

constexpr std::string_view no_pictures =
    "\r\nPictures are not shown here; for GRUB's menu as text: GRUB_TERMINAL=console\r\n";

constexpr uint8_t moves_cursor = 0x01;  // AL of write_string_function
constexpr uint8_t has_attributes = 0x02;

Screen::Place place_of(uint16_t word) { return {.row = high_byte(word), .column = low_byte(word)}; }

uint16_t word_of(Screen::Place place) { return uint16_t(place.row << 8 | place.column); }

bool is_text_mode(uint8_t mode) {
  return mode <= last_colour_text_mode || mode == monochrome_text_mode;
}

}  // namespace

void VideoServices::begin() {
  cursor_shape_ = usual_cursor_shape;
  has_said_so_ = false;
  (void)ram_.write(bios_data::video_mode, bytes_of(text_mode));
  (void)ram_.write(bios_data::video_columns, bytes_of(le16(Screen::columns)));
  (void)ram_.write(bios_data::video_page_bytes, bytes_of(le16(page_bytes)));
  (void)ram_.write(bios_data::video_port, bytes_of(le16(colour_port)));
  (void)ram_.write(bios_data::last_row, bytes_of(uint8_t(Screen::rows - 1)));
  (void)ram_.write(bios_data::character_height, bytes_of(le16(character_height)));
  keep_cursor();
}

void VideoServices::answer(BiosCall& call) {
  switch (call.ah()) {
    case set_mode_function:
      set_mode(call);
      break;
    case set_cursor_shape:
      cursor_shape_ = call.cx();
      break;
    case set_cursor:
      screen_.set_cursor(place_of(call.dx()));
      break;
    case get_cursor:
      tell_cursor(call);
      break;
    case scroll_up:
    case scroll_down:
      scroll(call);
      break;
    case read_cell: {
      const Screen::Cell cell = screen_.cell(screen_.cursor());
      set_word(call.eax, uint16_t(cell.attribute << 8 | cell.character));
      break;
    }
    case write_cell:
      screen_.put({.character = call.al(), .attribute = low_byte(call.ebx)}, call.cx());
      break;
    case write_character:
      screen_.put({.character = call.al(), .attribute = screen_.cell(screen_.cursor()).attribute},
                  call.cx());
      break;
    case teletype:
      screen_.type(call.al());
      break;
    case get_mode:
      set_word(call.eax, uint16_t(Screen::columns << 8 | text_mode));
      set_high_byte(call.ebx, 0);
      break;
    case fonts:
      if (call.al() == get_font) tell_font(call);
      break;
    case alternate_select:
      if (low_byte(call.ebx) == get_ega_status) {
        set_word(call.ebx, ega_memory_256k);
        set_word(call.ecx, 0);
      }
      break;
    case write_string_function:
      write_string(call);
      break;
    case display_combination:
      if (call.al() == 0) {
        set_low_byte(call.eax, is_supported);
        set_word(call.ebx, vga_with_colours);
      }
      break;
    default:
      break;
  }
  keep_cursor();
  screen_.flush();
}

void VideoServices::set_mode(const BiosCall& call) {
  if (!is_text_mode(call.al() & uint8_t(~keep_screen))) return say_that_there_are_no_pictures();
  cursor_shape_ = usual_cursor_shape;
  if ((call.al() & keep_screen) == 0) screen_.clear();
}

// Most loaders draw without looking whether that works, and their user would see nothing at all.
void VideoServices::say_that_there_are_no_pictures() {
  if (has_said_so_) return;
  has_said_so_ = true;
  for (const char character : no_pictures) screen_.type(uint8_t(character));
}

void VideoServices::tell_cursor(BiosCall& call) const {
  set_word(call.eax, 0);
  set_word(call.ecx, cursor_shape_);
  set_word(call.edx, word_of(screen_.cursor()));
}

void VideoServices::scroll(const BiosCall& call) {
  const Screen::Window window{.first = place_of(call.cx()), .last = place_of(call.dx())};
  const uint8_t attribute = high_byte(call.ebx);
  if (call.ah() == scroll_up) {
    screen_.scroll_up(window, call.al(), attribute);
  } else {
    screen_.scroll_down(window, call.al(), attribute);
  }
}

// ES:BP: CX characters, with an attribute behind each where AL says so. Of a string that is not all
// RAM, nothing.
void VideoServices::write_string(const BiosCall& call) {
  const bool attributes = (call.al() & has_attributes) != 0;
  const size_t cell_bytes = attributes ? 2 : 1;
  const auto text =
      ram_.range(real_mode_address(call.es, call.bp()), size_t{call.cx()} * cell_bytes);
  const Screen::Place before = screen_.cursor();
  screen_.set_cursor(place_of(call.dx()));
  for (size_t i = 0; i < text.size(); i += cell_bytes)
    screen_.type(Screen::Cell{
        .character = std::to_integer<uint8_t>(text[i]),
        .attribute = attributes ? std::to_integer<uint8_t>(text[i + 1]) : low_byte(call.ebx)});
  if ((call.al() & moves_cursor) == 0) screen_.set_cursor(before);
}

// There is no font to read: nobody draws with it.
void VideoServices::tell_font(BiosCall& call) const {
  set_word(call.ecx, character_height);
  set_low_byte(call.edx, uint8_t(Screen::rows - 1));
  call.es = bios_segment;
  set_word(call.ebp, font_offset);
}

void VideoServices::keep_cursor() {
  (void)ram_.write(bios_data::cursor_positions, bytes_of(le16(word_of(screen_.cursor()))));
  (void)ram_.write(bios_data::cursor_shape, bytes_of(le16(cursor_shape_)));
}

}  // namespace vhdkit::hypervisor
