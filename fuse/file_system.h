// The mounted folder: which files there are, which bytes they have, and what the kernel asks of
// them.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <string>

#include "async/task_group.h"
#include "fuse/buffer_pool.h"
#include "fuse/byte_disk.h"
#include "fuse/fuse_api.h"

namespace vhdkit::fuse {

// Who the files belong to and when they changed.
struct Ownership {
  uid_t uid;
  gid_t gid;
  mode_t umask;       // taken off rw-rw-rw-, and off rwxrwxrwx for the folder
  timespec modified;  // of the image's file
};

// Loop-bound: every request is answered on the loop's thread, many at once, in any order.
class FileSystem {
 public:
  // disk_size_bytes: for statfs. allocated_bytes: what the image's files take now; a disk's file
  // says that it takes as much, at most its length, so that others see that it has holes.
  FileSystem(const Ownership& ownership, uint64_t disk_size_bytes,
             std::function<uint64_t()> allocated_bytes);
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;

  // A file with the disk's bytes [disk_offset, disk_offset + length). The disk outlives the file
  // system. Returns the file's number, for open_count().
  size_t add_disk(std::string name, ByteDisk& disk, uint64_t disk_offset, uint64_t length);
  // A file that is a text and is only read.
  void add_text(std::string name, std::string text);
  const std::atomic<size_t>& open_count(size_t file) const { return files_[file].open_count; }

  // What libfuse calls; the user data of the session is the file system.
  static const fuse_lowlevel_ops& operations();

  BufferPool& buffers() { return buffers_; }
  // The bytes of the request that is looked at now. A write may keep them until it is answered:
  // then they are taken away from here, and whoever reads requests needs others.
  void lend(BufferPool::Buffer bytes) { request_ = std::move(bytes); }
  BufferPool::Buffer take_back() { return std::move(request_); }

  size_t requests_in_progress() const { return in_progress_; }
  // Awaitable: resumes when fewer than `count` requests are in progress. For one waiter.
  auto fewer_than(size_t count) {
    struct Awaiter {
      FileSystem& files;
      size_t count;
      bool await_ready() const noexcept { return files.in_progress_ < count; }
      void await_suspend(std::coroutine_handle<> waiter) const noexcept {
        files.waiter_ = waiter;
        files.waits_for_ = count;
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, count};
  }
  // Waits until every request that was taken is answered.
  Async<void> finish() { return tasks_.finish(); }

 private:
  struct Node {
    std::string name;
    ByteDisk* disk;  // null: a text
    uint64_t disk_offset;
    uint64_t length;
    std::string text;
    timespec modified;
    std::atomic<size_t> open_count = 0;  // read by other threads, too
  };
  struct Operations;

  Node* find(fuse_ino_t inode);
  struct stat attributes_of(fuse_ino_t inode) const;
  mode_t mode_of(const Node& node) const;
  void start(Async<void> task);
  Async<void> count(Async<void> task);

  void lookup(fuse_req_t request, const char* name);
  void get_attributes(fuse_req_t request, fuse_ino_t inode);
  void set_attributes(fuse_req_t request, fuse_ino_t inode, const struct stat& wanted, int which);
  void open(fuse_req_t request, fuse_ino_t inode, fuse_file_info& info);
  void release(fuse_req_t request, fuse_ino_t inode);
  void list(fuse_req_t request, size_t size, size_t first);
  void statistics(fuse_req_t request);
  Async<void> read(fuse_req_t request, const Node& node, uint64_t offset, size_t size);
  Async<void> write(fuse_req_t request, Node& node, uint64_t offset, BufferPool::Buffer owner,
                    std::span<const std::byte> bytes, Durability durability);
  Async<void> sync(fuse_req_t request, const Node& node);
  Async<void> allocate(fuse_req_t request, Node& node, int mode, uint64_t offset, uint64_t length);
  Async<void> seek(fuse_req_t request, const Node& node, uint64_t offset, bool data);

  BufferPool buffers_;
  Ownership ownership_;
  uint64_t disk_size_bytes_;
  std::function<uint64_t()> allocated_bytes_;
  std::deque<Node> files_;  // requests keep references while more are added
  BufferPool::Buffer request_;
  async::TaskGroup tasks_;
  size_t in_progress_ = 0;
  std::coroutine_handle<> waiter_;
  size_t waits_for_ = 0;
};

}  // namespace vhdkit::fuse
