// A folder for one test's files, removed at the end, also when the test fails.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace vhdkit::tests {

class TemporaryFolder {
 public:
  // In TMPDIR, else /tmp.
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vhdkit-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace vhdkit::tests
