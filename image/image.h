// An image with its chain.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/loop.h"
#include "disk/layered_disk.h"
#include "image/format.h"

namespace vhdkit::image {

// --map 'C:\vm=/mnt/vm': Windows paths that begin with `windows` lie under `native`. Compared
// without regard to case, on whole path components; \\?\ is taken off first.
struct PathMapping {
  std::string windows;
  std::string native;
};
// Errc::invalid_argument unless the text has the form WINDOWS=NATIVE, both not empty.
Result<PathMapping> parse_path_mapping(std::string_view text);

struct OpenOptions {
  std::optional<Format> format;  // of the first image only; else found by content
  std::vector<PathMapping> path_mappings;
  // The first image's parent, whatever its locators say; it must still prove itself.
  std::optional<std::string> parent_path;
  std::optional<std::string> grandparent_path;  // the same for the parent's own parent
  bool ignore_log = false;  // VHDX: serve the file as it is, without its log (forensics only)
  // The first image can be written; its parents never are. Its file is changed by that already
  // where a log must be replayed or a damaged copy of a structure repaired.
  bool writable = false;
  // VHDX, writable: its DataWriteGuid stays, so that its children stay so too. Only for changes
  // that none of them can see.
  bool keep_identity = false;
  bool force_share = false;  // take no locks: somebody may be writing what is read here
  bool direct = false;  // past the page cache, where alignment allows it; all files of the chain
  bool open_parents = true;  // false: one layer; a differencing image then reads zeroes below it
};

// What became of one image of a chain.
enum class LinkVerdict {
  ok,
  missing,         // none of the paths leads to a file
  wrong_identity,  // a file was found, but it is not the parent that the child names
  cycle,           // the file is in the chain already
  unreadable,      // found, but it cannot be opened as an image
  too_deep,        // the chain has more than max_chain_length images
};
std::string_view verdict_name(LinkVerdict verdict);

// Device and inode, as async::SystemFile::identity() gives them.
using FileIdentity = std::pair<uint64_t, uint64_t>;
// Of what the path leads to; nothing where that cannot be told.
std::optional<FileIdentity> identity_at(const std::string& path);

struct ChainLink {
  std::string path;                      // as opened, or the first path tried where it is missing
  std::optional<Format> format;          // of an opened image
  std::optional<FileIdentity> identity;  // of an opened image that has a name somewhere
  uint64_t allocated_bytes = 0;          // what an opened image's file takes of its file system
  LinkVerdict verdict = LinkVerdict::ok;
  std::string message;                // for verdicts other than ok: names child and parent
  std::vector<std::string> tried;     // every path looked at for this image
  std::vector<std::string> warnings;  // a parent's time stamp differs, …
};

inline constexpr size_t max_chain_length = 1024;

// Loop-bound; the loop outlives it.
class Image {
 public:
  // Opens the file and, unless told otherwise, its chain. A gzip file is unpacked while it is read.
  // Nothing is ever written, unless the options say so. Parents are looked for, in this order: each
  // relative path beside the child; the file name of each path in the child's own folder; absolute
  // and volume paths through path_mappings. For the first image, parent_path stands in place of all
  // that, and grandparent_path for its parent. Errors: not_found (also a missing parent, naming the
  // child and the paths tried), wrong_parent, corrupt (also a cycle), unsupported (also more than
  // max_chain_length images), permission, io; a parent that is there and cannot be opened gives its
  // own error's code.
  static Async<std::unique_ptr<Image>> open(async::Loop& loop, const std::string& path,
                                            const OpenOptions& options);

  // Opened for writing, errors are also: busy (another process has the file open, named where the
  // system tells; readers keep a writer out, a writer everybody, unless force_share); unsupported
  // (gzip, qcow2); invalid_argument (writable with ignore_log or force_share). Images of the same
  // folder that are children of this one are among the warnings.

  // As open(), but a chain that breaks is no error: its last link says why. Fails only where the
  // first image itself cannot be opened, or where a parent was given for an image that has none.
  static Async<std::unique_ptr<Image>> inspect(async::Loop& loop, const std::string& path,
                                               const OpenOptions& options);

  // A raw image over a file that is open already; its name is the path. identity: of a file that
  // has a name somewhere, for contains_file().
  static std::unique_ptr<Image> from_raw(std::unique_ptr<File> file,
                                         std::optional<FileIdentity> identity = std::nullopt);

  // Of an image that was opened for writing: close it with disk().close().
  disk::LayeredDisk& disk() { return *disk_; }
  const std::string& path() const { return links_.front().path; }
  Format format() const { return *links_.front().format; }
  // Child first. Links with a verdict other than ok have no layer in disk().
  const std::vector<ChainLink>& links() const { return links_; }
  std::vector<std::string> warnings() const;  // of all links
  // Whether path leads to one of the chain's files, under whatever name.
  bool contains_file(const std::string& path) const;

 private:
  Image(std::vector<ChainLink> links, std::vector<std::unique_ptr<disk::Layer>> layers);
  std::vector<ChainLink> links_;
  std::unique_ptr<disk::LayeredDisk> disk_;
};

}  // namespace vhdkit::image
