// What a check of an image found: every structure that contradicts its specification, by name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vhdkit::disk {

enum class Severity {
  note,        // allowed, worth knowing
  warning,     // some program may refuse the image; its content is whole
  leak,        // space in the file that nothing uses
  corruption,  // content is lost or may be read wrong
};

struct Finding {
  Severity severity;
  std::string code;       // stable, for programs: "bat-entry-past-end"
  std::string structure;  // the specification's noun, with its index: "BAT entry 17"
  std::string field;      // "FileOffsetMB"; empty where the whole structure is meant
  uint64_t file_offset;   // of the field or structure, bytes
  std::string value;      // what stands there, as text: "0x300000"
  std::string message;    // a sentence: what is wrong, and what should stand there
};

// Collects findings; keeps at most a thousand of each code and counts the rest.
class Findings {
 public:
  static constexpr uint64_t kept_per_code = 1000;

  void add(Finding finding);
  const std::vector<Finding>& kept() const { return kept_; }
  uint64_t count(Severity severity) const { return counts_[size_t(severity)]; }
  uint64_t total() const;

 private:
  std::vector<Finding> kept_;
  std::vector<std::pair<std::string, uint64_t>> code_counts_;
  uint64_t counts_[4] = {};
};

// How an image uses its file, as `check` counts it.
struct BlockUsage {
  uint64_t total = 0;             // blocks of the disk
  uint64_t allocated = 0;         // with a place in the file
  uint64_t fragmented = 0;        // whose place is not behind the previous allocated block's
  uint64_t image_end_offset = 0;  // where the last structure in use ends, bytes
};

}  // namespace vhdkit::disk
