"""vhd-mount: which files it shows, and that their bytes are the disk's."""
import errno
import json
import os
import random
import signal
import subprocess

import pytest
from conftest import fingerprint, names_in, program, run, run_ok, start

from mounts import (disk, folder, image, needs_fuse, MIB, MOUNT, convert, has_ended, mount, mounted, need, server_of, shell, unmount, wait_until,
                       write_mbr)


def test_the_disk_its_partitions_and_what_is_known_of_it(image, disk, folder):
    raw = disk.read_bytes()
    with mounted(image, folder, "-o", "ro"):
        assert names_in(folder) == ["disk", "disk.p1", "disk.p5", "info.json"]
        assert (folder / "disk").read_bytes() == raw
        assert (folder / "disk.p1").read_bytes() == raw[MIB:65 * MIB]
        logical = (135168 + 2048) * 512
        assert (folder / "disk.p5").read_bytes() == raw[logical:logical + 20480 * 512]
        info = json.loads((folder / "info.json").read_text())
        assert info == run_ok("info", "--chain", "--output=json", image).json()
        statistics = os.statvfs(folder)
        assert statistics.f_blocks * statistics.f_frsize == len(raw)
        assert os.stat(folder / "disk").st_mtime == os.stat(image).st_mtime


def test_names_and_owners(image, folder):
    with mounted(image, folder, "--name", "vhdi1", "-o", "ro,uid=1234,gid=2345,umask=027"):
        assert names_in(folder) == ["info.json", "vhdi1", "vhdi1.p1", "vhdi1.p5"]
        status = os.stat(folder / "vhdi1")
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o440)
        assert os.stat(folder).st_mode & 0o777 == 0o750


def test_gpt_and_sectors_of_4096_bytes(tmp_path, folder):
    need("mkfs.ext4", "python3")
    raw = tmp_path / "gpt.raw"
    make_gpt(raw, 4096, [(256, 1279), (2048, 4095)])
    image = convert(raw, "vhdx", "-o", "logical_sector_size=4096")
    with mounted(image, folder):
        assert names_in(folder) == ["disk", "disk.p1", "disk.p2", "info.json"]
        assert os.stat(folder / "disk.p1").st_size == 1024 * 4096
        assert os.stat(folder / "disk.p2").st_size == 2048 * 4096
        # Less than a sector, over a border of two.
        with open(folder / "disk.p2", "r+b") as file:
            file.seek(4090)
            file.write(b"across the border")
    content = bytearray(raw.read_bytes())
    content[2048 * 4096 + 4090:2048 * 4096 + 4107] = b"across the border"
    raw.write_bytes(content)
    assert run_ok("hash", image).out.split()[0] == run_ok("hash", raw).out.split()[0]


def test_a_disk_that_only_passes_for_raw_gets_no_header(tmp_path, disk, folder):
    """Whoever opens it next without naming a format would read whatever its guest chose as a parent."""
    run_ok("create", "-q", "-f", "vhdx", tmp_path / "parent.vhdx", "10M")
    run_ok("create", "-q", "-f", "vhdx", "-b", tmp_path / "parent.vhdx", tmp_path / "child.vhdx")
    header = (tmp_path / "child.vhdx").read_bytes()[:4096]
    before = fingerprint(disk)
    with mounted(disk, folder), open(folder / "disk", "r+b", buffering=0) as file:
        with pytest.raises(OSError) as refused:
            file.write(header)
            os.fsync(file.fileno())
        assert refused.value.errno in (errno.EACCES, errno.EPERM)
    assert fingerprint(disk) == before
    with mounted(disk, folder, "-o", "format=raw"):
        with open(folder / "disk", "r+b") as file:
            file.write(header)
    assert disk.read_bytes()[:4096] == header


def make_gpt(path, sector_bytes, partitions):
    """A primary table, as UEFI's specification has it, chapter 5; the backup is left out."""
    import struct
    import zlib
    size = 32 * MIB
    sectors = size // sector_bytes
    entries = b""
    for index, (first, last) in enumerate(partitions):
        kind = bytes.fromhex("af3dc60f838472478e793d69d8477de4")  # Linux file system
        entries += kind + bytes([index + 1] * 16) + struct.pack("<QQQ", first, last, 0) + b"\0" * 72
    entries = entries.ljust(128 * 128, b"\0")
    header = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, sectors - 1,
                         2 + len(entries) // sector_bytes, sectors - 6, b"\x77" * 16, 2, 128, 128, zlib.crc32(entries))
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(sector_bytes)
        file.write(header)
        file.seek(2 * sector_bytes)
        file.write(entries)
    write_mbr(path, 0, [(0xee, 1, sectors - 1)])


def data_ranges(path):
    ranges, at = [], 0
    with open(path, "rb") as file:
        while True:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                return ranges
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            ranges.append((begin, at))


def test_holes(tmp_path, folder):
    image = tmp_path / "holes.vhdx"
    run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "64M")
    run_ok("io", "-q", image, input=b"write -P 1 3M 1M\nwrite -P 2 10M 2M\n")
    with mounted(image, folder):
        assert data_ranges(folder / "disk") == [(3 * MIB, 4 * MIB), (10 * MIB, 12 * MIB)]
        copy = tmp_path / "copy"
        shell("cp", "--sparse=auto", folder / "disk", copy)
        assert os.stat(copy).st_blocks * 512 <= 4 * MIB
        before = os.stat(image).st_blocks
        shell("fallocate", "-p", "-o", 10 * MIB, "-l", 2 * MIB, folder / "disk")
        assert data_ranges(folder / "disk") == [(3 * MIB, 4 * MIB)]
        shell("fallocate", "-z", "-o", 3 * MIB + 100, "-l", 5000, folder / "disk")
        with open(folder / "disk", "rb") as file:
            file.seek(3 * MIB)
            assert file.read(6000) == b"\1" * 100 + b"\0" * 5000 + b"\1" * 900
        assert shell("fallocate", "-l", MIB, folder / "disk", check=False).returncode != 0
    assert os.stat(image).st_blocks < before
    assert run("check", "-q", image).code in (0, 3)


def test_a_disk_keeps_its_size_and_its_owner(image, folder):
    with mounted(image, folder):
        size = os.stat(folder / "disk").st_size
        for length in (0, size + 512):
            with pytest.raises(PermissionError):
                os.truncate(folder / "disk", length)
        os.truncate(folder / "disk", size)
        with pytest.raises(PermissionError):
            os.chown(folder / "disk", 1, 1)
        with pytest.raises(OSError), open(folder / "new", "wb"):
            pass
        with open(folder / "disk", "r+b", buffering=0) as file:
            with pytest.raises(OSError) as error:
                os.pwrite(file.fileno(), b"x" * 512, size)
            assert error.value.errno == errno.ENOSPC


def test_writes_of_every_kind_arrive(image, disk, folder):
    """A model of the disk in memory; writes of any length at any byte, zeroes, holes, in both files."""
    model = bytearray(disk.read_bytes())
    generator = random.Random(5)
    with mounted(image, folder):
        with open(folder / "disk", "r+b", buffering=0) as whole:
            for _ in range(300):
                length = generator.choice([1, 100, 512, 4096, 5000, 70000, 300000])
                offset = generator.randrange(MIB, 64 * MIB)
                if generator.random() < 0.2:
                    shell("fallocate", "-p", "-o", offset, "-l", length, folder / "disk")
                    model[offset:offset + length] = bytes(length)
                    continue
                bytes_ = generator.randbytes(length)
                os.pwrite(whole.fileno(), bytes_, offset)
                model[offset:offset + length] = bytes_
            os.fsync(whole.fileno())
        assert (folder / "disk.p1").read_bytes() == model[MIB:65 * MIB]
    disk.write_bytes(model)
    assert run_ok("hash", image).out.split()[0] == run_ok("hash", disk).out.split()[0]
    assert run("check", "-q", image).code in (0, 3)


def test_small_writes_side_by_side_do_not_lose_each_other(tmp_path, folder):
    """Several processes, each with its own bytes of the same sectors, past the kernel's cache."""
    image = tmp_path / "small.vhdx"
    run_ok("create", "-q", "-f", "vhdx", "-o", "logical_sector_size=4096", image, "8M")
    script = ("import os, sys\nwhich = int(sys.argv[2])\nfile = os.open(sys.argv[1], os.O_WRONLY)\n"
              "for i in range(2000): os.pwrite(file, bytes([which]) * 64, (i % 50) * 4096 + which * 64)\n")
    with mounted(image, folder):
        writers = [subprocess.Popen(["python3", "-c", script, folder / "disk", str(which)]) for which in range(1, 9)]
        assert [writer.wait() for writer in writers] == [0] * 8
    raw = tmp_path / "small.raw"
    run_ok("convert", "-q", "-O", "raw", image, raw)
    content = raw.read_bytes()
    for sector in range(50):
        for which in range(1, 9):
            begin = sector * 4096 + which * 64
            assert content[begin:begin + 64] == bytes([which]) * 64


def test_the_layers_of_a_chain(image, folder):
    before = run_ok("hash", image).out.split()[0]
    child = run_ok("snapshot", image).out.strip()
    run_ok("io", "-q", child, input=b"write -P 9 70M 1M\n")
    with mounted(child, folder, "--layers", "-o", "ro"):
        assert "disk.layer1" in names_in(folder)
        assert shell("cmp", folder / "disk", folder / "disk.layer1", check=False).returncode == 1
        assert run_ok("hash", folder / "disk.layer1").out.split()[0] == before


def test_it_ends_when_it_is_told_to(image, folder):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        mount(image, folder)
        with open(folder / "disk", "r+b") as file:
            file.seek(70 * MIB)
            file.write(bytes([number]) * 4096)
        pid = server_of(folder)
        os.kill(pid, number)
        wait_until(lambda pid=pid: has_ended(pid), "its end")
        assert names_in(folder) == []
        assert run("check", "-q", image).code in (0, 3)
        assert run_ok("io", "-q", image, input=f"read -P {int(number)} 70M 4K\n".encode())


def test_it_ends_by_a_signal_also_while_files_are_open(image, folder):
    mount(image, folder)
    with open(folder / "disk", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"\7" * 512, 71 * MIB)
        pid = server_of(folder)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: has_ended(pid), "its end")
        with pytest.raises(OSError):
            os.pread(file.fileno(), 512, 0)
    run_ok("io", "-q", image, input=b"read -P 7 71M 512\n")


def test_in_the_foreground(image, folder):
    with subprocess.Popen([MOUNT, "-f", "-s", image, folder], stderr=subprocess.PIPE) as server:
        wait_until(lambda: "disk.p1" in names_in(folder), "the mount")
        assert len((folder / "disk").read_bytes()) == 96 * MIB
        shell("umount", folder)
        assert server.wait(timeout=120) == 0
        assert server.stderr.read() == b""


def test_it_is_a_verb_too(image, folder):
    run_ok("mount", "-o", "ro", image, folder)
    assert "disk.p1" in names_in(folder)
    unmount(folder)


def test_reading_changes_nothing(image, folder):
    before = fingerprint(image)
    for words in (["-o", "ro"], []):
        with mounted(image, folder, *words):
            (folder / "disk").read_bytes()
    assert fingerprint(image) == before
