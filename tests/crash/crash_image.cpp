#include "tests/crash/crash_image.h"

#include <array>
#include <cassert>
#include <vector>

#include "async/loop.h"
#include "disk/finding.h"
#include "disk/raw_layer.h"
#include "vhdx/check.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::tests {
namespace {

constexpr uint64_t block_count = 5;

template <class T>
T pick(std::mt19937_64& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

vhdx::CreateOptions draw_options(std::mt19937_64& random) {
  using vhdx::DiskType;
  vhdx::CreateOptions options;
  options.type = pick(random, {DiskType::dynamic, DiskType::differencing, DiskType::fixed,
                               DiskType::differencing, DiskType::dynamic});
  options.block_size_bytes = pick<uint32_t>(random, {1 * MiB, 1 * MiB, 2 * MiB});
  options.logical_sector_bytes = pick<uint32_t>(random, {512, 4096});
  // The last block is not whole.
  options.size_bytes = block_count * options.block_size_bytes - 64 * KiB;
  options.disk_id = Guid::literal("89abcdef-0123-4567-89ab-cdef01234567");
  options.data_write_guid = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");
  if (options.type == DiskType::differencing)
    options.parent =
        vhdx::ParentLink{.data_write_guid = Guid::literal("fedcba98-7654-3210-fedc-ba9876543210"),
                         .relative_path = R"(.\base.vhdx)",
                         .absolute_path = ""};
  return options;
}

std::string kind_of(const vhdx::CreateOptions& options) {
  constexpr std::array types = {"fixed", "dynamic", "differencing"};
  return std::string("vhdx ") + types[size_t(options.type)] + ", blocks of " +
         std::to_string(options.block_size_bytes / MiB) + " MiB, sectors of " +
         std::to_string(options.logical_sector_bytes);
}

}  // namespace

CrashImage::CrashImage(std::mt19937_64& random)
    : options_(draw_options(random)),
      oracle_(options_.size_bytes / DiskOracle::sector_bytes),
      parent_("base.vhdx"),
      content_("image.vhdx") {
  kind_ = kind_of(options_);
  if (options_.type == vhdx::DiskType::differencing) make_parent(random);
  auto loop = *async::Loop::create({.engine = async::Engine::synchronous});
  const auto writer = vhdx::create(content_, options_);
  assert(writer.has_value());
  [[maybe_unused]] const auto finished = loop->run((*writer)->finish());
  assert(finished.has_value());
}

// Two thirds of its blocks have content.
void CrashImage::make_parent(std::mt19937_64& random) {
  [[maybe_unused]] const auto resized = parent_.resize(options_.size_bytes);
  assert(resized.has_value());
  std::vector<std::byte> bytes(64 * KiB);
  for (uint64_t at = 0; at < options_.size_bytes; at += bytes.size()) {
    if (random() % 3 == 0) continue;
    const uint64_t first = at / DiskOracle::sector_bytes;
    const uint64_t count = bytes.size() / DiskOracle::sector_bytes;
    const size_t change = oracle_.begin_write(first, count);
    oracle_.fill(change, first, bytes);
    parent_.store(at, bytes);
    oracle_.complete(change);
    oracle_.settle(first, bytes);
  }
}

Async<std::unique_ptr<disk::LayeredDisk>> CrashImage::open(std::unique_ptr<File> file,
                                                           bool writable) const {
  const vhdx::OpenOptions options{.ignore_log = false, .writable = writable};
  std::vector<std::unique_ptr<disk::Layer>> layers;
  CO_TRY_LET(auto layer, co_await vhdx::open_layer(std::move(file), options));
  layers.push_back(std::move(layer));
  if (options_.type == vhdx::DiskType::differencing)
    layers.push_back(
        std::make_unique<disk::RawLayer>(std::make_unique<async::MemoryFile>(parent_)));
  co_return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

Async<std::string> CrashImage::corruption(File& file) {
  disk::Findings findings;
  disk::BlockUsage usage;
  CO_TRY(co_await vhdx::check(file, findings, usage));
  for (const disk::Finding& finding : findings.kept())
    if (finding.severity == disk::Severity::corruption) co_return finding.message;
  co_return std::string();
}

}  // namespace vhdkit::tests
