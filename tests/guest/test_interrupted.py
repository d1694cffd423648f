"""Runners that are killed and guests that go away in the middle of their writes."""
import hashlib
import signal

import pytest
from cases import boots, files_of, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import run, run_ok
from lab import archive
from lab.debian import Unavailable
from lab.machine import VHD_RUN

CRASH = 3  # of vhd-run's exit codes

# Each file is on the disk before its line is on the console.
WRITER = ("i=0; while :; do i=$((i + 1)); head -c $((i * 7919 % 200000)) /dev/urandom >/f$i; sync; "
          "echo \"synced \"f$i $(md5sum </f$i); done")


def synced_files(guest):
    """{name: MD5} of the files that the guest had synced before it was killed."""
    lines = [line.split() for line in guest.process.out.replace("\r", "").split("\n")[:-1]]
    return {line[1]: line[2] for line in lines if line[:1] == ["synced"] and len(line) == 4}


def test_the_runner_is_killed_under_a_guest_that_writes(boots, root, tmp_path):
    guest = boots.start([root])
    guest.boots()
    guest.type(WRITER + "\n")
    guest.expect(r"^synced f12 ", 120)
    guest.process.signal(signal.SIGKILL)
    assert guest.ends() == -signal.SIGKILL
    synced = synced_files(guest)
    assert len(synced) >= 11
    assert run("check", "-q", root).code in (0, 3)

    raw = raw_of(root)  # replays the image's log, in memory
    shell("e2fsck", "-f", "-y", raw, codes=(0, 1))  # and this the file system's
    shell("e2fsck", "-f", "-n", raw)
    files = files_of(raw, tmp_path / "files")
    assert {name: hashlib.md5((files / name).read_bytes()).hexdigest() for name in synced} == synced

    again = boots.start([root])
    again.boots()
    sums = again.run("cd / && md5sum " + " ".join(synced), 120).split()
    assert dict(zip(sums[1::2], sums[::2])) == synced
    again.powers_off()
    assert run("check", "-q", root).code in (0, 3)
    shell("e2fsck", "-f", "-n", raw_of(root))


def test_power_off_during_writes(boots, root, tmp_path):
    disk = tmp_path / "disk.vhdx"
    run_ok("create", "-q", "-f", "vhdx", disk, "2G")
    guest = boots.start([root, disk], cpus=2)
    guest.boots()
    guest.run("(dd if=/dev/zero of=/dev/lun/1 bs=256k oflag=direct & dd if=/dev/zero of=/dev/lun/1 bs=256k seek=4000 "
              "oflag=direct &) 2>/dev/null")
    guest.run("sleep 1")
    guest.type("poweroff -f -n\n")
    assert guest.ends() == 0
    for image in (root, disk):
        assert run("check", "-q", image).code in (0, 3)


def test_the_guest_s_kernel_gives_up(boots, root):
    """The runner ends with the end of the kernel's log, which Hyper-V's crash registers brought."""
    guest = boots.start([root])
    guest.boots()
    guest.run("echo before >/before && sync")
    guest.run("printf 'a title: \\033]0;mine\\007' >/dev/kmsg")
    guest.type("echo c >/proc/sysrq-trigger\n")
    assert guest.ends() == CRASH
    assert "a title: " in guest.process.err and "\x1b" not in guest.process.err
    assert "the guest's kernel gave up" in guest.process.err
    assert "Kernel panic - not syncing: sysrq triggered crash" in guest.process.err
    assert run("check", "-q", root).code in (0, 3)
    assert shell("debugfs", "-R", "cat /before", raw_of(root)) == "before\n"


def test_a_guest_that_may_have_given_up_goes_on(machine, tmp_path):
    try:
        kernel = archive.tiny_kernel("CRASH_NOTICE", tmp_path / "kernel")
    except Unavailable as error:
        pytest.skip(str(error))
    done = machine.run(VHD_RUN, "--memory", "64M", "--console", "none", "--kernel", kernel, seconds=120)
    assert done.code == 0 and "its kernel may have given up" in done.err
