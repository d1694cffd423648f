#include "hypervisor/bios/screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "hypervisor/bios/code_page.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint8_t bell = 0x07;
constexpr uint8_t backspace = 0x08;
constexpr uint8_t line_feed = 0x0a;
constexpr uint8_t carriage_return = 0x0d;

// RBIL, table 00014 "character attribute": blue, green and red from the lowest bit on; ECMA-48
// counts red, green, blue.
constexpr std::array<unsigned, 8> terminal_colours = {0, 4, 2, 6, 1, 5, 3, 7};
constexpr uint8_t bright = 0x08;

}  // namespace

void Screen::set_cursor(Place place) {
  cursor_ = {.row = std::min(place.row, rows - 1), .column = std::min(place.column, columns - 1)};
}

void Screen::put(Cell cell, unsigned count) {
  const unsigned first = cursor_.row * columns + cursor_.column;
  const unsigned end = std::min(first + std::min(count, rows * columns), rows * columns);
  // A single one is text; many are usually blanks, of which most are there already.
  const Show show = count == 1 ? Show::always : Show::changes;
  for (unsigned i = first; i < end; ++i)
    set_cell({.row = i / columns, .column = i % columns}, cell, show);
}

void Screen::type(uint8_t character) {
  type(Cell{.character = character, .attribute = cell(cursor_).attribute});
}

void Screen::type(Cell cell) {
  switch (cell.character) {
    case bell:
      output_ += char(bell);
      return;
    case backspace:
      if (cursor_.column > 0) --cursor_.column;
      return;
    case carriage_return:
      cursor_.column = 0;
      return;
    case line_feed:
      feed_line();
      return show_cursor();
    default:
      set_cell(cursor_, cell, Show::always);
      return advance();
  }
}

void Screen::advance() {
  if (++cursor_.column < columns) return;
  cursor_.column = 0;
  feed_line();
}

void Screen::feed_line() {
  if (cursor_.row + 1 < rows) {
    ++cursor_.row;
  } else {
    scroll_all_by_line(usual_attribute);
  }
}

void Screen::set_cell(Place place, Cell cell, Show show) {
  Cell& old = cells_[place.row][place.column];
  if (show == Show::changes && old == cell) return;
  old = cell;
  move_terminal(place);
  set_terminal_colours(cell.attribute);
  output_ += utf8_of(cell.character);
  ++terminal_.column;
}

// --- scrolling ---

bool Screen::is_window(const Window& window) const {
  return window.first.row <= window.last.row && window.first.column <= window.last.column &&
         window.last.row < rows && window.last.column < columns;
}

// A terminal that is at its last line, or has room below, does the same by a line feed.
void Screen::scroll_all_by_line(uint8_t attribute) {
  move_terminal({.row = rows - 1, .column = 0});
  output_ += "\r\n";
  std::ranges::rotate(cells_, cells_.begin() + 1);
  cells_.back().fill({});
  for (unsigned column = 0; column < columns; ++column)
    set_cell({.row = rows - 1, .column = column}, {.character = ' ', .attribute = attribute},
             Show::changes);
}

void Screen::scroll_up(Window window, unsigned lines, uint8_t attribute) {
  window.last = {.row = std::min(window.last.row, rows - 1),
                 .column = std::min(window.last.column, columns - 1)};
  if (!is_window(window)) return;
  const bool is_all = window.first == Place{} && window.last == Window{}.last;
  if (is_all && lines == 1) return scroll_all_by_line(attribute);
  const unsigned height = window.last.row - window.first.row + 1;
  if (lines == 0 || lines > height) lines = height;
  const Cell blank{.character = ' ', .attribute = attribute};
  for (unsigned row = window.first.row; row <= window.last.row; ++row)
    for (unsigned column = window.first.column; column <= window.last.column; ++column)
      set_cell({.row = row, .column = column},
               row + lines <= window.last.row ? cells_[row + lines][column] : blank, Show::changes);
}

void Screen::scroll_down(Window window, unsigned lines, uint8_t attribute) {
  window.last = {.row = std::min(window.last.row, rows - 1),
                 .column = std::min(window.last.column, columns - 1)};
  if (!is_window(window)) return;
  const unsigned height = window.last.row - window.first.row + 1;
  if (lines == 0 || lines > height) lines = height;
  const Cell blank{.character = ' ', .attribute = attribute};
  for (unsigned row = window.last.row + 1; row-- > window.first.row;)
    for (unsigned column = window.first.column; column <= window.last.column; ++column)
      set_cell({.row = row, .column = column},
               row >= window.first.row + lines ? cells_[row - lines][column] : blank,
               Show::changes);
}

void Screen::clear() {
  scroll_up({}, 0, usual_attribute);
  cursor_ = {};
}

// --- the terminal ---

void Screen::show_cursor() { move_terminal(cursor_); }

void Screen::reset_colours() { set_terminal_colours(usual_attribute); }

void Screen::flush() {
  if (output_.empty()) return;
  line_.write(std::as_bytes(std::span(output_)));
  output_.clear();
}

void Screen::move_terminal(Place place) {
  if (place.row > terminal_.row) {
    // Line feeds, not "cursor down": that stops at the last line of a terminal.
    output_ += '\r';
    output_.append(place.row - terminal_.row, '\n');
    terminal_.column = 0;
  } else if (place.row < terminal_.row) {
    output_ += fmt::format("\x1b[{}A", terminal_.row - place.row);
  }
  terminal_.row = place.row;
  move_terminal_to_column(place.column);
}

void Screen::move_terminal_to_column(unsigned column) {
  if (column == terminal_.column) return;
  if (column > terminal_.column) {
    output_ += fmt::format("\x1b[{}C", column - terminal_.column);
  } else if (column + 1 == terminal_.column && terminal_.column != unknown_column) {
    output_ += '\b';
  } else {
    output_ += '\r';
    if (column > 0) output_ += fmt::format("\x1b[{}C", column);
  }
  terminal_.column = column;
}

void Screen::set_terminal_colours(uint8_t attribute) {
  if (attribute == terminal_attribute_) return;
  terminal_attribute_ = attribute;
  output_ += "\x1b[0";
  if (attribute != usual_attribute)
    output_ += fmt::format("{};3{};4{}", (attribute & bright) != 0 ? ";1" : "",
                           terminal_colours[attribute & 7], terminal_colours[attribute >> 4 & 7]);
  output_ += 'm';
}

}  // namespace vhdkit::hypervisor
