"""vhd-mount: what a signal leaves of a mount that somebody uses, and of one that is being made."""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import names_in, run, run_ok

from mounts import disk, folder, needs_fuse, convert, MIB, MOUNT, has_ended, is_mounted, mount, mounted, need, shell, spool, unmount, wait_until

TIME_FOR_USERS = 5  # seconds, as --help says


@pytest.fixture
def image(disk):
    """Of one format: what ends a mount knows of none."""
    return convert(disk, "vhdx")


@contextlib.contextmanager
def a_user_with(what, folder):
    """Another process that uses a mount: it is in the folder, or has a file open for writing."""
    script = "exec sleep 60" if what == "folder" else f"exec sleep 60 >{folder}/open"
    with subprocess.Popen(["sh", "-c", script], cwd=folder if what == "folder" else "/") as user:
        wait_until(lambda: os.readlink(f"/proc/{user.pid}/exe").endswith("sleep"), "the user")
        try:
            yield user
        finally:
            user.kill()


def serve(image, folder, *words, inside=True, **options):
    """A server in the foreground, with the files inside mounted."""
    words = ["--fs", *words] if inside else words
    server = subprocess.Popen([MOUNT, "-f", *words, image, folder], stderr=subprocess.PIPE, text=True, **options)
    wait_until(lambda: is_mounted(folder), "the mount")
    # Usable, not only there: its folder's owner has been told to the server.
    wait_until(lambda: ("lost+found" if inside else "disk.p1") in names_in(folder), "the files inside")
    return server


def check_inside(image, folder):
    """The file system needs neither its journal nor a repair."""
    with mounted(image, folder, "-o", "ro"):
        shell("e2fsck", "-f", "-n", folder / "disk.p1")
        assert "needs_recovery" not in shell("dumpe2fs", "-h", folder / "disk.p1").stdout
    assert run("check", "-q", image).code in (0, 3)


@pytest.mark.parametrize("use", ["folder", "file"])
def test_what_was_written_outlasts_a_signal_while_somebody_stays(image, folder, use):
    need("e2fsck", "dumpe2fs")
    server = serve(image, folder, "-o", "rw")
    with a_user_with(use, folder):
        (folder / "late").write_text("precious")
        (folder / "dir").mkdir()
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=60)[1]
        assert time.monotonic() - began >= TIME_FOR_USERS
        assert f"{folder}: is unmounted while it is in use: what was written is in the image" in said
        assert not is_mounted(folder)
    check_inside(image, folder)
    with mounted(image, folder, "--fs", "-o", "ro"):
        assert (folder / "late").read_text() == "precious"
        assert (folder / "dir").is_dir()


def test_a_signal_waits_for_who_is_there(image, folder):
    need("e2fsck", "dumpe2fs")
    server = serve(image, folder, "-o", "rw")
    with a_user_with("folder", folder):
        server.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert is_mounted(folder) and not has_ended(server.pid)
        (folder / "last words").write_text("heard")
    assert server.communicate(timeout=60)[1] == "" and server.returncode == 0
    assert not is_mounted(folder) and names_in(folder) == []
    check_inside(image, folder)
    with mounted(image, folder, "--fs", "-o", "ro"):
        assert (folder / "last words").read_text() == "heard"


SLOW_MOUNT = """#!/bin/sh
touch "$MARKER"
sleep 1
PATH="$OWN_PATH" exec mount "$@"
"""


def test_a_signal_while_the_files_inside_are_being_mounted(image, folder, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mount").write_text(SLOW_MOUNT)
    (programs / "mount").chmod(0o755)
    marker = tmp_path / "marker"
    path = os.environ["PATH"]
    environment = {**os.environ, "PATH": f"{programs}:{path}", "OWN_PATH": path, "MARKER": str(marker)}
    with subprocess.Popen([MOUNT, "-f", "--fs", image, folder], env=environment, stderr=subprocess.PIPE) as server:
        wait_until(marker.exists, "the mounting")
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert not is_mounted(folder) and names_in(folder) == []
    assert str(image) not in shell("findmnt", "-n", "-o", "SOURCE").stdout
    with mounted(image, folder, "--fs"):
        assert (folder / "folder" / "greeting").read_text() == "hello\n"


@contextlib.contextmanager
def stopped_while_it_mounts(*words):
    """A vhd-mount that has just mounted and does not know it: strace, which it runs under, and the server's number."""
    need("strace")
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder) / "trace"
        tracer = subprocess.Popen(["strace", "-f", "-o", trace, "-e", "trace=mount", "-e",
                                   "inject=mount:signal=SIGSTOP:when=1", MOUNT, *words], stderr=subprocess.PIPE,
                                  text=True)
        stopped = None

        def is_stopped():
            nonlocal stopped
            stopped = re.search(r"^(\d+) +--- stopped by SIGSTOP", trace.read_text() if trace.exists() else "", re.M)
            return stopped

        wait_until(is_stopped, "the mount")
        server = int(stopped[1])
        try:
            yield tracer, server
        finally:
            os.kill(server, signal.SIGCONT)
            tracer.wait(timeout=60)


@pytest.mark.parametrize("words", [[], ["--fs"], ["--overlay", "tmp", "--commit"]])
def test_a_signal_before_the_mount_can_be_used(image, folder, spool, words):
    before = run_ok("hash", image).out
    with stopped_while_it_mounts("-f", *words, image, folder) as (tracer, server):
        os.kill(server, signal.SIGTERM)
    assert tracer.returncode == 1
    assert f"{folder}: was unmounted before it could be used" in tracer.stderr.read()
    assert not is_mounted(folder) and names_in(spool) == []
    assert run_ok("hash", image).out == before


def test_who_gives_up_waiting_for_a_mount_gets_none(image, folder):
    with stopped_while_it_mounts(image, folder) as (tracer, server):
        waiting = int(pathlib.Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()[0])
        assert waiting != server
        os.kill(waiting, signal.SIGINT)
        wait_until(lambda: has_ended(waiting), "the end of the one that waits")
    assert not is_mounted(folder) and has_ended(server)


@contextlib.contextmanager
def mounted_by_hand(*words):
    """A mount of the user's own; the last word is where."""
    shell("mount", *words)
    try:
        yield words[-1]
    finally:
        while is_mounted(words[-1]):
            shell("umount", "-l", words[-1])


def ends(server):
    """What it says after a SIGTERM, and its exit code."""
    server.send_signal(signal.SIGTERM)
    said = server.communicate(timeout=60)[1]
    return said, server.returncode


def test_files_that_are_bound_to_another_folder_too(image, folder, tmp_path):
    need("e2fsck", "dumpe2fs")
    bound = tmp_path / "bound"
    bound.mkdir()
    server = serve(image, folder, "-o", "rw")
    with mounted_by_hand("--bind", folder, bound), open(bound / "log", "w", encoding="ascii", buffering=1) as log:
        log.write("before\n")
        server.send_signal(signal.SIGTERM)
        count = 0
        with contextlib.suppress(OSError):
            while server.poll() is None:
                log.write(f"{count}\n")
                count += 1
                time.sleep(0.01)
        said = server.communicate(timeout=60)[1]
        with contextlib.suppress(OSError):
            log.close()
    assert server.returncode == 0, said
    assert f"{folder}: its files are in use elsewhere: what was written is in the image" in said
    assert count > 0
    check_inside(image, folder)
    with mounted(image, folder, "--fs", "-o", "ro"):
        lines = (folder / "log").read_text().split()
    assert lines[:1] == ["before"] and len(lines) >= count


def test_files_that_only_their_last_user_has(image, folder):
    server = serve(image, folder, "-o", "rw")
    with open(folder / "kept", "wb", buffering=0) as kept:
        kept.write(b"before")
        shell("umount", "-l", folder)
        said, code = ends(server)
        with contextlib.suppress(OSError):
            kept.close()
    assert code == 1 and f"{folder}: its files are still in use" in said
    with mounted(image, folder, "--fs"):
        assert (folder / "kept").read_text() == "before"


def test_files_upon_which_something_else_was_mounted(image, folder):
    server = serve(image, folder, "-o", "rw")
    (folder / "covered").write_text("before")
    with mounted_by_hand("-t", "tmpfs", "none", folder):
        (folder / "not ours").write_text("")
        said, code = ends(server)
        assert names_in(folder) == ["not ours"]
    assert code == 1 and f"{folder}: its files are still in use" in said
    with mounted(image, folder, "--fs"):
        assert (folder / "covered").read_text() == "before"


def test_a_mount_upon_which_something_else_was_mounted(image, folder):
    server = serve(image, folder, "-o", "rw", inside=False)
    with open(folder / "disk", "r+b") as disk_file:
        disk_file.seek(70 * MIB)
        disk_file.write(b"\5" * 4096)
    with mounted_by_hand("-t", "tmpfs", "none", folder):
        said, code = ends(server)
    assert code == 1 and f"{folder}: is left there" in said and "unmount that, then this one" in said
    run_ok("io", "-q", image, input=b"read -P 5 70M 4K\n")


def test_what_is_bound_elsewhere_keeps_its_options(image, folder, tmp_path):
    bound = tmp_path / "bound"
    bound.mkdir()
    server = serve(image, folder, "-o", "rw")
    with mounted_by_hand("--bind", folder, bound):
        shell("mount", "-o", "remount,bind,nosuid,nodev,noexec", bound)
        said, code = ends(server)
        options = shell("findmnt", "-n", "-o", "OPTIONS", bound).stdout.split(",")
        assert {"nosuid", "nodev", "noexec"} <= set(options)
        with pytest.raises(OSError):
            (bound / "late").write_text("")
    assert code == 0 and f"{folder}: its files are in use elsewhere" in said


def test_a_mount_whose_folder_was_moved(image, folder, tmp_path):
    inside = folder / "m"
    inside.mkdir()
    server = serve(image, inside, "-o", "rw")
    (inside / "late").write_text("precious")
    moved = tmp_path / "moved"
    folder.rename(moved)
    inside.mkdir(parents=True)
    with mounted_by_hand("-t", "tmpfs", "none", inside):
        said, code = ends(server)
        assert is_mounted(inside)
    assert (said, code) == ("", 0)
    assert not is_mounted(moved / "m")
    with mounted(image, folder / "m", "--fs", "-o", "ro"):
        assert (inside / "late").read_text() == "precious"


def test_who_only_looks_at_the_folder_behind_loses_nothing(image, folder, tmp_path, monkeypatch):
    real, link = tmp_path / "run", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{link}/")
    server = serve(image, folder, "-o", "rw")
    (folder / "late").write_text("precious")
    behind, = real.iterdir()
    with a_user_with("folder", behind):
        said, code = ends(server)
    assert code == 0 and f"{behind}: is unmounted while it is in use" in said
    assert not is_mounted(folder) and names_in(real) == []
    with mounted(image, folder, "--fs", "-o", "ro"):
        assert (folder / "late").read_text() == "precious"


def test_a_mount_that_the_kernel_ends_by_force(image, folder):
    server = serve(image, folder, "-o", "rw", inside=False)
    with a_user_with("folder", folder):
        shell("umount", "-f", folder, check=False)
        said = server.communicate(timeout=120)[1]
    assert server.returncode == 1 and f"{folder}: was ended by the kernel" in said
    assert not is_mounted(folder)


def test_files_mounted_later_at_the_same_place_are_left_alone(image, folder, disk, tmp_path, monkeypatch):
    """With the mount's number, the file system's and the loop device's: the kernel gives out the lowest that is free."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = set(tmp_path.iterdir())
    server = serve(image, folder, "-o", "rw")
    behind, = set(tmp_path.iterdir()) - before
    with open(behind / "disk", "rb"):
        shell("umount", folder)
        with mounted_by_hand("-o", f"loop,offset={MIB}", disk, folder):
            said, code = ends(server)
            assert is_mounted(folder)
            assert (folder / "folder" / "greeting").read_text() == "hello\n"
            (folder / "later").write_text("")
    assert code == 0 and f"{behind}: is unmounted while it is in use" in said


def test_what_others_have_mounted_in_the_files_is_left_alone(image, folder):
    server = serve(image, folder, "-o", "rw")
    inside = folder / "folder"
    (folder / "late").write_text("precious")
    with mounted_by_hand("-t", "tmpfs", "none", inside):
        (inside / "not ours").write_text("")
        said, code = ends(server)
        assert names_in(inside) == ["not ours"]
    assert code == 1 and f"{folder}: is left there" in said
    shell("umount", folder)
    check_inside(image, folder)
    with mounted(image, folder, "--fs", "-o", "ro"):
        assert (folder / "late").read_text() == "precious"
