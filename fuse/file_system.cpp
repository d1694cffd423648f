#include "fuse/file_system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cassert>
#include <ctime>
#include <utility>

#include "fuse/report.h"
#include "support/checked.h"

namespace vhdkit::fuse {
namespace {

constexpr fuse_ino_t first_file_inode = FUSE_ROOT_ID + 1;
constexpr double names_stay_seconds = 86400;  // they do so as long as the mount
constexpr double attributes_stay_seconds = 1;
// A smaller write is copied out of the request, whose buffer then serves the next one.
constexpr size_t copied_write_bytes = 16 * KiB;
constexpr size_t page_bytes = 4096;

int errno_of(const Error& error) {
  if (error.os_error != 0) return error.os_error;
  switch (error.code) {
    case Errc::no_space:
      return ENOSPC;
    case Errc::read_only:
      return EROFS;
    case Errc::permission:
      return EACCES;
    case Errc::busy:
      return EBUSY;
    case Errc::unsupported:
      return EOPNOTSUPP;
    default:
      return EIO;
  }
}

// The caller learns a number, the log the reason.
void refuse(fuse_req_t request, const Error& error) {
  report(error.message);
  fuse_reply_err(request, errno_of(error));
}

void answer(fuse_req_t request, const Result<void>& done) {
  if (!done) return refuse(request, done.error());
  fuse_reply_err(request, 0);
}

timespec now() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

}  // namespace

FileSystem::FileSystem(const Ownership& ownership, uint64_t disk_size_bytes,
                       std::function<uint64_t()> allocated_bytes)
    : ownership_(ownership),
      disk_size_bytes_(disk_size_bytes),
      allocated_bytes_(std::move(allocated_bytes)) {}

size_t FileSystem::add_disk(std::string name, ByteDisk& disk, uint64_t disk_offset,
                            uint64_t length) {
  files_.emplace_back(std::move(name), &disk, disk_offset, length, "", ownership_.modified);
  return files_.size() - 1;
}

void FileSystem::add_text(std::string name, std::string text) {
  const uint64_t length = text.size();
  files_.emplace_back(std::move(name), nullptr, 0, length, std::move(text), ownership_.modified);
}

// --- what the files are ---

FileSystem::Node* FileSystem::find(fuse_ino_t inode) {
  const bool is_file = inode >= first_file_inode && inode - first_file_inode < files_.size();
  return is_file ? &files_[inode - first_file_inode] : nullptr;
}

mode_t FileSystem::mode_of(const Node& node) const {
  const bool is_writable = node.disk != nullptr && !node.disk->is_read_only();
  return S_IFREG | ((is_writable ? 0666 : 0444) & ~ownership_.umask);
}

struct stat FileSystem::attributes_of(fuse_ino_t inode) const {
  struct stat attributes = {};
  attributes.st_ino = inode;
  attributes.st_uid = ownership_.uid;
  attributes.st_gid = ownership_.gid;
  attributes.st_nlink = 1;
  attributes.st_blksize = page_bytes;
  attributes.st_mtim = ownership_.modified;
  if (inode == FUSE_ROOT_ID) {
    attributes.st_mode = S_IFDIR | (0777 & ~ownership_.umask);
    attributes.st_nlink = 2;
  } else {
    const Node& node = files_[inode - first_file_inode];
    attributes.st_mode = mode_of(node);
    attributes.st_size = off_t(node.length);
    const uint64_t taken = node.disk != nullptr ? allocated_bytes_() : node.length;
    attributes.st_blocks = blkcnt_t(ceil_div(std::min(taken, node.length), 512));
    attributes.st_mtim = node.modified;
  }
  attributes.st_atim = attributes.st_ctim = attributes.st_mtim;
  return attributes;
}

void FileSystem::lookup(fuse_req_t request, const char* name) {
  const auto found = std::ranges::find(files_, name, &Node::name);
  if (found == files_.end()) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  fuse_entry_param entry = {};
  entry.ino = first_file_inode + fuse_ino_t(found - files_.begin());
  entry.attr = attributes_of(entry.ino);
  entry.attr_timeout = attributes_stay_seconds;
  entry.entry_timeout = names_stay_seconds;
  fuse_reply_entry(request, &entry);
}

void FileSystem::get_attributes(fuse_req_t request, fuse_ino_t inode) {
  const struct stat attributes = attributes_of(inode);
  fuse_reply_attr(request, &attributes, attributes_stay_seconds);
}

// A disk keeps its size, and its files their owners; times are taken and not kept.
void FileSystem::set_attributes(fuse_req_t request, fuse_ino_t inode, const struct stat& wanted,
                                int which) {
  const struct stat is = attributes_of(inode);
  const bool resizes = (which & FUSE_SET_ATTR_SIZE) != 0 && wanted.st_size != is.st_size;
  const int others = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
  if (resizes || (which & others) != 0) {
    fuse_reply_err(request, EPERM);
    return;
  }
  fuse_reply_attr(request, &is, attributes_stay_seconds);
}

void FileSystem::list(fuse_req_t request, size_t size, size_t first) {
  std::vector<char> entries(size);
  size_t used = 0;
  const auto add = [&](const char* name, fuse_ino_t inode, size_t index) {
    const struct stat attributes = attributes_of(inode);
    const size_t needed = fuse_add_direntry(request, entries.data() + used, size - used, name,
                                            &attributes, off_t(index + 1));
    if (needed > size - used) return false;
    used += needed;
    return true;
  };
  constexpr const char* own_names[] = {".", ".."};
  for (size_t index = first; index < files_.size() + 2; ++index) {
    const bool is_file = index >= 2;
    const fuse_ino_t inode = is_file ? first_file_inode + index - 2 : FUSE_ROOT_ID;
    if (!add(is_file ? files_[index - 2].name.c_str() : own_names[index], inode, index)) break;
  }
  fuse_reply_buf(request, entries.data(), used);
}

void FileSystem::statistics(fuse_req_t request) {
  struct statvfs statistics = {};
  statistics.f_bsize = statistics.f_frsize = page_bytes;
  statistics.f_blocks = ceil_div(disk_size_bytes_, page_bytes);
  statistics.f_files = files_.size();
  statistics.f_namemax = 255;
  fuse_reply_statfs(request, &statistics);
}

void FileSystem::open(fuse_req_t request, fuse_ino_t inode, fuse_file_info& info) {
  Node* const node = find(inode);
  const bool is_read_only = node->disk == nullptr || node->disk->is_read_only();
  if (is_read_only && (info.flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  // What is only read never changes. What is written may have been changed through another file of
  // this folder, so it is asked for anew after each opening, as with the devices of a disk and its
  // partitions.
  info.keep_cache = is_read_only;
  ++node->open_count;
  if (fuse_reply_open(request, &info) == -ENOENT) --node->open_count;  // the caller was killed
}

void FileSystem::release(fuse_req_t request, fuse_ino_t inode) {
  Node* const node = find(inode);
  assert(node->open_count > 0);
  --node->open_count;
  fuse_reply_err(request, 0);
}

// --- bytes ---

void FileSystem::start(Async<void> task) { tasks_.start(count(std::move(task))); }

Async<void> FileSystem::count(Async<void> task) {
  ++in_progress_;
  auto done = co_await std::move(task);
  --in_progress_;
  if (waiter_ && in_progress_ < waits_for_) std::exchange(waiter_, nullptr).resume();
  co_return done;
}

Async<void> FileSystem::read(fuse_req_t request, const Node& node, uint64_t offset, size_t size) {
  const size_t count = offset < node.length ? std::min<uint64_t>(size, node.length - offset) : 0;
  if (node.disk == nullptr) {
    fuse_reply_buf(request, node.text.data() + (count > 0 ? offset : 0), count);
    co_return Result<void>();
  }
  const BufferPool::Buffer bytes = buffers_.take(std::max<size_t>(count, 1));
  const std::span<std::byte> buffer(bytes.get(), count);
  const auto done = co_await node.disk->read(node.disk_offset + offset, buffer);
  if (done) {
    fuse_reply_buf(request, reinterpret_cast<const char*>(bytes.get()), count);
  } else {
    refuse(request, done.error());
  }
  co_return Result<void>();
}

Async<void> FileSystem::write(fuse_req_t request, Node& node, uint64_t offset,
                              BufferPool::Buffer owner, std::span<const std::byte> bytes,
                              Durability durability) {
  if (!range_fits(offset, bytes.size(), node.length)) {
    fuse_reply_err(request, ENOSPC);  // as at the end of a block device
    co_return Result<void>();
  }
  const auto done = co_await node.disk->write(node.disk_offset + offset, bytes, durability);
  node.modified = now();
  if (done) {
    fuse_reply_write(request, bytes.size());
  } else {
    refuse(request, done.error());
  }
  owner.reset();
  co_return Result<void>();
}

Async<void> FileSystem::sync(fuse_req_t request, const Node& node) {
  Result<void> done;
  if (node.disk != nullptr && !node.disk->is_read_only()) done = co_await node.disk->flush();
  answer(request, done);
  co_return Result<void>();
}

Async<void> FileSystem::allocate(fuse_req_t request, Node& node, int mode, uint64_t offset,
                                 uint64_t length) {
  const bool is_zeroing = (mode & FALLOC_FL_PUNCH_HOLE) != 0 || (mode & FALLOC_FL_ZERO_RANGE) != 0;
  const int known = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  if (node.disk == nullptr || !is_zeroing || (mode & ~known) != 0) {
    fuse_reply_err(request, EOPNOTSUPP);
    co_return Result<void>();
  }
  // A hole may reach beyond the end, where nothing is; zeroes there would make the file longer.
  const bool grows = (mode & FALLOC_FL_KEEP_SIZE) == 0 && !range_fits(offset, length, node.length);
  if (grows) {
    fuse_reply_err(request, ENOSPC);
    co_return Result<void>();
  }
  const uint64_t count = offset < node.length ? std::min(length, node.length - offset) : 0;
  const auto done = co_await node.disk->zero(node.disk_offset + offset, count);
  node.modified = now();
  answer(request, done);
  co_return Result<void>();
}

Async<void> FileSystem::seek(fuse_req_t request, const Node& node, uint64_t offset, bool data) {
  if (offset >= node.length) {
    fuse_reply_err(request, ENXIO);
    co_return Result<void>();
  }
  uint64_t found = data ? offset : node.length;  // a text is all data
  if (node.disk != nullptr) {
    const uint64_t end = node.disk_offset + node.length;
    const auto place = co_await node.disk->find(node.disk_offset + offset, end, data);
    if (!place) {
      refuse(request, place.error());
      co_return Result<void>();
    }
    found = *place - node.disk_offset;
  }
  if (data && found == node.length) {
    fuse_reply_err(request, ENXIO);
  } else {
    fuse_reply_lseek(request, off_t(found));
  }
  co_return Result<void>();
}

// --- what libfuse calls ---

struct FileSystem::Operations {
  static FileSystem& of(fuse_req_t request) {
    return *static_cast<FileSystem*>(fuse_req_userdata(request));
  }
  // The kernel asks only for what it has looked up, so there is such a file.
  static Node& node_of(fuse_req_t request, fuse_ino_t inode) { return *of(request).find(inode); }

  static void init(void*, fuse_conn_info* connection) {
    connection->max_write = max_transfer_bytes;
    connection->max_readahead = max_transfer_bytes;
    connection->max_background = 64;
    connection->congestion_threshold = 48;
    connection->time_gran = 1;
  }
  static void lookup(fuse_req_t request, fuse_ino_t, const char* name) {
    of(request).lookup(request, name);
  }
  static void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
    of(request).get_attributes(request, inode);
  }
  static void setattr(fuse_req_t request, fuse_ino_t inode, struct stat* wanted, int which,
                      fuse_file_info*) {
    of(request).set_attributes(request, inode, *wanted, which);
  }
  static void open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
    of(request).open(request, inode, *info);
  }
  static void release(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
    of(request).release(request, inode);
  }
  static void readdir(fuse_req_t request, fuse_ino_t, size_t size, off_t first, fuse_file_info*) {
    of(request).list(request, size, size_t(first));
  }
  static void statfs(fuse_req_t request, fuse_ino_t) { of(request).statistics(request); }
  static void read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                   fuse_file_info*) {
    of(request).start(of(request).read(request, node_of(request, inode), uint64_t(offset), size));
  }
  static void write(fuse_req_t request, fuse_ino_t inode, const char* data, size_t size,
                    off_t offset, fuse_file_info* info) {
    FileSystem& self = of(request);
    const auto durability = (info->flags & O_DSYNC) != 0 ? Durability::durable : Durability::cached;
    BufferPool::Buffer owner;
    std::span bytes(reinterpret_cast<const std::byte*>(data), size);
    if (size <= copied_write_bytes) {
      owner = self.buffers_.take(std::max<size_t>(size, 1));
      std::ranges::copy(bytes, owner.get());
      bytes = {owner.get(), size};
    } else {
      owner = self.take_back();
    }
    self.start(self.write(request, node_of(request, inode), uint64_t(offset), std::move(owner),
                          bytes, durability));
  }
  static void fsync(fuse_req_t request, fuse_ino_t inode, int, fuse_file_info*) {
    of(request).start(of(request).sync(request, node_of(request, inode)));
  }
  static void fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
                        fuse_file_info*) {
    of(request).start(of(request).allocate(request, node_of(request, inode), mode, uint64_t(offset),
                                           uint64_t(length)));
  }
  static void lseek(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence,
                    fuse_file_info*) {
    of(request).start(
        of(request).seek(request, node_of(request, inode), uint64_t(offset), whence == SEEK_DATA));
  }
};

const fuse_lowlevel_ops& FileSystem::operations() {
  static const fuse_lowlevel_ops operations = [] {
    fuse_lowlevel_ops ops = {};
    ops.init = Operations::init;
    ops.lookup = Operations::lookup;
    ops.getattr = Operations::getattr;
    ops.setattr = Operations::setattr;
    ops.open = Operations::open;
    ops.release = Operations::release;
    ops.readdir = Operations::readdir;
    ops.statfs = Operations::statfs;
    ops.read = Operations::read;
    ops.write = Operations::write;
    ops.fsync = Operations::fsync;
    ops.fallocate = Operations::fallocate;
    ops.lseek = Operations::lseek;
    return ops;
  }();
  return operations;
}

}  // namespace vhdkit::fuse
