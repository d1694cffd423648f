"""vhd-mount --overlay: where the overlay's parents are, who may read it, and what becomes of it."""
import os

import pytest
from conftest import fingerprint, names_in, run, run_ok

from mounts import disk, folder, image, needs_fuse, MIB, MOUNT, mount, mounted, shell, spool, unmount


def make_child(tmp_path, image_format, base, child, *options):
    """A pair of small images, in folders of their own, the base with a MiB of 1 at its begin."""
    for path in (base, child):
        path.parent.mkdir(exist_ok=True)
    run_ok("create", "-q", "-f", image_format, base, "8M")
    run_ok("io", "-q", base, input=b"write -P 1 0 1M\n")
    run_ok("create", "-q", "-f", image_format, "-b", base, *options, child)


@pytest.fixture(params=["vhdx", "vhd"])
def lost_parent(request, tmp_path):
    """A child whose parent has gone elsewhere: (child, parent)."""
    child, base, moved = (tmp_path / name / f"{name}.{request.param}" for name in ("child", "base", "moved"))
    make_child(tmp_path, request.param, base, child)
    moved.parent.mkdir()
    base.rename(moved)
    return child, moved


def write(folder, value, offset=2 * MIB):
    with open(folder / "disk", "r+b") as file:
        file.seek(offset)
        file.write(bytes([value]) * 8192)


def holds(path, value, *words, offset=2 * MIB):
    return run("io", "-q", *words, path, input=f"read -P {value} {offset} 8K\n".encode()).code == 0


def refused(*words):
    done = shell(MOUNT, *words, check=False)
    assert done.returncode == 1
    return done.stderr


def test_a_commit_while_layers_are_shown(image, folder, spool):
    with mounted(image, folder, "--overlay", "tmp", "--commit", "--layers"):
        assert "disk.layer1" in names_in(folder)
        write(folder, 3)
    assert holds(image, 3)
    assert names_in(spool) == []


def test_a_commit_in_the_background_with_a_relative_mapping(tmp_path, folder, spool):
    base, child = tmp_path / "made" / "base.vhdx", tmp_path / "child" / "child.vhdx"
    make_child(tmp_path, "vhdx", base, child, "-o", "windows_parent_path=C:\\vm\\base.vhdx")
    base.parent.rename(tmp_path / "moved")
    mount(child, folder, "--map", "C:\\vm=moved", "--overlay", "tmp", "--commit", cwd=tmp_path)
    write(folder, 4)
    unmount(folder)
    assert names_in(spool) == []
    assert holds(child, 4, "--map", f"C:\\vm={tmp_path}/moved")


def test_an_overlay_over_an_image_whose_parent_is_elsewhere(lost_parent, folder, tmp_path):
    child, base = lost_parent
    work = tmp_path / ("work" + child.suffix)
    before = fingerprint(child)
    with mounted(child, folder, "--overlay", work, "--parent", base, "--layers"):
        assert names_in(folder) == ["disk", "disk.layer1", "disk.layer2", "info.json"]
        assert (folder / "disk").read_bytes()[:MIB] == b"\1" * MIB
        write(folder, 5)
    assert work.exists() and fingerprint(child) == before
    # Once more with the one that is there already, and then it is put into the image.
    with mounted(child, folder, "--overlay", work, "--parent", base, "--commit"):
        assert (folder / "disk").read_bytes()[2 * MIB] == 5
        write(folder, 6, 4 * MIB)
    assert not work.exists()
    assert holds(child, 5, "--parent", base) and holds(child, 6, "--parent", base, offset=4 * MIB)
    assert holds(child, 1, "--parent", base, offset=0)


def test_a_parent_that_is_none(lost_parent, folder, tmp_path):
    child, base = lost_parent
    stranger = tmp_path / ("stranger" + child.suffix)
    run_ok("create", "-q", "-f", child.suffix[1:], stranger, "8M")
    work = tmp_path / ("work" + child.suffix)
    assert "its parent" in refused("--overlay", work, child, folder)
    assert "its parent" in refused("--overlay", work, "--parent", stranger, child, folder)
    assert not work.exists()
    over_base = tmp_path / ("over_base" + child.suffix)
    assert "has no parent" in refused("--overlay", over_base, "--parent", child, base, folder)
    assert not over_base.exists()
    with mounted(base, folder, "--overlay", over_base):
        write(folder, 7)
    assert "has no parent" in refused("--overlay", over_base, "--parent", child, base, folder)
    assert holds(over_base, 7)


def test_a_mount_that_fails_leaves_overlays_as_they_were(image, folder, spool, tmp_path):
    before = fingerprint(image)
    work = tmp_path / ("work" + image.suffix)
    for words in (["--overlay", work], ["--overlay", work, "--commit"], ["--overlay", "tmp", "--commit"]):
        assert "no partition 9" in refused(*words, "--partition", "9", image, folder)
        assert not work.exists() and names_in(spool) == []
    with mounted(image, folder, "--overlay", work):
        write(folder, 8, 70 * MIB)
    for words in (["--discard"], ["--commit"], []):
        assert "no partition 9" in refused("--overlay", work, *words, "--partition", "9", image, folder)
        assert holds(work, 8, offset=70 * MIB)
    assert fingerprint(image) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_an_overlay_that_is_a_link(image, folder, tmp_path, is_there):
    link, overlay = tmp_path / "link", tmp_path / f"overlay{image.suffix}"
    link.symlink_to(overlay)
    if is_there:
        with mounted(image, folder, "--overlay", overlay):
            pass
    with mounted(image, folder, "--overlay", link, "--discard"):
        assert overlay.exists()
    assert link.is_symlink() and not overlay.exists()


def test_who_may_read_an_overlay(image, folder, spool, tmp_path):
    work = tmp_path / ("work" + image.suffix)
    for words, mode, expected in ((["--overlay", "tmp", "--commit"], 0o644, 0o600), (["--overlay", work, "--commit"], 0o600, 0o600),
                                  (["--overlay", work, "--commit"], 0o640, 0o640), (["--overlay", work, "--commit"], 0o444, 0o644)):
        image.chmod(mode)
        with mounted(image, folder, *words):
            overlay = spool / names_in(spool)[0] if "tmp" in words else work
            assert os.stat(overlay).st_mode & 0o777 == expected
        assert os.stat(image).st_mode & 0o777 == mode
