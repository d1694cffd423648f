"""One guest with two processors and every kind of disk. Each case looks at one of them, in the guest and afterwards."""
import hashlib
import os
import random

import pytest
from cases import Boots, files_of, make_tree, new_root, raw_of, same_trees, shell, workshop  # noqa: F401, fixtures
from conftest import KIB, MIB, fingerprint, run, run_ok
from lab import guests

SCSI = "{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}"

# The disks' LUNs.
ROOT, TREE, LARGE_SECTORS, VHD, CHAIN, DISCARDED, TRIMMED = range(7)


def random_disk(path, size, seed):
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def to_image(raw, image, *options):
    run_ok("convert", "-q", "-O", image.suffix[1:], *options, raw, image)
    raw.unlink()
    return image


def allocated(image):
    return os.stat(image).st_blocks * 512


class Tour:
    """The images, the guest that saw them, and what it said of each."""

    def __init__(self, workshop, folder):
        self.folder, self.boots = folder, Boots(workshop, "disks")
        self.tree = make_tree(folder / "tree")
        empty = folder / "empty"
        empty.mkdir()
        self.root = new_root(workshop, folder)
        self.tree_image = to_image(guests.make_ext4(self.tree, folder / "t.raw", 24 * MIB), folder / "tree.vhdx")
        self.large_sectors = to_image(guests.make_ext4(empty, folder / "l.raw", 32 * MIB), folder / "large.vhdx",
                                      "-o", "logical_sector_size=4096")
        self.vhd = to_image(guests.make_ext4(empty, folder / "v.raw", 32 * MIB), folder / "disk.vhd")
        self.chain = self.make_chain()
        self.discarded = to_image(random_disk(folder / "d.raw", 32 * MIB, 1), folder / "discarded.vhdx")
        full = folder / "full"
        full.mkdir()
        random_disk(full / "large", 24 * MIB, 2)
        self.trimmed = to_image(guests.make_ext4(full, folder / "f.raw", 40 * MIB), folder / "trimmed.vhdx")
        self.before = {image: fingerprint(image) for image in [self.tree_image, *self.chain[:2]]}
        self.sizes = {image: allocated(image) for image in (self.discarded, self.trimmed)}
        self.said = {}
        self.guest = self.visit()

    def make_chain(self):
        base, middle, top = (self.folder / f"{name}.vhdx" for name in ("base", "middle", "top"))
        run_ok("create", "-q", "-f", "vhdx", base, "16M")
        run_ok("io", "-q", "-c", "write -P 1 0 4M", base)
        run_ok("create", "-q", "-f", "vhdx", "-b", base, middle)
        run_ok("io", "-q", "-c", "write -P 2 1M 512", "-c", "write -P 2 2M 1M", middle)
        run_ok("create", "-q", "-f", "vhdx", "-b", middle, top)
        return base, middle, top

    def visit(self):
        guest = self.boots.start([self.root, (self.tree_image, "ro"), self.large_sectors, self.vhd, self.chain[2],
                                  self.discarded, self.trimmed], cpus=2)
        guest.boots()
        for name, command, seconds in COMMANDS:
            self.said[name] = guest.run(command, seconds, check=False)
        guest.powers_off(120)
        return guest

    def succeeded(self, name):
        code, output = self.said[name]
        assert code == 0, output
        return output

    def consoles(self):
        return self.boots.consoles()


def copy_tree(lun):
    return f"mount /dev/lun/{lun} /mnt && cp -a /tmp/tree/. /mnt/ && rm -r /mnt/lost+found && umount /mnt"


# What a kernel says when something is wrong.
BAD_NEWS = ["WARNING", "BUG", "rror", "Call Trace", "timed out", "Sense Key", "hv_.*fail", "storvsc.*:.*tag"]

COMMANDS = [
    ("channels", f"for d in /sys/bus/vmbus/devices/*; do "
     f"if [ $(cat $d/class_id) = {SCSI} ]; then ls $d/channels; fi; done", 60),
    ("each processor", "for i in 0 1 2 3; do for c in 0 1; do taskset -c $c dd if=/dev/lun/5 of=/dev/null bs=4k "
     "count=64 skip=$((i * 128 + c * 64)) iflag=direct 2>/dev/null; done; done", 60),
    ("use of channels", f"for d in /sys/bus/vmbus/devices/*; do if [ $(cat $d/class_id) = {SCSI} ]; then "
     "cat $d/channels/*/interrupts; fi; done", 60),
    ("read-only", f"cat /sys/block/$(basename $(readlink /dev/lun/{TREE}))/ro", 60),
    ("write to a read-only one", f"dd if=/dev/zero of=/dev/lun/{TREE} bs=4k count=1 conv=fsync", 60),
    ("tree", f"mkdir -p /tmp/tree && mount -o ro /dev/lun/{TREE} /tmp/tree && mkdir /copy && cp -a /tmp/tree/. /copy/ "
     "&& rm -r /copy/lost+found && sync", 120),
    ("sector size", f"blockdev --getss /dev/lun/{LARGE_SECTORS} && blockdev --getsize64 /dev/lun/{LARGE_SECTORS}", 60),
    ("tree on large sectors", copy_tree(LARGE_SECTORS), 120),
    ("tree on a VHD", copy_tree(VHD), 120),
    ("read the chain", f"md5sum /dev/lun/{CHAIN}", 60),
    ("write the chain", f"tr '\\0' '\\3' </dev/zero | dd of=/dev/lun/{CHAIN} bs=64k count=16 seek=48 iflag=fullblock "
     f"conv=fsync; echo -n '{'x' * 512}' | dd of=/dev/lun/{CHAIN} bs=512 seek=2049 conv=fsync", 60),
    ("sg_inq", f"sg_inq /dev/lun/{DISCARDED}", 60),
    ("sg_vpd", f"sg_vpd -p sv /dev/lun/{DISCARDED}; sg_vpd -p di /dev/lun/{DISCARDED}; "
     f"sg_vpd -p bl /dev/lun/{DISCARDED}; sg_vpd -p lbpv /dev/lun/{DISCARDED}", 60),
    ("sg_readcap", f"sg_readcap --long /dev/lun/{DISCARDED} && sg_readcap --long /dev/lun/{LARGE_SECTORS}", 60),
    ("sg_unmap", f"sg_unmap --force --lba=2048 --num=2048 /dev/lun/{DISCARDED}", 60),
    ("unmapped", f"dd if=/dev/lun/{DISCARDED} bs=1M skip=1 count=1 iflag=direct 2>/dev/null | md5sum", 60),
    ("blkdiscard", f"blkdiscard -o 4M -l 28M /dev/lun/{DISCARDED} || "
     f"blkdiscard -o {4 * MIB} -l {28 * MIB} /dev/lun/{DISCARDED}", 60),
    ("fstrim", f"mount /dev/lun/{TRIMMED} /mnt && rm /mnt/large && sync && fstrim -v /mnt; umount /mnt", 120),
    ("messages", f"dmesg | grep -E '{'|'.join(BAD_NEWS)}' || true", 60),
]


@pytest.fixture(scope="module")
def tour(workshop, tmp_path_factory):
    """The visit is paid once. A guest that dies on it takes all cases with it, its console first."""
    workshop.machine()
    started = Tour(workshop, tmp_path_factory.mktemp("disks"))
    yield started
    started.boots.close()


def test_two_processors_have_two_channels(tour):
    channels = tour.succeeded("channels").split()
    assert len(channels) == 2
    tour.succeeded("each processor")
    interrupts = [int(count) for count in tour.succeeded("use of channels").split()]
    assert len(interrupts) == 2 and min(interrupts) > 10, "one of the channels is not used"


def test_nothing_was_wrong_in_the_kernel_log(tour):
    # "Power-on or device reset occurred" is how SCSI disks greet. The write to the read-only disk was never sent.
    assert tour.succeeded("messages") == ""


def test_a_tree_is_the_same_on_the_outside(tour):
    tour.succeeded("tree")
    raw = raw_of(tour.root)
    shell("e2fsck", "-f", "-n", raw)
    assert same_trees(tour.tree, files_of(raw, tour.folder / "root-files") / "copy")
    assert run("check", "-q", tour.root).code in (0, 3)


@pytest.mark.parametrize("kind", ["large sectors", "a VHD"])
def test_a_tree_on_other_disks(tour, kind):
    tour.succeeded(f"tree on {kind}")
    if kind == "large sectors":
        assert tour.succeeded("sector size").split() == ["4096", str(32 * MIB)]
    image = tour.vhd if kind == "a VHD" else tour.large_sectors
    raw = raw_of(image)
    shell("e2fsck", "-f", "-n", raw)
    assert same_trees(tour.tree, files_of(raw, tour.folder / f"files-on-{kind.replace(' ', '-')}"))
    assert run("check", "-q", image).code in (0, 3)


def test_a_read_only_disk(tour):
    assert tour.succeeded("read-only") == "1\n"
    code, output = tour.said["write to a read-only one"]
    assert code != 0, output
    assert fingerprint(tour.tree_image) == tour.before[tour.tree_image]


def test_a_chain_of_three(tour):
    expected = bytearray(16 * MIB)
    expected[:4 * MIB] = b"\1" * (4 * MIB)
    expected[MIB:MIB + 512] = b"\2" * 512
    expected[2 * MIB:3 * MIB] = b"\2" * MIB
    assert tour.succeeded("read the chain").split()[0] == hashlib.md5(expected).hexdigest()
    tour.succeeded("write the chain")
    expected[3 * MIB:4 * MIB] = b"\3" * MIB
    expected[MIB + 512:MIB + 1024] = b"x" * 512
    assert raw_of(tour.chain[2]).read_bytes() == expected
    for image in tour.chain[:2]:
        assert fingerprint(image) == tour.before[image], "a parent was written"
    assert run("check", "-q", tour.chain[2]).code in (0, 3)


def test_sg3_utils_see_a_disk_of_hyper_v(tour):
    inquiry = tour.succeeded("sg_inq")
    for line in ("Vendor identification: Msft", "Product identification: Virtual Disk", "PQual=0", "PDT=0"):
        assert line in inquiry
    pages = tour.succeeded("sg_vpd")
    for line in ("Supported VPD pages", "designator type: NAA", "Maximum unmap LBA count",
                 "Unmap command supported (LBPU): 1"):
        assert line in pages
    capacities = tour.succeeded("sg_readcap")
    for line in ("lbpme=1", "Logical block length=512 bytes", "Logical block length=4096 bytes",
                 f"Device size: {32 * MIB} bytes"):
        assert line in capacities


def test_sg_unmap(tour):
    tour.succeeded("sg_unmap")
    assert tour.succeeded("unmapped").split()[0] == hashlib.md5(bytes(MIB)).hexdigest()
    run_ok("io", "-q", "-c", "read -P 0 1M 1M", tour.discarded)


def shrinks(tour, image, least):
    before, after = tour.sizes[image], allocated(image)
    tour.guest.note(f"{image.name}: {before // KIB} KiB on the outside before, {after // KIB} KiB after")
    tour.guest.keep()
    assert before - after >= least
    assert run("check", "-q", image).code in (0, 3)


def test_blkdiscard_shrinks_the_image(tour):
    tour.succeeded("blkdiscard")
    expected = bytearray(random.Random(1).randbytes(32 * MIB))
    expected[MIB:2 * MIB] = bytes(MIB)
    expected[4 * MIB:] = bytes(28 * MIB)
    assert raw_of(tour.discarded).read_bytes() == expected
    shrinks(tour, tour.discarded, 27 * MIB)


def test_fstrim_shrinks_the_image(tour):
    tour.succeeded("fstrim")
    shell("e2fsck", "-f", "-n", raw_of(tour.trimmed))
    shrinks(tour, tour.trimmed, 22 * MIB)
