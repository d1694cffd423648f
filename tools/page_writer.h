// Manual pages in two forms: plain text for --help, roff for man.
#pragma once

#include <string>
#include <string_view>

namespace vhdkit::tools {

class PageWriter {
 public:
  PageWriter() = default;
  PageWriter(const PageWriter&) = delete;
  PageWriter& operator=(const PageWriter&) = delete;
  virtual ~PageWriter() = default;

  // level: 1 for sections of the page, 2 for parts of them, 3 for parts of those.
  virtual void heading(std::string_view title, int level) = 0;
  // Several paragraphs where blank lines part them.
  virtual void paragraphs(std::string_view text) = 0;
  virtual void definition(std::string_view term, std::string_view text) = 0;
  virtual void example(std::string_view says, std::string_view command) = 0;

  const std::string& text() const { return text_; }

 protected:
  std::string text_;
};

class PlainWriter final : public PageWriter {
 public:
  void heading(std::string_view title, int level) override;
  void paragraphs(std::string_view text) override;
  void definition(std::string_view term, std::string_view text) override;
  void example(std::string_view says, std::string_view command) override;
};

class RoffWriter final : public PageWriter {
 public:
  // name: "vhd-convert".
  RoffWriter(std::string_view name, std::string_view summary);
  void heading(std::string_view title, int level) override;
  void paragraphs(std::string_view text) override;
  void definition(std::string_view term, std::string_view text) override;
  void example(std::string_view says, std::string_view command) override;
};

}  // namespace vhdkit::tools
