"""Children made here, as this toolkit and others read them."""
import json

import pytest

import oracles
from oracles import vhd  # noqa: F401, a fixture
from test_round_trips import MIB, make_content


@pytest.fixture(params=["vhd", "vhdx"])
def chain(request, vhd, tmp_path):
    """A base with content, a child, and a child of that one, larger than its parent."""
    image_format = request.param
    source = tmp_path / "source.raw"
    make_content(source, 6 * MIB)
    base = tmp_path / f"base.{image_format}"
    vhd("convert", "-q", "-O", image_format, source, base)
    folder = tmp_path / "children"
    folder.mkdir()
    child = folder / f"child.{image_format}"
    grandchild = folder / f"grandchild.{image_format}"
    vhd("create", "-q", "-f", image_format, "-b", base, child)
    vhd("create", "-q", "-f", image_format, "-b", child, grandchild, "7M")
    return image_format, source, base, child, grandchild


def test_a_child_shows_its_parents_content(vhd, chain, tmp_path):
    _, source, _, child, grandchild = chain
    vhd("compare", "-q", "-s", child, source)
    vhd("compare", "-q", grandchild, source)
    flat = tmp_path / "flat.raw"
    vhd("convert", "-q", "-O", "raw", grandchild, flat)
    assert oracles.sha256(flat, 6 * MIB) == oracles.sha256(source)
    with open(flat, "rb") as file:
        file.seek(6 * MIB)
        assert file.read() == bytes(MIB)
    vhd("check", "-q", grandchild)
    vhd("chain", grandchild)


def test_libvhdi_accepts_the_child(vhd, chain):
    oracles.need("vhdiinfo")
    _, _, base, child, _ = chain
    text = oracles.run("vhdiinfo", child).stdout
    assert "Differential" in text
    identity = json.loads(vhd("info", "--output=json", base).out)["format-specific"]["data"]
    assert (identity.get("data-write-guid") or identity["unique-id"]) in text


def test_seven_zip_follows_the_chain(chain, tmp_path):
    image_format, source, base, child, _ = chain
    # 7-Zip looks for a parent beside the child only.
    beside = base.parent / child.name
    child.rename(beside)
    if image_format == "vhdx":
        pytest.skip("the child was moved: its relative path leads elsewhere, and 7-Zip reports that")
    assert oracles.seven_zip_sha256(beside, tmp_path) == oracles.sha256(source)


def test_a_moved_child_still_finds_its_parent_by_name(vhd, chain):
    _, source, base, child, _ = chain
    beside = base.parent / child.name
    child.rename(beside)
    vhd("compare", "-q", beside, source)


def test_a_copied_parent_with_another_identity_is_refused(vhd, chain):
    image_format, source, base, child, _ = chain
    base.unlink()
    vhd("convert", "-q", "-O", image_format, source, base)
    result = vhd("hash", child, check=False)
    assert result.code == 1
    assert str(base.name) in result.err and str(child.name) in result.err
    assert vhd("chain", child, check=False).code == 2


def test_bug_class_10_a_child_without_its_parent_is_an_error_not_zeroes(vhd, chain, tmp_path):
    _, _, base, child, _ = chain
    base.unlink()
    target = tmp_path / "out.raw"
    result = vhd("convert", "-q", "-O", "raw", child, target, check=False)
    assert result.code == 1
    assert not target.exists()

