"""vhd check: exit codes, findings, profiles. What each structure can get wrong is tested beside the code."""
import fcntl
import os

import pytest
from conftest import MIB, fingerprint, oracle, run, run_ok, unpack_sample

QEMU_FIELDS = {"filename", "format", "check-errors", "image-end-offset", "total-clusters",
               "allocated-clusters", "fragmented-clusters", "corruptions", "leaks"}


@pytest.mark.parametrize("name", ["virtualpc-dynamic.vhd.bz2", "hyperv-dynamic-10M.vhdx.gz",
                                  "hyperv-fixed-10M.vhd.gz", "iotest-dirtylog-10G-4M.vhdx.bz2"])
def test_samples_are_sound(name, tmp_path):
    image = unpack_sample(name, tmp_path)
    before = fingerprint(image)
    outcome = run("check", "--output=json", image)
    report = outcome.json()
    # The one that was cut off while it was written has space that nothing uses.
    leaks = 2 if name.startswith("iotest-dirtylog") else 0
    assert (outcome.code, report["corruptions"], report["leaks"]) == (3 if leaks else 0, 0, leaks), report["findings"]
    assert QEMU_FIELDS <= set(report)
    assert fingerprint(image) == before


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
@pytest.mark.parametrize("subformat", ["fixed", "dynamic"])
def test_what_we_make_is_clean(kind, subformat, disk, tmp_path):
    image = tmp_path / f"disk.{kind}"
    run_ok("convert", "-O", kind, "-o", f"subformat={subformat}", disk, image)
    outcome = run_ok("check", "--output=json", image)
    assert outcome.json()["findings"] == []
    assert "no errors were found" in run_ok("check", image).out
    quiet = run_ok("check", "-q", image)
    assert (quiet.out, quiet.err) == ("", "")


def test_damage_is_a_finding_with_its_place(disk, tmp_path):
    image = tmp_path / "disk.vhd"
    run_ok("convert", "-O", "vhd", disk, image)
    table = run_ok("info", "--output=json", image).json()["format-specific"]["data"]["table-offset"]
    with open(image, "r+b") as file:  # the first BAT entry leads past the end of the file
        file.seek(table)
        file.write((0x7FFFFF00).to_bytes(4, "big"))
    broken = run("check", "--output=json", image)
    assert broken.code == 2
    assert broken.json()["corruptions"] >= 1
    found = [f for f in broken.json()["findings"] if f["severity"] == "corruption"]
    assert any(f["file-offset"] == table and "BAT" in f["structure"] for f in found)
    text = run("check", image)
    assert text.code == 2
    assert "corruption: " in text.out and hex(table) in text.out
    assert run("check", "-q", image).code == 2


def test_what_cannot_be_checked(disk, tmp_path):
    for path in (disk, tmp_path / "nothing"):
        outcome = run("check", path)
        assert (outcome.code, outcome.out) == (1, "")
        assert str(path) in outcome.err


def test_a_broken_chain_is_corrupt(tmp_path):
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    run_ok("create", "-f", "vhd", base, "10M")
    run_ok("create", "-f", "vhd", "-b", base, child)
    assert run("check", child).code == 0
    base.unlink()
    outcome = run("check", "--output=json", child)
    assert outcome.code == 2
    assert "parent-missing" in {finding["code"] for finding in outcome.json()["findings"]}


def test_profiles_say_what_another_program_refuses(disk, tmp_path):
    dynamic, azure = tmp_path / "dynamic.vhd", tmp_path / "azure.vhd"
    run_ok("create", "-f", "vhd", dynamic, "30M")
    refused = run("check", "--profile", "azure", dynamic)
    assert refused.code == 2
    assert "azure-subformat" in refused.out and "learn.microsoft.com" in refused.out
    run_ok("create", "-f", "vhd", "--profile", "azure", azure, "30M")
    assert run("check", "--profile", "azure", azure).code == 0
    assert azure.stat().st_size == 30 * MIB + 512


def test_windows_wants_a_vhd_child_of_its_parents_size(tmp_path):
    parent = tmp_path / "parent.vhd"
    run_ok("create", "-f", "vhd", parent, "10M")
    for size, code in (("10M", 0), ("20M", 2)):
        child = tmp_path / f"child-{size}.vhd"
        run_ok("create", "-f", "vhd", "-b", parent, child, size)
        outcome = run("check", "--profile", "hyperv", "--output=json", child)
        found = [finding["code"] for finding in outcome.json()["findings"]]
        assert ("hyperv-parent-size" in found) == (code == 2), found
        assert outcome.code == code, found
    larger = tmp_path / "child.vhdx"
    run_ok("create", "-f", "vhdx", tmp_path / "parent.vhdx", "10M")
    run_ok("create", "-f", "vhdx", "-b", tmp_path / "parent.vhdx", larger, "20M")
    assert "hyperv-parent-size" not in run("check", "--profile", "hyperv", larger).out


@pytest.mark.parametrize("kind, offset, length", [
    ("vhdx", 64 << 10, 512), ("vhdx", 128 << 10, 512), ("vhdx", 192 << 10, 512),
    ("vhdx", 256 << 10, 512), ("vhd", 0, 512), ("vhd", -512, 512)])
def test_repair_mends_a_damaged_copy(kind, offset, length, disk, tmp_path):
    image = tmp_path / f"disk.{kind}"
    run_ok("convert", "-O", kind, disk, image)
    whole = image.read_bytes()
    with open(image, "r+b") as file:
        file.seek(offset, 2 if offset < 0 else 0)
        file.write(b"\xee" * length)
    damaged = fingerprint(image)
    assert "no errors" not in run("check", image).out
    assert fingerprint(image) == damaged  # without --repair nothing is written

    text = run_ok("check", "--repair", image)
    assert "repaired: wrote the " in text.out
    assert run("check", image).code == 0
    assert run("compare", "-s", disk, image).code == 0
    assert len(image.read_bytes()) == len(whole)
    again = run_ok("check", "--repair", "--output=json", image).json()
    assert (again["repairs"], again["corruptions"]) == ([], 0)
    assert "nothing to repair" in run_ok("check", "--repair", image).out


def test_repair_replays_the_log_for_programs_that_cannot(tmp_path):
    image = unpack_sample("iotest-dirtylog-10G-4M.vhdx.bz2", tmp_path)
    before = run_ok("hash", image).out
    mended = run("check", "--repair", "--output=json", image)
    assert mended.code == 3, mended.err  # space that nothing uses stays
    assert mended.json()["repairs"] == ["replayed the log and emptied it"]
    assert run_ok("hash", image).out == before
    assert run_ok("info", "--output=json", image).json()["dirty-flag"] is False
    theirs = oracle("qemu-img", "info", "-f", "vhdx", image)  # it refuses a dirty log
    assert theirs.code == 0, theirs.err


def test_repair_of_what_it_does_not_know(disk, tmp_path):
    before = fingerprint(disk)
    refused = run("check", "--repair", disk)
    assert refused.code == 1 and "raw" in refused.err
    assert fingerprint(disk) == before
    assert run("check", "--repair", tmp_path / "nothing").code == 1


def test_repair_keeps_out_of_a_file_that_is_in_use(tmp_path):
    image = tmp_path / "disk.vhdx"
    run_ok("create", "-f", "vhdx", image, "10M")
    with open(image, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        refused = run("check", "--repair", image)
        assert refused.code == 1
        assert str(image) in refused.err and str(os.getpid()) in refused.err
        # Whoever writes may leave anything for a moment: others look only if they insist.
        assert run("check", image).code == 1
        assert run("check", "-U", image).code == 0


def test_a_child_that_was_written_in_many_chunks_has_no_leak(tmp_path):
    """A chunk needs a sector bitmap block only for a block that is there in part."""
    base, child = tmp_path / "base.vhdx", tmp_path / "child.vhdx"
    run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", base, "20G")
    run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", "-b", base, child)
    writes = ["write 0 1M", "write 4G 1M", "write 8G 512", "write 12G 1M", f"write {(12 << 30) + (5 << 19)} 4K"]
    run_ok("io", "-q", *(word for write in writes for word in ("-c", write)), child)
    assert run_ok("check", "--output=json", child).json()["findings"] == []
