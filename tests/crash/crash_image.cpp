#include "tests/crash/crash_image.h"

#include <array>
#include <cassert>
#include <vector>

#include "async/loop.h"
#include "disk/finding.h"
#include "disk/raw_layer.h"
#include "image/parent_search.h"
#include "libvhd/check.h"
#include "libvhd/create.h"
#include "libvhd/vhd_layer.h"
#include "vhdx/check.h"
#include "vhdx/create.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::tests {
namespace {

constexpr uint64_t block_count = 5;

template <class T>
T pick(std::mt19937_64& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

constexpr Guid disk_id = Guid::literal("89abcdef-0123-4567-89ab-cdef01234567");
constexpr Guid identity_of_base = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");
constexpr Guid identity_of_parent = Guid::literal("fedcba98-7654-3210-fedc-ba9876543210");

}  // namespace

CrashImage::Shape CrashImage::draw_shape(std::mt19937_64& random) {
  Shape shape{};
  shape.is_vhd = random() % 5 < 2;
  shape.type = pick(
      random, {Type::dynamic, Type::differencing, Type::fixed, Type::differencing, Type::dynamic});
  shape.block_bytes = shape.is_vhd ? pick<uint32_t>(random, {512 * KiB, 2 * MiB})
                                   : pick<uint32_t>(random, {1 * MiB, 1 * MiB, 2 * MiB});
  shape.sector_bytes = shape.is_vhd ? 512 : pick<uint32_t>(random, {512, 4096});
  // The last block is not whole.
  shape.size_bytes = block_count * shape.block_bytes - 64 * KiB;
  return shape;
}

std::string CrashImage::kind() const {
  constexpr std::array types = {"fixed", "dynamic", "differencing"};
  return std::string(shape_.is_vhd ? "vhd " : "vhdx ") + types[size_t(shape_.type)] +
         ", blocks of " + std::to_string(shape_.block_bytes / KiB) + " KiB, sectors of " +
         std::to_string(shape_.sector_bytes);
}

CrashImage::CrashImage(std::mt19937_64& random)
    : shape_(draw_shape(random)),
      oracle_(shape_.size_bytes / DiskOracle::sector_bytes),
      parent_("base"),
      content_("image") {
  if (shape_.type == Type::differencing) make_parent(random);
  auto loop = *async::Loop::create({.engine = async::Engine::synchronous});
  const auto writer = create(content_, shape_.type, identity_of_base, identity_of_parent);
  assert(writer.has_value());
  [[maybe_unused]] const auto finished = loop->run((*writer)->finish());
  assert(finished.has_value());
}

Result<std::unique_ptr<disk::BulkWriter>> CrashImage::create(File& file, Type type,
                                                             const Guid& identity,
                                                             const Guid& parent_identity) const {
  const bool has_parent = type == Type::differencing;
  if (shape_.is_vhd) {
    constexpr std::array types = {libvhd::DiskType::fixed, libvhd::DiskType::dynamic,
                                  libvhd::DiskType::differencing};
    libvhd::CreateOptions options{.type = types[size_t(type)],
                                  .size_bytes = shape_.size_bytes,
                                  .block_size_bytes = shape_.block_bytes,
                                  .unique_id = identity,
                                  .parent = std::nullopt};
    if (has_parent)
      options.parent = libvhd::ParentLink{.unique_id = parent_identity,
                                          .relative_path = R"(.\base.vhd)",
                                          .absolute_path = "",
                                          .name = "base"};
    return libvhd::create(file, options);
  }
  constexpr std::array types = {vhdx::DiskType::fixed, vhdx::DiskType::dynamic,
                                vhdx::DiskType::differencing};
  vhdx::CreateOptions options{.type = types[size_t(type)],
                              .size_bytes = shape_.size_bytes,
                              .block_size_bytes = shape_.block_bytes,
                              .logical_sector_bytes = shape_.sector_bytes,
                              .disk_id = disk_id,
                              .data_write_guid = identity,
                              .parent = std::nullopt};
  if (has_parent)
    options.parent = vhdx::ParentLink{
        .data_write_guid = parent_identity, .relative_path = R"(.\base.vhdx)", .absolute_path = ""};
  return vhdx::create(file, options);
}

Async<async::MemoryFile> CrashImage::new_child(std::unique_ptr<File> parent) const {
  CO_TRY_LET(const auto layer, co_await open_layer(std::move(parent), Access::read_only));
  async::MemoryFile child("child");
  const Guid parent_identity = layer->identity().value_or(Guid());
  CO_TRY_LET(const auto writer, create(child, Type::differencing, Guid::random(), parent_identity));
  CO_TRY(co_await writer->finish());
  co_return std::move(child);
}

// Two thirds of its blocks have content.
void CrashImage::make_parent(std::mt19937_64& random) {
  [[maybe_unused]] const auto resized = parent_.resize(shape_.size_bytes);
  assert(resized.has_value());
  std::vector<std::byte> bytes(64 * KiB);
  for (uint64_t at = 0; at < shape_.size_bytes; at += bytes.size()) {
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

Async<std::unique_ptr<disk::Layer>> CrashImage::open_layer(std::unique_ptr<File> file,
                                                           Access access) const {
  const bool writable = access != Access::read_only;
  if (shape_.is_vhd) {
    const libvhd::OpenOptions options{.writable = writable};
    co_return co_await libvhd::open_layer(std::move(file), options);
  }
  const vhdx::OpenOptions options{
      .ignore_log = false, .writable = writable, .keep_identity = access == Access::merge};
  co_return co_await vhdx::open_layer(std::move(file), options);
}

Async<std::unique_ptr<disk::LayeredDisk>> CrashImage::open(Files files, Access access) const {
  std::vector<std::unique_ptr<disk::Layer>> layers;
  for (std::unique_ptr<File>& file : files) {
    const Access its_access = layers.empty() ? access : Access::read_only;
    CO_TRY_LET(auto layer, co_await open_layer(std::move(file), its_access));
    if (!layers.empty() && !image::names(*layers.back()->parent(), layer->identity()))
      co_return fail(Errc::wrong_parent, "a child does not name its parent");
    layers.push_back(std::move(layer));
  }
  if (shape_.type == Type::differencing)
    layers.push_back(
        std::make_unique<disk::RawLayer>(std::make_unique<async::MemoryFile>(parent_)));
  co_return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

Async<std::string> CrashImage::corruption(File& file) const {
  disk::Findings findings;
  disk::BlockUsage usage;
  if (shape_.is_vhd) {
    CO_TRY(co_await libvhd::check(file, findings, usage));
  } else {
    CO_TRY(co_await vhdx::check(file, findings, usage));
  }
  for (const disk::Finding& finding : findings.kept())
    if (finding.severity == disk::Severity::corruption) co_return finding.message;
  co_return std::string();
}

}  // namespace vhdkit::tests
