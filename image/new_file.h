// A file that appears under its name only when it is whole.
#pragma once

#include <memory>
#include <string>

#include "async/file.h"

namespace vhdkit::image {

// Loop-bound; the loop outlives it. The bytes are written to ".NAME.vhdkit-XXXXXX" in the folder of
// the target; commit() gives them the target's name. Unless that happened, the destructor removes
// them, and whatever lay under the target's name is as it was. A file that will be replaced is
// locked until then, so that nobody goes on writing to what has no name any more.
class NewFile {
 public:
  // Makes the temporary file. A target that is a symbolic link, dangling or not, is made where the
  // link points. Of a replaced file its permissions are kept, and its owner, its group and its
  // extended attributes (access control lists, labels) as far as the system lets us; other names of
  // it (hard links) keep the old content. Errors: exists (and not replace); unsupported for
  // directories, devices and everything else that is no regular file; not_found (no such folder);
  // busy where another process has the replaced file open, as SystemFile::open() says, and what
  // that says where a file system has no locks; permission, also where the replaced file cannot be
  // read, so that nobody knows whether it is in use; read_only, no_space, io.
  static Result<std::unique_ptr<NewFile>> begin(async::Loop& loop, const std::string& path,
                                                bool replace);
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
                                                Target target);
  Result<void> open_folder(const std::string& target);
  Result<void> take_target(async::Loop& loop);
  Result<void> create_temporary(async::Loop& loop);
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
