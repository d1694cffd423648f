"""vhd set and vhd reparent: what an image says of itself and of its parent."""
import pytest
from conftest import fingerprint, oracle, run, run_ok

GUID = "0e9a3c1b-6f2d-4b7e-9a11-c0ffee123456"


def facts(image):
    return run_ok("info", "--output=json", image).json()["format-specific"]["data"]


def disk_hash(image):
    return run_ok("hash", image).out.split()[0]


@pytest.fixture(params=["vhd", "vhdx"])
def pair(request, tmp_path):
    base, child = tmp_path / f"base.{request.param}", tmp_path / f"child.{request.param}"
    run_ok("create", "-q", "-f", request.param, base, "16M")
    run_ok("io", "-q", "-c", "write -S 1 1M 2M", base)
    run_ok("create", "-q", "-f", request.param, "-b", base, child)
    run_ok("io", "-q", "-c", "write -S 2 2M 4K", child)
    return base, child


def test_values_of_a_vhdx(tmp_path, disk):
    image = tmp_path / "disk.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", disk, image)
    before, content = facts(image), disk_hash(image)
    run_ok("set", "--disk-id", GUID, "--data-write-guid", "random", "--physical-sector-size", "512", image)
    after = facts(image)
    assert after["disk-id"] == GUID
    assert after["physical-sector-size"] == 512 and before["physical-sector-size"] == 4096
    assert after["data-write-guid"] != before["data-write-guid"]
    assert {key for key in before if before[key] != after[key]} <= {
        "disk-id", "physical-sector-size", "data-write-guid", "file-write-guid"}
    assert disk_hash(image) == content
    run_ok("check", "-q", image)
    assert oracle("qemu-img", "check", "-f", "vhdx", image).code == 0


def test_the_identifier_of_a_vhd(tmp_path, disk):
    for subformat in ("fixed", "dynamic"):
        image = tmp_path / f"{subformat}.vhd"
        run_ok("convert", "-q", "-O", "vhd", "-o", f"subformat={subformat}", disk, image)
        content = disk_hash(image)
        run_ok("set", "--disk-id", GUID, image)
        assert facts(image)["unique-id"] == GUID
        assert disk_hash(image) == content
        run_ok("check", "-q", image)


def test_an_identity_that_children_name_is_kept_unless_forced(pair):
    base, child = pair
    option = "--disk-id" if base.suffix == ".vhd" else "--data-write-guid"
    before = fingerprint(base)
    outcome = run("set", option, GUID, base)
    assert outcome.code == 1
    assert f"is the parent of {child}" in outcome.err
    assert fingerprint(base) == before
    content = disk_hash(child)
    run_ok("set", "--force", option, GUID, base)
    assert run("hash", child).code == 1
    refused = run("reparent", "--to", base, child)
    assert refused.code == 1
    assert f"is not the parent that {child} names" in refused.err
    run_ok("reparent", "--force", "--to", base, child)
    assert disk_hash(child) == content
    for image in pair:
        assert run("check", "-q", image).code in (0, 3)


@pytest.mark.parametrize("words,says", [
    ([], "nothing to change"), (["--disk-id", "x"], "neither a GUID"),
    (["--disk-id", "00000000-0000-0000-0000-000000000000"], "identifies nothing"),
    (["--data-write-guid", "00000000-0000-0000-0000-000000000000"], "identifies nothing"),
    (["--physical-sector-size", "1024"], "512 or 4096")])
def test_what_cannot_be_set(words, says, tmp_path):
    image = tmp_path / "disk.vhdx"
    run_ok("create", "-q", "-f", "vhdx", image, "16M")
    before = fingerprint(image)
    outcome = run("set", *words, image)
    assert outcome.code == 1
    assert says in outcome.err
    assert fingerprint(image) == before


def test_a_base_that_moved_is_found_again(pair, tmp_path):
    base, child = pair
    content = disk_hash(child)
    folder = tmp_path / "a folder with a longer name" / "and another one, to have a longer path"
    folder.mkdir(parents=True)
    moved = base.rename(folder / f"moved{base.suffix}")
    assert run("hash", child).code == 1
    run_ok("reparent", "--to", moved, "--windows-path", "D:\\vm\\moved" + base.suffix, child)
    assert disk_hash(child) == content
    chain = run_ok("chain", "--output=json", child).out
    assert "moved" in chain
    assert run("check", "-q", child).code in (0, 3)
    run_ok("io", "-q", "-c", "write -S 3 8M 1M", child)
    run_ok("io", "-q", "-c", "read -S 3 8M 1M", "-c", "read -S 2 2M 4K", "-c", "read -S 1 1M 1M", child)
    # And back: many times, and the file does not grow for ever.
    back = moved.rename(base)
    size = child.stat().st_size
    for _ in range(5):
        run_ok("reparent", "--to", back, child)
    assert child.stat().st_size < size + 32 * 1024
    run_ok("io", "-q", "-c", "read -S 3 8M 1M", "-c", "read -S 1 1M 1M", child)


def test_what_is_no_parent(pair, tmp_path):
    base, child = pair
    other = tmp_path / ("other.vhdx" if base.suffix == ".vhd" else "other.vhd")
    run_ok("create", "-q", "-f", other.suffix[1:], other, "16M")
    before = [fingerprint(image) for image in pair]
    for words, says in ((["--to", other, child], "is no parent of a"),
                        (["--to", child, child], "among its own parents, or is it"),
                        (["--to", child, base], "is no differencing image"),
                        (["--to", tmp_path / "none", child], "No such file")):
        outcome = run("reparent", "--force", *words)
        assert outcome.code == 1
        assert says in outcome.err
    assert [fingerprint(image) for image in pair] == before
