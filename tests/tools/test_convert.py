"""vhd convert: what arrives, what is refused, what is left behind."""
import fcntl
import gzip
import os
import resource
import shutil
import signal
import struct
import subprocess

import pytest
from conftest import (GIB, MIB, fingerprint, names_in, oracle, program, run, run_ok, unpack_sample,
                      write_raw)

TARGETS = [("raw", ""), ("vhd", "subformat=fixed"), ("vhd", "subformat=dynamic"),
           ("vhd", "block_size=512K"), ("vhdx", "subformat=fixed"), ("vhdx", "subformat=dynamic"),
           ("vhdx", "block_size=1M"), ("vhdx", "logical_sector_size=4096")]


def options_of(text):
    return ["-o", text] if text else []


@pytest.mark.parametrize("kind, options", TARGETS)
def test_there_and_back(kind, options, disk, tmp_path):
    image, back = tmp_path / f"image.{kind}", tmp_path / "back.raw"
    made = run_ok("convert", "-O", kind, *options_of(options), disk, image)
    assert (made.out, made.err) == ("", "")
    assert run("compare", "-s", disk, image).code == 0
    run_ok("convert", "-O", "raw", image, back)
    assert back.read_bytes() == disk.read_bytes()
    assert names_in(tmp_path) == ["back.raw", "disk.raw", f"image.{kind}"]


@pytest.mark.parametrize("kind, options", TARGETS)
def test_measure_is_exact(kind, options, disk, tmp_path):
    image = tmp_path / f"image.{kind}"
    measured = run_ok("measure", "-O", kind, *options_of(options), "--output=json", disk).json()
    run_ok("convert", "-O", kind, *options_of(options), disk, image)
    assert measured["required"] == image.stat().st_size <= measured["fully-allocated"]
    text = run_ok("measure", "-O", kind, *options_of(options), disk).out
    assert text.splitlines()[0] == f"required size: {measured['required']}"


@pytest.mark.parametrize("kind, options", [("raw", ""), ("vhd", "subformat=fixed"), ("vhd", ""),
                                           ("vhdx", "")])
def test_a_stream_is_as_long_as_measured_and_holds_the_disk(kind, options, disk, tmp_path):
    image = tmp_path / f"streamed.{kind}"
    streamed = run_ok("convert", "-O", kind, *options_of(options), disk, "-").raw_out
    measured = run_ok("measure", "-O", kind, *options_of(options), "--output=json", disk).json()
    assert len(streamed) == measured["required"]
    image.write_bytes(streamed)
    assert run("compare", "-s", disk, image).code == 0


def test_standard_input_is_raw(disk, tmp_path):
    image = tmp_path / "image.vhdx"
    run_ok("convert", "-O", "vhdx", "-", image, input=disk.read_bytes())
    assert run("compare", "-s", disk, image).code == 0
    assert names_in(tmp_path) == ["disk.raw", "image.vhdx"]
    refused = run("convert", "-f", "vhd", "-O", "raw", "-", tmp_path / "x", input=b"")
    assert refused.code == 1 and "raw" in refused.err
    for option in (["--parent", disk], ["--map", "C:=/"], ["--ignore-log"]):
        refused = run("convert", *option, "-O", "raw", "-", tmp_path / "x", input=b"")
        assert refused.code == 1 and option[0] in refused.err
    assert run("convert", "--force", "-O", "raw", disk, "-").code == 1
    both = run_ok("convert", "-O", "raw", "-", "-", input=disk.read_bytes())
    assert both.raw_out == disk.read_bytes()


def test_gzip_and_qcow2_are_sources(disk, tmp_path):
    packed, qcow2 = tmp_path / "disk.raw.gz", tmp_path / "disk.qcow2"
    packed.write_bytes(gzip.compress(disk.read_bytes()))
    run_ok("convert", "-O", "raw", packed, tmp_path / "from-gz")
    assert (tmp_path / "from-gz").read_bytes() == disk.read_bytes()
    oracle("qemu-img", "convert", "-c", "-O", "qcow2", disk, qcow2)
    run_ok("convert", "-O", "raw", qcow2, tmp_path / "from-qcow2")
    assert (tmp_path / "from-qcow2").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("kind, qemu_name", [("vhd", "vpc"), ("vhdx", "vhdx"), ("raw", "raw")])
def test_qemu_img_reads_what_is_made(kind, qemu_name, disk, tmp_path):
    image = tmp_path / f"image.{kind}"
    run_ok("convert", "-O", kind, disk, image)
    # Not -s: there it also wants the same allocation.
    compared = oracle("qemu-img", "compare", "-f", "raw", "-F", qemu_name, disk, image)
    assert (compared.code, compared.out) == (0, "Images are identical.\n"), compared.err
    shown = oracle("qemu-img", "info", "-f", qemu_name, "--output=json", image)
    assert shown.json()["virtual-size"] == 10 * MIB


def test_a_sample_is_converted_and_not_changed(tmp_path):
    image = unpack_sample("hyperv-dynamic-10M.vhdx.gz", tmp_path)
    before = fingerprint(image)
    run_ok("convert", "-O", "vhd", "-o", "subformat=fixed,force_size", image, tmp_path / "x.vhd")
    assert run("compare", "-s", image, tmp_path / "x.vhd").code == 0
    assert fingerprint(image) == before


def test_recipes_of_qemu_img_are_understood(disk, tmp_path):
    run_ok("convert", "-p", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on", "-m",
           "16", "-U", disk, tmp_path / "x.vhd")
    assert (tmp_path / "x.vhd").stat().st_size == 10 * MIB + 512


# Bug class 29: nothing is opened for writing before all options are checked.
@pytest.mark.parametrize("words, message", [
    (["-O", "qcow2"], "qcow2"),
    (["-O", "vhd", "-o", "cluster_size=64K"], "block_size"),
    (["-O", "vhd", "-o", "block_size=3M"], "block size"),
    (["-O", "vhd", "-o", "subformat=fixed,block_size=2M"], "fixed"),
    (["-O", "vhd", "-o", "logical_sector_size=4096"], "512"),
    (["-O", "vhd", "-o", "subformat=differencing"], "parent"),
    (["-O", "raw", "-o", "subformat=fixed"], "raw"),
    (["-O", "raw", "-o", "disk_id=01234567-89ab-cdef-0123-456789abcdef"], "identifier"),
    (["-O", "vhdx", "--profile", "azure"], "Azure"),
    (["-O", "vhd", "--profile", "azure", "-o", "subformat=dynamic"], "Azure"),
    (["-O", "vhdx", "-o", "windows_parent_path=C:\\x.vhdx"], "parent"),
    (["-O", "vhdx", "-m", "17"], "16"),
    (["-O", "vhdx", "-m", "0"], "16"),
])
def test_bad_options_leave_the_target_as_it_was(words, message, disk, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    before = fingerprint(target)
    outcome = run("convert", "--force", *words, disk, target)
    assert (outcome.code, outcome.out) == (1, "")
    assert message in outcome.err
    assert fingerprint(target) == before
    assert names_in(tmp_path) == ["disk.raw", "target"]


def test_a_target_that_exists_is_replaced_only_with_force(disk, tmp_path):
    target = tmp_path / "target.vhd"
    target.write_bytes(b"precious")
    refused = run("convert", "-O", "vhd", disk, target)
    assert refused.code == 1
    assert "exists" in refused.err and "--force" in refused.err
    assert target.read_bytes() == b"precious"
    run_ok("convert", "--force", "-O", "vhd", disk, target)
    assert run("compare", "-s", disk, target).code == 0


@pytest.fixture(params=["a process's lock", "qemu-io"])
def written(request, tmp_path):
    """A file that somebody has open for writing, and who that is."""
    target = write_raw(tmp_path / "target", MIB, [(0, 4096)])
    if request.param == "a process's lock":
        with open(target, "r+b") as file:
            # struct flock: a read lock on the byte with which QEMU's writers say that nobody else may write.
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0))
            yield target, os.getpid()
        return
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed")
    words = ["qemu-io", "-f", "raw", str(target)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        # It reads commands once it has the file. To ask for the file meanwhile would take its lock away.
        writer.stdin.write(b"length\n")
        writer.stdin.flush()
        assert b"1 MiB" in writer.stdout.readline()
        yield target, writer.pid
        writer.stdin.close()


@pytest.mark.parametrize("words", [["convert", "-O", "vhd", "disk.raw"], ["create", "-f", "vhd"]])
def test_a_target_that_somebody_writes_is_not_replaced(words, written, disk, tmp_path):
    target, process = written
    before, names = fingerprint(target), names_in(tmp_path)
    size = ["1M"] if words[0] == "create" else []
    outcome = run(words[0], "--force", *words[1:], target, *size, cwd=tmp_path)
    assert outcome.code == 1 and f"{target}: in use by process {process} " in outcome.err
    assert fingerprint(target) == before
    assert names_in(tmp_path) == names


def test_a_replaced_target_keeps_its_owner_where_that_is_allowed(disk, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root has files of several owners")
    target = tmp_path / "target"
    for prefix, owner in (([], (1234, 1235)), (["setpriv", "--bounding-set", "-chown"], (0, 0))):
        target.write_bytes(b"precious")
        os.chown(target, 1234, 1235)
        os.chmod(target, 0o640)
        outcome = subprocess.run([*prefix, program("vhd"), "convert", "--force", "-O", "vhd", str(disk), str(target)],
                                 check=False)
        status = target.stat()
        assert (outcome.returncode, status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, *owner, 0o640)
        assert run("compare", "-s", disk, target).code == 0


def test_a_target_that_cannot_be_written_is_replaced_all_the_same(disk, tmp_path):
    target, other_name = tmp_path / "target", tmp_path / "other-name"
    target.write_bytes(b"precious")
    other_name.hardlink_to(target)
    os.chmod(target, 0o400)
    words = [program("vhd"), "convert", "--force", "-O", "vhd", str(disk), str(target)]
    bound = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    assert subprocess.run([*bound, *words], check=False).returncode == 0
    assert run("compare", "-s", disk, target).code == 0
    assert other_name.read_bytes() == b"precious"


def test_a_source_is_never_the_target(disk, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(disk)
    before = fingerprint(disk)
    for target in (disk, link, tmp_path / "." / "disk.raw"):
        outcome = run("convert", "--force", "-O", "vhd", disk, target)
        assert outcome.code == 1
        assert "source" in outcome.err
        assert fingerprint(disk) == before
    parent, child = tmp_path / "parent.vhd", tmp_path / "child.vhd"
    run_ok("create", "-f", "vhd", parent, "1M")
    run_ok("create", "-f", "vhd", "-b", parent, child)
    assert run("convert", "--force", "-O", "raw", child, parent).code == 1
    assert run("chain", child).code == 0


@pytest.mark.parametrize("target", ["folder", "/dev/null", "fifo", "missing/file", "x/"])
def test_targets_that_are_no_files(target, disk, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = names_in(tmp_path)
    outcome = run("convert", "--force", "-O", "vhd", disk, target, cwd=tmp_path)
    assert outcome.code == 1
    assert target.rstrip("/") in outcome.err
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("kind", ["raw", "vhd", "vhdx"])
def test_a_full_disk_leaves_nothing(kind, disk, tmp_path):
    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    outcome = run("convert", "-O", kind, disk, tmp_path / "x", preexec_fn=limit_file_size)
    assert outcome.code == 1
    assert "x" in outcome.err
    assert names_in(tmp_path) == ["disk.raw"]


def test_a_source_that_is_damaged_leaves_nothing(disk, tmp_path):
    image = tmp_path / "disk.vhd"
    run_ok("convert", "-O", "vhd", disk, image)
    table = run_ok("info", "--output=json", image).json()["format-specific"]["data"]["table-offset"]
    with open(image, "r+b") as file:
        file.seek(table + 16)
        file.write((0x7FFFFF00).to_bytes(4, "big"))
    outcome = run("convert", "-O", "raw", image, tmp_path / "x")
    assert outcome.code == 1
    assert "BAT" in outcome.err
    assert names_in(tmp_path) == ["disk.raw", "disk.vhd"]


def test_sectors_of_4096_do_not_become_512_unseen(disk, tmp_path):
    image = tmp_path / "4k.vhdx"
    run_ok("convert", "-O", "vhdx", "-o", "logical_sector_size=4096", disk, image)
    refused = run("convert", "-O", "vhd", image, tmp_path / "x.vhd")
    assert refused.code == 1
    assert "logical_sector_size=512" in refused.err
    run_ok("convert", "-O", "vhd", "-o", "logical_sector_size=512", image, tmp_path / "x.vhd")
    assert run("compare", "-s", disk, tmp_path / "x.vhd").code == 0


def test_azure_gets_a_disk_of_whole_mib(tmp_path):
    source = write_raw(tmp_path / "odd.raw", 20 * MIB + 512, [(20 * MIB, 512)])
    image = tmp_path / "azure.vhd"
    run_ok("convert", "-O", "vhd", "--profile", "azure", source, image)
    assert image.stat().st_size == 21 * MIB + 512
    assert run("check", "--profile", "azure", image).code == 0
    assert run("compare", source, image).code == 0


def test_measure_of_a_size(tmp_path):
    empty = run_ok("measure", "-O", "vhd", "--size", "1G", "--output=json").json()
    run_ok("create", "-f", "vhd", tmp_path / "x.vhd", "1G")
    assert empty["required"] == (tmp_path / "x.vhd").stat().st_size
    raw = run_ok("measure", "-O", "raw", "--size", "1G", "--output=json").json()
    assert raw == oracle("qemu-img", "measure", "-O", "raw", "--size", "1G", "--output=json").json()
    for words in (["-O", "vhd"], ["-O", "vhd", "--size", "1G", tmp_path / "x.vhd"],
                  ["-O", "vhd", "--size", "1G", "-f", "raw"],
                  ["-O", "vhd", "--size", "1G", "--ignore-log"]):
        refused = run("measure", *words)
        assert refused.code == 1 and "--size" in refused.err


def test_a_terminal_gets_no_image(disk):
    leader, follower = os.openpty()
    outcome = run("convert", "-O", "vhd", disk, "-", stdout=follower)
    assert outcome.code == 1
    assert "terminal" in outcome.err
    outcome = run("convert", "-O", "vhd", "-", "/nonexistent/x", stdin=follower)
    assert outcome.code == 1
    assert "terminal" in outcome.err
    os.close(leader)
    os.close(follower)


def test_a_huge_sparse_disk_is_quick(tmp_path):
    source = write_raw(tmp_path / "huge.raw", 500 * GIB, [(123 * GIB, MIB)])
    run_ok("convert", "-O", "vhdx", source, tmp_path / "x.vhdx")
    assert (tmp_path / "x.vhdx").stat().st_size < 100 * MIB


def test_what_no_option_can_replace_is_refused_without_advice(disk, tmp_path):
    for target in ("/dev/null", tmp_path):
        outcome = run("convert", "-O", "raw", disk, target)
        assert outcome.code == 1
        assert "exists and is no regular file" in outcome.err and "--force" not in outcome.err
