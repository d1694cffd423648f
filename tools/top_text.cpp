#include "tools/top_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "tools/histogram.h"
#include "tools/text.h"

namespace vhdkit::tools {
namespace {

using Columns = std::vector<Table::Column>;
using Row = std::vector<std::string>;
constexpr auto right = Table::Align::right;

// A runner's are few and short.
constexpr size_t max_causes = 16;
constexpr size_t max_cause_bytes = 32;

constexpr std::string_view unknown = "-";

std::string number_text(double value) {
  if (value == 0) return "0";
  if (value < 9.95) return fmt::format("{:.1f}", value);
  if (value < 1e6) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

std::string bytes_text(double value) {
  if (value < 1) return "0";
  return short_size_text(value < 0x1p63 ? uint64_t(value) : uint64_t{1} << 63);
}

std::string text_of(const Json& value) {
  return value.is_string() ? printable(value.get_ref<const std::string&>()) : std::string();
}

// One thing that is counted, at two moments.
class Counted {
 public:
  // before: null where there is nothing to compare with. keys: the counters; where one of them went
  // back, others cannot be believed either.
  Counted(const Json* before, const Json& now, double seconds,
          std::initializer_list<const char*> keys)
      : before_(before), now_(now), seconds_(seconds) {
    for (const char* const key : keys)
      if (!per_second(key)) before_ = nullptr;
  }

  std::string rate(const char* key) const { return text(key, number_text); }
  std::string byte_rate(const char* key) const { return text(key, bytes_text); }

  // Of what the histogram counted in between.
  std::optional<double> percentile(const char* key, int percent) const {
    if (before_ == nullptr) return std::nullopt;
    const auto added =
        Histogram::from_json(member(now_, key)).since(Histogram::from_json(member(*before_, key)));
    return added ? added->percentile(percent / 100.0) : std::nullopt;
  }
  std::string latency(const char* key, int percent) const {
    const auto value = percentile(key, percent);
    return value ? microseconds_text(*value) : std::string(unknown);
  }

  std::optional<double> per_second(const char* key) const {
    if (before_ == nullptr || seconds_ <= 0) return std::nullopt;
    const auto earlier = number_in(*before_, key);
    const auto later = number_in(now_, key);
    if (!earlier || !later || *later < *earlier) return std::nullopt;
    return double(*later - *earlier) / seconds_;
  }

 private:
  std::string text(const char* key, std::string (*shown)(double)) const {
    const auto rate = per_second(key);
    return rate ? shown(*rate) : std::string(unknown);
  }

  const Json* before_;
  const Json& now_;
  double seconds_;
};

// As long as two looks are compared.
struct Pair {
  const Look* before;
  const Look& now;
  double seconds;
  bool is_same_run;  // the guest was not switched on in between

  const Json& then() const {
    static const Json none;
    return before == nullptr ? none : before->counters;
  }
};

double uptime_of(const Look& look) {
  const Json& uptime = member(look.status, "uptime-seconds");
  return uptime.is_number() ? uptime.get<double>() : 0;
}

Pair pair_of(const Look* before, const Look& now) {
  Pair pair{.before = before, .now = now, .seconds = 0, .is_same_run = false};
  if (before == nullptr) return pair;
  pair.seconds = now.seconds - before->seconds;
  // What was switched on in between is up for less than that time.
  pair.is_same_run = uptime_of(now) >= uptime_of(*before) + pair.seconds / 2;
  return pair;
}

// The element of a list whose number is this one; null: there is none.
const Json* find_numbered(const Json& list, const char* key, uint64_t number) {
  if (!list.is_array()) return nullptr;
  for (const Json& one : list)
    if (number_in(one, key) == number) return &one;
  return nullptr;
}

const Json& element(const Json& list, size_t index) {
  static const Json none;
  return list.is_array() && index < list.size() ? list[index] : none;
}

// The file behind a unit; null: none that status knows.
const Json& file_of(const Look& look, size_t controller, uint64_t lun) {
  const auto is_there = [&](const Json& disk) {
    return number_in(disk, "controller") == controller && number_in(disk, "lun") == lun;
  };
  for (const Json& disk : member(look.status, "disks"))
    if (is_there(disk)) return member(disk, "filename");
  const Json& drive = member(look.status, "dvd-drive");
  static const Json none;
  return is_there(drive) ? member(drive, "filename") : none;
}

// --- lines ---

size_t character_count(std::string_view line) {
  return size_t(std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string_view cut(std::string_view line, size_t columns) {
  size_t end = 0;
  for (size_t count = 0; end < line.size(); ++end)
    if ((line[end] & 0xc0) != 0x80 && ++count > columns) break;
  return line.substr(0, end);
}

std::string table_text(const Columns& columns, const std::vector<Row>& rows, size_t count) {
  Table table(Columns(columns.begin(), columns.begin() + ptrdiff_t(count)));
  for (const Row& row : rows) table.add(Row(row.begin(), row.begin() + ptrdiff_t(count)));
  return table.text();
}

size_t width_of(std::string_view lines) {
  size_t widest = 0;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = lines.find('\n', begin);
    widest = std::max(widest, character_count(lines.substr(begin, end - begin)));
    begin = end + 1;
  }
  return widest;
}

std::string cut_lines(std::string_view lines, size_t columns) {
  std::string text;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    text += cut(lines.substr(begin, end - begin), columns);
    text += '\n';
    begin = end + 1;
  }
  return text;
}

// Without the columns, from the last one on, for which there is no room. A last column that stands
// left has text, and is cut.
std::string fitted(const Columns& columns, const std::vector<Row>& rows, size_t width) {
  size_t numbers = columns.size();
  if (columns.back().align == Table::Align::left) {
    const std::string without_text = table_text(columns, rows, numbers - 1);
    constexpr size_t least_text = 10;
    if (width_of(without_text) + least_text <= width)
      return cut_lines(table_text(columns, rows, numbers), width);
    --numbers;
  }
  for (; numbers > 1; --numbers)
    if (std::string text = table_text(columns, rows, numbers); width_of(text) <= width) return text;
  return cut_lines(table_text(columns, rows, 1), width);
}

// --- tables ---

std::string heading(const Pair& pair) {
  const Json& status = pair.now.status;
  std::string line = text_of(member(status, "state"));
  if (line.empty()) line = unknown;
  if (member(status, "uptime-seconds").is_number())
    line += fmt::format(", up for {:.0f} s", uptime_of(pair.now));
  if (const auto count = number_in(status, "processors"))
    line += ", " + count_text(*count, "processor");
  if (const auto bytes = number_in(status, "memory")) line += ", " + short_size_text(*bytes);
  if (pair.before != nullptr && !pair.is_same_run) line += ", switched on just now";
  return line;
}

std::string disks_text(const Pair& pair, size_t width) {
  const Columns columns = {{"Disk"},
                           {"Requests/s", right},
                           {"Read/s", right},
                           {"Written/s", right},
                           {"p50", right},
                           {"p95", right},
                           {"p99", right},
                           {"Errors/s", right},
                           {"Reads' p99", right},
                           {"Writes' p99", right},
                           {"Image"}};
  std::vector<Row> rows;
  size_t index = 0;
  for (const Json& controller : member(pair.now.counters, "controllers")) {
    const Json& units_before = member(element(member(pair.then(), "controllers"), index), "units");
    for (const Json& unit : member(controller, "units")) {
      const uint64_t lun = number_in(unit, "lun").value_or(0);
      const Json& file = file_of(pair.now, index, lun);
      const bool is_same = pair.before != nullptr && file_of(*pair.before, index, lun) == file;
      const Counted counted(is_same ? find_numbered(units_before, "lun", lun) : nullptr, unit,
                            pair.seconds, {"requests", "errors", "bytes-read", "bytes-written"});
      rows.push_back({fmt::format("{}:{}", index, lun), counted.rate("requests"),
                      counted.byte_rate("bytes-read"), counted.byte_rate("bytes-written"),
                      counted.latency("latency-us", 50), counted.latency("latency-us", 95),
                      counted.latency("latency-us", 99), counted.rate("errors"),
                      counted.latency("read-latency-us", 99),
                      counted.latency("write-latency-us", 99), text_of(file)});
    }
    ++index;
  }
  return rows.empty() ? "" : "\n" + fitted(columns, rows, width);
}

std::string channels_text(const Pair& pair, size_t width) {
  const Columns columns = {{"Channel"},          {"Packets/s", right}, {"Batch p95", right},
                           {"Signals/s", right}, {"Wakes/s", right},   {"Spurious/s", right},
                           {"Full/s", right}};
  std::vector<Row> rows;
  size_t index = 0;
  for (const Json& controller : member(pair.now.counters, "controllers")) {
    const Json& channels_before =
        member(element(member(pair.then(), "controllers"), index), "channels");
    for (const Json& channel : member(controller, "channels")) {
      if (member(channel, "open") != true) continue;
      const uint64_t number = number_in(channel, "index").value_or(0);
      const Counted counted(
          pair.is_same_run ? find_numbered(channels_before, "index", number) : nullptr, channel,
          pair.seconds, {"packets", "signals", "wakes", "spurious-wakes", "ring-full"});
      const auto batch = counted.percentile("batches", 95);
      rows.push_back({fmt::format("{}:{}", index, number), counted.rate("packets"),
                      batch ? number_text(*batch) : std::string(unknown), counted.rate("signals"),
                      counted.rate("wakes"), counted.rate("spurious-wakes"),
                      counted.rate("ring-full")});
    }
    ++index;
  }
  return rows.empty() ? "" : "\n" + fitted(columns, rows, width);
}

// Exits of one processor, or of all; first the sum of the causes.
Row exits_row(std::string name, const std::vector<std::string>& causes, const Json& before,
              const Json& now, double seconds) {
  const Counted counted(&before, now, seconds, {});
  Row row = {std::move(name), std::string(unknown)};
  double sum = 0;
  bool knows_all = !causes.empty();
  for (const std::string& cause : causes) {
    const auto rate = counted.per_second(cause.c_str());
    sum += rate.value_or(0);
    knows_all &= rate.has_value();
    row.push_back(rate ? number_text(*rate) : std::string(unknown));
  }
  if (knows_all) row[1] = number_text(sum);
  return row;
}

std::string processors_text(const Pair& pair, size_t width) {
  const Json& exits = member(pair.now.counters, "exits");
  if (!exits.is_object()) return "";
  std::vector<std::string> causes;
  for (const auto& [cause, count] : exits.items())
    if (causes.size() < max_causes && cause.size() <= max_cause_bytes) causes.push_back(cause);
  std::vector<std::string> titles;
  for (const std::string& cause : causes) titles.push_back(printable(cause));
  Columns columns = {{"Processor"}, {"Exits/s", right}};
  for (const std::string& title : titles) columns.push_back({title, right});

  std::vector<Row> rows;
  const Json& processors = member(pair.now.counters, "processors");
  for (size_t i = 0; processors.is_array() && i < processors.size(); ++i) {
    const Json& before = element(member(pair.then(), "processors"), i);
    rows.push_back(exits_row(std::to_string(i), causes, member(before, "exits"),
                             member(processors[i], "exits"), pair.seconds));
  }
  if (rows.size() != 1)
    rows.push_back(exits_row("all", causes, member(pair.then(), "exits"), exits, pair.seconds));
  return "\n" + fitted(columns, rows, width);
}

}  // namespace

std::string top_text(const Look* before, const Look& now, size_t columns) {
  const Pair pair = pair_of(before, now);
  return cut_lines(heading(pair), columns) + disks_text(pair, columns) +
         channels_text(pair, columns) + processors_text(pair, columns);
}

}  // namespace vhdkit::tools
