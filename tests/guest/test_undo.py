"""Undo disks: a run's changes beside the disk, then kept, merged or discarded; also after the runner was killed."""
import os
import signal

import pytest
from cases import boots, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import MIB, fingerprint, names_in, run, run_ok
from lab import archive
from lab.debian import Unavailable
from lab.machine import VHD_RUN

BAD_START = 1


def undo_disk(image):
    return image.with_name(image.name + ".undo.avhdx")


def content(image, path):
    """A file of the root in the image; empty where there is none."""
    return shell("debugfs", "-R", f"cat {path}", raw_of(image))


def writes_and_ends(boots, disks, end, text):
    guest = boots.start(disks, extra=["--undo", end])
    guest.boots()
    guest.run(f"echo {text} >>/written && sync")
    guest.powers_off()
    return guest


@pytest.fixture
def off_kernel(tmp_path):
    """One that does nothing but switch itself off."""
    try:
        return archive.tiny_kernel("POWER_OFF", tmp_path / "off-kernel")
    except Unavailable as error:
        pytest.skip(str(error))


def starts_and_ends(machine, kernel, disks, *words):
    """The runner, with a guest that does nothing."""
    options = [word for disk in disks for word in ("--disk", disk)]
    return machine.run(VHD_RUN, "--kernel", kernel, "--console", "none", *words, *options, seconds=120)


def test_discarded(boots, root):
    before = fingerprint(root)
    writes_and_ends(boots, [root], "discard", "gone")
    assert fingerprint(root) == before
    assert not undo_disk(root).exists()


def test_kept_and_then_merged(boots, root, machine, off_kernel):
    before = fingerprint(root)
    guest = writes_and_ends(boots, [root], "keep", "first")
    assert f"the changes are in {undo_disk(root)}" in guest.process.err
    assert fingerprint(root) == before
    assert run("check", "-q", undo_disk(root)).code in (0, 3)
    assert content(undo_disk(root), "/written") == "first\n"

    again = writes_and_ends(boots, [root], "keep", "second")
    assert "goes on with the changes of an earlier run" in again.process.err
    assert fingerprint(root) == before
    assert content(undo_disk(root), "/written") == "first\nsecond\n"

    # Whoever does not know of it is told; and it is broken only by writing the disk, which this guest does not.
    warned = starts_and_ends(machine, off_kernel, [root])
    assert warned.code == 0
    assert f"is the parent of {undo_disk(root)}" in warned.err

    merged = starts_and_ends(machine, off_kernel, [root], "--undo", "merge")
    assert merged.code == 0, merged.err
    assert "were merged into it" in merged.err
    assert not undo_disk(root).exists()
    assert content(root, "/written") == "first\nsecond\n"
    shell("e2fsck", "-f", "-n", raw_of(root))


def test_merged_at_the_end(boots, root):
    writes_and_ends(boots, [root], "merge", "it was here")
    assert not undo_disk(root).exists()
    assert run("check", "-q", root).code in (0, 3)
    assert content(root, "/written") == "it was here\n"


@pytest.mark.parametrize("end", ["keep", "merge", "discard"])
def test_after_the_runner_was_killed(boots, root, machine, off_kernel, end):
    before = fingerprint(root)
    guest = boots.start([root], extra=["--undo", "discard"])
    guest.boots()
    guest.run("echo synced >/written && sync")
    guest.process.signal(signal.SIGKILL)
    assert guest.ends() == -signal.SIGKILL
    assert fingerprint(root) == before
    assert undo_disk(root).exists()

    done = starts_and_ends(machine, off_kernel, [root], "--undo", end)
    assert done.code == 0, done.err
    assert "of an earlier run" in done.err
    assert undo_disk(root).exists() == (end == "keep")
    if end == "merge":
        raw = raw_of(root)
        shell("e2fsck", "-f", "-y", raw, codes=(0, 1))
        assert shell("debugfs", "-R", "cat /written", raw) == "synced\n"
    else:
        assert fingerprint(root) == before
    if end == "keep":
        raw = raw_of(undo_disk(root))
        shell("e2fsck", "-f", "-y", raw, codes=(0, 1))
        assert shell("debugfs", "-R", "cat /written", raw) == "synced\n"


def test_disks_that_have_none(machine, tmp_path, off_kernel):
    """Refused before any child is made; read-only disks need none."""
    image, raw = tmp_path / "disk.vhdx", tmp_path / "disk.raw"
    run_ok("create", "-q", "-f", "vhdx", image, "64M")
    raw.write_bytes(bytes(MIB))
    before = [fingerprint(path) for path in (image, raw)]
    refused = starts_and_ends(machine, off_kernel, [image, raw], "--undo", "discard")
    assert refused.code == BAD_START
    assert f"{raw}: a raw disk has no undo disk" in refused.err
    assert [fingerprint(path) for path in (image, raw)] == before
    assert names_in(tmp_path) == ["disk.raw", "disk.vhdx", "off-kernel"]
    allowed = starts_and_ends(machine, off_kernel, [image, f"{raw},ro"], "--undo", "discard")
    assert allowed.code == 0, allowed.err
    wrong = starts_and_ends(machine, off_kernel, [image], "--undo", "perhaps")
    assert wrong.code == BAD_START and "keep, merge or discard" in wrong.err


def test_a_guest_that_does_not_start_leaves_none(machine, tmp_path):
    image, kernel = tmp_path / "disk.vhdx", tmp_path / "kernel"
    run_ok("create", "-q", "-f", "vhdx", image, "64M")
    kernel.write_bytes(bytes(4096))
    before = fingerprint(image)
    refused = starts_and_ends(machine, kernel, [image], "--undo", "keep")
    assert refused.code == BAD_START and str(kernel) in refused.err
    assert fingerprint(image) == before
    assert names_in(tmp_path) == ["disk.vhdx", "kernel"]


@pytest.fixture
def small(machine, tmp_path):
    """A function: a file system of so many bytes in the machine, where it is to be seen by nobody else."""
    folder = tmp_path / "small"
    folder.mkdir()

    def make(size):
        assert machine.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder).code == 0
        return folder
    yield make
    # Lazily: where the case has failed, its guest uses it yet.
    machine.run("umount", "-l", folder)


def test_no_room_for_the_child(machine, small, off_kernel):
    folder = small(16 * MIB)
    image = folder / "disk.vhdx"
    vhd = VHD_RUN.parents[2] / "tools" / "vhd"
    assert machine.run(vhd, "create", "-q", "-f", "vhdx", image, "64M").code == 0
    machine.run("dd", "if=/dev/zero", f"of={folder}/filler", "bs=64k")
    before = machine.run("md5sum", image).out
    refused = starts_and_ends(machine, off_kernel, [image], "--undo", "discard")
    assert refused.code == BAD_START
    assert "No space left" in refused.err
    assert machine.run("md5sum", image).out == before
    assert machine.run("ls", "-A", folder).out.split() == ["disk.vhdx", "filler"]


@pytest.mark.parametrize("end", ["discard", "merge"])
def test_the_child_fills_its_file_system(machine, boots, root, small, end, off_kernel):
    """The guest's writes fail, and nothing else."""
    folder = small(24 * MIB)
    image = folder / "disk.vhdx"
    vhd = VHD_RUN.parents[2] / "tools" / "vhd"
    assert machine.run(vhd, "create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "256M").code == 0
    before = machine.run(vhd, "hash", image).out
    guest = boots.start([root, image], extra=["--undo", end])
    guest.boots()
    guest.run("dd if=/dev/zero bs=64k count=64 2>/dev/null | tr '\\0' 'x' | dd of=/dev/lun/1 bs=64k conv=fsync "
              "iflag=fullblock", 120)
    code, _ = guest.run("dd if=/dev/zero bs=64k count=640 2>/dev/null | tr '\\0' 'y' | dd of=/dev/lun/1 bs=64k seek=64 "
                        "conv=fsync iflag=fullblock", 240, check=False)
    assert code != 0
    assert guest.run("echo still here") == "still here\n"
    guest.type("off\n")
    code = guest.ends(120)
    assert machine.run(vhd, "check", "-q", image).code in (0, 3)
    left = machine.run("ls", folder).out.split()
    if end == "discard":
        assert (code, left) == (0, ["disk.vhdx"])
        assert machine.run(vhd, "hash", image).out == before
    elif code == 0:
        assert left == ["disk.vhdx"]
        assert machine.run(vhd, "io", "-q", "-c", "read -P 0x78 0 4M", image).code == 0
    else:
        # The disk has no room for it either: it stays, and says how it goes on.
        child = folder / next(name for name in left if ".undo." in name)
        assert "vhd merge" in guest.process.err and str(child) in guest.process.err
        assert machine.run(vhd, "io", "-q", "-c", "read -P 0x78 0 4M", child).code == 0
        guest.note(f"the merge ended with {child.name}")
        # A part of it may be in the disk: nothing discards it any more.
        refused = starts_and_ends(machine, off_kernel, [image], "--undo", "discard")
        assert refused.code == BAD_START and "No space left" in refused.err, refused.err
        assert f"of which {image} has a part" in refused.err, refused.err
        for words in ["--disk", image], ["--disk", f"{image},ro"]:
            refused = machine.run(VHD_RUN, "--kernel", off_kernel, "--console", "none", *words)
            assert refused.code == BAD_START and "has a part of the changes" in refused.err, refused.err
        assert machine.run(vhd, "io", "-q", "-c", "read -P 0x78 0 4M", child).code == 0
    assert os.path.exists(root)
