// What an image says of itself, for programs: the fields of qemu-img info, and our own.
#pragma once

#include <string>

#include "image/image.h"
#include "tools/json.h"

namespace vhdkit::tools {

// One image of a chain.
struct InChain {
  const image::ChainLink& link;
  disk::Layer& layer;
  const image::ChainLink* parent;  // null where it has none, or none was looked for
};
// depth: below image.disk().layer_count(); the image outlives it.
InChain in_chain(image::Image& image, size_t depth);

// The parent's place as the image has it.
std::string stored_parent_path(const disk::ParentReference& reference);

Json info_json(const InChain& shown);
// An array of all of them, child first.
Json chain_json(image::Image& image);

}  // namespace vhdkit::tools
