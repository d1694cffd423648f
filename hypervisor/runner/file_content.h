// Files that are read whole: kernels and their RAM disks.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "support/result.h"

namespace vhdkit::hypervisor {

// The bytes of a file as the machine's page cache has them: nothing is copied. As with a program
// that runs, whoever cuts the file off meanwhile ends the process (SIGBUS).
class FileContent {
 public:
  // At most 2 GiB. Errors: those of the system, naming the file; unsupported: larger, or no file.
  static Result<FileContent> open(const std::string& path);

  FileContent() = default;
  FileContent(FileContent&& other) noexcept;
  FileContent& operator=(FileContent&& other) noexcept;
  ~FileContent();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit FileContent(std::span<std::byte> bytes) : bytes_(bytes) {}

  std::span<std::byte> bytes_;  // mapped; none: the file is empty
};

}  // namespace vhdkit::hypervisor
