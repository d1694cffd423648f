#include "tools/svg.h"

#include <fmt/format.h>

#include "tools/json.h"
#include "tools/text.h"

namespace vhdkit::tools {
namespace {

// U+FFFE and U+FFFF, which are characters in UTF-8 and none in XML.
void replace_noncharacters(std::string& text) {
  for (const std::string_view one : {"\xef\xbf\xbe", "\xef\xbf\xbf"})
    for (size_t at = 0; (at = text.find(one, at)) != std::string::npos;)
      text.replace(at, one.size(), "\xef\xbf\xbd");
}

std::string_view anchor_name(Svg::Anchor anchor) {
  switch (anchor) {
    case Svg::Anchor::begin:
      return "start";
    case Svg::Anchor::middle:
      return "middle";
    case Svg::Anchor::end:
      return "end";
  }
  __builtin_unreachable();
}

std::string places(const Svg::Box& box) {
  return fmt::format(R"(x="{:.6g}" y="{:.6g}" width="{:.6g}" height="{:.6g}")", box.x, box.y,
                     box.width, box.height);
}

}  // namespace

std::string xml_text(std::string_view bytes) {
  std::string valid = valid_utf8(printable(bytes));
  replace_noncharacters(valid);
  std::string text;
  for (const char letter : valid) {
    switch (letter) {
      case '&':
        text += "&amp;";
        break;
      case '<':
        text += "&lt;";
        break;
      case '>':
        text += "&gt;";
        break;
      case '"':
        text += "&quot;";
        break;
      default:
        text += letter;
    }
  }
  return text;
}

Svg::Svg(double width, double height, std::string_view title) {
  text_ = fmt::format(
      R"(<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{0:.6g}" height="{1:.6g}" )"
      R"(viewBox="0 0 {0:.6g} {1:.6g}" font-family="sans-serif" font-size="12">
<title>{2}</title>
)",
      width, height, xml_text(title));
  box({.x = 0, .y = 0, .width = width, .height = height}, "#ffffff", "");
}

void Svg::box(const Box& box, std::string_view colour, std::string_view tip) {
  text_ += fmt::format(R"(<rect {} fill="{}")", places(box), colour);
  text_ += tip.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", xml_text(tip));
}

void Svg::frame(const Box& box) {
  text_ += fmt::format("<rect {} fill=\"none\" stroke=\"#999999\" stroke-width=\"0.5\"/>\n",
                       places(box));
}

void Svg::text(double x, double y, std::string_view words, Anchor anchor) {
  text_ += fmt::format("<text x=\"{:.6g}\" y=\"{:.6g}\" text-anchor=\"{}\">{}</text>\n", x, y,
                       anchor_name(anchor), xml_text(words));
}

void Svg::heading(double x, double y, std::string_view words) {
  text_ += fmt::format("<text x=\"{:.6g}\" y=\"{:.6g}\" font-size=\"16\">{}</text>\n", x, y,
                       xml_text(words));
}

std::string Svg::finish() { return std::move(text_) + "</svg>\n"; }

}  // namespace vhdkit::tools
