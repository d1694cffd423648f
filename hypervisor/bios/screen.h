// A PC's screen of text, shown on a terminal at the other end of a serial line.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "hypervisor/devices/serial_line.h"

namespace vhdkit::hypervisor {

// 80 by 25 cells, and where the program's cursor is. The terminal (ECMA-48, UTF-8) is only told
// what changes, and its cursor moves by what is relative to where it is: so what a program just
// writes line by line comes as plain text, and terminals of any height show what was meant. Not
// thread-safe.
class Screen {
 public:
  static constexpr unsigned columns = 80;
  static constexpr unsigned rows = 25;
  static constexpr uint8_t usual_attribute = 0x07;  // grey on black: the terminal's own colours

  struct Cell {
    uint8_t character = ' ';
    uint8_t attribute = usual_attribute;

    friend bool operator==(const Cell&, const Cell&) = default;
  };
  struct Place {
    unsigned row = 0;
    unsigned column = 0;

    friend bool operator==(const Place&, const Place&) = default;
  };
  // Both corners belong to it.
  struct Window {
    Place first;
    Place last{.row = rows - 1, .column = columns - 1};
  };

  // The line outlives it. It is written to by flush() alone.
  explicit Screen(SerialHost& line) : line_(line) {}

  Place cursor() const { return cursor_; }
  // What is outside is brought in.
  void set_cursor(Place place);
  Cell cell(Place place) const { return cells_[place.row][place.column]; }

  // At the cursor, which stays: as many as fit before the screen's end.
  void put(Cell cell, unsigned count);
  // As a teleprinter: bell, backspace, line feed and carriage return do what they say, everything
  // else moves the cursor on and scrolls at the end. The cell's colours stay.
  void type(uint8_t character);
  void type(Cell cell);
  // Lines move up or down, and blank ones of that attribute come in. lines: 0, or more than there
  // are: all is blank. A window that is none does nothing.
  void scroll_up(Window window, unsigned lines, uint8_t attribute);
  void scroll_down(Window window, unsigned lines, uint8_t attribute);
  void clear();

  // The terminal's cursor goes where the program's is.
  void show_cursor();
  // The terminal has its own colours again.
  void reset_colours();
  void flush();

 private:
  enum class Show : uint8_t { always, changes };
  static constexpr unsigned unknown_column = columns;

  void set_cell(Place place, Cell cell, Show show);
  bool is_window(const Window& window) const;
  void scroll_all_by_line(uint8_t attribute);
  void advance();
  void feed_line();
  void move_terminal(Place place);
  void move_terminal_to_column(unsigned column);
  void set_terminal_colours(uint8_t attribute);

  SerialHost& line_;
  std::array<std::array<Cell, columns>, rows> cells_{};
  Place cursor_;
  Place terminal_;  // where its cursor is; unknown_column: behind the last one, or in it
  uint8_t terminal_attribute_ = usual_attribute;
  std::string output_;
};

}  // namespace vhdkit::hypervisor
