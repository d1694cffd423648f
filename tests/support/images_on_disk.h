// Images in files, each made, written and read on a loop of its own.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "image/create.h"
#include "image/image.h"
#include "tests/support/await.h"

namespace vhdkit::tests {

inline constexpr uint64_t image_bytes = uint64_t{8} << 20;

inline async::Loop& images_loop() {
  static const std::unique_ptr<async::Loop> loop = std::move(*async::Loop::create());
  return *loop;
}

template <class T>
Result<T> run_on_images_loop(Async<T> task) {
  return images_loop().run(std::move(task));
}

inline void make_image(const std::string& path, image::Format format = image::Format::vhdx,
                       std::optional<std::string> parent = std::nullopt) {
  const image::CreateOptions options{.format = format,
                                     .size_bytes = parent ? 0 : image_bytes,
                                     .block_size_bytes = uint64_t{1} << 20,
                                     .parent_path = parent};
  const image::OpenOptions open;
  REQUIRE_OK(run_on_images_loop(image::create(images_loop(), path, options, open, false)));
}

inline Async<void> write_sectors(disk::Disk& disk, uint64_t disk_offset, int value) {
  const std::vector<std::byte> bytes(4096, std::byte(value));
  CO_TRY(co_await disk.write(disk_offset, std::span<const std::byte>(bytes)));
  co_return Result<void>();
}

// The first byte of 4 KiB that are all the same; -1 where they are not.
inline Async<int> read_sectors(disk::Disk& disk, uint64_t disk_offset) {
  std::vector<std::byte> bytes(4096);
  CO_TRY(co_await disk.read(disk_offset, std::span<std::byte>(bytes)));
  for (const std::byte byte : bytes)
    if (byte != bytes.front()) co_return -1;
  co_return int(bytes.front());
}

inline Async<void> open_and_write(std::string path, uint64_t disk_offset, int value) {
  const image::OpenOptions options{.writable = true};
  CO_TRY_LET(const auto image, co_await image::Image::open(images_loop(), path, options));
  CO_TRY(co_await write_sectors(image->disk(), disk_offset, value));
  co_return co_await image->disk().close();
}

inline Async<int> open_and_read(std::string path, uint64_t disk_offset) {
  const image::OpenOptions options;
  CO_TRY_LET(const auto image, co_await image::Image::open(images_loop(), path, options));
  co_return co_await read_sectors(image->disk(), disk_offset);
}

// What somebody finds there who opens the image.
inline int value_in(const std::string& path, uint64_t disk_offset) {
  const auto value = run_on_images_loop(open_and_read(path, disk_offset));
  REQUIRE_OK(value);
  return *value;
}

inline void write_to(const std::string& path, uint64_t disk_offset, int value) {
  REQUIRE_OK(run_on_images_loop(open_and_write(path, disk_offset, value)));
}

}  // namespace vhdkit::tests
