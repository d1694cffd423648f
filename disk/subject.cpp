#include "disk/subject.h"

#include <fmt/format.h>

namespace vhdkit::disk {

Subject::Subject(Findings& findings, std::string structure, uint64_t file_offset)
    : findings_(findings), structure_(std::move(structure)), file_offset_(file_offset) {}

void Subject::add(Severity severity, std::string code, std::string field, uint64_t field_offset,
                  std::string value, const std::string& message) {
  findings_.add({.severity = severity,
                 .code = std::move(code),
                 .structure = structure_,
                 .field = std::move(field),
                 .file_offset = file_offset_ + field_offset,
                 .value = std::move(value),
                 .message = structure_ + ": " + message});
}

std::string hex(uint64_t value) { return fmt::format("{:#x}", value); }

}  // namespace vhdkit::disk
