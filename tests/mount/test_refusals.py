"""vhd-mount: what it refuses, when it only reads, and what becomes of errors under a mount."""
import errno
import os
import re
import signal
import subprocess

import pytest
from conftest import fingerprint, names_in, run, run_ok, start, unpack_sample

from mounts import (disk, folder, image, needs_fuse, MIB, MOUNT, convert, is_mounted, mount, mounted, server_of, shell, unmount, wait_until, has_ended,
                       write_mbr)


def refused(*words):
    done = shell(MOUNT, *words, check=False)
    assert done.returncode == 1
    return done.stderr


def options_of(folder):
    return shell("findmnt", "-n", "-o", "OPTIONS", folder).stdout.split(",")


def test_a_mount_point_that_will_not_do(image, folder, tmp_path):
    before = fingerprint(image)
    assert "No such file" in refused(image, tmp_path / "missing")
    assert "Not a directory" in refused(image, image)
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("x")
    assert "is not empty; -o nonempty hides what is in it" in refused(image, full)
    assert "No such file" in refused(tmp_path / "missing.vhdx", folder)
    mount(image, folder, "-o", "ro")
    assert "something is mounted there already" in refused(image, folder)
    unmount(folder)
    mount(image, full, "-o", "ro,nonempty")
    assert "disk" in names_in(full)
    unmount(full)
    assert names_in(full) == ["file"]
    assert fingerprint(image) == before


def test_options_that_will_not_do(image, folder):
    cases = [(["--commit"], "are about an --overlay"), (["-o", "ro", "--overlay", "tmp"], "nothing to overlay"),
             (["--overlay", "tmp", "--commit", "--discard"], "one of the two"), (["-o", "umask=9"], "no octal number"),
             (["-o", "uid=me"], "no number"), (["--name", "a/b"], "without /"), (["--partition", "x"], "is a number"),
             (["-U", "-o", "rw"], "only read"), (["-o", "nonsense"], ""), (["--partition", "7"], "no partition 7"),
             (["--partition", "5"], "partition 5 holds no file system")]
    for words, says in cases:
        assert says in refused(*words, image, folder), words
        assert not is_mounted(folder)
        assert server_of(folder) is None
    assert run("check", "-q", image).code == 0


def test_every_long_option_stands_behind_o(image, folder):
    """As fstab needs it: each says what it has against its value, and libfuse is not asked for any."""
    options = re.findall(r"^ +(?:-\w, )?--(\S+)( \S+)?", shell(MOUNT, "--help").stdout, re.MULTILINE)
    names = {name: bool(value) for name, value in options if name not in ("help", "man", "version")}
    assert {"cache", "map", "fs", "force-share", "ignore-log"} <= names.keys()
    for name, takes_value in names.items():
        word, says = (name, "a value is wanted") if takes_value else (f"{name}=1", "takes no value")
        assert f"-o {name}: {says}" in refused("-o", word, image, folder)
    assert "the modes are writeback" in refused("-o", "cache=fast", image, folder)
    with mounted(image, folder, "-o", "cache=none,ro"):
        assert "disk" in names_in(folder)


def test_two_writers(image, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with mounted(image, folder, "-o", "rw"):
        refused("-o", "rw", image, other)
        refused("-o", "ro", image, other)
        assert not is_mounted(other)
        outcome = run("io", "-q", image, input=b"write 0 512\n")
        assert outcome.code == 1
    with mounted(image, folder, "-o", "ro"):
        # Others read it, so nobody writes; who does not insist reads, too.
        assert shell(MOUNT, "-o", "rw", image, other, check=False).returncode == 1
        said = mount(image, other).stderr
        assert "mounted read-only" in said
        assert "ro" in options_of(other)
        unmount(other)


def test_when_it_only_reads(image, folder):
    with mounted(image, folder):
        assert "rw" in options_of(folder)
    run_ok("snapshot", image)
    before = fingerprint(image)
    said = mount(image, folder).stderr
    assert "mounted read-only: it is the parent of" in said
    assert "ro" in options_of(folder)
    with pytest.raises(OSError) as error, open(folder / "disk", "r+b"):
        pass
    assert error.value.errno == errno.EROFS
    unmount(folder)
    assert fingerprint(image) == before


def test_a_dirty_log_is_read_and_left_alone(folder, tmp_path):
    image = unpack_sample("iotest-dirtylog-10G-4M.vhdx.bz2", tmp_path)
    before = fingerprint(image)
    said = mount(image, folder).stderr
    assert "mounted read-only: its log is dirty" in said
    with open(folder / "disk", "rb") as file:
        begin = file.read(MIB)
    unmount(folder)
    assert fingerprint(image) == before
    assert len(begin) == MIB


def test_hostile_partition_tables(tmp_path, folder):
    raw = tmp_path / "hostile.raw"
    tables = [
        [(0x83, 2048, 0xffffffff), (0x83, 0xfffffff0, 100), (0x83, 2048, 2048), (0x83, 3000, 2048)],
        [(5, 2048, 4096)],  # holds itself
        [(5, 2048, 0xfffff000)],
        [(0xee, 1, 0xffffffff)],
    ]
    for table in tables:
        with open(raw, "wb") as file:
            file.truncate(16 * MIB)
        write_mbr(raw, 0, table)
        write_mbr(raw, 2048, [(0x83, 1, 10), (5, 0, 4096)])
        with mounted(raw, folder, "--format", "raw", "-o", "ro"):
            for name in names_in(folder):
                size = os.stat(folder / name).st_size
                assert size <= 16 * MIB
                assert len((folder / name).read_bytes()) == size


def test_a_file_that_shrinks_or_goes_away_under_the_mount(image, folder):
    mount(image, folder, "-o", "ro")
    os.truncate(image, MIB)
    with open(folder / "disk", "rb") as file:
        file.seek(60 * MIB)
        with pytest.raises(OSError) as error:
            while file.read(MIB):
                pass
        assert error.value.errno == errno.EIO
    os.unlink(image)
    assert "disk" in names_in(folder)
    unmount(folder)


def test_a_full_disk(tmp_path, folder):
    small = tmp_path / "small"
    small.mkdir()
    shell("mount", "-t", "tmpfs", "-o", "size=40M", "tmpfs", small)
    try:
        image = small / "disk.vhdx"
        run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "200M")
        written = 0
        with mounted(image, folder):
            with open(folder / "disk", "r+b", buffering=0) as file, pytest.raises(OSError) as error:
                for index in range(200):
                    os.pwrite(file.fileno(), bytes([index]) * MIB, index * MIB)
                    os.fsync(file.fileno())
                    written = index
            assert error.value.errno == errno.ENOSPC
            assert written > 5
        assert run("check", "-q", image).code in (0, 3)
        commands = "\n".join(f"read -P {index} {index}M 1M" for index in range(1, written + 1))
        run_ok("io", "-q", image, input=commands.encode())
    finally:
        shell("umount", small)


def test_help_and_manual():
    text = shell(MOUNT, "--help").stdout
    for option in ("--overlay", "--partition", "--fs", "--layers", "--name", "fstab", "systemd"):
        assert option in text
    assert shell(MOUNT, "--man").stdout.startswith(".TH")
    assert shell(MOUNT, "--version").stdout.startswith("vhd-mount ")
    assert "Try" in refused("--nonsense")
