"""Long work that is told to stop, or asked how far it is."""
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from conftest import GIB, KIB, MIB, names_in, oracle, program, run, start, write_raw

DEADLINE_S = 300


def wait_until(condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


@pytest.fixture
def slow_convert(tmp_path):
    """Starts a conversion whose every transfer takes 50 ms; gives strace's process and its id."""
    if oracle("strace", "-o", tmp_path / "trace", "true").code != 0:
        pytest.skip("strace cannot trace here")
    os.unlink(tmp_path / "trace")
    source = write_raw(tmp_path / "disk.raw", 64 * MIB, [(0, 64 * MIB)])
    transfers = "preadv,pwritev,preadv2,pwritev2,copy_file_range"
    started = []

    def start_it(*words):
        command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={transfers}", "-e",
                   f"inject={transfers}:delay_exit=50000", program("vhd"), "convert", *words,
                   "--no-clone", "-O", "vhd", str(source), str(tmp_path / "out.vhd")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   env={**os.environ, "VHDKIT_ENGINE": "sync"})
        started.append(process)
        wait_until(lambda: any(".vhdkit-" in name for name in names_in(tmp_path)))
        return process, child_of(process.pid)[0]

    yield start_it
    for process in started:
        if process.poll() is None:
            for child in child_of(process.pid):
                os.kill(child, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_conversion_leaves_nothing(name, slow_convert, tmp_path):
    process, pid = slow_convert()
    number = getattr(signal, name)
    os.kill(pid, number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (-number, 128 + number)
    assert b"interrupted" in err
    assert names_in(tmp_path) == ["disk.raw"]


def test_an_interrupted_conversion_leaves_the_old_target(slow_convert, tmp_path):
    (tmp_path / "out.vhd").write_bytes(b"precious")
    process, pid = slow_convert("--force")
    os.kill(pid, signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode != 0
    assert (tmp_path / "out.vhd").read_bytes() == b"precious"
    assert names_in(tmp_path) == ["disk.raw", "out.vhd"]


def test_sigusr1_asks_for_progress(slow_convert, tmp_path):
    process, pid = slow_convert("-q")
    os.kill(pid, signal.SIGUSR1)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert err.decode().count("%") == 1
    assert "64 MiB" in err.decode()
    assert run("compare", tmp_path / "disk.raw", tmp_path / "out.vhd").code == 0


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    caught = re.search(r"^SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
    return caught and int(caught[1], 16) >> (number - 1) & 1


def test_reading_can_be_interrupted_too(tmp_path):
    huge = write_raw(tmp_path / "huge.raw", 4 * 1024 * GIB, [(GIB, 4 * KIB)])
    process = start("hash", "--algorithm", "sha1", huge)
    while not catches(process.pid, signal.SIGINT):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGINT
    assert (out, err) == (b"", b"vhd: interrupted\n")


def test_waiting_for_standard_input_can_be_interrupted(tmp_path):
    process = start("convert", "-O", "vhd", "-", tmp_path / "out.vhd", stdin=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGTERM
    assert names_in(tmp_path) == []


def test_a_stream_that_nobody_takes_can_be_interrupted(disk):
    process = start("convert", "-O", "raw", disk, "-")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGTERM


def test_a_reader_that_goes_away_is_an_error(disk):
    process = start("convert", "-O", "raw", disk, "-")
    process.stdout.close()
    assert process.wait(timeout=DEADLINE_S) == 1
    assert b"Broken pipe" in process.stderr.read()


def test_an_ignored_hangup_stays_ignored(slow_convert, tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process, pid = slow_convert()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.kill(pid, signal.SIGHUP)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert run("compare", tmp_path / "disk.raw", tmp_path / "out.vhd").code == 0
