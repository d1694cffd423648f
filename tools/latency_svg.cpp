#include "tools/latency_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tools/histogram.h"
#include "tools/svg.h"
#include "tools/text.h"

namespace vhdkit::tools {
namespace {

// More than a runner can have.
constexpr size_t max_units = 128;

constexpr double left = 90;
constexpr double top = 56;
constexpr double plot_width = 768;
constexpr double plot_height = 100;
constexpr double smallest_height = 0.6;  // of what is there, however little
constexpr double panel_step = plot_height + 70;
constexpr double picture_width = left + plot_width + 30;

struct Direction {
  const char* key;  // of the histogram, in a unit's counters
  std::string_view name;
  std::string_view colour;
};
constexpr Direction directions[] = {{"read-latency-us", "reads", "#0072b2"},
                                    {"write-latency-us", "writes", "#e69f00"}};

struct Unit {
  std::string name;
  std::array<Histogram, std::size(directions)> latencies;
};

std::vector<Unit> units_of(const Json& counters) {
  std::vector<Unit> units;
  size_t controller = 0;
  for (const Json& one : member(counters, "controllers")) {
    for (const Json& counted : member(one, "units")) {
      if (units.size() == max_units) return units;
      Unit unit{.name = fmt::format("controller {}, LUN {}", controller,
                                    number_in(counted, "lun").value_or(0)),
                .latencies = {}};
      for (size_t i = 0; i < std::size(directions); ++i)
        unit.latencies[i] = Histogram::from_json(member(counted, directions[i].key));
      units.push_back(std::move(unit));
    }
    ++controller;
  }
  return units;
}

// The entries that are drawn, of all units the same: from the first to the last that count
// something.
struct Columns {
  size_t first = Histogram::entry_count;
  size_t last = 0;

  bool empty() const { return first > last; }
  size_t count() const { return last - first + 1; }
  double width() const { return plot_width / double(count()); }
  double left_of(size_t entry) const { return left + double(entry - first) * width(); }
};

Columns columns_of(const std::vector<Unit>& units) {
  Columns columns;
  for (const Unit& unit : units) {
    for (const Histogram& latencies : unit.latencies) {
      for (size_t entry = 0; entry < Histogram::entry_count; ++entry) {
        if (latencies.count(entry) == 0) continue;
        columns.first = std::min(columns.first, entry);
        columns.last = std::max(columns.last, entry);
      }
    }
  }
  return columns;
}

double begin_of(size_t entry) { return entry == 0 ? 0 : std::ldexp(1, int(entry) - 1); }

std::string percentiles_text(const Histogram& latencies) {
  if (!latencies.percentile(0.5)) return "";
  std::string text;
  for (const int percent : {50, 95, 99})
    text += fmt::format(", p{} {}", percent,
                        microseconds_text(latencies.percentile(percent / 100.0).value_or(0)));
  return text;
}

void draw_names(Svg& svg, const Unit& unit, double y) {
  svg.text(left, y, unit.name);
  double x = left + 130;
  for (size_t i = 0; i < std::size(directions); ++i) {
    const std::string words = fmt::format("{}: {}{}", directions[i].name, unit.latencies[i].total(),
                                          percentiles_text(unit.latencies[i]));
    svg.box({.x = x, .y = y - 10, .width = 12, .height = 12}, directions[i].colour, "");
    svg.text(x + 18, y, words);
    x += 320;
  }
}

void draw_bars(Svg& svg, const Unit& unit, const Columns& columns, double y) {
  uint64_t most = 1;
  for (const Histogram& latencies : unit.latencies)
    for (size_t entry = 0; entry < Histogram::entry_count; ++entry)
      most = std::max(most, latencies.count(entry));
  const double bar = columns.width() * 0.45;
  for (size_t i = 0; i < std::size(directions); ++i) {
    for (size_t entry = columns.first; entry <= columns.last; ++entry) {
      const uint64_t count = unit.latencies[i].count(entry);
      if (count == 0) continue;
      const double height = std::max(smallest_height, plot_height * double(count) / double(most));
      svg.box({.x = columns.left_of(entry) + double(i) * bar,
               .y = y + plot_height - height,
               .width = bar,
               .height = height},
              directions[i].colour,
              fmt::format("{}: {} from {} to {}", directions[i].name, count,
                          microseconds_text(begin_of(entry)),
                          microseconds_text(std::ldexp(1, int(entry)))));
    }
  }
  svg.text(left - 6, y + 10, std::to_string(most), Svg::Anchor::end);
  svg.text(left - 6, y + plot_height, "0", Svg::Anchor::end);
}

// The time at which each column begins, as many as there is room for.
void draw_times(Svg& svg, const Columns& columns, double y) {
  const size_t step = size_t(std::ceil(64 / columns.width()));
  for (size_t entry = columns.first; entry <= columns.last; entry += step)
    svg.text(columns.left_of(entry), y, microseconds_text(begin_of(entry)));
}

}  // namespace

std::string latency_svg(const Json& counters) {
  const std::vector<Unit> units = units_of(counters);
  const Columns columns = columns_of(units);
  Svg svg(picture_width, top + panel_step * double(std::max<size_t>(units.size(), 1)),
          "how long the guest's requests took");
  svg.heading(left, 20, "How long the guest's requests took");
  if (columns.empty()) svg.text(left, 38, "No disk was read or written.");
  double y = top;
  for (const Unit& unit : units) {
    draw_names(svg, unit, y);
    svg.frame({.x = left, .y = y + 10, .width = plot_width, .height = plot_height});
    if (!columns.empty()) {
      draw_bars(svg, unit, columns, y + 10);
      draw_times(svg, columns, y + plot_height + 24);
    }
    y += panel_step;
  }
  return svg.finish();
}

}  // namespace vhdkit::tools
