#include "tools/text.h"

#include <doctest/doctest.h>

#include "support/checked.h"
#include "tools/json.h"
#include "tools/page_writer.h"

namespace vhdkit::tools {
namespace {

TEST_CASE("amounts have three digits and their unit") {
  struct Case {
    uint64_t bytes;
    const char* text;
  };
  const Case cases[] = {
      {0, "0 bytes"},           {1, "1 byte"},          {1023, "1023 bytes"},
      {1024, "1 KiB"},          {1536, "1.5 KiB"},      {1000 * KiB, "1000 KiB"},
      {1023 * KiB, "1023 KiB"}, {10 * GiB, "10 GiB"},   {127 * GiB, "127 GiB"},
      {64 * TiB, "64 TiB"},     {UINT64_MAX, "16 EiB"},
  };
  for (const Case& test : cases) CHECK(short_size_text(test.bytes) == test.text);
  CHECK(size_text(512) == "512 bytes");
  CHECK(size_text(10 * GiB) == "10 GiB (10737418240 bytes)");
}

TEST_CASE("words from images cannot steer a terminal or break a line") {
  CHECK(printable("plain-name.vhdx") == "plain-name.vhdx");
  CHECK(printable("Gr\xc3\xb6\xc3\x9f"
                  "e \xe6\x97\xa5") ==
        "Gr\xc3\xb6\xc3\x9f"
        "e \xe6\x97\xa5");
  CHECK(printable("a\x1b[2Jb\nc\td\x7f") == "a\\x1b[2Jb\\x0ac\\x09d\\x7f");
  CHECK(printable("\xc2\x9b"
                  "31m \xc2\xa0") == "\\x9b31m \xc2\xa0");
  CHECK(printable("\xc2") == "\xc2");
}

TEST_CASE("words are filled into lines") {
  CHECK(wrapped("one two three", 80, 0) == "one two three");
  CHECK(wrapped("one two three", 8, 0) == "one two\nthree");
  CHECK(wrapped("one two three", 10, 3) == "one two\n   three");
  CHECK(wrapped("a-word-that-is-too-long b", 4, 0) == "a-word-that-is-too-long\nb");
  CHECK(wrapped("  spaces \n and lines ", 80, 0) == "spaces and lines");
  CHECK(wrapped("", 80, 0).empty());
}

TEST_CASE("a table's columns are as wide as their widest cell") {
  Table table(
      {{"Depth", Table::Align::right}, {"Format"}, {"Size", Table::Align::right}, {"Image"}});
  table.add({"0", "vhdx", "10 GiB",
             "gr\xc3\xb6\xc3\x9f"
             "er.vhdx"});
  table.add({"12", "raw", "1 KiB", "b"});
  CHECK(table.text() ==
        "Depth  Format    Size  Image\n"
        "    0  vhdx    10 GiB  gr\xc3\xb6\xc3\x9f"
        "er.vhdx\n"
        "   12  raw      1 KiB  b\n");
}

disk::Description example_description() {
  disk::Description inner;
  inner.add("key", std::string("W2ru"));
  disk::Description description;
  description.add("type", std::string("dynamic\x1b"));
  description.add("block-size", disk::Bytes{2 * MiB});
  description.add("table-offset", uint64_t{1536});
  description.add("temporary", false);
  description.add("saved-state", true);
  description.add("warnings", std::vector<std::string>{"one", "two"});
  description.add("locators", std::vector<disk::Description>{inner});
  return description;
}

TEST_CASE("a description as lines with all values in one column") {
  Listing listing;
  listing.add("image", "a.vhd");
  Listing specific;
  specific.add_fields(example_description());
  listing.add_section("format specific information", std::move(specific));
  CHECK(listing.text() ==
        "image: a.vhd\n"
        "format specific information:\n"
        "  type:         dynamic\\x1b\n"
        "  block size:   2 MiB (2097152 bytes)\n"
        "  table offset: 1536\n"
        "  temporary:    no\n"
        "  saved state:  yes\n"
        "  warnings:     one\n"
        "                two\n"
        "  locators 0:\n"
        "    key: W2ru\n");
}

TEST_CASE("a description as JSON has amounts as integers and keeps the order") {
  const Json json = to_json(example_description());
  CHECK(json.dump() ==
        R"({"type":"dynamic\u001b","block-size":2097152,"table-offset":1536,"temporary":false,)"
        R"("saved-state":true,"warnings":["one","two"],"locators":[{"key":"W2ru"}]})");
  CHECK(json_text({{"filename", "bad\xff"}}) == "{\n    \"filename\": \"bad\xef\xbf\xbd\"\n}\n");
}

TEST_CASE("roff takes no text for a request or an escape") {
  RoffWriter page("vhd", "is - a program");
  page.paragraphs(".hidden\n\n'too C:\\vm");
  page.definition("-o", "say \\fB");
  page.example("why", "vhd map 'C:\\x'");
  const std::string& text = page.text();
  CHECK(text.find(".SH NAME\nvhd \\- is \\- a program\n") != std::string::npos);
  CHECK(text.find("\n\\&.hidden\n") != std::string::npos);
  CHECK(text.find("\n\\&'too C:\\(rsvm\n") != std::string::npos);
  CHECK(text.find(".B \\-o\nsay \\(rsfB\n") != std::string::npos);
  CHECK(text.find("\nvhd map 'C:\\(rsx'\n") != std::string::npos);
}

}  // namespace
}  // namespace vhdkit::tools
