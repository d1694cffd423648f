// The real images of VHDKIT_SAMPLES, unpacked.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "async/memory_file.h"

namespace vhdkit::tests {

// The sample as a file in memory; null, after saying so, where it is not there. packed_name ends in
// .gz or .bz2 and names a small file.
inline std::unique_ptr<async::MemoryFile> sample(const std::string& packed_name) {
  const char* folder = std::getenv("VHDKIT_SAMPLES");
  const std::string path = std::string(folder ? folder : "../shared/samples") + "/" + packed_name;
  if (!std::filesystem::exists(path)) {
    std::printf("skipped: %s: %s is not there\n", packed_name.c_str(), path.c_str());
    return nullptr;
  }
  const bool is_gzip = packed_name.ends_with(".gz");
  const std::string command = (is_gzip ? "gzip -dc '" : "bzip2 -dc '") + path + "'";
  const auto close = [](FILE* pipe) { pclose(pipe); };
  const std::unique_ptr<FILE, decltype(close)> pipe(popen(command.c_str(), "r"), close);
  auto file = std::make_unique<async::MemoryFile>(packed_name);
  std::vector<std::byte> buffer(1 << 16);
  while (const size_t length = std::fread(buffer.data(), 1, buffer.size(), pipe.get()))
    file->store(file->size_bytes(), std::span(buffer).first(length));
  if (file->size_bytes() == 0)
    std::printf("skipped: %s: cannot be unpacked\n", packed_name.c_str());
  return file->size_bytes() == 0 ? nullptr : std::move(file);
}

}  // namespace vhdkit::tests
