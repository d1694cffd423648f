#include "image/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "image/create.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

constexpr size_t guid_text_length = 36;

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return char(std::toupper(c)); });
  return text;
}

// The name without the GUID of an earlier checkpoint.
std::string without_guid(const std::string& stem) {
  if (stem.size() <= guid_text_length || stem[stem.size() - guid_text_length - 1] != '_')
    return stem;
  if (!Guid::parse(stem.substr(stem.size() - guid_text_length))) return stem;
  return stem.substr(0, stem.size() - guid_text_length - 1);
}

CreateOptions options_for(Image& image, const std::string& path) {
  disk::Layer& layer = image.disk().layer(0);
  CreateOptions options{.format = image.format(), .parent_path = path};
  options.block_size_bytes = layer.block_size_bytes();
  return options;
}

}  // namespace

std::string checkpoint_path(const std::string& path, Format format, const Guid& guid) {
  const fs::path old(path);
  const std::string end = format == Format::vhd ? ".avhd" : ".avhdx";
  const std::string name = without_guid(old.stem().string()) + "_" + upper(guid.to_string()) + end;
  return old.has_parent_path() ? (old.parent_path() / name).string() : name;
}

Async<std::string> snapshot(async::Loop& loop, const std::string& path,
                            const SnapshotOptions& options, const OpenOptions& open_options) {
  CO_TRY_LET(const auto image, co_await Image::open(loop, path, open_options));
  const CreateOptions create_options = options_for(*image, path);
  const std::string child = options.child_path.empty()
                                ? checkpoint_path(path, image->format(), Guid::random())
                                : options.child_path;
  CO_TRY(co_await create(loop, child, create_options, open_options, false));
  co_return child;
}

}  // namespace vhdkit::image
