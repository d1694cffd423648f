#include "hypervisor/sandbox/user.h"

#include <grp.h>
#include <pwd.h>

#include <charconv>
#include <limits>
#include <optional>

namespace vhdkit::hypervisor {
namespace {

// The last number means "leave it" to the kernel.
std::optional<uint32_t> number_in(const std::string& text) {
  uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end || number == std::numeric_limits<uint32_t>::max())
    return std::nullopt;
  return number;
}

Result<gid_t> group_of(const std::string& text) {
  if (const auto number = number_in(text)) return *number;
  if (const group* const entry = getgrnam(text.c_str())) return entry->gr_gid;
  return fail(Errc::invalid_argument, "there is no group \"" + text + "\"");
}

}  // namespace

Result<User> parse_user(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const auto number = number_in(name);
  const passwd* const entry = number ? getpwuid(*number) : getpwnam(name.c_str());
  if (entry == nullptr && !number)
    return fail(Errc::invalid_argument, "there is no user \"" + name + "\"");
  User user{.user = number ? *number : entry->pw_uid, .group = 0};
  if (colon != std::string::npos) {
    TRY_LET(user.group, group_of(text.substr(colon + 1)));
    return user;
  }
  if (entry == nullptr)
    return fail(Errc::invalid_argument,
                "user " + name + " has no name and so no group: " + name + ":GID says which");
  user.group = entry->pw_gid;
  return user;
}

}  // namespace vhdkit::hypervisor
