#include "vhdx/check.h"

#include "vhdx/check_parts.h"
#include "vhdx/replayed_file.h"

namespace vhdkit::vhdx {
namespace {

ImageToCheck image_of(const RegionsToCheck& regions, const Metadata& metadata,
                      uint64_t file_bytes) {
  ImageToCheck image;
  image.layout.bat = {.disk_bytes = metadata.disk_size_bytes,
                      .block_bytes = metadata.block_size_bytes,
                      .logical_sector_bytes = metadata.logical_sector_bytes,
                      .has_parent = metadata.has_parent};
  image.layout.bat_offset = regions.bat->file_offset;
  image.layout.file_bytes = file_bytes;
  image.layout.structures = regions.structures;
  image.bat_bytes = regions.bat->length;
  image.is_fixed = metadata.is_fixed();
  return image;
}

// file: as it is after replay of its log.
Async<void> check_content(File& file, const FileHeader& header, disk::Findings& findings,
                          disk::BlockUsage& usage) {
  CO_TRY_LET(const RegionsToCheck regions, co_await check_regions(file, header, findings));
  if (!regions.metadata) co_return Result<void>();
  CO_TRY_LET(const std::optional<Metadata> metadata,
             co_await check_metadata(file, *regions.metadata, findings));
  if (!metadata || !regions.bat) co_return Result<void>();
  const ImageToCheck image = image_of(regions, *metadata, file.size_bytes());
  CO_TRY_LET(BlocksToCheck blocks, co_await check_blocks(file, image, findings, usage));
  check_space(image, blocks, findings, usage);
  co_return Result<void>();
}

}  // namespace

Async<void> check(File& file, disk::Findings& findings, disk::BlockUsage& usage) {
  CO_TRY_LET(const std::optional<FileHeader> header, co_await check_headers(file, findings));
  if (!header) co_return Result<void>();
  CO_TRY_LET(std::optional<ReplayPlan> plan, co_await check_log(file, *header, findings));
  if (!plan) co_return co_await check_content(file, *header, findings, usage);
  ReplayedFile replayed(file, std::move(*plan));
  co_return co_await check_content(replayed, *header, findings, usage);
}

}  // namespace vhdkit::vhdx
