// How a check names what it finds: one structure of the file, and the findings in it.
#pragma once

#include <string>

#include "disk/finding.h"

namespace vhdkit::disk {

// Adds the findings of one structure.
class Subject {
 public:
  // structure: the specification's noun, with its index. file_offset: where it lies, bytes.
  Subject(Findings& findings, std::string structure, uint64_t file_offset);

  // field_offset: bytes from the structure's beginning. The message follows the structure's name.
  void add(Severity severity, std::string code, std::string field, uint64_t field_offset,
           std::string value, const std::string& message);

 private:
  Findings& findings_;
  std::string structure_;
  uint64_t file_offset_;
};

// "0x200"
std::string hex(uint64_t value);

}  // namespace vhdkit::disk
