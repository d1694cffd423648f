// Files that are read whole: kernels and their RAM disks.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "support/descriptor.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

// The bytes of a file as the machine's page cache has them: nothing is copied. As with a program
// that runs, whoever cuts the file off meanwhile ends the process (SIGBUS).
class FileContent {
 public:
  FileContent() = default;
  FileContent(FileContent&& other) noexcept;
  FileContent& operator=(FileContent&& other) noexcept;
  ~FileContent();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  friend class BootFile;
  explicit FileContent(std::span<std::byte> bytes) : bytes_(bytes) {}

  std::span<std::byte> bytes_;  // mapped; none: the file is empty
};

// A file that is open, to be read whole as often as one likes: always the one that was there first,
// whatever its path leads to by then, or is allowed to lead to. Thread-safe.
class BootFile {
 public:
  // Errors: those of the system, naming the file; unsupported: no file, or larger than 2 GiB.
  static Result<std::shared_ptr<const BootFile>> open(const std::string& path);

  const std::string& path() const { return path_; }
  // As it is now. Errors: as open().
  Result<FileContent> content() const;

 private:
  BootFile(std::string path, Descriptor file) : path_(std::move(path)), file_(std::move(file)) {}
  Result<size_t> length() const;

  std::string path_;
  Descriptor file_;
};

}  // namespace vhdkit::hypervisor
