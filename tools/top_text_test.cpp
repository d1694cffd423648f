#include "tools/top_text.h"

#include <doctest/doctest.h>

#include <limits>
#include <sstream>

namespace vhdkit::tools {
namespace {

constexpr size_t any_width = std::numeric_limits<size_t>::max();

Json parsed(const char* json) { return Json::parse(json, nullptr, false); }

const Look first = {
    .seconds = 100,
    .status = parsed(R"({"state": "running", "uptime-seconds": 10.5, "processors": 2,
        "memory": 67108864, "disks": [
        {"disk": 0, "controller": 0, "lun": 0, "filename": "/vm/a.vhdx"},
        {"disk": 2, "controller": 0, "lun": 2, "filename": "/vm/b.vhdx"}]})"),
    .counters = parsed(R"({"exits": {"port": 100, "hypercall": 50},
        "processors": [{"exits": {"port": 60, "hypercall": 50}},
                       {"exits": {"port": 40, "hypercall": 0}}],
        "controllers": [{"channels": [{"index": 0, "open": true, "packets": 10, "signals": 5,
            "wakes": 5, "spurious-wakes": 1, "ring-full": 0,
            "batches": [{"below": 2, "count": 10}]}],
          "units": [{"lun": 0, "requests": 10, "errors": 0, "bytes-read": 4096,
            "bytes-written": 0, "latency-us": [{"below": 64, "count": 10}],
            "read-latency-us": [{"below": 64, "count": 10}], "write-latency-us": []},
            {"lun": 2, "requests": 1, "errors": 0, "bytes-read": 0, "bytes-written": 0,
            "latency-us": []}]}]})")};

// Two seconds later: 200 requests more, half of them reads of 64 to 127 us, half writes of 1024
// to 2047 us.
const Look second = {
    .seconds = 102,
    .status = parsed(R"({"state": "running", "uptime-seconds": 12.5, "processors": 2,
        "memory": 67108864, "disks": [
        {"disk": 0, "controller": 0, "lun": 0, "filename": "/vm/a.vhdx"},
        {"disk": 2, "controller": 0, "lun": 2, "filename": "/vm/b.vhdx"}]})"),
    .counters = parsed(R"({"exits": {"port": 160, "hypercall": 55},
        "processors": [{"exits": {"port": 100, "hypercall": 55}},
                       {"exits": {"port": 60, "hypercall": 0}}],
        "controllers": [{"channels": [{"index": 0, "open": true, "packets": 210, "signals": 25,
            "wakes": 5, "spurious-wakes": 1, "ring-full": 0,
            "batches": [{"below": 2, "count": 10}, {"below": 16, "count": 25}]}],
          "units": [{"lun": 0, "requests": 210, "errors": 3, "bytes-read": 413696,
            "bytes-written": 2097152, "latency-us": [{"below": 64, "count": 10},
              {"below": 128, "count": 100}, {"below": 2048, "count": 100}],
            "read-latency-us": [{"below": 64, "count": 10}, {"below": 128, "count": 100}],
            "write-latency-us": [{"below": 2048, "count": 100}]},
            {"lun": 2, "requests": 1, "errors": 0, "bytes-read": 0, "bytes-written": 0,
            "latency-us": []}]}]})")};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The first line that begins so, with single blanks.
std::string line_of(const std::string& text, const std::string& name) {
  for (const std::string& line : lines_of(text)) {
    std::istringstream words(line);
    std::string squeezed;
    for (std::string word; words >> word;) squeezed += (squeezed.empty() ? "" : " ") + word;
    if (squeezed.starts_with(name + " ")) return squeezed;
  }
  return "";
}

TEST_CASE("rates are those between two looks") {
  const std::string text = top_text(&first, second, any_width);
  CHECK(lines_of(text).front() == "running, up for 12 s, 2 processors, 64 MiB");
  CHECK(line_of(text, "Disk") ==
        "Disk Requests/s Read/s Written/s p50 p95 p99 Errors/s Reads' p99 Writes' p99 Image");
  CHECK(line_of(text, "0:0") ==
        "0:0 100 200 KiB 1 MiB 128 us 1.95 ms 2.03 ms 1.5 127 us 2.04 ms /vm/a.vhdx");
  CHECK(line_of(text, "0:2") == "0:2 0 0 0 - - - 0 - - /vm/b.vhdx");
  CHECK(text.find("Channel  Packets/s  Batch p95  Signals/s") != std::string::npos);
  CHECK(text.find("0:0            100         16         10        0") != std::string::npos);
  CHECK(line_of(text, "Processor") == "Processor Exits/s port hypercall");
  CHECK(line_of(text, "0") == "0 22 20 2.5");
  CHECK(line_of(text, "1") == "1 10 10 0");
  CHECK(line_of(text, "all") == "all 32 30 2.5");
}

TEST_CASE("without an earlier look there are no rates") {
  const std::string text = top_text(nullptr, first, any_width);
  CHECK(line_of(text, "0:0") == "0:0 - - - - - - - - - /vm/a.vhdx");
  CHECK(line_of(text, "all") == "all - - -");
  // Nor where no time passed.
  CHECK(line_of(top_text(&first, first, any_width), "0:0") == "0:0 - - - - - - - - - /vm/a.vhdx");
}

TEST_CASE("a disk that came, went, or was exchanged is not compared with another") {
  Look exchanged = second;
  exchanged.status["disks"][0]["filename"] = "/vm/c.vhdx";
  CHECK(line_of(top_text(&first, exchanged, any_width), "0:0") ==
        "0:0 - - - - - - - - - /vm/c.vhdx");

  Look came = second;
  came.counters["controllers"][0]["units"][1]["lun"] = 7U;
  const std::string text = top_text(&first, came, any_width);
  CHECK(line_of(text, "0:7") == "0:7 - - - - - - - - -");
  CHECK(line_of(text, "0:2").empty());

  Look went_back = second;
  went_back.counters["controllers"][0]["units"][0]["bytes-read"] = 5U;
  CHECK(line_of(top_text(&first, went_back, any_width), "0:0") ==
        "0:0 - - - - - - - - - /vm/a.vhdx");
}

TEST_CASE("channels of a guest that was switched on in between are not compared") {
  Look restarted = second;
  restarted.status["uptime-seconds"] = 1.5;
  const std::string text = top_text(&first, restarted, any_width);
  CHECK(lines_of(text).front() ==
        "running, up for 2 s, 2 processors, 64 MiB, switched on just now");
  CHECK(text.find("0:0              -          -          -") != std::string::npos);
  // Disks and exits are counted over all of its runs.
  CHECK(line_of(text, "all") == "all 32 30 2.5");

  Look closed = second;
  closed.counters["controllers"][0]["channels"][0] = {{"index", 0}, {"open", false}};
  CHECK(top_text(&first, closed, any_width).find("Channel") == std::string::npos);
}

TEST_CASE("narrow lines leave columns out rather than show parts of numbers") {
  for (size_t width = 1; width < 130; ++width) {
    CAPTURE(width);
    for (const std::string& line : lines_of(top_text(&first, second, width)))
      CHECK(line.size() <= width);
  }
  const std::string text = top_text(&first, second, 45);
  CHECK(line_of(text, "Disk") == "Disk Requests/s Read/s Written/s p50");
  CHECK(line_of(text, "0:0") == "0:0 100 200 KiB 1 MiB 128 us");
}

TEST_CASE("what others say steers no terminal") {
  Look hostile = second;
  hostile.status["state"] = "\x1b[2J";
  hostile.status["disks"][0]["filename"] = "/vm/\x1b]0;x\x07\n.vhdx";
  hostile.counters["exits"] = {{"po\x1brt", 3}, {std::string(1000, 'x'), 4}};
  const std::string text = top_text(&first, hostile, any_width);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\x07') == std::string::npos);
  CHECK(text.find("xxx") == std::string::npos);
  CHECK(text.find("po\\x1brt") != std::string::npos);
}

TEST_CASE("odd answers harm nobody") {
  for (const char* const json :
       {"null", "3", "[]", "{}", R"({"controllers": 3, "exits": 4, "processors": 5})",
        R"({"controllers": [1, {"units": [2, {"lun": "x"}], "channels": [3, {"open": true}]}]})",
        R"({"exits": {"a": "b"}, "processors": [1, {}, {"exits": 3}]})",
        R"({"disks": [4], "dvd-drive": 5, "uptime-seconds": "x", "memory": -1})"}) {
    CAPTURE(json);
    const Look odd{.seconds = 101, .status = parsed(json), .counters = parsed(json)};
    CHECK_FALSE(top_text(&first, odd, 80).empty());
    CHECK_FALSE(top_text(&odd, second, 80).empty());
    CHECK_FALSE(top_text(&odd, odd, 80).empty());
  }
}

}  // namespace
}  // namespace vhdkit::tools
