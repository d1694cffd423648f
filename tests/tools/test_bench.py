"""vhd bench: requests counted and timed. What they cost is for bench/io.py; here is what they do."""
import signal
import time

import pytest
from conftest import MIB, fingerprint, run, run_ok, start


@pytest.fixture(params=["vhd", "vhdx"])
def image(request, tmp_path):
    path = tmp_path / f"disk.{request.param}"
    run_ok("create", "-q", "-f", request.param, path, "8M")
    return path


def test_reads_change_nothing(image):
    before = fingerprint(image)
    report = run_ok("bench", "-c", "100", "--random", "--output=json", image).json()
    assert report["requests"] == 100
    assert report["seconds"] > 0 and report["requests-per-second"] > 0
    assert fingerprint(image) == before


def test_writes_go_where_the_step_says(image):
    run_ok("bench", "-w", "-c", "8", "-S", "1M", "-d", "3", "--flush-interval", "2", image)
    run_ok("io", "-q", *(word for i in range(8) for word in ("-c", f"read -P 0x5a {i}M 4K")), image)
    run_ok("io", "-q", "-c", f"read -P 0 4K {MIB - 4096}", image)
    assert run("check", "-q", image).code == 0


@pytest.mark.parametrize("words,says", [
    (["-c", "0"], "at least one request"), (["-d", "0"], "at least one request"),
    (["-s", "9M"], "not more than the disk"), (["-s", "8M", "-d", "1024"], "more than 4 GiB"), (["-s", "100"], "not whole sectors"),
    (["--flush-interval", "2"], "belongs to -w")])
def test_what_makes_no_sense_is_refused(image, words, says):
    outcome = run("bench", *words, image)
    assert outcome.code == 1
    assert says in outcome.err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_and_the_image_is_closed(image, name):
    size = image.stat().st_size
    process = start("bench", "-w", "-c", "1T", image)
    try:
        end = time.monotonic() + 120
        while image.stat().st_size == size:  # it has begun to write
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -getattr(signal, name)
    assert out == b"" and b"interrupted" in err
    assert run("check", "-q", image).code == 0
