// Which format a file has, by its content: first the head, then the tail.
#pragma once

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

}  // namespace vhdkit::image
