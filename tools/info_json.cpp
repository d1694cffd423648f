#include "tools/info_json.h"

namespace vhdkit::tools {

InChain in_chain(image::Image& image, size_t depth) {
  const std::vector<image::ChainLink>& links = image.links();
  return {.link = links[depth],
          .layer = image.disk().layer(uint32_t(depth)),
          .parent = depth + 1 < links.size() ? &links[depth + 1] : nullptr};
}

std::string stored_parent_path(const disk::ParentReference& reference) {
  return reference.paths.empty() ? reference.name : reference.paths.front().path;
}

Json info_json(const InChain& shown) {
  const disk::Description description = shown.layer.describe();
  const std::string format(image::format_name(*shown.link.format));
  Json json = {{"virtual-size", shown.layer.geometry().size_bytes},
               {"filename", shown.link.path},
               {"format", format},
               {"actual-size", shown.link.allocated_bytes},
               {"dirty-flag", description.text("log-state") == "dirty"}};
  if (shown.layer.block_size_bytes() != 0) json["cluster-size"] = shown.layer.block_size_bytes();
  if (const disk::ParentReference* reference = shown.layer.parent()) {
    json["backing-filename"] = stored_parent_path(*reference);
    if (shown.parent != nullptr) json["full-backing-filename"] = shown.parent->path;
    if (!reference->format.empty()) json["backing-filename-format"] = reference->format;
  }
  if (!description.fields().empty())
    json["format-specific"] = {{"type", format}, {"data", to_json(description)}};
  return json;
}

Json chain_json(image::Image& image) {
  Json chain = Json::array();
  for (size_t depth = 0; depth < image.disk().layer_count(); ++depth)
    chain.push_back(info_json(in_chain(image, depth)));
  return chain;
}

}  // namespace vhdkit::tools
