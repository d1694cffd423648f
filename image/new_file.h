// A file that appears under its name only when it is whole.
#pragma once

#include <memory>
#include <string>

#include "async/file.h"

namespace vhdkit::image {

// Loop-bound; the loop outlives it. The bytes are written to ".NAME.vhdkit-XXXXXX" in the folder of
// the target; commit() gives them the target's name. Unless that happened, the destructor removes
// them, and whatever lay under the target's name is as it was.
class NewFile {
 public:
  // Makes the temporary file. A target that is a symbolic link, dangling or not, is made where the
  // link points. A replaced file's permissions are kept. Errors: exists (and not replace);
  // unsupported for directories, devices and everything else that is no regular file; not_found (no
  // such folder); permission, read_only, no_space, io.
  static Result<std::unique_ptr<NewFile>> begin(async::Loop& loop, const std::string& path,
                                                bool replace);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  // Its name() is the target's path as the user gave it.
  async::SystemFile& file() { return *file_; }

  // Flushes the file, renames it and makes the name durable. Without replace, a target that came
  // into being meanwhile is Errc::exists and stays. Once only.
  Async<void> commit();

 private:
  NewFile(std::string path, bool replace) : path_(std::move(path)), replace_(replace) {}
  Result<void> open_folder(const std::string& target);
  Result<void> refuse_unfit_target();
  Result<void> create_temporary(async::Loop& loop);
  Result<void> rename_to_target();

  std::string path_;  // as the user gave it
  bool replace_;
  int folder_ = -1;
  std::string name_;            // of the target, in its folder
  std::string temporary_name_;  // empty: there is none to remove
  unsigned replaced_mode_ = 0;  // permissions of the file that will be replaced; 0: none there
  std::unique_ptr<async::SystemFile> file_;
};

}  // namespace vhdkit::image
