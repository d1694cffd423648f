"""Other programs as witnesses: each reads an image and says what its guest would see."""
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile

import pytest

from conftest import run as run_ours

QEMU_NAME = {"raw": "raw", "vhd": "vpc", "vhdx": "vhdx", "qcow2": "qcow2"}


@pytest.fixture
def vhd():
    """Runs vhd; it must succeed unless check=False."""
    def call(*words, check=True):
        outcome = run_ours(*words)
        assert not check or outcome.code == 0, outcome.err
        return outcome
    return call


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)


def sha256(path, length=None):
    digest = hashlib.sha256()
    left = os.stat(path).st_size if length is None else length
    with open(path, "rb") as file:
        while left > 0:
            piece = file.read(min(left, 1 << 20))
            assert piece, f"{path} ends too early"
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def qemu_compare(image, image_format, raw):
    """qemu-img sees the same content; a longer disk may end in zeroes."""
    need("qemu-img")
    result = subprocess.run(["qemu-img", "compare", "-f", QEMU_NAME[image_format], "-F", "raw", str(image), str(raw)],
                            check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def qemu_check(image):
    """Only VHDX: qemu-img checks no VHD."""
    need("qemu-img")
    result = subprocess.run(["qemu-img", "check", "-f", "vhdx", str(image)], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@contextlib.contextmanager
def vhdi_mounted(image):
    """The guest's disk as vhdimount shows it."""
    need("vhdimount")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    folder = tempfile.mkdtemp(prefix="vhdkit-test-")
    try:
        run("vhdimount", image, folder)
        try:
            yield os.path.join(folder, "vhdi1")
        finally:
            run("umount", folder)
    finally:
        os.rmdir(folder)


def seven_zip_sha256(image, folder):
    """7-Zip unpacks the disk that is in the image."""
    program = next((name for name in ("7zz", "7z") if shutil.which(name)), None)
    if program is None:
        pytest.skip("7-Zip is not installed")
    target = os.path.join(folder, "unpacked")
    run(program, "x", "-y", f"-o{target}", image)
    (name,) = os.listdir(target)
    digest = sha256(os.path.join(target, name))
    shutil.rmtree(target)
    return digest
