"""vhd resize: disks made larger and smaller in place, with a model of the content and other programs as witnesses."""
import os
import random
import shutil
import signal
import struct
import subprocess

import pytest
from conftest import fingerprint, names_in, oracle, program, run, run_ok

MIB = 1 << 20
KINDS = {"raw": [], "vhd": [], "vhd-fixed": ["-o", "subformat=fixed"], "vhdx": ["-o", "block_size=1M"],
         "vhdx-fixed": ["-o", "subformat=fixed,block_size=1M"]}
QEMU_NAME = {"raw": "raw", "vhd": "vpc", "vhdx": "vhdx"}


def io(image, image_format, *commands):
    run_ok("io", "-q", "-f", image_format, image, input="\n".join(commands).encode())


def size_of(image, image_format):
    return run_ok("info", "-f", image_format, "--output=json", image).json()["virtual-size"]


def content(image, image_format, folder):
    raw = folder / "content.raw"
    run_ok("convert", "-q", "-f", image_format, "-O", "raw", image, raw)
    data = raw.read_bytes()
    raw.unlink()
    return data


def checked(image, image_format):
    if image_format != "raw":
        assert run("check", "-q", image).code in (0, 3)
    if image_format == "vhdx":
        assert oracle("qemu-img", "check", "-f", "vhdx", image).code == 0


@pytest.fixture(params=KINDS)
def made(request, tmp_path):
    """An image of 8 MiB with something at its begin, its end and between."""
    image_format = request.param.split("-")[0]
    image = tmp_path / f"disk.{image_format}"
    run_ok("create", "-q", "-f", image_format, *KINDS[request.param], image, "8M")
    io(image, image_format, "write -S 1 0 100K", "write -S 2 3M 1M", f"write -S 3 {8 * MIB - 70000 // 512 * 512} 64K")
    return image, image_format


def test_a_larger_disk_has_zeroes_behind_its_content(made, tmp_path):
    image, image_format = made
    before = content(image, image_format, tmp_path)
    outcome = run_ok("resize", "-f", image_format, image, "20M")
    assert outcome.out == f"{image}: 8 MiB (8388608 bytes) -> 20 MiB (20971520 bytes)\n"
    assert content(image, image_format, tmp_path) == before + bytes(12 * MIB)
    report = run_ok("resize", "-f", image_format, "--output=json", image, "+1536K").json()
    assert report == {"filename": str(image), "old-virtual-size": 20 * MIB, "virtual-size": 43 * MIB // 2}
    io(image, image_format, "write -P 7 21M 512K")
    assert content(image, image_format, tmp_path) == before + bytes(13 * MIB) + b"\7" * (MIB // 2)
    checked(image, image_format)
    raw = tmp_path / "raw"
    run_ok("convert", "-q", "-f", image_format, "-O", "raw", image, raw)
    compared = oracle("qemu-img", "compare", "-f", QEMU_NAME[image_format], "-F", "raw", image, raw)
    assert compared.code == 0, compared.out


def test_a_smaller_disk_needs_to_be_wanted(made, tmp_path):
    image, image_format = made
    before, mark = content(image, image_format, tmp_path), fingerprint(image)
    for size in ("5M", "-3M"):
        outcome = run("resize", "-f", image_format, image, size)
        assert outcome.code == 1 and "--shrink allows it" in outcome.err
    assert fingerprint(image) == mark
    run_ok("resize", "-q", "--shrink", "-f", image_format, image, "-4608K")
    assert content(image, image_format, tmp_path) == before[:7 * MIB // 2]
    checked(image, image_format)
    run_ok("resize", "-q", "-f", image_format, image, "8M")
    assert content(image, image_format, tmp_path) == before[:7 * MIB // 2] + bytes(9 * MIB // 2)
    checked(image, image_format)


def test_sizes_up_and_down_against_a_model(made, tmp_path):
    image, image_format = made
    generator = random.Random(5)
    model = content(image, image_format, tmp_path)
    for step in range(12):
        size = generator.randrange(1, 60) * MIB // 4
        run_ok("resize", "-q", "--shrink", "-f", image_format, image, size)
        model = model[:size] + bytes(max(0, size - len(model)))
        at = generator.randrange(0, size // 4096) * 4096
        io(image, image_format, f"write -P {step + 1} {at} 4K", f"write -P {step + 1} {size - 512} 512")
        model = bytearray(model)
        model[at:at + 4096] = bytes([step + 1]) * 4096
        model[size - 512:] = bytes([step + 1]) * 512
        assert content(image, image_format, tmp_path) == bytes(model), f"step {step}"
        checked(image, image_format)


def test_what_is_refused_changes_nothing(made):
    image, image_format = made
    mark = fingerprint(image)
    for words, says in ((["0"], "it must be a multiple"), (["8M1"], "is no size"), (["8388609"], "it must be a multiple"),
                        (["-9M"], "leave nothing"), (["+16E"], ""), (["--shrink", "x"], "is no size"), ([], "is missing")):
        outcome = run("resize", "-f", image_format, image, *words)
        assert outcome.code == 1 and says in outcome.err, words
    assert fingerprint(image) == mark


def test_a_bat_that_gets_too_long(tmp_path, disk):
    """127 GiB are the most that a BAT region of 1 MiB has with blocks of 1 MiB; a VHD's BAT has a block behind it."""
    for image_format, options, size in (("vhdx", ["-o", "block_size=1M"], "300G"), ("vhd", [], "300G")):
        image, raw = tmp_path / f"large.{image_format}", tmp_path / "large.raw"
        run_ok("convert", "-q", "-O", image_format, *options, disk, image)
        shutil.copy(disk, raw)
        run_ok("resize", "-q", image, size)
        io(image, image_format, "write -P 5 299G 1M")
        run_ok("resize", "-q", "-f", "raw", raw, size)
        io(raw, "raw", "write -P 5 299G 1M")
        assert run("check", "-q", image).code == 0
        assert run("compare", "-q", image, raw).code == 0
        # qemu-img compare would read all of it.
        for pattern, place in ((5, "299G 1M"), (0, "298G 1M"), (0, "290M 1M")):
            read = oracle("qemu-io", "-r", "-f", QEMU_NAME[image_format], "-c", f"read -P {pattern} {place}", image)
            assert read.code == 0 and "verification failed" not in read.out, read.out
        image.unlink()


def test_a_child_grows_alone(tmp_path):
    base, child = tmp_path / "base.vhdx", tmp_path / "child.avhdx"
    run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", base, "8M")
    io(base, "vhdx", "write -P 1 0 8M")
    run_ok("create", "-q", "-f", "vhdx", "-b", base, child)
    mark = fingerprint(base)
    outcome = run("resize", base, "9M")
    assert outcome.code == 1 and f"is the parent of {child}" in outcome.err
    assert fingerprint(base) == mark
    run_ok("resize", "-q", "--shrink", child, "3584K")
    run_ok("resize", "-q", child, "12M")
    assert content(child, "vhdx", tmp_path) == b"\1" * (7 * MIB // 2) + bytes(17 * MIB // 2)
    assert fingerprint(base) == mark
    assert run("check", "-q", child).code in (0, 3)  # QEMU has no differencing VHDX


def test_a_differencing_vhd_keeps_its_parents_size(tmp_path):
    base, child = tmp_path / "base.vhd", tmp_path / "child.avhd"
    run_ok("create", "-q", "-f", "vhd", base, "8M")
    run_ok("create", "-q", "-f", "vhd", "-b", base, child)
    mark = fingerprint(child)
    outcome = run("resize", child, "12M")
    assert outcome.code == 1 and "a differencing VHD has its parent's size" in outcome.err
    assert fingerprint(child) == mark


@pytest.fixture
def fixed(tmp_path):
    """A fixed VHD of another user's."""
    if os.geteuid() != 0:
        pytest.skip("only root has files of several owners")
    image = tmp_path / "disk.vhd"
    run_ok("create", "-q", "-f", "vhd", "-o", "subformat=fixed", image, "8M")
    os.chown(image, 1234, 1235)
    os.chmod(image, 0o660)
    return image


# acl(5) as Linux stores it: version 2, then tag, rights and user of each entry.
ACCESS_LIST = struct.pack("<I" + "HHI" * 5, 2, 1, 6, 0xffffffff, 2, 6, 1236, 4, 4, 0xffffffff, 16, 6, 0xffffffff,
                          32, 0, 0xffffffff)


def test_a_fixed_vhd_made_anew_is_still_its_owners(fixed):
    kept = {"user.note": b"kept", "system.posix_acl_access": ACCESS_LIST}
    for name, value in list(kept.items()):
        try:
            os.setxattr(fixed, name, value)
        except OSError:  # a file system without them
            del kept[name]
    before = fixed.stat()
    for size in ("20M", "4M"):
        run_ok("resize", "-q", "--shrink", fixed, size)
        after = fixed.stat()
        assert (after.st_uid, after.st_gid, after.st_mode) == (1234, 1235, before.st_mode)
        assert {name: os.getxattr(fixed, name) for name in kept} == kept


def test_a_fixed_vhd_whose_owner_or_names_cannot_be_kept_stays(fixed, tmp_path):
    before = fingerprint(fixed)
    words = ["setpriv", "--bounding-set", "-chown", program("vhd"), "resize", str(fixed), "20M"]
    refused = subprocess.run(words, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert f"{fixed}: giving its owner to the file that takes its place: Operation not permitted" in refused.stderr
    assert (fingerprint(fixed), names_in(tmp_path)) == (before, ["disk.vhd"])

    (tmp_path / "other-name").hardlink_to(fixed)
    outcome = run("resize", fixed, "20M")
    assert outcome.code == 1 and "the file has 2 names (hard links)" in outcome.err
    assert (fingerprint(fixed), names_in(tmp_path)) == (before, ["disk.vhd", "other-name"])
    run_ok("resize", fixed, "8M")  # which it has


def test_a_footer_that_lies_at_the_new_end_of_a_raw_disk(tmp_path):
    """A guest may have put it there and wait; nobody said that the file is raw."""
    vhd = tmp_path / "parent.vhd"
    run_ok("create", "-q", "-f", "vhd", vhd, "10M")
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(4 * MIB) + vhd.read_bytes()[:512] + bytes(4 * MIB))
    before = fingerprint(disk)
    refused = run("resize", "--shrink", disk, str(4 * MIB + 512))
    assert refused.code == 1
    assert "disk.raw: at the new end lies what looks like the footer of a vhd" in refused.err
    assert fingerprint(disk) == before
    run_ok("resize", "-q", "--shrink", "-f", "raw", disk, str(4 * MIB + 512))
    assert disk.stat().st_size == 4 * MIB + 512


@pytest.fixture
def loop_device(tmp_path):
    """A block device of 8 MiB."""
    (tmp_path / "content").write_bytes(bytes(8 * MIB))
    made = subprocess.run(["/usr/sbin/losetup", "--find", "--show", str(tmp_path / "content")], check=False,
                          capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"there are no loop devices: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["/usr/sbin/losetup", "--detach", made.stdout.strip()], check=True)


def test_a_device_has_the_size_that_it_has(loop_device):
    for words in (["+8M"], ["--shrink", "4M"]):
        outcome = run("resize", loop_device, *words)
        assert outcome.code == 1 and f"{loop_device}: is a device" in outcome.err


def test_other_formats_are_refused(tmp_path):
    qcow2, packed = tmp_path / "a.qcow2", tmp_path / "a.raw.gz"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(qcow2), "8M"], check=True)
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(range(256)) * 4096)
    subprocess.run(["gzip", "-k", str(raw)], check=True)
    for path in (qcow2, packed):
        mark = fingerprint(path)
        assert run("resize", path, "16M").code == 1
        assert fingerprint(path) == mark


@pytest.mark.parametrize("call", ["io_uring_enter", "fallocate", "ftruncate", "renameat"])
@pytest.mark.parametrize("size", ["20M", "2560K"])
def test_a_resize_that_is_killed_at_each_of_its_steps(made, tmp_path, call, size):
    """Killed at its n-th system call of a kind, for every n until it ends by itself: the old disk or the new one."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    image, image_format = made
    old = content(image, image_format, tmp_path)
    bytes_new = int(size[:-1]) * (MIB if size[-1] == "M" else 1024)
    new = old[:bytes_new] + bytes(max(0, bytes_new - len(old)))
    stored = tmp_path / "stored"
    shutil.copy(image, stored)
    for step in range(1, 300):
        killed = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                 f"inject={call}:signal=SIGKILL:when={step}", program("vhd"), "resize", "-q", "--shrink",
                                 "-f", image_format, str(image), size], check=False, capture_output=True)
        assert content(image, image_format, tmp_path) in (old, new), f"killed at {call} {step}"
        assert image_format == "raw" or run("check", "-q", image).code in (0, 3)
        run_ok("resize", "-q", "--shrink", "-f", image_format, image, size)
        assert content(image, image_format, tmp_path) == new, f"killed at {call} {step}, then done again"
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        for name in set(names_in(tmp_path)) - {image.name, "stored"}:
            os.unlink(tmp_path / name)
        shutil.copy(stored, image)
    assert killed.returncode == 0
