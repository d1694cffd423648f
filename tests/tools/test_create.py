"""vhd create: new images and children."""
import os

import pytest
from conftest import GIB, MIB, fingerprint, names_in, oracle, run, run_ok, unpack_sample


@pytest.mark.parametrize("kind, options, size", [
    ("raw", "", "3M"), ("vhd", "subformat=fixed", "3M"), ("vhd", "", "2040G"),
    ("vhdx", "subformat=fixed", "3M"), ("vhdx", "", "64T"), ("vhdx", "block_size=256M", "1G"),
    ("vhdx", "logical_sector_size=4096,physical_sector_size=4096", "1G")])
def test_new_images_are_empty_and_sound(kind, options, size, tmp_path):
    image = tmp_path / f"disk.{kind}"
    words = ["-o", options] if options else []
    made = run_ok("create", "-f", kind, *words, image, size)
    assert (made.out, made.err) == ("", "")
    assert names_in(tmp_path) == [image.name]
    entries = run_ok("map", "--output=json", image).json()
    assert not any(entry["data"] for entry in entries)
    if kind != "raw":
        assert run("check", image).code == 0


@pytest.mark.parametrize("text, size", [("1G", GIB), ("1g", GIB), ("1GiB", GIB), ("1GB", GIB),
                                        ("1024M", GIB), ("1.5G", 3 * GIB // 2), ("1073741824", GIB)])
def test_sizes(text, size, tmp_path):
    run_ok("create", "-f", "vhdx", tmp_path / "x", text)
    assert run_ok("info", "--output=json", tmp_path / "x").json()["virtual-size"] == size


def test_qemu_img_reads_new_images(tmp_path):
    for kind, name in (("vhd", "vpc"), ("vhdx", "vhdx")):
        run_ok("create", "-f", kind, tmp_path / kind, "1G")
        shown = oracle("qemu-img", "info", "-f", name, "--output=json", tmp_path / kind)
        assert shown.json()["virtual-size"] == GIB


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_a_child_reads_as_its_parent(kind, disk, tmp_path):
    parent, child = tmp_path / f"parent.{kind}", tmp_path / f"child.{kind}"
    run_ok("convert", "-O", kind, disk, parent)
    before = fingerprint(parent)
    run_ok("create", "-f", kind, "-b", parent, "-F", kind, child)
    assert run("compare", "-s", disk, child).code == 0
    assert fingerprint(parent) == before
    shown = run_ok("info", "--output=json", child).json()
    assert shown["format-specific"]["data"]["type"] == "differencing"
    assert shown["full-backing-filename"] == str(parent)
    assert run("check", child).code == 0


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_a_child_may_be_larger(kind, disk, tmp_path):
    parent, child = tmp_path / f"parent.{kind}", tmp_path / f"child.{kind}"
    run_ok("convert", "-O", kind, disk, parent)
    run_ok("create", "-f", kind, "-b", parent, child, "20M")
    assert run_ok("info", "--output=json", child).json()["virtual-size"] == 20 * MIB
    assert run("compare", disk, child).code == 0
    assert run("compare", "-s", disk, child).code == 1


@pytest.mark.parametrize("words, message", [
    (["-f", "vhdx", "x"], "size"),
    (["-f", "vhdx", "x", "0"], "size"),
    (["-f", "vhdx", "x", "1000"], "512"),
    (["-f", "vhdx", "x", "65T"], "64 TiB"),
    (["-f", "vhd", "x", "2041G"], "2040"),
    (["-f", "qcow2", "x", "1G"], "qcow2"),
    (["-f", "vhdx", "-b", "nothing", "x"], "nothing"),
    (["-f", "vhdx", "-b", "disk.raw", "x"], "raw"),
    (["-f", "vhdx", "-F", "vhdx", "x", "1G"], "-b"),
    (["-f", "vhd", "--profile", "azure", "x", "10M"], "20 MiB"),
    (["-f", "vhdx", "--guest", "plan9", "x", "1G"], "plan9"),
])
def test_what_cannot_be_made_leaves_nothing(words, message, disk, tmp_path):
    outcome = run("create", *words, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert message in outcome.err
    assert names_in(tmp_path) == [disk.name]


def test_keys_of_qemu_img_that_say_what_is_made_anyway(tmp_path):
    run_ok("create", "-f", "vhdx", "-o", "log_size=1M,block_state_zero=off", tmp_path / "x", "1G")
    assert run("check", "-q", tmp_path / "x").code == 0


@pytest.mark.parametrize("words, message", [
    (["vhdx", "-o", "log_size=2M"], "log_size: 2M cannot be had"),
    (["vhdx", "-o", "block_state_zero=on"], 'block_state_zero: "on" cannot be had'),
    (["vhd", "-o", "log_size=1M"], "vhdx only"),
    (["vhd", "-o", "block_state_zero=off"], "vhdx only"),
])
def test_keys_of_qemu_img_that_cannot_be_had(words, message, tmp_path):
    outcome = run("create", "-f", *words, tmp_path / "x", "1G")
    assert outcome.code == 1
    assert message in outcome.err
    assert names_in(tmp_path) == []


def test_an_image_that_exists_is_replaced_only_with_force(tmp_path):
    image = tmp_path / "disk.vhdx"
    image.write_bytes(b"precious")
    refused = run("create", "-f", "vhdx", image, "1G")
    assert refused.code == 1 and "--force" in refused.err
    assert image.read_bytes() == b"precious"
    run_ok("create", "--force", "-f", "vhdx", image, "1G")
    assert run("check", image).code == 0


def test_a_parent_is_not_replaced_by_its_child(tmp_path):
    parent = tmp_path / "parent.vhdx"
    run_ok("create", "-f", "vhdx", parent, "1G")
    before = fingerprint(parent)
    assert run("create", "--force", "-f", "vhdx", "-b", parent, parent).code == 1
    assert fingerprint(parent) == before


def test_a_child_of_a_real_image(tmp_path):
    parent = unpack_sample("hyperv-dynamic-10M.vhdx.gz", tmp_path)
    before = fingerprint(parent)
    child = tmp_path / "child.avhdx"
    run_ok("create", "-f", "vhdx", "-b", parent, child)
    assert run("compare", "-s", parent, child).code == 0
    assert fingerprint(parent) == before


def test_guests_and_profiles_choose_the_block_size(tmp_path):
    for words, block in ((["--guest", "linux"], MIB), (["--profile", "wsl"], MIB), ([], 32 * MIB),
                         (["-o", "block_size=4M"], 4 * MIB)):
        run_ok("create", "--force", "-f", "vhdx", *words, tmp_path / "x.vhdx", "1G")
        shown = run_ok("info", "--output=json", tmp_path / "x.vhdx").json()
        assert shown["cluster-size"] == block


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_a_parent_whose_path_windows_could_not_write_is_refused(kind, tmp_path):
    for name, message in ((os.fsdecode(b"caf\xe9"), "not UTF-8"), ("a\\b", "a backslash in its path")):
        folder = tmp_path / name
        folder.mkdir()
        parent = folder / f"parent.{kind}"
        run_ok("create", "-q", "-f", kind, parent, "3M")
        outcome = run("create", "-q", "-f", kind, "-b", parent, tmp_path / "child")
        assert outcome.code == 1 and message in outcome.err
        # From beside it the path is only its name.
        run_ok("create", "-q", "-f", kind, "-b", parent, folder / "child")
        run_ok("hash", folder / "child")
    assert not (tmp_path / "child").exists()


def test_a_vhdx_child_is_its_parents_disk_by_default(tmp_path):
    """[MS-VHDX] 2.6.1.2: what says something of the virtual disk is copied. A VHD's identifier is the file's."""
    own = "01234567-89ab-cdef-0123-456789abcdef"
    identifiers = {}
    for kind in ("vhd", "vhdx"):
        for name, words in (("base", []), ("child", ["-b"]), ("other", ["-o", f"disk_id={own}", "-b"])):
            image, parent = tmp_path / f"{name}.{kind}", tmp_path / f"base.{kind}"
            last = [parent, image] if words else [image, "3M"]
            run_ok("create", "-q", "-f", kind, *words, *last)
            data = run_ok("info", "--output=json", image).json()["format-specific"]["data"]
            identifiers[kind, name] = data["disk-id" if kind == "vhdx" else "unique-id"]
    assert identifiers["vhdx", "child"] == identifiers["vhdx", "base"]
    assert identifiers["vhd", "child"] != identifiers["vhd", "base"]
    assert identifiers["vhdx", "other"] == identifiers["vhd", "other"] == own


def test_hyper_v_takes_no_vhd_child_of_another_size(tmp_path):
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    run_ok("create", "-q", "-f", "vhd", base, "20M")
    outcome = run("create", "-f", "vhd", "--profile", "hyperv", "-b", base, child, "30M")
    assert outcome.code == 1 and "a parent of its own size" in outcome.err
    assert not child.exists()
    run_ok("create", "-q", "-f", "vhd", "--profile", "hyperv", "-b", base, child)
    assert run("check", "-q", "--profile", "hyperv", child).code == 0
