"""vhd-mount: what a signal leaves of a mount that somebody uses, and of one that is being made."""
import contextlib
import os
import signal
import subprocess
import time

import pytest
from conftest import names_in, run

from mounts import disk, folder, image, needs_fuse, MOUNT, has_ended, is_mounted, mount, mounted, need, shell, unmount, wait_until

TIME_FOR_USERS = 5  # seconds, as --help says


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


def serve(image, folder, *words, **options):
    """A server in the foreground, with the files inside mounted."""
    server = subprocess.Popen([MOUNT, "-f", "--fs", *words, image, folder], stderr=subprocess.PIPE, text=True, **options)
    wait_until(lambda: is_mounted(folder), "the mount")
    # Usable, not only there: its folder's owner has been told to the server.
    wait_until(lambda: "lost+found" in names_in(folder), "the files inside")
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
