#include "tools/latency_svg.h"

#include <doctest/doctest.h>

namespace vhdkit::tools {
namespace {

std::string svg_of(const char* counters) {
  return latency_svg(Json::parse(counters, nullptr, false));
}

bool has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}

TEST_CASE("bars are as high as their part of the highest") {
  const std::string svg = svg_of(R"({"controllers": [{"units": [
    {"lun": 3, "read-latency-us": [{"below": 128, "count": 40}, {"below": 256, "count": 10}],
     "write-latency-us": [{"below": 256, "count": 20}]}]}]})");
  CHECK(has(svg, ">controller 0, LUN 3</text>"));
  // Two columns of 384; the plot is 100 high and begins at 66.
  CHECK(has(svg,
            "<rect x=\"90\" y=\"66\" width=\"172.8\" height=\"100\" fill=\"#0072b2\">"
            "<title>reads: 40 from 64 us to 128 us</title>"));
  CHECK(has(svg,
            "<rect x=\"474\" y=\"141\" width=\"172.8\" height=\"25\" fill=\"#0072b2\">"
            "<title>reads: 10 from 128 us to 256 us</title>"));
  CHECK(has(svg,
            "<rect x=\"646.8\" y=\"116\" width=\"172.8\" height=\"50\" fill=\"#e69f00\">"
            "<title>writes: 20 from 128 us to 256 us</title>"));
  CHECK(has(svg, "reads: 50, p50 104 us, p95 224 us, p99 250 us"));
}

TEST_CASE("units share their columns") {
  const std::string svg = svg_of(R"({"controllers": [
    {"units": [{"lun": 0, "read-latency-us": [{"below": 2, "count": 1}]}]},
    {"units": [{"lun": 5, "write-latency-us": [{"below": 16, "count": 1}]}]}]})");
  CHECK(has(svg, ">controller 1, LUN 5</text>"));
  CHECK(has(svg, "<rect x=\"90\" y=\"66\" width=\"86.4\""));
  CHECK(has(svg, "writes: 1 from 8 us to 16 us"));
}

TEST_CASE("nothing that was counted, and what is none") {
  for (const char* const counters :
       {"3", "{}", R"({"controllers": 3})", R"({"controllers": [3, {"units": [null, 7]}]})",
        R"({"controllers": [{"units": [{"lun": 0, "read-latency-us": []}]}]})"}) {
    CAPTURE(counters);
    CHECK(has(svg_of(counters), "No disk was read or written."));
  }
}

}  // namespace
}  // namespace vhdkit::tools
