#include "fuse/mount.h"

#include <errno.h>
#include <stdlib.h>

#include <charconv>

#include "fuse/mounting.h"
#include "tools/options.h"

namespace vhdkit::fuse {
namespace {

using tools::Arguments;
using tools::Take;

constexpr tools::Example examples[] = {
    {"The disk and its partitions as files", "vhd-mount disk.vhdx /mnt/disk"},
    {"The files inside, of the only file system", "vhd-mount --fs disk.vhdx /mnt/files"},
    {"The second partition, only to be read", "vhd-mount -o ro --partition 2 disk.vhd /mnt/files"},
    {"Changes that are forgotten at the end", "vhd-mount --overlay tmp disk.vhdx /mnt/disk"},
    {"Changes that are put into the image at the end",
     "vhd-mount --overlay tmp --commit disk.vhdx /mnt/disk"},
    {"The end", "umount /mnt/disk    (or: fusermount3 -u /mnt/disk)"},
    {"A line of /etc/fstab", "/vm/disk.vhdx /mnt/files fuse.vhd-mount ro,fs,nofail 0 0"},
    {"One that is written, or is not there",
     "/vm/disk.vhdx /mnt/files fuse.vhd-mount writable,fs,nofail 0 0"},
    {"The first one for systemd, as mnt-files.mount",
     "[Mount] What=/vm/disk.vhdx Where=/mnt/files Type=fuse.vhd-mount Options=ro,fs"},
};
constexpr tools::ExitCode exit_codes[] = {
    {0, "the mount is usable; with -f: it has ended, and everything is written"},
    {1, "it is not, and nothing is left of it; with -f also: something could not be written"},
};
constexpr tools::Page mount_page = {
    .summary = "mounts a virtual disk, or the files in it",
    .synopsis = "[OPTION...] IMAGE MOUNTPOINT",
    .description =
        "Shows the image in the folder MOUNTPOINT: \"disk\" is the guest's disk, \"disk.p1\" and "
        "so "
        "on are its partitions (GPT and MBR), \"info.json\" says what vhd info --chain says. Loop "
        "devices, file systems, fsck, dd and everything else work on these files. No root is "
        "needed. The program returns when the mount is usable, and a process stays behind until it "
        "is unmounted; that, and SIGTERM, write everything and close the image cleanly.\n\n"
        "With --partition or --fs the files inside appear at MOUNTPOINT: for root through a loop "
        "device and the kernel's file systems, else through a FUSE driver (fuse2fs, ntfs-3g, ...). "
        "One unmount ends all of it.\n\n"
        "SIGTERM, SIGINT and SIGHUP unmount as soon as nobody uses the mount any more, and after 5 "
        "seconds in any case; then it is said what was in use. For root, what was written to the "
        "files inside before the signal is in the image even so; and so is what came in these "
        "seconds, and nothing more is taken, where the file system can be made read-only or shut "
        "down (ext4, XFS, ...), also where it is bound to other folders. ext4 needs no recovery "
        "then, XFS that of its log if a file was "
        "open "
        "for writing. Other file systems may lose what came after the signal, and FUSE drivers "
        "also what they had kept to themselves. File systems that you mounted yourself from the "
        "disk's file are yours to unmount before the signal.\n\n"
        "Unless -o says ro or rw, the image is mounted for writing where that harms nobody: it is "
        "only read where its log is dirty, where it is the parent of other images in its folder, "
        "where somebody else holds it or where the system refuses. For writing the image is "
        "locked. In fstab and for systemd rw means nothing, since mount(8) says it by itself: ro "
        "and writable stand there for what ro and rw are here. What tells them from here are words "
        "on "
        "dev and suid beside rw: \"rw,nosuid,nodev\" is taken for theirs.\n\n"
        "Errors of the image become errors of the call that met them; the reason is on standard "
        "error with -f, else in the system's log (syslog, \"vhd-mount\"). The disk's file and "
        "those "
        "of its partitions are the same bytes, but the kernel caches each by itself while it is "
        "open, as it does with the devices of a real disk: do not write through one what is read "
        "through another at the same time.",
    .examples = examples,
    .exit_codes = exit_codes,
};

Result<std::string> absolute(const std::string& path) {
  char* const found = realpath(path.c_str(), nullptr);
  if (found == nullptr) return fail_errno(errno, path);
  std::string result(found);
  free(found);
  return result;
}

// Of a file that may not be there yet.
Result<std::string> absolute_beside(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  TRY_LET(const std::string found, absolute(folder));
  return found + "/" + path.substr(slash == std::string::npos ? 0 : slash + 1);
}

Result<void> parse_partition(const std::string& value, std::optional<unsigned>& partition) {
  unsigned number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || rest != end)
    return fail(Errc::invalid_argument, "a partition is a number; 0 is the whole disk");
  partition = number;
  return {};
}

Result<void> parse_name(const std::string& value, std::string& name) {
  if (value.empty() || value.contains('/') || value == "." || value == ".." ||
      value == "info.json" || value.size() > 200)
    return fail(Errc::invalid_argument, "a file's name without / is wanted");
  name = value;
  return {};
}

// Every long option, for fstab. The arguments outlive it.
OwnOptions own_options(const Arguments& arguments) {
  OwnOptions own;
  for (const tools::Argument& one : arguments.all()) {
    const size_t dashes = one.names.find("--");
    if (dashes == std::string::npos) continue;
    own[one.names.substr(dashes + 2)] = [&one](const std::string& value) -> Result<void> {
      if (one.is_flag() && !value.empty()) return fail(Errc::invalid_argument, "takes no value");
      if (!one.is_flag() && value.empty()) return fail(Errc::invalid_argument, "a value is wanted");
      return one.take(value);
    };
  }
  return own;
}

}  // namespace

const tools::Page& Mount::page() const { return mount_page; }

void Mount::declare(Arguments& arguments) {
  const Take partition = [this](const std::string& value) {
    return parse_partition(value, plan_.partition);
  };
  const Take name = [this](const std::string& value) { return parse_name(value, plan_.name); };
  arguments.positional("IMAGE", image_, "The image; a .gz of a raw or fixed image is unpacked.");
  arguments.positional("MOUNTPOINT", mount_point_, "A folder, empty.");
  arguments.repeatable_option(
      "-o", "OPTION[,OPTION...]",
      [this, &arguments](const std::string& value) {
        return parse_mount_options(value, own_options(arguments), plan_.options);
      },
      "Mount options: ro, rw, writable (rw for fstab), uid=, gid=, umask=, nonempty, allow_other, "
      "allow_root, auto_unmount, fsname=, subtype=, and those of mount(8). The long options here "
      "may stand there too, without --, as fstab needs them.");
  arguments.flag("-f", is_foreground_, "Stay in the foreground, and say errors there.");
  arguments.flag("-d", plan_.options.debug, "Print every request of the kernel; implies -f.");
  arguments.flag("-s", plan_.one_at_a_time, "Serve one request at a time.");
  arguments.option("--name", "NAME", name, "The name of the disk's file, instead of \"disk\".");
  arguments.option("--partition", "N", partition,
                   "Mount the files of partition N; 0: of a disk without partitions.");
  arguments.flag("--fs", only_file_system_, "Mount the files of the only file system there is.");
  arguments.flag(
      "--layers", plan_.with_layers,
      "Show the parents too: \"disk.layer1\" is the disk as the parent has it, and so on.");
  arguments.option(
      "--overlay", "FILE|tmp", tools::into(overlay_),
      "Leave the image as it is, and write to a differencing child: FILE, made if it is "
      "not there, or a temporary one.");
  arguments.flag("--commit", commits_, "At the end, put the overlay into the image and remove it.");
  arguments.flag("--discard", discards_,
                 "At the end, remove the overlay; what \"tmp\" does unless it is committed.");
  arguments.option("--format", "FORMAT", tools::format_into(plan_.open.format),
                   "The image's format, where its content should not say it.");
  arguments.option("--parent", "FILE", tools::into(plan_.open.parent_path),
                   "The image's parent, wherever the image says that it is.");
  arguments.flag("--ignore-log", plan_.open.ignore_log,
                 "Show a VHDX without what its log holds; read-only.");
  arguments.flag("-U,--force-share", plan_.open.force_share,
                 "Take no locks; read-only, and what is read may never have been.");
  tools::declare_cache(arguments, plan_.open);
  tools::declare_mappings(arguments, plan_.open.path_mappings);
}

bool Mount::stays_in_foreground() const { return is_foreground_ || plan_.options.debug; }

Result<void> Mount::settle_overlay() {
  if (commits_ && discards_)
    return fail(Errc::invalid_argument, "--commit and --discard: it is one of the two");
  if (!overlay_ && (commits_ || discards_))
    return fail(Errc::invalid_argument, "--commit and --discard are about an --overlay");
  if (!overlay_) return {};
  if (plan_.options.read_only == true)
    return fail(Errc::invalid_argument, "-o ro and --overlay: there would be nothing to overlay");
  OverlayOptions options;
  if (*overlay_ == "tmp") {
    options.end = commits_ ? OverlayEnd::commit : OverlayEnd::discard;
  } else {
    TRY_LET(options.path, absolute_beside(*overlay_));
    options.end = commits_    ? OverlayEnd::commit
                  : discards_ ? OverlayEnd::discard
                              : OverlayEnd::keep;
  }
  plan_.overlay = options;
  return {};
}

Result<void> Mount::settle() {
  const bool only_reads = plan_.open.ignore_log || plan_.open.force_share;
  if (only_reads && (plan_.options.read_only == false || overlay_))
    return fail(Errc::invalid_argument,
                "--ignore-log and -U only read: neither -o rw nor an overlay goes with them");
  plan_.inner = only_file_system_ || plan_.partition.has_value();
  TRY_LET(plan_.image_path, absolute(image_));
  TRY_LET(plan_.mount_point, absolute(mount_point_));
  if (plan_.open.parent_path) {
    TRY_LET(plan_.open.parent_path, absolute(*plan_.open.parent_path));
  }
  for (image::PathMapping& mapping : plan_.open.path_mappings)
    mapping.native = tools::absolute_path(mapping.native);
  return settle_overlay();
}

Result<int> Mount::run(async::Loop& loop) {
  TRY(settle());
  Mounting mounting(loop, plan_, background_);
  TRY(loop.run(mounting.run()));
  return 0;
}

}  // namespace vhdkit::fuse
