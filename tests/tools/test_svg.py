"""Pictures: well-formed, and saying what JSON says."""
import re
import socket
import subprocess
import threading
import xml.etree.ElementTree
from collections import Counter

import pytest
from conftest import KIB, MIB, TIB, names_in, program, run, run_ok, write_raw

RECT, TITLE, TEXT = ("{http://www.w3.org/2000/svg}" + name for name in ("rect", "title", "text"))
ROW, LEFT, COLUMNS = 768, 90, 64


def parsed(outcome):
    return xml.etree.ElementTree.fromstring(outcome.raw_out)


def boxes_of(picture):
    """(what, offset, bytes, of bytes, x, width) of each box with a tip of the map."""
    boxes = []
    for rect in picture.iter(RECT):
        tip = rect.find(TITLE)
        found = tip is not None and re.fullmatch(r"at 0x([0-9a-f]+): (.+): (\d+) of (\d+) bytes", tip.text)
        if found:
            boxes.append((found.group(2), int(found.group(1), 16), int(found.group(3)), int(found.group(4)),
                          float(rect.get("x")), float(rect.get("width"))))
    return boxes


def bytes_by_json(image):
    """What the map in JSON has of each kind."""
    totals = Counter()
    for entry in run_ok("map", "--output=json", image).json():
        kind = f"data, depth {entry['depth']}" if entry["data"] else "reads as zeroes" if entry["present"] else None
        if kind:
            totals[kind] += entry["length"]
    return totals


def check_map(image, size):
    """The picture's bytes are JSON's; each box lies inside its row, and has the width of its bytes."""
    picture = parsed(run_ok("map", "--output=svg", image))
    boxes = boxes_of(picture)
    totals = Counter()
    for kind, _, length, _, _, _ in boxes:
        totals[kind] += length
    assert totals == bytes_by_json(image)
    words = " ".join(text.text for text in picture.iter(TEXT))
    cell, unit = re.search(r"a cell is (\S+) (\w+),", words).groups()
    cell_bytes = int(cell) << {"bytes": 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]
    assert -(-size // cell_bytes) <= 2048
    for _, offset, length, whole, x, width in boxes:
        assert LEFT <= x and x + width <= LEFT + ROW + 0.01
        first = LEFT + offset // cell_bytes % COLUMNS * 12
        assert first - 0.01 <= x
        if length == whole:
            assert x == pytest.approx(first) and width == pytest.approx(12 * length / cell_bytes, abs=0.001)
        else:
            assert width >= 0.6 and x + width <= first + 12.01
    return picture


def test_a_map_says_what_json_says(tmp_path):
    raw = write_raw(tmp_path / "disk.raw", 32 * MIB, [(0, 3 * MIB), (9 * MIB + 512, 700), (20 * MIB, 5 * MIB),
                                                      (32 * MIB - 4 * KIB, 4 * KIB)])
    image = tmp_path / "disk.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", raw, image)
    before = names_in(tmp_path), image.read_bytes()
    check_map(raw, 32 * MIB)
    check_map(image, 32 * MIB)
    assert before == (names_in(tmp_path), image.read_bytes())


def test_a_chain_has_a_colour_for_each_depth(tmp_path):
    raw = write_raw(tmp_path / "disk.raw", 16 * MIB, [(0, 8 * MIB)])
    parent = tmp_path / "parent <&>.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", raw, parent)
    child = tmp_path / "child.avhdx"
    run_ok("create", "-f", "vhdx", "-b", parent, child)
    run_ok("io", child, "-c", "write -P 7 2M 1M")
    picture = check_map(child, 16 * MIB)
    assert {box[0] for box in boxes_of(picture)} >= {"data, depth 0", "data, depth 1"}
    colours = {rect.get("fill") for rect in picture.iter(RECT) if rect.find(TITLE) is not None}
    assert len(colours) >= 3
    words = [text.text for text in picture.iter(TEXT)]
    assert any(word.startswith("data, depth 1: ") and word.endswith("parent <&>.vhdx") for word in words)
    assert picture.find(TITLE).text == f"{child}: where its content lies"


def test_the_largest_disk_is_a_small_picture(tmp_path):
    image = tmp_path / "large.vhdx"
    run_ok("create", "-f", "vhdx", "-o", "block_size=256M", image, "64T")
    run_ok("io", image, "-c", f"write -P 1 {63 * TIB} 4k", "-c", "write -P 1 0 4k")
    outcome = run_ok("map", "--output=svg", image)
    assert len(outcome.raw_out) < 64 * KIB
    check_map(image, 64 * TIB)


def test_a_scattered_disk_is_a_picture_of_bounded_size(tmp_path):
    raw = write_raw(tmp_path / "disk.raw", 256 * MIB, [(offset, 4 * KIB) for offset in range(0, 256 * MIB, 64 * KIB)])
    outcome = run_ok("map", "--output=svg", raw)
    assert len(outcome.raw_out) < 1 * MIB
    check_map(raw, 256 * MIB)


@pytest.mark.parametrize("size", [512, 4096, 4608, 1 * MIB + 512])
def test_small_and_odd_disks(tmp_path, size):
    check_map(write_raw(tmp_path / "disk.raw", size, [(0, size)]), size)


def test_a_name_of_any_bytes(tmp_path):
    name = "".join(chr(number) for number in range(1, 128) if number != 47).encode() + b"\xff.raw"
    path = bytes(tmp_path) + b"/" + name
    with open(path, "wb") as file:
        file.truncate(1 * MIB)
    done = subprocess.run([program("vhd"), "map", "--output=svg", path], check=True, capture_output=True)
    title = xml.etree.ElementTree.fromstring(done.stdout).find(TITLE).text
    assert "\\x1b" in title and "<=>" in title and "&" in title


def test_other_verbs_have_no_picture(tmp_path):
    outcome = run("info", "--output=svg", tmp_path / "x")
    assert outcome.code != 0 and '"svg" is neither' in outcome.err
    outcome = run("map", "--output=png", tmp_path / "x")
    assert outcome.code == 1 and "svg" in outcome.err


COUNTERS = (b'{"id": 1, "result": {"controllers": [{"channels": [], "units": ['
            b'{"lun": 0, "read-latency-us": [{"below": 128, "count": 30}, {"below": 1024, "count": 10}],'
            b' "write-latency-us": [{"below": 512, "count": 20}]},'
            b'{"lun": 5, "read-latency-us": [], "write-latency-us": [{"below": 64, "count": 7}]}]}]}}\n')


def counters_picture(tmp_path, answer):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control"))
    listener.listen()

    def serve():
        client, _ = listener.accept()
        with client, client.makefile("rwb") as stream:
            stream.readline()
            stream.write(answer)
    threading.Thread(target=serve, daemon=True).start()
    with listener:
        return run("ctl", "--output=svg", tmp_path / "control", "counters")


def test_latencies(tmp_path):
    outcome = counters_picture(tmp_path, COUNTERS)
    assert outcome.code == 0
    picture = parsed(outcome)
    bars = {}
    for rect in picture.iter(RECT):
        tip = rect.find(TITLE)
        if tip is not None:
            what, count, begin = re.fullmatch(r"(\w+): (\d+) from (\S+) us to .*", tip.text).groups()
            bars[what, int(count), int(begin)] = float(rect.get("height"))
    assert bars == {("reads", 30, 64): 100, ("reads", 10, 512): pytest.approx(100 / 3, abs=0.001),
                    ("writes", 20, 256): pytest.approx(200 / 3, abs=0.001), ("writes", 7, 32): 100}
    words = [text.text for text in picture.iter(TEXT)]
    assert "controller 0, LUN 0" in words and "controller 0, LUN 5" in words
    # 20 of 40 reads lie below 64 + 64 * 20 / 30 us.
    assert any(word.startswith("reads: 40, p50 107 us") for word in words)


@pytest.mark.parametrize("answer", [b'{"result": null}\n', b'{"result": {"controllers": [3]}}\n'])
def test_odd_counters(tmp_path, answer):
    outcome = counters_picture(tmp_path, answer)
    assert outcome.code == 0
    parsed(outcome)
