// Which format a file has, by its content: first the head, then the tail.
#pragma once

#include "async/file.h"
#include "image/format.h"

namespace vhdkit::image {

struct Probed {
  Format format = Format::raw;
  bool gzip = false;  // the content is gzip; format is then that of what it unpacks to
};

// A footer at the tail makes a fixed VHD, a valid copy at the head makes a dynamic one also where
// the tail is lost. Everything that is nothing else is raw. Errors: io.
Async<Probed> probe(File& file);

}  // namespace vhdkit::image
