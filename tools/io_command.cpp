#include "tools/io_command.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <sstream>
#include <vector>

#include "support/mixed.h"
#include "tools/options.h"

namespace vhdkit::tools {
namespace {

Result<uint64_t> parse_number(const std::string& text, uint64_t max) {
  const bool is_hex = text.starts_with("0x");
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] =
      std::from_chars(text.data() + (is_hex ? 2 : 0), end, value, is_hex ? 16 : 10);
  if (error == std::errc() && rest == end && value <= max) return value;
  return fail(Errc::invalid_argument, fmt::format("\"{}\" is no number up to {}", text, max));
}

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

Result<IoCommand::Kind> parse_kind(const std::string& word) {
  using Kind = IoCommand::Kind;
  if (word == "read") return Kind::read;
  if (word == "write") return Kind::write;
  if (word == "zero" || word == "trim" || word == "discard") return Kind::zero;
  if (word == "flush") return Kind::flush;
  return fail(Errc::invalid_argument, "there are read, write, zero, trim and flush");
}

// Takes the options out of the words behind the command's name.
Result<void> take_options(std::vector<std::string>& words, IoCommand& command) {
  using Kind = IoCommand::Kind;
  const bool has_pattern = command.kind == Kind::read || command.kind == Kind::write;
  while (!words.empty() && words[0].starts_with('-')) {
    const std::string option = words[0];
    if (option == "-f" && command.kind == Kind::write) {
      command.is_durable = true;
      words.erase(words.begin());
      continue;
    }
    if (!has_pattern || (option != "-P" && option != "-S"))
      return fail(Errc::invalid_argument, fmt::format("it has no option {}", option));
    if (words.size() < 2)
      return fail(Errc::invalid_argument, fmt::format("{} lacks its value", option));
    const bool is_seeded = option == "-S";
    TRY_LET(const uint64_t value, parse_number(words[1], is_seeded ? UINT64_MAX : 255));
    command.pattern = IoPattern{.is_seeded = is_seeded, .value = value};
    words.erase(words.begin(), words.begin() + 2);
  }
  return {};
}

Result<IoCommand> parse_words(std::vector<std::string> words) {
  if (words.empty()) return fail(Errc::invalid_argument, "it is empty");
  IoCommand command;
  TRY_LET(command.kind, parse_kind(words[0]));
  words.erase(words.begin());
  TRY(take_options(words, command));
  if (command.kind == IoCommand::Kind::write && !command.pattern) command.pattern.emplace();
  const size_t wanted = command.kind == IoCommand::Kind::flush ? 0 : 2;
  if (words.size() != wanted)
    return fail(Errc::invalid_argument,
                wanted == 0 ? "it takes nothing" : "it takes an offset and a length");
  if (wanted == 0) return command;
  TRY_LET(command.disk_offset, parse_size(words[0]));
  TRY_LET(command.length, parse_size(words[1]));
  return command;
}

}  // namespace

void IoPattern::fill(uint64_t disk_offset, std::span<std::byte> bytes) const {
  if (!is_seeded) {
    std::memset(bytes.data(), int(value), bytes.size());
    return;
  }
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    const uint64_t word = mixed(mixed(value) ^ (disk_offset + at));
    std::memcpy(bytes.data() + at, &word, std::min(sizeof word, bytes.size() - at));
  }
}

Result<IoCommand> parse_io_command(std::string_view text) {
  return with_context(parse_words(words_of(text)), fmt::format("\"{}\"", text));
}

}  // namespace vhdkit::tools
