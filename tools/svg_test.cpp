#include "tools/svg.h"

#include <doctest/doctest.h>

namespace vhdkit::tools {
namespace {

TEST_CASE("any bytes become characters of XML") {
  CHECK(xml_text("plain-name.vhdx") == "plain-name.vhdx");
  CHECK(xml_text("<a href=\"x\">&amp;") == "&lt;a href=&quot;x&quot;&gt;&amp;amp;");
  CHECK(xml_text(std::string_view("a\0\x1b\nb", 5)) == "a\\x00\\x1b\\x0ab");
  CHECK(xml_text("gr\xc3\xb6\xc3\x9f"
                 "er") ==
        "gr\xc3\xb6\xc3\x9f"
        "er");
  // No UTF-8: a byte of Latin-1, a surrogate; and a character that XML does not have.
  CHECK(xml_text("\xf6") == "\xef\xbf\xbd");
  CHECK(xml_text("\xed\xa0\x80").find('\xed') == std::string::npos);
  CHECK(xml_text("\xef\xbf\xbf") == "\xef\xbf\xbd");
}

TEST_CASE("a picture has its size, its title, and what was drawn") {
  Svg svg(200, 100, "a < b");
  svg.box({.x = 1, .y = 2.5, .width = 3, .height = 4}, "#123456", "it's 5 > 4");
  svg.text(7, 8, "words", Svg::Anchor::end);
  const std::string text = svg.finish();
  CHECK(text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg "));
  CHECK(text.find("viewBox=\"0 0 200 100\"") != std::string::npos);
  CHECK(text.find("<title>a &lt; b</title>") != std::string::npos);
  CHECK(text.find("<rect x=\"1\" y=\"2.5\" width=\"3\" height=\"4\" fill=\"#123456\">"
                  "<title>it's 5 &gt; 4</title></rect>") != std::string::npos);
  CHECK(text.find("<text x=\"7\" y=\"8\" text-anchor=\"end\">words</text>") != std::string::npos);
  CHECK(text.ends_with("</svg>\n"));
}

}  // namespace
}  // namespace vhdkit::tools
