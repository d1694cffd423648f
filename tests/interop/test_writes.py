"""What we change, other programs read; what they change, we read; and what is left of a killed writer."""
import json
import os
import random
import shutil
import signal
import subprocess

import oracles
import pytest
from conftest import KIB, MIB, run, run_ok, start
from oracles import vhd  # noqa: F401, a fixture

# 500 before a release; a run of all tests takes some.
KILLS = int(os.environ.get("VHDKIT_KILLS", "25"))

KINDS = [("vhd", "fixed"), ("vhd", "dynamic"), ("vhdx", "fixed"), ("vhdx", "dynamic")]


def commands_of(generator, size, count, unit):
    """Random writes, zeroes and flushes, and what the disk holds afterwards."""
    content = bytearray(size)
    commands = []
    for _ in range(count):
        kind = generator.choice(["write", "write", "write", "zero", "flush"])
        if kind == "flush":
            commands.append("flush")
            continue
        length = generator.choice([unit, 8 * unit, MIB, 3 * MIB])
        offset = generator.randrange(0, size - length + 1, unit)
        if kind == "zero":
            commands.append(f"zero {offset} {length}")
            content[offset:offset + length] = bytes(length)
        else:
            byte = generator.randrange(1, 256)
            commands.append(f"write -P {byte} {offset} {length}")
            content[offset:offset + length] = bytes([byte]) * length
    return commands, content


def io(image, commands):
    run_ok("io", "-q", image, input="\n".join(commands).encode())


@pytest.mark.parametrize("image_format,subformat", KINDS)
def test_others_read_what_we_changed(vhd, tmp_path, image_format, subformat):
    """Bug class 3: written, closed and opened again, an image is right for an independent reader."""
    size = 24 * MIB
    image, raw = tmp_path / f"disk.{image_format}", tmp_path / "disk.raw"
    vhd("create", "-q", "-f", image_format, "-o", f"subformat={subformat}", image, "24M")
    commands, content = commands_of(random.Random(1), size, 60, 512)
    io(image, commands)
    raw.write_bytes(content)
    vhd("compare", "-q", "-s", image, raw)
    oracles.qemu_compare(image, image_format, raw)
    if image_format == "vhdx":
        oracles.qemu_check(image)
    with oracles.vhdi_mounted(image) as disk:
        assert oracles.sha256(disk, size) == oracles.sha256(raw)


@pytest.mark.parametrize("image_format", ["vhd", "vhdx"])
def test_libvhdi_reads_a_child_that_we_changed(vhd, tmp_path, image_format):
    oracles.need("vhdimount")
    base, child = tmp_path / f"base.{image_format}", tmp_path / f"child.{image_format}"
    raw = tmp_path / "disk.raw"
    vhd("create", "-q", "-f", image_format, base, "24M")
    io(base, ["write -P 1 0 24M"])
    vhd("create", "-q", "-f", image_format, "-b", base, child)
    commands, content = commands_of(random.Random(2), 24 * MIB, 30, 512)
    io(child, ["zero 0 24M", *commands])
    vhd("convert", "-q", "-O", "raw", child, raw)
    assert raw.read_bytes() == content
    vhd("check", "-q", child, check=False)


@pytest.mark.parametrize("image_format,subformat", KINDS)
def test_we_read_what_qemu_io_wrote_into_our_image(vhd, tmp_path, image_format, subformat):
    oracles.need("qemu-io")
    image = tmp_path / f"disk.{image_format}"
    vhd("create", "-q", "-f", image_format, "-o", f"subformat={subformat}", image, "24M")
    io(image, ["write -P 1 1M 2M"])
    oracles.run("qemu-io", "-f", oracles.QEMU_NAME[image_format], "-c", "write -P 2 2M 4M", "-c",
                "write -P 3 20M 64k", image)
    io(image, ["read -P 1 1M 1M", "read -P 2 2M 4M", "read -P 3 20M 64K", "write -P 4 3M 1M"])
    io(image, ["read -P 2 2M 1M", "read -P 4 3M 1M", "read -P 2 4M 2M"])
    assert run("check", "-q", image).code in (0, 3)


def test_qemu_and_we_keep_out_of_each_others_way(vhd, tmp_path):
    oracles.need("qemu-io")
    image = tmp_path / "disk.vhdx"
    vhd("create", "-q", "-f", "vhdx", image, "24M")
    with subprocess.Popen(["qemu-io", "-f", "vhdx", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        qemu.stdin.write(b"write 0 512\n")
        qemu.stdin.flush()
        qemu.stdout.readline()
        outcome = run("io", "-c", "write 0 512", image)
        assert outcome.code == 1
        assert "in use by process" in outcome.err
        qemu.stdin.close()
    with start("io", image, stdin=subprocess.PIPE) as ours:
        ours.stdin.write(b"write 0 512\nread 0 24M\n" * 2000)
        ours.stdin.close()
        ours.stdout.readline()
        refused = subprocess.run(["qemu-io", "-f", "vhdx", "-c", "read 0 512", str(image)], check=False,
                                 capture_output=True, text=True)
        assert refused.returncode != 0
        assert "lock" in refused.stderr
        ours.kill()


SLOT = 64 * KIB
SLOT_COUNT = 24 * MIB // SLOT


class Killed:
    """A writer that is killed at a random moment, and what may be on its disk then."""

    def __init__(self, image, generator):
        self.allowed = [{0} for _ in range(SLOT_COUNT)]  # bytes that a slot may be full of
        self.image, self.generator = image, generator

    def run(self):
        commands = []
        for _ in range(400):
            if self.generator.random() < 0.1:
                commands.append(("flush", None, None))
            else:
                commands.append(("write", self.generator.randrange(SLOT_COUNT), self.generator.randrange(1, 256)))
        text = "".join("flush\n" if kind == "flush" else f"write -P {byte} {slot * SLOT} {SLOT}\n"
                       for kind, slot, byte in commands)
        with start("io", self.image, stdin=subprocess.PIPE) as writer:
            # It cannot have ended before it is killed: it waits for room in the pipe to us.
            writer.stdin.write((text + "read 0 24M\n" * 4000).encode())
            writer.stdin.close()
            done = self.generator.randrange(len(commands))
            for _ in range(done):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
        assert writer.returncode == -signal.SIGKILL, rest
        self.learn(commands, done)

    def learn(self, commands, done):
        """The writer said that `done` commands were carried out; nobody knows how many more were."""
        flushed = max((i for i in range(done) if commands[i][0] == "flush"), default=0)
        for i, (kind, slot, byte) in enumerate(commands):
            if kind == "write" and i < flushed:
                self.allowed[slot] = {byte}
            elif kind == "write":
                self.allowed[slot].add(byte)

    def settle(self, content):
        for slot in range(SLOT_COUNT):
            piece = content[slot * SLOT:(slot + 1) * SLOT]
            found = set(piece)
            assert found <= self.allowed[slot], f"slot {slot} holds {found}, allowed is {self.allowed[slot]}"
            self.allowed[slot] = found


@pytest.mark.parametrize("image_format,subformat", KINDS)
def test_a_killed_writer_leaves_old_or_new(vhd, tmp_path, image_format, subformat):
    """SIGKILL loses what the process has in memory, not what the kernel has: tests/crash does that."""
    image, raw, theirs = tmp_path / f"disk.{image_format}", tmp_path / "disk.raw", tmp_path / "theirs"
    vhd("create", "-q", "-f", image_format, "-o", f"subformat={subformat}", image, "24M")
    killed = Killed(image, random.Random(f"{image_format}{subformat}"))
    dirty_count = 0
    for _ in range(KILLS):
        killed.run()
        report = run("check", "--output=json", image).json()
        assert report["corruptions"] == 0, report["findings"]
        vhd("convert", "-q", "--force", "-O", "raw", image, raw)
        killed.settle(raw.read_bytes())
        state = json.loads(vhd("info", "--output=json", image).out)["format-specific"]["data"].get("log-state")
        if state == "dirty" and shutil.which("qemu-img"):
            dirty_count += 1
            shutil.copyfile(image, theirs)
            subprocess.run(["qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", str(theirs)], check=True)
            oracles.qemu_compare(theirs, "vhdx", raw)
    if image_format == "vhdx" and subformat == "dynamic":
        assert dirty_count > 0, "no run left a log that is not empty"


@pytest.fixture
def small_file_system(tmp_path):
    """A file system of 12 MiB, and what makes it larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12M", "none", folder], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")

    def grow():
        subprocess.run(["mount", "-o", "remount,size=200M", folder], check=True)
    yield folder, grow
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("image_format", ["vhd", "vhdx"])
def test_a_full_file_system_is_the_writers_error_and_nobodys_loss(vhd, small_file_system, image_format):
    folder, grow = small_file_system
    image = folder / f"disk.{image_format}"
    vhd("create", "-q", "-f", image_format, "-o", "block_size=1M", image, "64M")
    io(image, ["write -S 1 0 4M", "flush"])
    outcome = run("io", "-c", "write -S 2 8M 3M", "-c", "flush", "-c", "write -S 3 16M 40M", "-c", "flush", image)
    assert outcome.code == 1
    assert "No space left on device" in outcome.err
    assert outcome.out.splitlines()[:2] == ["wrote 3145728 bytes at 8388608", "flushed"]
    report = run("check", "--output=json", image).json()
    assert report["corruptions"] == 0, report["findings"]
    io(image, ["read -S 1 0 4M", "read -S 2 8M 3M"])
    grow()
    io(image, ["write -S 3 16M 40M", "flush"])
    io(image, ["read -S 1 0 4M", "read -S 2 8M 3M", "read -S 3 16M 40M"])
    assert run("check", "-q", image).code in (0, 3)
