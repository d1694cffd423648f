#include "fuse/mount_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

namespace vhdkit::fuse {
namespace {

// What fstab(5) and mount(8) say to themselves.
constexpr std::string_view for_others[] = {"defaults", "auto",   "noauto", "user",
                                           "nouser",   "users",  "owner",  "group",
                                           "_netdev",  "nofail", "async"};

struct Word {
  std::string name;
  std::string value;
  std::string text;  // as it was given
};

std::vector<Word> words_of(const std::string& text) {
  std::vector<Word> words;
  Word word;
  bool in_value = false;
  const auto end_word = [&] {
    if (!word.name.empty()) words.push_back(std::move(word));
    word = Word();
    in_value = false;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') {
      end_word();
      continue;
    }
    word.text += text[i];
    if (text[i] == '=' && !in_value) {
      in_value = true;
      continue;
    }
    if (text[i] == '\\' && i + 1 < text.size()) word.text += text[++i];
    (in_value ? word.value : word.name) += text[i];
  }
  end_word();
  return words;
}

template <class T>
Result<void> read_number(const Word& word, int base, std::optional<T>& target) {
  T value = 0;
  const char* const end = word.value.data() + word.value.size();
  const auto [rest, error] = std::from_chars(word.value.data(), end, value, base);
  if (error != std::errc() || rest != end)
    return fail(Errc::invalid_argument, fmt::format("-o {}: its value is {} number", word.text,
                                                    base == 8 ? "no octal" : "no"));
  target = value;
  return {};
}

bool is_for_others(const Word& word) {
  return word.name.starts_with("x-") ||
         std::ranges::find(for_others, word.name) != std::end(for_others);
}

// mount(8) always says ro or rw, and then its helper mount.fuse3 says dev and suid unless it is
// told the contrary. So rw was not meant where both are spoken of; people seldom do.
bool is_by_mount(const std::vector<Word>& words) {
  const auto speaks_of = [&words](std::string_view name) {
    return std::ranges::any_of(words, [name](const Word& word) {
      return word.name == name || word.name == "no" + std::string(name);
    });
  };
  return speaks_of("dev") && speaks_of("suid");
}

Result<void> take(const Word& word, const OwnOptions& own, MountOptions& options) {
  if (word.name == "ro" || word.name == "rw" || word.name == "writable") {
    options.read_only = word.name == "ro";
    return {};
  }
  if (word.name == "uid") return read_number(word, 10, options.uid);
  if (word.name == "gid") return read_number(word, 10, options.gid);
  if (word.name == "umask") return read_number(word, 8, options.umask);
  if (word.name == "nonempty") {
    options.allows_not_empty = true;
    return {};
  }
  if (word.name == "debug") {
    options.debug = true;
    return {};
  }
  if (const auto found = own.find(word.name); found != own.end())
    return with_context(found->second(word.value), "-o " + word.name);
  if (!is_for_others(word)) options.others.push_back(word.text);
  return {};
}

}  // namespace

Result<void> parse_mount_options(const std::string& text, const OwnOptions& own,
                                 MountOptions& options) {
  std::vector<Word> words = words_of(text);
  if (is_by_mount(words)) std::erase_if(words, [](const Word& word) { return word.name == "rw"; });
  for (const Word& word : words) TRY(take(word, own, options));
  return {};
}

}  // namespace vhdkit::fuse
