// qcow2 images, versions 2 and 3, as a source.
#pragma once

#include <memory>

#include "disk/layer.h"

namespace vhdkit::image {

// The active L1 table is read; internal snapshots and refcounts are not. Compressed clusters are
// encoded extents. The backing file is parent(): one native path as the image has it, relative to
// the image's folder, and its format where the image says it. An image with the dirty bit opens:
// only its refcounts may be wrong.
//
// Errors: corrupt (a field of the header contradicts the specification or the file's size, the
// corrupt bit is set); unsupported, by name: version 1, encryption, an external data file, unknown
// incompatible features and compression types, a backing file that is no plain path, a size that is
// no multiple of 512 bytes; io.
// Spec: QEMU's docs/interop/qcow2.
Async<std::unique_ptr<disk::Layer>> open_qcow2_layer(std::unique_ptr<File> file);

}  // namespace vhdkit::image
