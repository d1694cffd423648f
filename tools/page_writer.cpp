#include "tools/page_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/text.h"

namespace vhdkit::tools {
namespace {

constexpr size_t page_width = 80;
constexpr size_t definition_column = 16;

template <class Visit>
void for_each_paragraph(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const size_t end = text.find("\n\n");
    visit(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
  }
}

// Text that roff shows as it is: no escape begins, no line is a request, dashes stay dashes.
std::string roff_text(std::string_view text) {
  std::string shown = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) {
    if (c == '\\') {
      shown += "\\(rs";
    } else if (c == '-') {
      shown += "\\-";
    } else {
      shown += c;
    }
  }
  return shown;
}

std::string upper(std::string_view text) {
  std::string shown(text);
  std::ranges::transform(shown, shown.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c; });
  return shown;
}

}  // namespace

void PlainWriter::heading(std::string_view title, int) {
  text_ += fmt::format("{}{}:\n", text_.empty() ? "" : "\n", title);
}

void PlainWriter::paragraphs(std::string_view text) {
  for_each_paragraph(text, [this](std::string_view paragraph) {
    const bool is_first = text_.empty() || text_.ends_with(":\n");  // below its heading
    text_ += (is_first ? "" : "\n") + wrapped(paragraph, page_width, 0) + "\n";
  });
}

void PlainWriter::definition(std::string_view term, std::string_view text) {
  text_ += fmt::format("  {}", term);
  const bool fits = term.size() + 4 <= definition_column;
  text_ += fits ? std::string(definition_column - 2 - term.size(), ' ')
                : "\n" + std::string(definition_column, ' ');
  text_ += wrapped(text, page_width, definition_column) + "\n";
}

void PlainWriter::example(std::string_view says, std::string_view command) {
  text_ += fmt::format("  # {}\n  {}\n", says, command);
}

RoffWriter::RoffWriter(std::string_view name, std::string_view summary) {
  text_ =
      fmt::format(".TH {} 1 \"\" \"vhdkit {}\" \"User Commands\"\n", upper(name), VHDKIT_VERSION);
  text_ += fmt::format(".SH NAME\n{} \\- {}\n", roff_text(name), roff_text(summary));
}

void RoffWriter::heading(std::string_view title, int level) {
  if (level == 1) text_ += fmt::format(".SH {}\n", roff_text(upper(title)));
  if (level == 2) text_ += fmt::format(".SS {}\n", roff_text(title));
  if (level == 3) text_ += fmt::format(".PP\n.B {}\n", roff_text(title));
}

void RoffWriter::paragraphs(std::string_view text) {
  for_each_paragraph(text, [this](std::string_view paragraph) {
    text_ += fmt::format(".PP\n{}\n", roff_text(paragraph));
  });
}

void RoffWriter::definition(std::string_view term, std::string_view text) {
  text_ += fmt::format(".TP\n.B {}\n{}\n", roff_text(term), roff_text(text));
}

void RoffWriter::example(std::string_view says, std::string_view command) {
  text_ +=
      fmt::format(".PP\n{}\n.PP\n.nf\n.RS\n{}\n.RE\n.fi\n", roff_text(says), roff_text(command));
}

}  // namespace vhdkit::tools
