// Pictures as text: as much of SVG 1.1 as diagrams need.
#pragma once

#include <string>
#include <string_view>

namespace vhdkit::tools {

// Any bytes as XML has them between tags: control characters written out, as printable() does it,
// what is no UTF-8 replaced. Spec: XML 1.0, 2.2 "Characters", 2.4 "Character Data and Markup".
std::string xml_text(std::string_view bytes);

// One picture, drawn from back to front. Places and sizes are pixels, y downwards; texts may be any
// bytes.
class Svg {
 public:
  struct Box {
    double x;
    double y;
    double width;
    double height;
  };
  enum class Anchor : uint8_t { begin, middle, end };

  // title: shown by viewers, and first to who cannot see.
  Svg(double width, double height, std::string_view title);

  // tip: what a viewer shows of the box when it is pointed at; may be empty.
  void box(const Box& box, std::string_view colour, std::string_view tip);
  void frame(const Box& box);
  // y: of the line that the letters stand on.
  void text(double x, double y, std::string_view words, Anchor anchor = Anchor::begin);
  void heading(double x, double y, std::string_view words);

  // The whole file. Once.
  std::string finish();

 private:
  std::string text_;
};

}  // namespace vhdkit::tools
