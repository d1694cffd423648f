"""A distribution as its users have it: Debian 12 with systemd and GRUB, installed by mmdebstrap from Debian's packages.

Its disk stays in build/guest/, under a name that changes with what it is made by: the packages are downloaded once.
"""
import hashlib
import pathlib
import tempfile

from lab import boot_disks, guests
from lab.debian import CACHE, Unavailable, alone, need, said

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE / "distribution.sh"
SUITE = "bookworm"
PACKAGES = ["systemd-sysv", "udev", "dbus", "linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub2-common",
            "grub-pc-bin", "hyperv-daemons"]
MIB = 1 << 20
ROOT_MIB = 1024
ROOT_OFFSET = 2 * MIB  # of its partition
ROOT_UUID = "9d1f0c3e-5a5e-4a57-8a0b-6f2b7f1d4c12"
HOST_NAME, PASSWORD = "unmodified", "in-the-open"
MAKING_SECONDS = 1800  # the download, most of all

# What an installer asks, or finds out. GRUB's menu is text, as it has to be on a serial line.
FILES = {
    "etc/fstab": f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n",
    "etc/hostname": f"{HOST_NAME}\n",
    "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {HOST_NAME}\n",
    "etc/default/grub": "GRUB_DEFAULT=0\n"
                        "GRUB_TIMEOUT=2\n"
                        "GRUB_DISTRIBUTOR=Debian\n"
                        "GRUB_TERMINAL=console\n"
                        'GRUB_CMDLINE_LINUX="console=ttyS0"\n',
}


def sources():
    """Where this machine has its own Debian packages from."""
    lines = said("apt-get", "indextargets", "--format", "deb $(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages",
                 "Origin: Debian").splitlines()
    wanted = [line for line in lines if line.split()[2].startswith(SUITE)]
    if not wanted:
        raise Unavailable(f"apt-get has no sources of Debian {SUITE} here")
    return "\n".join([*wanted, ""])


def plant(tree, files):
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


def folder(path):
    path.mkdir()
    return path


def make(target):
    """A raw disk: a GPT, GRUB in a BIOS boot partition, and all of the system in one ext4."""
    need("mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="installing-", dir=CACHE) as place:
        place = pathlib.Path(place)
        place.chmod(0o755)  # apt's own user reads there
        ext4 = guests.make_ext4(folder(place / "empty"), place / "ext4", ROOT_MIB * MIB, "root", "-U", ROOT_UUID)
        (place / "sources.list").write_text(sources())
        files, work = plant(folder(place / "files"), FILES), folder(place / "work")
        said("unshare", "--mount", "sh", SCRIPT, ext4, ROOT_UUID, SUITE, place / "sources.list", ",".join(PACKAGES),
             files, PASSWORD, work, seconds=MAKING_SECONDS)
        disk = place / "disk"
        starts = boot_disks.partitioned(disk, "gpt", [(boot_disks.GPT_BIOS_BOOT, 1, None),
                                                      (boot_disks.GPT_LINUX, ROOT_MIB, ext4)])
        assert starts[1] * boot_disks.SECTOR == ROOT_OFFSET
        boot_disks.install_grub(disk, "(hd0,gpt2)/boot/grub", ["part_gpt", "ext2"], starts[0], work / "grub")
        disk.rename(target)


def debian_disk():
    """The disk, raw; made if it is not there yet. Not to be written."""
    recipe = hashlib.sha256(pathlib.Path(__file__).read_bytes() + SCRIPT.read_bytes()).hexdigest()[:12]
    target = CACHE / f"debian-{SUITE}_{recipe}.raw"
    with alone():
        if not target.exists():
            make(target)
    return target
