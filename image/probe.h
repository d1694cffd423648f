// Which format a file has, by its content: first the head, then the tail.
#pragma once

#include <span>

#include "async/file.h"
#include "image/format.h"

namespace vhdkit::image {

struct Probed {
  Format format = Format::raw;
  bool gzip = false;  // the file is gzip: unpack it and probe what comes out
};

// A footer at the tail (512 or 511 bytes) makes a VHD, and so does its copy at the head where the
// tail is lost; a damaged one too, so that the error is about the footer. Everything that is
// nothing else is raw.
//
// Errors: invalid_argument where the head says one format and a valid footer of a fixed VHD at the
// tail another: a guest that writes a header into its first sector must not choose how its disk is
// read. io.
Async<Probed> probe(File& file);

// How many bytes at the head, and at the tail, decide; of a shorter file all do.
inline constexpr size_t probed_bytes = 512;
// The same for a file of this size with these ends. what: the file's name, for errors.
Result<Probed> probe_ends(std::span<const std::byte> head, std::span<const std::byte> tail,
                          uint64_t file_bytes, const std::string& name);

}  // namespace vhdkit::image
