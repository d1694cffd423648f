#include "async/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "async/file_lock.h"
#include "support/checked.h"

namespace vhdkit::async {
namespace {

constexpr uint64_t page_bytes = 4 * KiB;  // its alignment is enough for every file system
constexpr uint64_t short_bytes = 64 * KiB;

// Whole pages go into the page cache without being read first.
bool is_short(uint64_t file_offset, uint64_t length) {
  return length <= short_bytes && is_aligned(file_offset | length, page_bytes);
}

// The vectors that are left after the first `done` bytes, at most as many as the kernel takes at
// once.
class Remaining {
 public:
  explicit Remaining(Buffers buffers) : rest_(buffers) { skip_empty(); }

  bool empty() const { return rest_.empty(); }

  // Valid until the next call of advance.
  Buffers head() {
    if (partial_ == 0) return rest_.first(std::min<size_t>(rest_.size(), IOV_MAX));
    first_ = {static_cast<std::byte*>(rest_[0].iov_base) + partial_, rest_[0].iov_len - partial_};
    return {&first_, 1};
  }

  void advance(size_t done) {
    while (done > 0) {
      const size_t left = rest_[0].iov_len - partial_;
      if (done < left) {
        partial_ += done;
        return;
      }
      done -= left;
      partial_ = 0;
      rest_ = rest_.subspan(1);
    }
    skip_empty();
  }

  // Copies bytes to, or from, the next vectors, and goes on behind them.
  void scatter(std::span<const std::byte> bytes) {
    copy(bytes.size(), [&bytes](std::byte* place, size_t at, size_t count) {
      std::memcpy(place, bytes.data() + at, count);
    });
  }
  void gather(std::span<std::byte> bytes) {
    copy(bytes.size(), [&bytes](const std::byte* place, size_t at, size_t count) {
      std::memcpy(bytes.data() + at, place, count);
    });
  }

 private:
  template <class Move>
  void copy(size_t length, Move move) {
    for (size_t at = 0; at < length;) {
      const size_t count = std::min(length - at, rest_[0].iov_len - partial_);
      move(static_cast<std::byte*>(rest_[0].iov_base) + partial_, at, count);
      at += count;
      advance(count);
    }
  }

  void skip_empty() {
    while (!rest_.empty() && rest_[0].iov_len == 0) rest_ = rest_.subspan(1);
  }

  Buffers rest_;
  size_t partial_ = 0;
  iovec first_{};
};

int open_flags(SystemFile::Access access) {
  return (access == SystemFile::Access::read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
}

LockUse lock_use(SystemFile::Access access, SystemFile::Locking locking) {
  const bool is_shared =
      access == SystemFile::Access::read_only && locking == SystemFile::Locking::with_others;
  return is_shared ? LockUse::reading : LockUse::writing;
}

constexpr uint64_t bounce_bytes = 256 * KiB;

class AlignedBytes {
 public:
  explicit AlignedBytes(size_t length)
      : bytes_(
            static_cast<std::byte*>(std::aligned_alloc(page_bytes, align_up(length, page_bytes)))) {
  }
  std::byte* data() const { return bytes_.get(); }

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte, Free> bytes_;
};

}  // namespace

uint64_t total_bytes(Buffers buffers) {
  uint64_t total = 0;
  for (const iovec& vector : buffers) total += vector.iov_len;
  return total;
}

Async<void> File::read(uint64_t file_offset, std::span<std::byte> buffer) {
  const iovec vector{buffer.data(), buffer.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await readv(file_offset, buffers);
}

Async<void> File::write(uint64_t file_offset, std::span<const std::byte> bytes) {
  // The kernel's vector has no const form; a write changes nothing.
  const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await writev(file_offset, buffers, Durability::cached);
}

SystemFile::SystemFile(Loop& loop, int descriptor, std::string name)
    : loop_(loop), descriptor_(descriptor), name_(std::move(name)) {}

SystemFile::~SystemFile() {
  unlock(descriptor_);
  ::close(descriptor_);
  if (direct_descriptor_ >= 0) ::close(direct_descriptor_);
}

Result<std::unique_ptr<SystemFile>> SystemFile::open(Loop& loop, std::string path, Access access,
                                                     Options options) {
  TRY_LET(auto file, open_unlocked(loop, std::move(path), access));
  LockAttempts lock(lock_use(access, options.locking), file->descriptor_, file->name_);
  bool is_ready = options.locking == Locking::none;
  while (!is_ready) {
    TRY_LET(is_ready, lock.try_once());
    if (!is_ready) std::this_thread::sleep_for(LockAttempts::pause);
  }
  TRY(file->examine_opened(access, options));
  return file;
}

Async<std::unique_ptr<SystemFile>> SystemFile::open_async(Loop& loop, std::string path,
                                                          Access access, Options options) {
  CO_TRY_LET(auto file, open_unlocked(loop, std::move(path), access));
  LockAttempts lock(lock_use(access, options.locking), file->descriptor_, file->name_);
  bool is_ready = options.locking == Locking::none;
  while (!is_ready) {
    CO_TRY_LET(is_ready, lock.try_once());
    if (!is_ready) co_await loop.sleep(LockAttempts::pause);
  }
  CO_TRY(file->examine_opened(access, options));
  co_return std::move(file);
}

Result<std::unique_ptr<SystemFile>> SystemFile::open_unlocked(Loop& loop, std::string path,
                                                              Access access) {
  // Opening a FIFO must not wait for its other end. What stays open loses the flag: see let_wait().
  const int descriptor = ::open(path.c_str(), open_flags(access) | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return fail_errno(errno, path);
  return std::unique_ptr<SystemFile>(new SystemFile(loop, descriptor, std::move(path)));
}

// It is locked before it is looked at: what is found stays so.
Result<void> SystemFile::examine_opened(Access access, Options options) {
  if (options.locking != Locking::none) TRY(refuse_replaced());
  TRY(examine());
  TRY(let_wait());
  if (options.caching == Caching::direct) TRY(open_direct(access));
  return {};
}

// Whoever held the locks may have put another file in its place: what is written here would be
// lost.
Result<void> SystemFile::refuse_replaced() const {
  struct stat own;
  struct stat named;
  if (fstat(descriptor_, &own) != 0) return fail_errno(errno, name_);
  if (stat(name_.c_str(), &named) != 0) return fail_errno(errno, name_);
  if (own.st_dev == named.st_dev && own.st_ino == named.st_ino) return {};
  return fail(Errc::busy, name_ + ": was replaced by another file while it was opened");
}

Result<std::unique_ptr<SystemFile>> SystemFile::adopt(Loop& loop, int descriptor,
                                                      std::string name) {
  std::unique_ptr<SystemFile> file(new SystemFile(loop, descriptor, std::move(name)));
  TRY(file->examine());
  return file;
}

Result<void> SystemFile::examine() {
  struct stat status;
  if (fstat(descriptor_, &status) != 0) return fail_errno(errno, name_);
  device_ = status.st_dev;
  inode_ = status.st_ino;
  is_block_device_ = S_ISBLK(status.st_mode);
  if (S_ISREG(status.st_mode)) {
    size_bytes_ = uint64_t(status.st_size);
    allocated_bytes_ = uint64_t(status.st_blocks) * 512;  // stat(2): in units of 512 bytes
    return {};
  }
  if (!is_block_device_)
    return fail(Errc::unsupported, name_ + ": not a regular file or block device");
  device_ = status.st_rdev;
  inode_ = 0;
  if (ioctl(descriptor_, BLKGETSIZE64, &size_bytes_) != 0) return fail_errno(errno, name_);
  return {};
}

// From O_NONBLOCK io_uring takes that no transfer may wait: where the device below cannot say
// whether it would (dm-crypt, zram), Linux 6.1 ends each with EAGAIN. Of what F_SETFL changes
// nothing else is set here, and 0 is all that a sandbox lets through.
Result<void> SystemFile::let_wait() {
  if (fcntl(descriptor_, F_SETFL, 0) != 0) return fail_errno(errno, name_);
  return {};
}

// A second description of the same file, whatever its path leads to by now.
Result<void> SystemFile::open_direct(Access access) {
  struct statx status = {};
  if (statx(descriptor_, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0)
    return fail_errno(errno, name_);
  direct_offset_alignment_ = status.stx_dio_offset_align;
  direct_memory_alignment_ = std::max<uint32_t>(status.stx_dio_mem_align, 1);
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor_);
  if (direct_offset_alignment_ != 0)
    direct_descriptor_ = ::open(path.c_str(), open_flags(access) | O_DIRECT);
  if (direct_descriptor_ < 0)
    return fail(Errc::unsupported, name_ + ": its file system has no transfers past the cache");
  return {};
}

bool SystemFile::is_aligned_for_direct(uint64_t file_offset, uint64_t length) const {
  return is_aligned(file_offset, direct_offset_alignment_) &&
         is_aligned(length, direct_offset_alignment_) && length > 0;
}

bool SystemFile::are_aligned_for_direct(Buffers buffers) const {
  return std::ranges::all_of(buffers, [this](const iovec& vector) {
    return is_aligned(reinterpret_cast<uintptr_t>(vector.iov_base), direct_memory_alignment_) &&
           is_aligned(vector.iov_len, direct_offset_alignment_);
  });
}

Async<void> SystemFile::readv(uint64_t file_offset, Buffers buffers) {
  if (direct_descriptor_ < 0) return read_from(descriptor_, file_offset, buffers);
  const uint64_t length = total_bytes(buffers);
  if (!is_aligned_for_direct(file_offset, length))
    return read_from(descriptor_, file_offset, buffers);
  if (are_aligned_for_direct(buffers)) return read_from(direct_descriptor_, file_offset, buffers);
  return bounce_read(file_offset, buffers, length);
}

Async<void> SystemFile::writev(uint64_t file_offset, Buffers buffers, Durability durability) {
  if (direct_descriptor_ < 0) return write_to(descriptor_, file_offset, buffers, durability);
  const uint64_t length = total_bytes(buffers);
  if (!is_aligned_for_direct(file_offset, length))
    return write_to(descriptor_, file_offset, buffers, durability);
  if (are_aligned_for_direct(buffers))
    return write_to(direct_descriptor_, file_offset, buffers, durability);
  return bounce_write(file_offset, buffers, length, durability);
}

Async<void> SystemFile::bounce_read(uint64_t file_offset, Buffers buffers, uint64_t length) {
  const AlignedBytes bytes(std::min(length, bounce_bytes));
  Remaining remaining(buffers);
  while (length > 0) {
    const iovec vector{bytes.data(), std::min(length, bounce_bytes)};
    const Buffers piece(&vector, 1);
    CO_TRY(co_await read_from(direct_descriptor_, file_offset, piece));
    remaining.scatter({bytes.data(), vector.iov_len});
    file_offset += vector.iov_len;
    length -= vector.iov_len;
  }
  co_return Result<void>();
}

Async<void> SystemFile::bounce_write(uint64_t file_offset, Buffers buffers, uint64_t length,
                                     Durability durability) {
  const AlignedBytes bytes(std::min(length, bounce_bytes));
  Remaining remaining(buffers);
  while (length > 0) {
    const iovec vector{bytes.data(), std::min(length, bounce_bytes)};
    const Buffers piece(&vector, 1);
    remaining.gather({bytes.data(), vector.iov_len});
    CO_TRY(co_await write_to(direct_descriptor_, file_offset, piece, durability));
    file_offset += vector.iov_len;
    length -= vector.iov_len;
  }
  co_return Result<void>();
}

Async<void> SystemFile::read_from(int descriptor, uint64_t file_offset, Buffers buffers) {
  Remaining remaining(buffers);
  while (!remaining.empty()) {
    const Buffers head = remaining.head();
    Operation operation{.kind = Operation::Kind::read,
                        .descriptor = descriptor,
                        .vectors = head.data(),
                        .vector_count = unsigned(head.size()),
                        .file_offset = file_offset};
    const int result = co_await loop_.perform(operation);
    if (result == -EINTR) continue;
    if (result < 0)
      co_return fail_errno(-result, name_ + ": reading at offset " + std::to_string(file_offset));
    if (result == 0)
      co_return fail(Errc::out_of_range,
                     name_ + ": the file ends before offset " + std::to_string(file_offset));
    remaining.advance(size_t(result));
    file_offset += uint64_t(result);
  }
  co_return Result<void>();
}

Async<void> SystemFile::write_to(int descriptor, uint64_t file_offset, Buffers buffers,
                                 Durability durability) {
  Remaining remaining(buffers);
  while (!remaining.empty()) {
    const Buffers head = remaining.head();
    Operation operation{.kind = durability == Durability::durable ? Operation::Kind::write_durable
                                                                  : Operation::Kind::write,
                        .descriptor = descriptor,
                        .vectors = head.data(),
                        .vector_count = unsigned(head.size()),
                        .file_offset = file_offset,
                        .is_short = descriptor == descriptor_ && durability == Durability::cached &&
                                    is_short(file_offset, total_bytes(head))};
    const int result = co_await loop_.perform(operation);
    if (result == -EINTR) continue;
    if (result < 0)
      co_return fail_errno(-result, name_ + ": writing at offset " + std::to_string(file_offset));
    // A write that moves nothing and says no error would go on for ever.
    if (result == 0)
      co_return fail_errno(EIO, name_ + ": writing at offset " + std::to_string(file_offset));
    remaining.advance(size_t(result));
    file_offset += uint64_t(result);
    size_bytes_ = std::max(size_bytes_, file_offset);
  }
  co_return Result<void>();
}

Async<void> SystemFile::flush() {
  Operation operation{.kind = Operation::Kind::fdatasync, .descriptor = descriptor_};
  int result = -EINTR;
  while (result == -EINTR) result = co_await loop_.perform(operation);
  if (result < 0) co_return fail_errno(-result, name_ + ": flushing");
  co_return Result<void>();
}

Result<void> SystemFile::resize(uint64_t size_bytes) {
  if (ftruncate(descriptor_, off_t(size_bytes)) != 0)
    return fail_errno(errno, name_ + ": setting its size to " + std::to_string(size_bytes));
  size_bytes_ = size_bytes;
  return {};
}

Result<std::optional<FileRange>> SystemFile::next_data(uint64_t file_offset, uint64_t end) {
  end = std::min(end, size_bytes_);
  if (file_offset >= end) return std::nullopt;
  const off_t data = lseek(descriptor_, off_t(file_offset), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return std::nullopt;
  // Block devices and some file systems know no holes.
  if (data < 0) return FileRange{file_offset, end - file_offset};
  if (uint64_t(data) >= end) return std::nullopt;
  const off_t hole = lseek(descriptor_, data, SEEK_HOLE);
  const uint64_t data_end = hole < 0 ? end : std::min(uint64_t(hole), end);
  return FileRange{uint64_t(data), data_end - uint64_t(data)};
}

Result<void> SystemFile::punch_hole(uint64_t file_offset, uint64_t length) {
  if (fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(file_offset),
                off_t(length)) != 0)
    return fail_errno(errno, name_ + ": punching a hole at offset " + std::to_string(file_offset));
  return {};
}

}  // namespace vhdkit::async
