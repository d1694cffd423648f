// A file that appears under its name only when it is whole.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "async/file.h"

namespace vhdkit::image {

// Who may use a new file, at most; the umask takes more off it. Its owner writes it.
struct Permissions {
  mode_t mode = 0644;
  // A file of another group is for its owner only, unless this one and others may read it; and a
  // file with an access control list, by its folder's default, in any case.
  std::optional<gid_t> group;
};
// Of what shows the file at this path: nobody may read it who may not read that one. Where that one
// has an access control list it is for its owner only.
Permissions permissions_beside(const std::string& path);

// Loop-bound; the loop outlives it. The bytes are written to ".NAME.vhdkit-XXXXXX" in the folder of
// the target; commit() gives them the target's name. Unless that happened, the destructor removes
// them, and whatever lay under the target's name is as it was. A file that will be replaced is
// locked until then, so that nobody goes on writing to what has no name any more.
class NewFile {
 public:
  // Makes the temporary file, with these permissions from its first moment on. A target that is a
  // symbolic link, dangling or not, is made where the link points. Of a replaced file its
  // permissions are kept, and its owner, its group and its extended attributes (access control
  // lists, labels) as far as the system lets us; other names of it (hard links) keep the old
  // content. Errors: exists (and not replace); unsupported for directories, devices and everything
  // else that is no regular file; not_found (no such folder); busy where another process has the
  // replaced file open, as SystemFile::open() says, and what that says where a file system has no
  // locks; permission, also where the replaced file cannot be read, so that nobody knows whether it
  // is in use; read_only, no_space, io.
  static Result<std::unique_ptr<NewFile>> begin(async::Loop& loop, const std::string& path,
                                                bool replace, const Permissions& permissions = {});
  // For a file that is changed, but has to be made anew for that: it must be there, be writable,
  // and keep its owner and group. Errors: begin()'s; permission where they cannot be kept.
  static Result<std::unique_ptr<NewFile>> begin_successor(async::Loop& loop,
                                                          const std::string& path);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  // Its name() is the target's path as the user gave it.
  async::SystemFile& file() { return *file_; }

  // Flushes the file, renames it and makes the name durable. Without replace, a target that came
  // into being meanwhile is Errc::exists and stays. Once only.
  Async<void> commit();

 private:
  // What may lie under the target's name, and becomes of it.
  enum class Target { none, replaced, succeeded };

  NewFile(std::string path, Target target) : path_(std::move(path)), target_(target) {}
  static Result<std::unique_ptr<NewFile>> begin(async::Loop& loop, const std::string& path,
                                                Target target, const Permissions& permissions);
  Result<void> open_folder(const std::string& target);
  Result<void> take_target(async::Loop& loop);
  Result<void> create_temporary(async::Loop& loop, const Permissions& permissions);
  int open_temporary(mode_t mode);
  Result<void> take_over_attributes();
  Result<void> rename_to_target();

  std::string path_;  // as the user gave it
  Target target_;
  int folder_ = -1;
  std::string name_;                             // of the target, in its folder
  std::string temporary_name_;                   // empty: there is none to remove
  std::unique_ptr<async::SystemFile> replaced_;  // locked; null: there is none
  std::unique_ptr<async::SystemFile> file_;
};

}  // namespace vhdkit::image
