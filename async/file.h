// A file as the image layers see it: the seam between the formats and the system, with a simulated
// twin.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "async/loop.h"
#include "async/task.h"

namespace vhdkit::async {

// Scatter/gather lists in the kernel's own shape, so that a guest's buffers reach io_uring
// unchanged. The array and what it points to belong to the caller until the await returns.
using Buffers = std::span<const iovec>;
// The sum of their lengths.
uint64_t total_bytes(Buffers buffers);

enum class Durability {
  cached,   // durable after the next flush
  durable,  // durable when the write completes (FUA)
};

struct FileRange {
  uint64_t file_offset;
  uint64_t length;
};

// All offsets and lengths are bytes. Loop-bound. Transfers move everything or fail: a short one is
// resubmitted, and one that meets the end of the file is Errc::out_of_range.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  // What error messages call it: its path as the user gave it.
  virtual const std::string& name() const = 0;
  virtual uint64_t size_bytes() const = 0;

  virtual Async<void> readv(uint64_t file_offset, Buffers buffers) = 0;
  virtual Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) = 0;
  // Makes every write that completed before this call durable.
  virtual Async<void> flush() = 0;

  // Control plane: these may block. resize() zero-fills growth.
  virtual Result<void> resize(uint64_t size_bytes) = 0;
  // The first range at or after file_offset that is not a hole, cut at end; nothing where all is
  // hole. A file system that knows no holes says that everything is data.
  virtual Result<std::optional<FileRange>> next_data(uint64_t file_offset, uint64_t end) = 0;
  // Gives the range's space back; it reads as zeroes. Errc::unsupported where the file system
  // cannot.
  virtual Result<void> punch_hole(uint64_t file_offset, uint64_t length) = 0;

  // The descriptor whose bytes in this range are this file's bytes in this range, for copies inside
  // the kernel; -1 where there is none.
  virtual int descriptor(uint64_t file_offset, uint64_t length) const = 0;

  // One buffer.
  Async<void> read(uint64_t file_offset, std::span<std::byte> buffer);
  Async<void> write(uint64_t file_offset, std::span<const std::byte> bytes);
};

// Opens and owns a file or block device of the system.
class SystemFile final : public File {
 public:
  enum class Access {
    read_only,
    read_write,  // what is there; it is never made
  };
  enum class Locking {
    // A reader keeps writers out, a writer everybody; see async/file_lock.h.
    with_others,
    alone,  // everybody is kept out, by a reader too: for whoever puts another file in its place
    none,   // for looking at what somebody else writes: what is read may never have been
  };
  enum class Caching {
    cached,
    // Past the page cache (O_DIRECT): for transfers whose place in the file and whose buffers have
    // the alignment that the file system asks for. Where only the buffers have not, the bytes go
    // through others that have; where the place has not, through the page cache, which the kernel
    // keeps in step.
    direct,
  };
  struct Options {
    Locking locking = Locking::with_others;
    Caching caching = Caching::cached;
  };
  // Errors: not_found, permission, …; unsupported where the file system has no direct
  // transfers but they are asked for; busy where others hold locks that do not allow this, or have
  // put another file in its place meanwhile; Errc::unsupported for directories, FIFOs, sockets and
  // character devices, which never block here. The loop outlives the file.
  //
  // A holder of locks whom nobody sees is waited for, up to 3 s: the thread sleeps.
  static Result<std::unique_ptr<SystemFile>> open(Loop& loop, std::string path, Access access,
                                                  Options options);
  static Result<std::unique_ptr<SystemFile>> open(Loop& loop, std::string path, Access access) {
    return open(loop, std::move(path), access, Options());
  }
  // The same for a loop that has other things to do: they go on while a holder is waited for.
  static Async<std::unique_ptr<SystemFile>> open_async(Loop& loop, std::string path, Access access,
                                                       Options options);
  // Takes over a descriptor, which must be seekable. The flags of its description, which others may
  // share, stay as they are.
  static Result<std::unique_ptr<SystemFile>> adopt(Loop& loop, int descriptor, std::string name);
  ~SystemFile() override;

  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  Async<void> flush() override;
  Result<void> resize(uint64_t size_bytes) override;
  Result<std::optional<FileRange>> next_data(uint64_t file_offset, uint64_t end) override;
  Result<void> punch_hole(uint64_t file_offset, uint64_t length) override;
  int descriptor(uint64_t, uint64_t) const override { return descriptor_; }

  bool is_block_device() const { return is_block_device_; }
  // What the file took of its file system when it was opened, bytes; 0 for block devices.
  uint64_t allocated_bytes() const { return allocated_bytes_; }
  // Device and inode: two files with one identity are the same file.
  std::pair<uint64_t, uint64_t> identity() const { return {device_, inode_}; }

 private:
  SystemFile(Loop& loop, int descriptor, std::string name);
  static Result<std::unique_ptr<SystemFile>> open_unlocked(Loop& loop, std::string path,
                                                           Access access);
  Result<void> examine_opened(Access access, Options options);
  Result<void> refuse_replaced() const;
  Result<void> examine();
  Result<void> let_wait();
  Result<void> open_direct(Access access);
  bool is_aligned_for_direct(uint64_t file_offset, uint64_t length) const;
  bool are_aligned_for_direct(Buffers buffers) const;
  Async<void> read_from(int descriptor, uint64_t file_offset, Buffers buffers);
  Async<void> write_to(int descriptor, uint64_t file_offset, Buffers buffers,
                       Durability durability);
  Async<void> bounce_read(uint64_t file_offset, Buffers buffers, uint64_t length);
  Async<void> bounce_write(uint64_t file_offset, Buffers buffers, uint64_t length,
                           Durability durability);

  Loop& loop_;
  int descriptor_;
  int direct_descriptor_ = -1;            // none: every transfer goes through the page cache
  uint32_t direct_offset_alignment_ = 0;  // bytes
  uint32_t direct_memory_alignment_ = 0;  // bytes
  std::string name_;
  uint64_t size_bytes_ = 0;
  uint64_t allocated_bytes_ = 0;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  bool is_block_device_ = false;
};

}  // namespace vhdkit::async

namespace vhdkit {
using async::Buffers;
using async::Durability;
using async::File;
using async::total_bytes;
}  // namespace vhdkit
