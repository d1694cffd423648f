#include "support/result.h"

#include <cerrno>
#include <cstring>

namespace vhdkit {
namespace {

Errc code_of(int os_error) {
  switch (os_error) {
    case ENOENT:
    case ENOTDIR:
      return Errc::not_found;
    case EEXIST:
      return Errc::exists;
    case EACCES:
    case EPERM:
      return Errc::permission;
    case EROFS:
      return Errc::read_only;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Errc::no_space;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
      return Errc::busy;
    case EOPNOTSUPP:
    case ENOSYS:
      return Errc::unsupported;
    default:
      return Errc::io;
  }
}

}  // namespace

std::unexpected<Error> fail(Errc code, std::string message) {
  return std::unexpected(Error{code, 0, std::move(message)});
}

std::unexpected<Error> fail_errno(int os_error, std::string_view what) {
  return std::unexpected(
      Error{code_of(os_error), os_error, std::string(what) + ": " + std::strerror(os_error)});
}

Error with_context(Error error, std::string_view clause) {
  error.message.insert(0, std::string(clause) + ": ");
  return error;
}

}  // namespace vhdkit
