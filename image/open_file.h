// One image file, without its chain: from a path to a format's layer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "async/loop.h"
#include "disk/layer.h"
#include "image/format.h"

namespace vhdkit::image {

// An opened file whose format is known.
struct OpenedFile {
  std::unique_ptr<File> file;  // of the image's bytes: those that a gzip file unpacks to
  Format format = Format::raw;
  std::pair<uint64_t, uint64_t> identity;  // SystemFile::identity() of what lies on the disk
  uint64_t allocated_bytes = 0;            // SystemFile::allocated_bytes(), likewise
};

struct FileOptions {
  std::optional<Format> format;
  bool writable = false;
  bool force_share = false;  // no locks
  bool direct = false;       // past the page cache
  bool refuse_gzip = false;  // nobody named the file: it may unpack to anything, for as long
};

// Opens the file and finds its format, unless it is given. A gzip file is unpacked
// while it is read, unless it is said to be raw: then its bytes are taken as they lie there. A file
// that is raw for want of anything else, and is opened for writing, stays so (GuessedRawFile).
// While a holder of locks is waited for, the loop goes on (SystemFile::open_async()).
// Errors: not_found, permission, unsupported (no regular file or block device), busy, io; as
// probe() and open_gzip_file(); unsupported for gzip, for writing or where it is refused.
Async<OpenedFile> open_file(async::Loop& loop, const std::string& path, FileOptions options);

struct LayerOptions {
  bool ignore_log = false;  // VHDX
  bool writable = false;
  bool keep_identity = false;  // VHDX
};

// Errors: corrupt, unsupported (also qcow2 for writing), io; messages begin with the file's name.
Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file, Format format,
                                               LayerOptions options);

}  // namespace vhdkit::image
