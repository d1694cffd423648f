// Runs a fuzzer's function over the files of a folder: its corpus as a test, without libFuzzer.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

bool replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  if (file.bad() || !file.is_open()) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return false;
  }
  // Named before it runs: a crash leaves the name as the last line.
  std::fprintf(stderr, "%s: %zu bytes\n", path.c_str(), bytes.size());
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return true;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  size_t count = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry(arguments[1], error);
  for (const std::filesystem::directory_iterator end; entry != end; entry.increment(error)) {
    if (!replay(entry->path())) return 1;
    ++count;
  }
  std::fprintf(stderr, "%zu inputs\n", count);
  return error || count == 0 ? 1 : 0;
}
