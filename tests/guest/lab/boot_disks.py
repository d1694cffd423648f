"""Whole disks that boot by themselves: partitions, file systems with a kernel in them, GRUB and syslinux.

Nothing is mounted where that can be helped: file systems are made from folders, and loaders are put where the
machine's firmware and the loaders themselves look for them.
"""
import pathlib
import shutil
import struct
import subprocess
import tempfile

from lab import guests
from lab.debian import Unavailable, need, said

SECTOR = 512
MIB = 1 << 20
GRUB = pathlib.Path("/usr/lib/grub/i386-pc")
SYSLINUX = pathlib.Path("/usr/lib/syslinux")

# sfdisk's names.
LINUX, FAT16 = "83", "e"
GPT_LINUX, GPT_BIOS_BOOT = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "21686148-6449-6E6F-744E-656564454649"

# GRUB's include/grub/offsets.h, where a boot sector and the sector behind it say where the rest lies.
GRUB_KERNEL_SECTOR, GRUB_LIST_SIZE = 0x5c, 12
BOOT_CODE_BYTES = 440


def partitioned(target, label, partitions):
    """A raw disk. partitions: (type, MiB, content or None), one behind the other; where each begins, in sectors."""
    size = 2 + sum(mib for _, mib, _ in partitions)
    with open(target, "wb") as file:
        file.truncate(size * MIB)
    starts, lines, place = [], [f"label: {label}"], MIB // SECTOR
    for index, (kind, mib, _) in enumerate(partitions):
        starts.append(place)
        active = ", bootable" if label == "dos" and index == 0 else ""
        lines.append(f"start={place}, size={mib * MIB // SECTOR}, type={kind}{active}")
        place += mib * MIB // SECTOR
    done = subprocess.run([need("sfdisk"), "-q", target], input="\n".join(lines), text=True, check=False,
                          capture_output=True)
    if done.returncode != 0:
        raise Unavailable(f"sfdisk: {done.stderr}")
    for start, (_, mib, content) in zip(starts, partitions, strict=True):
        if content is not None:
            assert content.stat().st_size <= mib * MIB
            said("dd", f"if={content}", f"of={target}", "bs=1M", f"seek={start * SECTOR // MIB}", "conv=notrunc,sparse",
                 "status=none")
    return starts


def write_at(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def make_xfs(tree, target, size):
    """A raw file system with the tree's files in it, by mkfs.xfs's own prototype file."""
    lines = ["/dev/null", "0 0", "d--755 0 0"]

    def add(folder):
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                lines.append(f"{path.name} d--755 0 0")
                add(path)
                lines.append("$")
            else:
                lines.append(f"{path.name} ---644 0 0 {path}")
    add(tree)
    prototype = target.with_suffix(".prototype")
    prototype.write_text("\n".join([*lines, "$", ""]))
    with open(target, "wb") as file:
        file.truncate(size)
    said(need("mkfs.xfs"), "-q", "-f", "-p", prototype, target)
    return target


# --- GRUB ---

def plant_grub(boot, config):
    """GRUB's modules and its configuration in what is /boot."""
    if not GRUB.is_dir():
        raise Unavailable("grub-pc-bin is not installed")
    shutil.copytree(GRUB, boot / "grub" / "i386-pc", ignore=shutil.ignore_patterns("*.img", "*.exec", "grub-*", "*.image"))
    (boot / "grub" / "grub.cfg").write_text(config)


def install_grub(disk, prefix, modules, core_sector=1, files=GRUB):
    """Boot sector and core image. core_sector: behind an MBR, or where a BIOS boot partition begins. files: GRUB's own,
    of the same version as the modules in prefix."""
    core = disk.with_suffix(".core")
    said(need("grub-mkimage"), "-O", "i386-pc", "-d", files, "-p", prefix, "-o", core, "biosdisk", *modules)
    image = bytearray(core.read_bytes())
    core.unlink()
    assert core_sector > 1 or len(image) < MIB - SECTOR, "it has no room behind the MBR"
    struct.pack_into("<Q", image, SECTOR - GRUB_LIST_SIZE, core_sector + 1)
    boot = bytearray((files / "boot.img").read_bytes()[:BOOT_CODE_BYTES])
    struct.pack_into("<Q", boot, GRUB_KERNEL_SECTOR, core_sector)
    write_at(disk, 0, boot)
    write_at(disk, core_sector * SECTOR, image)


def make_grub_disk(root, target, mib):
    """A raw disk: an MBR, GRUB behind it, and one ext4 with the tree, in whose boot/ plant_grub() was."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        ext4 = guests.make_ext4(root, pathlib.Path(folder) / "ext4", mib * MIB, label="root")
        partitioned(target, "dos", [(LINUX, mib, ext4)])
    install_grub(target, "(hd0,msdos1)/boot/grub", ["part_msdos", "ext2"])
    return target


# --- syslinux ---

def install_mbr(disk):
    """The boot sector that goes on with the active partition."""
    path = SYSLINUX / "mbr" / "mbr.bin"
    if not path.exists():
        raise Unavailable("syslinux-common is not installed")
    code = path.read_bytes()
    assert len(code) <= BOOT_CODE_BYTES
    write_at(disk, 0, code)


def make_fat_with_syslinux(files, target, size, first_sector):
    """A raw FAT with {name: path} in it, and syslinux. first_sector: where its partition will begin."""
    with open(target, "wb") as file:
        file.truncate(size)
    said(need("mkfs.vfat"), "-F", "16", "-h", first_sector, target)
    for name, path in files.items():
        said(need("mcopy"), "-i", target, path, f"::{name}")
    said(need("syslinux"), "--install", target)
    return target


def install_extlinux(file_system, folder, files):
    """extlinux wants to see the file system mounted; folder: in it. {name: path} of files that go beside that folder.

    They are copied there since extlinux reads no holes, and files that mke2fs takes from a tree have some.
    """
    place = file_system.with_suffix(".mounted")
    place.mkdir()
    said("mount", "-o", "loop", file_system, place)
    try:
        for name, path in files.items():
            said("cp", "--sparse=never", path, (place / folder).parent / name)
        said(need("extlinux"), "--install", place / folder)
    finally:
        said("umount", place)
        place.rmdir()
