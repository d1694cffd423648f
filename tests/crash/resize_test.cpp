// What crashes can leave of an image whose disk is made larger or smaller: the old disk or the new
// one. Each seed is one image's story: it is written, resized, crashes now and then and goes on.
#include "libvhd/resize.h"

#include <doctest/doctest.h>

#include <array>
#include <random>
#include <vector>

#include "async/forwarding_file.h"
#include "async/sim_file.h"
#include "disk/finding.h"
#include "disk/layered_disk.h"
#include "disk/raw_layer.h"
#include "libvhd/check.h"
#include "libvhd/create.h"
#include "libvhd/repair.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "vhdx/check.h"
#include "vhdx/create.h"
#include "vhdx/resize.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::tests {
namespace {

constexpr uint64_t cell_bytes = 64 * KiB;  // has one value, or is zero
constexpr uint64_t cell_count = 256;       // of the disk's begin: what is looked at
constexpr uint64_t resizes_per_story = 5;
constexpr uint64_t seeds = 10;
constexpr uint64_t steps_per_look = 2;

enum class Kind : uint8_t { vhd, vhdx, fixed_vhdx, child_vhdx };
constexpr std::array kinds = {Kind::vhd, Kind::vhdx, Kind::fixed_vhdx, Kind::child_vhdx};

// What the guest sees.
struct Model {
  uint64_t size_bytes = 0;
  std::vector<uint8_t> cells = std::vector<uint8_t>(cell_count);

  void resize(uint64_t bytes) {
    size_bytes = bytes;
    for (uint64_t cell = bytes / cell_bytes; cell < cell_count; ++cell) cells[cell] = 0;
  }
};

class Story {
 public:
  Story(Kind kind, uint64_t seed)
      : kind_(kind), random_(seed), loop_(seed), looking_(*async::Loop::create({})), parent_("p") {
    model_.size_bytes = draw_size(false);
    if (kind_ == Kind::child_vhdx) make_parent();
    async::MemoryFile content("image");
    const auto writer = create(content);
    REQUIRE_OK(writer);
    REQUIRE_OK(looking_->run((*writer)->finish()));
    file_ = std::make_unique<async::SimFile>(loop_, std::move(content));
    loop_.set_observer([this] { observe(); });
  }

  void run() {
    for (uint64_t i = 0; i < resizes_per_story; ++i) {
      REQUIRE_OK(loop_.run(write_some()));
      resize_once();
    }
    CHECK((saw_old_ && saw_new_));
  }

 private:
  uint64_t draw(uint64_t count) { return random_() % count; }
  // Now and then so large that the BAT needs another place.
  uint64_t draw_size(bool may_be_large) {
    if (may_be_large && draw(4) == 0) return (150 + draw(100)) * GiB;
    return (1 + draw(cell_count - 1)) * cell_bytes;
  }

  void make_parent() {
    const uint64_t count = 1 + draw(cell_count);
    REQUIRE_OK(parent_.resize(count * cell_bytes));
    for (uint64_t cell = 0; cell < count; ++cell) {
      const std::vector<std::byte> bytes(cell_bytes, std::byte(200));
      parent_.store(cell * cell_bytes, bytes);
      if (cell * cell_bytes < model_.size_bytes) model_.cells[cell] = 200;
    }
  }

  Result<std::unique_ptr<disk::BulkWriter>> create(File& file) {
    if (kind_ == Kind::vhd) {
      const libvhd::CreateOptions options{.type = libvhd::DiskType::dynamic,
                                          .size_bytes = model_.size_bytes,
                                          .block_size_bytes = 512 * KiB,
                                          .unique_id = Guid::random(),
                                          .parent = std::nullopt};
      return libvhd::create(file, options);
    }
    constexpr std::array types = {vhdx::DiskType::dynamic, vhdx::DiskType::dynamic,
                                  vhdx::DiskType::fixed, vhdx::DiskType::differencing};
    vhdx::CreateOptions options{.type = types[size_t(kind_)],
                                .size_bytes = model_.size_bytes,
                                .block_size_bytes = 1 * MiB,
                                .disk_id = Guid::random(),
                                .data_write_guid = Guid::random(),
                                .parent = std::nullopt};
    if (kind_ == Kind::child_vhdx)
      options.parent = vhdx::ParentLink{
          .data_write_guid = Guid::random(), .relative_path = R"(.\p.vhdx)", .absolute_path = ""};
    return vhdx::create(file, options);
  }

  Async<std::unique_ptr<disk::LayeredDisk>> open(std::unique_ptr<File> file, bool writable) {
    std::vector<std::unique_ptr<disk::Layer>> layers(1);
    if (kind_ == Kind::vhd) {
      const libvhd::OpenOptions options{.writable = writable};
      CO_TRY_LET(layers[0], co_await libvhd::open_layer(std::move(file), options));
    } else {
      const vhdx::OpenOptions options{.writable = writable};
      CO_TRY_LET(layers[0], co_await vhdx::open_layer(std::move(file), options));
    }
    if (kind_ == Kind::child_vhdx)
      layers.push_back(
          std::make_unique<disk::RawLayer>(std::make_unique<async::MemoryFile>(parent_)));
    co_return std::make_unique<disk::LayeredDisk>(std::move(layers));
  }

  std::unique_ptr<File> view() { return std::make_unique<async::ForwardingFile>(*file_); }

  // A session that ends well.
  Async<void> write_some() {
    CO_TRY_LET(const auto disk, co_await open(view(), true));
    const uint64_t count = std::min(cell_count, model_.size_bytes / cell_bytes);
    for (uint64_t i = draw(12); i > 0; --i) {
      const uint64_t cell = draw(3) == 0 ? count - 1 : draw(count);
      const auto value = uint8_t(draw(4) == 0 ? 0 : 1 + draw(199));
      const std::vector<std::byte> bytes(cell_bytes, std::byte(value));
      const std::span<const std::byte> view(bytes);
      if (value == 0) {
        CO_TRY(co_await disk->zero(cell * cell_bytes, cell_bytes));
      } else {
        CO_TRY(co_await disk->write(cell * cell_bytes, view));
      }
      model_.cells[cell] = value;
    }
    co_return co_await disk->close();
  }

  void resize_once() {
    next_ = model_;
    next_->resize(draw_size(kind_ != Kind::fixed_vhdx));
    crashed_.reset();
    REQUIRE_OK(loop_.run(resize(next_->size_bytes)));
    const bool has_crashed = draw(3) == 0 && crashed_;
    if (has_crashed) {
      model_ = size_of(*crashed_) == next_->size_bytes ? *next_ : model_;
      file_ = std::make_unique<async::SimFile>(loop_, *crashed_);
    } else {
      model_ = *next_;
    }
    next_.reset();
    look_at(file_->content());
  }

  Async<void> resize(uint64_t size_bytes) {
    if (kind_ == Kind::vhd) {
      CO_TRY(co_await libvhd::repair_footers(*file_));
      co_return co_await libvhd::resize(*file_, size_bytes);
    }
    const vhdx::ResizeOptions options{.size_bytes = size_bytes,
                                      .parent_bytes = parent_.size_bytes()};
    co_return co_await vhdx::resize(view(), options);
  }

  void observe() {
    if (!next_ || draw(steps_per_look) != 0) return;
    const async::MemoryFile state = file_->crash_state(random_);
    if (draw(16) == 0 || !crashed_) crashed_.emplace(state);
    look_at(state);
  }

  uint64_t size_of(const async::MemoryFile& state) {
    const auto disk = looking_->run(open(std::make_unique<async::MemoryFile>(state), false));
    REQUIRE_OK(disk);
    return (*disk)->geometry().size_bytes;
  }

  void look_at(const async::MemoryFile& state) {
    const auto looked = looking_->run(judge(state));
    INFO((looked ? std::string() : looked.error().message));
    REQUIRE(looked.has_value());
  }

  Async<void> judge(const async::MemoryFile& state) {
    async::MemoryFile copy = state;
    disk::Findings findings;
    disk::BlockUsage usage;
    if (kind_ == Kind::vhd) {
      CO_TRY(co_await libvhd::check(copy, findings, usage));
    } else {
      CO_TRY(co_await vhdx::check(copy, findings, usage));
    }
    for (const disk::Finding& finding : findings.kept())
      if (finding.severity == disk::Severity::corruption)
        co_return fail(Errc::corrupt, "check: " + finding.message);
    CO_TRY_LET(const auto disk, co_await open(std::make_unique<async::MemoryFile>(state), false));
    const uint64_t size_bytes = disk->geometry().size_bytes;
    const bool is_new = next_ && size_bytes == next_->size_bytes;
    if (next_) (is_new ? saw_new_ : saw_old_) = true;
    if (!is_new && size_bytes != model_.size_bytes)
      co_return fail(Errc::corrupt, "the size is " + std::to_string(size_bytes));
    CO_TRY(co_await disk->audit());
    co_return co_await compare(*disk, is_new ? *next_ : model_);
  }

  // Of each cell the begin and the end; all of it now and then.
  Async<void> compare(disk::LayeredDisk& disk, const Model& model) {
    const uint64_t step_bytes = draw(16) == 0 ? 512 : cell_bytes - 512;
    std::vector<std::byte> bytes(512);
    const std::span<std::byte> buffer(bytes);
    const uint64_t end = std::min(cell_count * cell_bytes, model.size_bytes);
    for (uint64_t at = 0; at < end;
         at += at % cell_bytes + step_bytes < cell_bytes ? step_bytes : 512) {
      const uint64_t cell = at / cell_bytes;
      CO_TRY(co_await disk.read(at, buffer));
      for (const std::byte byte : bytes)
        if (byte != std::byte(model.cells[cell]))
          co_return fail(Errc::corrupt, "cell " + std::to_string(cell) + " of " +
                                            std::to_string(model.size_bytes / cell_bytes) +
                                            " has " + std::to_string(int(byte)) + ", not " +
                                            std::to_string(model.cells[cell]));
    }
    co_return Result<void>();
  }

  Kind kind_;
  std::mt19937_64 random_;
  async::SimLoop loop_;
  std::unique_ptr<async::Loop> looking_;
  async::MemoryFile parent_;
  Model model_;
  std::optional<Model> next_;  // while the size changes
  std::optional<async::MemoryFile> crashed_;
  std::unique_ptr<async::SimFile> file_;
  bool saw_old_ = false;
  bool saw_new_ = false;
};

TEST_CASE("after a crash a disk has its old or its new size, and its content") {
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    for (const Kind kind : kinds) {
      INFO("seed ", seed, ", kind ", int(kind));
      Story story(kind, seed);
      story.run();
    }
  }
}

}  // namespace
}  // namespace vhdkit::tests
