#include "vhdx/vhdx_layer.h"

#include "vhdx/block_layer.h"
#include "vhdx/edit.h"
#include "vhdx/replayed_file.h"

namespace vhdkit::vhdx {
Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file, OpenOptions options) {
  if (options.writable) CO_TRY(co_await make_sound(*file));
  OpenedImage image;
  CO_TRY_LET(image.headers, co_await read_headers(*file));
  const FileHeader& header = image.headers.current;
  image.log_was_ignored = options.ignore_log && !header.log_is_empty();
  if (!options.ignore_log && !header.log_is_empty()) {
    CO_TRY_LET(file, co_await replay_in_memory(std::move(file), header));
  }
  CO_TRY_LET(image.regions, co_await read_region_table(*file, header));
  CO_TRY_LET(image.metadata, co_await read_metadata(*file, image.regions.metadata));
  CO_TRY_LET(ImageLayout layout,
             with_context(layout_of(header, image.regions, image.metadata, file->size_bytes()),
                          file->name()));
  auto layer = std::make_unique<BlockLayer>(std::move(file), std::move(image), std::move(layout));
  if (options.writable) CO_TRY(co_await layer->make_writable(options.keep_identity));
  co_return std::unique_ptr<disk::Layer>(std::move(layer));
}

}  // namespace vhdkit::vhdx
