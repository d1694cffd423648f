"""vhd info and chain: what an image says of itself, its fields against qemu-img's."""
import os
import resource
import shutil

import pytest
from conftest import GIB, MIB, TIB, fingerprint, oracle, run, run_ok, unpack_sample, write_raw

QEMU_NAME = {"raw": "raw", "vhd": "vpc", "vhdx": "vhdx", "qcow2": "qcow2"}


@pytest.mark.parametrize("name, size, facts", [
    ("iotest-dirtylog-10G-4M.vhdx.bz2", 10 * GIB, {"type": "dynamic", "log-state": "dirty"}),
    ("virtualpc-dynamic.vhd.bz2", 136363130880,
     {"type": "dynamic", "creator-application": "vpc ", "size-from": "geometry",
      "current-size": 136365211648}),
    ("hyperv-dynamic-10M.vhdx.gz", 10485760,
     {"type": "dynamic", "block-size": 32 * MIB, "disk-id": "788015f0-5e93-4bd2-a5de-b0cd8459db11"}),
    ("hyperv-fixed-10M.vhd.gz", 10485760, {"type": "fixed"}),
])
def test_samples(name, size, facts, tmp_path):
    image = unpack_sample(name, tmp_path)
    before = fingerprint(image)
    shown = run_ok("info", "--output=json", image).json()
    assert shown["virtual-size"] == size
    data = shown["format-specific"]["data"]
    assert {key: data[key] for key in facts} == facts
    assert shown["dirty-flag"] == ("dirty" in name)
    assert fingerprint(image) == before
    text = run_ok("info", image).out
    assert f"({size} bytes)" in text


@pytest.mark.parametrize("kind", ["raw", "vhd", "vhdx", "qcow2"])
def test_json_has_the_fields_of_qemu_img(kind, disk, tmp_path):
    image = tmp_path / f"image.{kind}"
    options = ["-o", "force_size=on"] if kind == "vhd" else []
    assert oracle("qemu-img", "convert", "-O", QEMU_NAME[kind], *options, disk, image).code == 0
    theirs = oracle("qemu-img", "info", "-f", QEMU_NAME[kind], "--output=json", image).json()
    ours = run_ok("info", "--output=json", image).json()
    for field in ("virtual-size", "filename", "actual-size", "dirty-flag"):
        assert ours[field] == theirs[field]
    assert ours.get("cluster-size") == theirs.get("cluster-size")
    assert ours["format"] == kind


def test_chain_of_qcow2_as_qemu_img_shows_it(disk, tmp_path):
    base, child = tmp_path / "base.qcow2", tmp_path / "child.qcow2"
    oracle("qemu-img", "convert", "-O", "qcow2", disk, base)
    oracle("qemu-img", "create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", child)
    theirs = oracle("qemu-img", "info", "--backing-chain", "--output=json", child).json()
    ours = run_ok("info", "--chain", "--output=json", child).json()
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs):
        for field in ("virtual-size", "filename", "cluster-size", "backing-filename",
                      "full-backing-filename", "backing-filename-format"):
            assert mine.get(field) == other.get(field)
    assert run_ok("info", "--backing-chain", "--output=json", child).json() == ours
    assert run_ok("info", "--output=json", child).json() == ours[0]


def make_chain(folder, kind):
    """base, middle, child in one folder."""
    base, middle, child = (folder / f"{name}.{kind}" for name in ("base", "middle", "child"))
    run_ok("create", "-f", kind, base, "1G")
    run_ok("create", "-f", kind, "-b", base, middle)
    run_ok("create", "-f", kind, "-b", middle, child)
    return base, middle, child


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_chain_names_every_image_and_its_verdict(kind, tmp_path):
    images = make_chain(tmp_path, kind)[::-1]
    report = run_ok("chain", "--output=json", images[0]).json()
    assert report["whole"] is True
    assert [link["filename"] for link in report["images"]] == [str(image) for image in images]
    assert {link["verdict"] for link in report["images"]} == {"ok"}
    assert [link["depth"] for link in report["images"]] == [0, 1, 2]
    text = run_ok("chain", images[0]).out
    assert all(str(image) in text for image in images)


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_a_missing_parent(kind, tmp_path):
    base, middle, child = make_chain(tmp_path, kind)
    middle.unlink()
    broken = run("chain", "--output=json", child)
    assert broken.code == 2
    assert broken.json()["whole"] is False
    assert broken.json()["images"][1]["verdict"] == "missing"
    assert str(middle) in broken.json()["images"][1]["tried"]
    assert run("chain", child).code == 2
    assert "tried: " + str(middle) in run("chain", child).out
    # info still tells what it can; whatever reads the disk refuses.
    warned = run_ok("info", child)
    assert "warning" in warned.err and "child" in warned.err
    for verb in ("map", "hash"):
        refused = run(verb, child)
        assert refused.code == 1
        assert str(child) in refused.err and "--map" in refused.err
    assert run("compare", child, base).code == 2


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_a_wrong_parent(kind, tmp_path):
    base, middle, child = make_chain(tmp_path, kind)
    shutil.copy(base, middle)
    broken = run("chain", "--output=json", child)
    assert broken.code == 2
    assert broken.json()["images"][1]["verdict"] == "wrong-identity"
    assert run("hash", child).code == 1


def test_chain_of_what_cannot_be_opened(tmp_path):
    assert run("chain", tmp_path / "nothing").code == 1


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_a_moved_parent_is_found_by_map_and_by_parent(kind, tmp_path):
    vms, elsewhere = tmp_path / "vms", tmp_path / "elsewhere"
    vms.mkdir()
    elsewhere.mkdir()
    base, child = vms / f"base.{kind}", vms / f"child.{kind}"
    run_ok("create", "-f", kind, base, "1G")
    run_ok("create", "-f", kind, "-b", base, "-o", f"windows_parent_path=C:\\vm\\base.{kind}", child)
    base.rename(elsewhere / base.name)
    assert run("chain", child).code == 2
    assert run("chain", "--map", f"C:\\vm={elsewhere}", child).code == 0
    assert run("chain", "--map", "D:\\=/", "--map", f"c:/VM={elsewhere}", child).code == 0
    assert run("chain", "--parent", elsewhere / base.name, child).code == 0
    assert run("chain", "--parent", child, child).code == 2


def test_identifiers_that_were_asked_for(tmp_path):
    identifiers = {"disk-id": "01234567-89ab-cdef-0123-456789abcdef",
                   "data-write-guid": "fedcba98-7654-3210-fedc-ba9876543210"}
    image = tmp_path / "disk.vhdx"
    run_ok("create", "-f", "vhdx", "-o", f"disk_id={identifiers['disk-id']}", "-o",
           f"data_write_guid={identifiers['data-write-guid']}", image, "1G")
    data = run_ok("info", "--output=json", image).json()["format-specific"]["data"]
    assert {key: data[key] for key in identifiers} == identifiers


def test_actual_size_is_what_the_file_takes(tmp_path):
    image = write_raw(tmp_path / "disk.raw", 64 * MIB, [(MIB, 128 << 10)])
    shown = run_ok("info", "--output=json", image).json()
    assert shown["actual-size"] == os.stat(image).st_blocks * 512 < MIB


def test_a_huge_image_is_not_read_whole(tmp_path):
    image = tmp_path / "huge.vhdx"
    run_ok("create", "-f", "vhdx", "-o", "block_size=1M", image, "64T")
    limit = (32 * MIB, 32 * MIB)  # its BAT has 512 MiB
    shown = run_ok("info", "--output=json", image,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit))
    assert shown.json()["virtual-size"] == 64 * TIB


@pytest.mark.parametrize("path", ["/dev/null", "/", "fifo"])
def test_what_is_no_file_is_refused_at_once(path, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    outcome = run("info", path, cwd=tmp_path)
    assert outcome.code == 1
    assert path in outcome.err


def test_control_characters_of_an_image_do_not_reach_the_terminal(tmp_path):
    base, child = tmp_path / "a\x1b]0;owned\x07.vhd", tmp_path / "child.vhd"
    run_ok("create", "-f", "vhd", base, "1M")
    run_ok("create", "-f", "vhd", "-b", base, child)
    for words in (["info", child], ["chain", child], ["info", "--chain", child]):
        assert "\x1b" not in run_ok(*words).out
