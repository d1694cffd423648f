// qcow2: header, L1 and L2 tables, compressed clusters. The format has no checksums to repair.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "async/loop.h"
#include "async/memory_file.h"
#include "image/qcow2_layer.h"
#include "support/checked.h"

namespace vhdkit {
namespace {

// A small file may be a disk of many PiB: its ends are looked at, and this much of each.
constexpr size_t max_resolve_calls = 16;
constexpr size_t max_encoded_reads = 8;
constexpr uint64_t max_read_bytes = 64 * KiB;

Async<void> read_some(disk::Layer& layer, const disk::ExtentList& extents) {
  std::vector<std::byte> buffer(max_read_bytes);
  size_t read_count = 0;
  for (const disk::Extent& extent : extents) {
    if (extent.kind == disk::ExtentKind::data) {
      const uint64_t end = extent.file_offset + extent.length;
      if (end > layer.file().size_bytes()) std::abort();  // resolve() promised to check that
    }
    if (extent.kind != disk::ExtentKind::encoded || read_count++ == max_encoded_reads) continue;
    const auto bytes = std::span(buffer).first(std::min(extent.length, max_read_bytes));
    const auto read = co_await layer.read_encoded(extent, extent.disk_offset, bytes);
    if (!read && read.error().message.empty()) std::abort();
  }
  co_return Result<void>();
}

Async<void> resolve_from(disk::Layer& layer, uint64_t disk_offset) {
  disk::ExtentList extents;
  for (size_t i = 0; i < max_resolve_calls && disk_offset < layer.geometry().size_bytes; ++i) {
    extents.clear();
    const uint64_t left = layer.geometry().size_bytes - disk_offset;
    CO_TRY(co_await layer.resolve(disk_offset, left, extents));
    CO_TRY(co_await read_some(layer, extents));
    for (const disk::Extent& extent : extents) {
      if (extent.disk_offset != disk_offset) std::abort();  // they tile the range
      disk_offset += extent.length;
    }
  }
  co_return Result<void>();
}

Async<void> use(std::unique_ptr<File> file) {
  CO_TRY_LET(const auto layer, co_await image::open_qcow2_layer(std::move(file)));
  if (layer->describe().fields().empty()) std::abort();
  const uint64_t size = layer->geometry().size_bytes;
  const auto audited = co_await layer->audit();
  const auto from_start = co_await resolve_from(*layer, 0);
  if (audited && !from_start) std::abort();  // the audit looks at all that resolve() uses
  co_return co_await resolve_from(*layer, size - std::min(size, 1 * MiB));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto loop = std::move(*async::Loop::create());
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto used = loop->run(use(std::make_unique<async::MemoryFile>("fuzz", bytes)));
  if (!used && used.error().message.empty()) std::abort();
  return 0;
}

}  // namespace vhdkit
