"""What the tests of vhd-mount share: mounts that end, disks with partitions and file systems."""
import contextlib
import os
import pathlib
import random
import shutil
import struct
import subprocess
import time

import pytest

from conftest import BUILD, run_ok

MOUNT = str(BUILD / "fuse" / "vhd-mount")
MIB = 1 << 20


def need(*programs):
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    for program in programs:
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{program} is not installed")


def shell(*words, check=True, **options):
    """Another program, which must succeed unless told otherwise."""
    done = subprocess.run([*map(str, words)], check=False, capture_output=True, timeout=120, text=True, **options)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def is_mounted(folder):
    return any(line.split()[4] == str(folder) for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines())


def server_of(folder):
    """The process that serves a mount: the one whose last word is the folder."""
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else [b""]
            if words[0].endswith(b"vhd-mount") and str(folder).encode() in words:
                return int(entry.name)
    return None


def wait_until(condition, what):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited in vain: {what}")


def has_ended(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(autouse=True)
def needs_fuse():
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("these tests mount: they need root and /dev/fuse")


@pytest.fixture
def folder(tmp_path):
    """An empty mount point; whatever is mounted there at the end is taken away."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    pid = server_of(path)
    while is_mounted(path):
        shell("umount", "-l", path)
    if pid is not None:
        wait_until(lambda: has_ended(pid), "the end of the server")


def mount(image, folder, *words, **options):
    """Mounts; returns what the program said."""
    return shell(MOUNT, *words, image, folder, **options)


def unmount(folder):
    """Unmounts and waits until everything is written."""
    pid = server_of(folder)
    # A driver that was unmounted just now may still be closing the disk's file.
    wait_until(lambda: shell("umount", folder, check=False).returncode == 0, "nobody to use it")
    if pid is not None:
        wait_until(lambda: has_ended(pid), "the end of the server")


@contextlib.contextmanager
def mounted(image, folder, *words):
    mount(image, folder, *words)
    try:
        yield folder
    finally:
        unmount(folder)


def mbr_entry(kind, start, count):
    return struct.pack("<B3sB3sII", 0, b"\0" * 3, kind, b"\0" * 3, start, count)


def write_mbr(path, sector, entries):
    """A table of up to four (kind, first sector, sector count)."""
    table = b"".join(mbr_entry(*entry) for entry in entries).ljust(64, b"\0") + b"\x55\xaa"
    with open(path, "r+b") as file:
        file.seek(sector * 512 + 446)
        file.write(table)


def convert(raw, image_format, *options):
    image = raw.with_suffix("." + image_format)
    run_ok("convert", "-q", "-O", image_format, *options, raw, image)
    return image


@pytest.fixture
def disk(tmp_path):
    """Raw, 96 MiB: partition 1 has ext4 with a file, 5 is a logical one with random bytes, no 2 to 4."""
    need("mkfs.ext4")
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "greeting").write_text("hello\n")
    path = tmp_path / "disk.raw"
    with open(path, "wb") as file:
        file.truncate(96 * MIB)
    shell("mkfs.ext4", "-q", "-F", "-d", tree, "-E", f"offset={MIB}", path, "64M")
    write_mbr(path, 0, [(0x83, 2048, 131072), (5, 135168, 40960)])
    write_mbr(path, 135168, [(0x83, 2048, 20480)])
    with open(path, "r+b") as file:
        file.seek((135168 + 2048) * 512)
        file.write(random.Random(5).randbytes(MIB))
    shutil.rmtree(tree)
    return path


@pytest.fixture(params=["vhdx", "vhd"])
def image(request, disk):
    return convert(disk, request.param)


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """Where temporary overlays are made."""
    path = tmp_path / "spool"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path
