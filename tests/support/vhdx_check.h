// Damages an image for a test and says what a check finds.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "disk/subject.h"
#include "support/crc32c.h"
#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/check.h"

namespace vhdkit::tests {

struct Report {
  disk::Findings findings;
  disk::BlockUsage usage;

  // Severity, code without "vhdx-", and file offset: "warning header-reserved 0x20050", several
  // with commas between.
  std::string text() const {
    constexpr const char* severities[] = {"note", "warning", "leak", "corruption"};
    std::string text;
    for (const disk::Finding& finding : findings.kept()) {
      CHECK(finding.code.starts_with("vhdx-"));
      CHECK(finding.message.starts_with(finding.structure + ": "));
      text += text.empty() ? "" : ", ";
      text += std::string(severities[size_t(finding.severity)]) + " " + finding.code.substr(5) +
              " " + disk::hex(finding.file_offset);
    }
    return text;
  }

  // The messages, one a line.
  std::string messages() const {
    std::string text;
    for (const disk::Finding& finding : findings.kept()) text += finding.message + "\n";
    return text;
  }
};

inline Report checked(File& file) {
  Report report;
  REQUIRE_OK(await(vhdx::check(file, report.findings, report.usage)));
  return report;
}

// A file whose bytes a test changes one after the other.
class Damaged {
 public:
  explicit Damaged(std::unique_ptr<async::MemoryFile> file) : file_(std::move(file)) {}

  async::MemoryFile& file() { return *file_; }

  // Little-endian.
  Damaged& put8(uint64_t at, uint64_t value) { return put(at, bytes_of(le64(value)), 1); }
  Damaged& put16(uint64_t at, uint64_t value) { return put(at, bytes_of(le64(value)), 2); }
  Damaged& put32(uint64_t at, uint64_t value) { return put(at, bytes_of(le64(value)), 4); }
  Damaged& put64(uint64_t at, uint64_t value) { return put(at, bytes_of(le64(value)), 8); }
  Damaged& put(uint64_t file_offset, std::span<const std::byte> bytes) {
    file_->store(file_offset, bytes);
    return *this;
  }
  Damaged& copy(uint64_t from, uint64_t to, size_t length) { return put(to, fetch(from, length)); }
  Damaged& resize(uint64_t size_bytes) {
    REQUIRE_OK(file_->resize(size_bytes));
    return *this;
  }

  // Right checksums again, 4 bytes behind the structures' begin: of both headers, of both region
  // tables.
  Damaged& seal_headers() { return seal(64 * KiB, 4096).seal(128 * KiB, 4096); }
  Damaged& seal_tables() { return seal(192 * KiB, 64 * KiB).seal(256 * KiB, 64 * KiB); }

  std::vector<std::byte> fetch(uint64_t file_offset, size_t length) const {
    std::vector<std::byte> bytes(length);
    file_->fetch(file_offset, bytes);
    return bytes;
  }

 private:
  Damaged& put(uint64_t file_offset, std::span<const std::byte> bytes, size_t length) {
    return put(file_offset, bytes.first(length));
  }
  Damaged& seal(uint64_t file_offset, size_t length) {
    return put32(file_offset + 4, crc32c_without(fetch(file_offset, length), 4));
  }

  std::unique_ptr<async::MemoryFile> file_;
};

// Blocks 0 and 1 of 8, of 1 MiB, at 4 and 5 MiB, the end of the file. Header 2 is current, the log
// lies at 1 MiB, the metadata region at 2 MiB, the BAT region at 3 MiB.
inline VhdxImage clean_image() {
  VhdxImage image;
  image.entries = {{0, 4 * MiB | 6}, {1, 5 * MiB | 6}};
  image.file_bytes = 6 * MiB;
  return image;
}

struct Case {
  const char* findings;
  void (*damage)(Damaged& image);
};

// Each damage to an image that is clean without it.
inline void check_cases(const VhdxImage& image, std::span<const Case> cases) {
  {
    Damaged clean(image.build());
    CHECK(checked(clean.file()).text() == "");
  }
  for (const Case& test : cases) {
    Damaged damaged(image.build());
    test.damage(damaged);
    CHECK(checked(damaged.file()).text() == test.findings);
  }
}

}  // namespace vhdkit::tests
