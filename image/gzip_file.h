// What a gzip file holds, as a file.
#pragma once

#include <memory>

#include "async/file.h"

namespace vhdkit::image {

// Reads the whole compressed file once: to learn the size, to verify every member's CRC-32 and
// length, and to keep up to 256 places from which unpacking can begin again. Reading in order goes
// on where the last read ended; reading elsewhere begins at the place before it. Takes at most
// 32 MiB of memory, whatever comes out.
//
// The file has the compressed file's name, no descriptor and cannot be written. Its holes are the
// aligned pieces of 1 MiB that hold nothing but zeroes.
//
// Several members one after another are one content; zeroes behind the last one are padding.
// Errors: corrupt, with the offset in the compressed file (truncated, damaged, a wrong checksum,
// something else behind the last member); unsupported (more than 64 TiB + 1 MiB come out); io.
Async<std::unique_ptr<File>> open_gzip_file(std::unique_ptr<File> compressed);

}  // namespace vhdkit::image
