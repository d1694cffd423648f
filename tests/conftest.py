"""What tests of whole programs share: the programs, oracles, samples, disks with known content."""
import bz2
import gzip
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("VHDKIT_BUILD") or ROOT / "build").resolve()
SAMPLES = pathlib.Path(os.environ.get("VHDKIT_SAMPLES") or ROOT.parent / "shared" / "samples")

# nohup and a shell's & hand on ignored signals; programs that are started here shall not inherit them.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when == "call":
        item.has_passed = report.passed


@pytest.fixture(autouse=True)
def _room_for_others(request, tmp_path):
    """What a case leaves is of interest only where it failed; all of them together are many gigabytes."""
    yield
    if getattr(request.node, "has_passed", False):
        shutil.rmtree(tmp_path, ignore_errors=True)


class Outcome:
    """What a finished program left: its exit code (negative: the signal) and both outputs."""

    def __init__(self, finished):
        self.code = finished.returncode
        self.raw_out = finished.stdout
        self.out = finished.stdout.decode(errors="replace") if finished.stdout is not None else ""
        self.err = finished.stderr.decode(errors="replace") if finished.stderr is not None else ""

    def json(self):
        return json.loads(self.out)


def program(name):
    return str(BUILD / "tools" / name)


def start(*arguments, name="vhd", **options):
    """A running program of ours; whoever starts it ends it."""
    words = [program(name), *map(str, arguments)]
    defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, **{**defaults, **options})


def run(*arguments, name="vhd", **options):
    """Runs a program of ours to its end; input=BYTES is its standard input."""
    words = [program(name), *map(str, arguments)]
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120}
    if "input" not in options:
        defaults["stdin"] = subprocess.DEVNULL
    return Outcome(subprocess.run(words, check=False, **{**defaults, **options}))


def run_ok(*arguments, **options):
    """The same, and it must succeed."""
    outcome = run(*arguments, **options)
    assert outcome.code == 0, outcome.err
    return outcome


def oracle(*words):
    """Another program's output; the test is skipped where the program is not there."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    finished = subprocess.run([*map(str, words)], check=False, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=120)
    return Outcome(finished)


def write_raw(path, size, pieces=(), seed=1):
    """A sparse raw disk with random bytes at each (offset, length)."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, length in pieces:
            file.seek(offset)
            file.write(generator.randbytes(length))
    return path


def unpack_sample(name, folder):
    """A sample unpacked into folder; the test is skipped where the sample is not there."""
    packed = SAMPLES / name
    if not packed.is_file():
        pytest.skip(f"no sample {packed}")
    opener = bz2.open if packed.suffix == ".bz2" else gzip.open
    target = folder / packed.stem
    with opener(packed, "rb") as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file)
    return target


def fingerprint(path):
    """A file's content, mode and time, to see that nothing changed."""
    status = os.stat(path)
    return pathlib.Path(path).read_bytes(), status.st_mode, status.st_mtime_ns


def names_in(folder):
    """Every name in the folder, hidden ones included."""
    return sorted(os.listdir(folder))


@pytest.fixture
def disk(tmp_path):
    """A raw disk of 10 MiB: data at the start, at the end, across a block border, holes between."""
    pieces = [(0, 4 * KIB), (2 * MIB - 3 * KIB, 8 * KIB), (10 * MIB - 512, 512)]
    return write_raw(tmp_path / "disk.raw", 10 * MIB, pieces)
