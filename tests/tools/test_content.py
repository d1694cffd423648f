"""vhd map, compare and hash: the guest's content, against qemu-img and Python's own hashes."""
import gzip
import hashlib

import pytest
from conftest import GIB, KIB, MIB, oracle, run, run_ok, unpack_sample, write_raw

SAMPLE_HASHES = {
    "iotest-dirtylog-10G-4M.vhdx.bz2":
        "179cefe8b0587f123393eedf2aa7aa8d25798591178e6bc3950a09762f38f96f",
    "hyperv-dynamic-10M.vhdx.gz":
        "8e2b5e9265d694b42b81819e3bff29770eff4ed0f4f9f311693ff3dbdc93efac",
    "hyperv-fixed-10M.vhd.gz": "459325ab1fcd1d5ec9854cba790ee26378317cda177ffc1072008a1df88e6463",
}


@pytest.mark.parametrize("name", SAMPLE_HASHES)
def test_samples_have_the_hashes_that_are_known(name, tmp_path):
    image = unpack_sample(name, tmp_path)
    before = image.read_bytes()
    assert run_ok("hash", "--algorithm", "sha256", image).out == f"{SAMPLE_HASHES[name]}  {image}\n"
    assert image.read_bytes() == before


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_hashes_are_those_of_the_raw_disk(algorithm, disk, tmp_path):
    expected = hashlib.new(algorithm, disk.read_bytes()).hexdigest()
    vhd = tmp_path / "disk.vhd"
    run_ok("convert", "-O", "vhd", disk, vhd)
    for image in (disk, vhd):
        assert run_ok("hash", "--algorithm", algorithm, image).out.split()[0] == expected
        report = run_ok("hash", "--algorithm", algorithm, "--output=json", image).json()
        assert report == {"filename": str(image), "virtual-size": 10 * MIB, "algorithm": algorithm,
                          "hash": expected}


def test_the_default_hash_is_that_of_xxh128sum(disk):
    theirs = oracle("xxh128sum", disk)
    assert run_ok("hash", disk).out.split()[0] == theirs.out.split()[0]


def test_hash_of_standard_input(disk):
    expected = hashlib.sha256(disk.read_bytes()).hexdigest()
    piped = run_ok("hash", "--algorithm", "sha256", "-", input=disk.read_bytes())
    assert piped.out == f"{expected}  -\n"


def test_hash_of_a_gzip_file(disk, tmp_path):
    packed = tmp_path / "disk.raw.gz"
    packed.write_bytes(gzip.compress(disk.read_bytes()))
    assert run_ok("hash", packed).out.split()[0] == run_ok("hash", disk).out.split()[0]


def covers(entries, size):
    """The entries tile the disk in order."""
    position = 0
    for entry in entries:
        assert entry["start"] == position and entry["length"] > 0
        position += entry["length"]
    return position == size


def test_map_of_a_raw_disk_is_qemu_imgs(disk):
    theirs = oracle("qemu-img", "map", "-f", "raw", "--output=json", disk).json()
    ours = run_ok("map", "--output=json", disk).json()
    assert covers(ours, 10 * MIB)
    for entry in ours:
        entry.pop("compressed")
    assert ours == theirs


@pytest.mark.parametrize("kind, qemu_name", [("vhd", "vpc"), ("qcow2", "qcow2")])
def test_data_lies_where_qemu_img_says(kind, qemu_name, disk, tmp_path):
    image = tmp_path / f"disk.{kind}"
    options = ["-o", "force_size=on"] if kind == "vhd" else []
    oracle("qemu-img", "convert", "-O", qemu_name, *options, disk, image)
    theirs = oracle("qemu-img", "map", "-f", qemu_name, "--output=json", image).json()
    ours = run_ok("map", "--output=json", image).json()
    assert covers(ours, 10 * MIB)
    # Holes of the file inside blocks are found here and not there: each of our data entries lies
    # in one of theirs, at the same place, and theirs that hold no data hold none of ours.
    for entry in ours:
        if not entry["data"]:
            continue
        around = [other for other in theirs if other["start"] <= entry["start"]][-1]
        assert around["data"] and not around["zero"]
        assert entry["start"] + entry["length"] <= around["start"] + around["length"]
        assert entry["offset"] - entry["start"] == around["offset"] - around["start"]
        assert (entry["depth"], entry["present"]) == (around["depth"], True)


def test_map_shows_which_image_of_a_chain_answers(disk, tmp_path):
    base, child = tmp_path / "base.qcow2", tmp_path / "child.qcow2"
    oracle("qemu-img", "convert", "-O", "qcow2", disk, base)
    oracle("qemu-img", "create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", child)
    oracle("qemu-io", "-c", "write -P 7 4M 64k", child)
    ours = run_ok("map", "--output=json", child).json()
    assert covers(ours, 10 * MIB)
    written = [entry for entry in ours if entry["start"] == 4 * MIB]
    assert [(entry["depth"], entry["data"]) for entry in written] == [(0, True)]
    assert [entry["depth"] for entry in ours if entry["start"] == 0] == [1]
    text = run_ok("map", child).out
    assert str(base) in text and str(child) in text


def test_compressed_clusters_are_named(disk, tmp_path):
    image = tmp_path / "disk.qcow2"
    (tmp_path / "text").write_bytes(b"the same again and again\n" * 40000)
    oracle("qemu-img", "convert", "-c", "-O", "qcow2", tmp_path / "text", image)
    entries = run_ok("map", "--output=json", image).json()
    compressed = [entry for entry in entries if entry["compressed"]]
    assert compressed
    assert all(entry["data"] and "offset" not in entry for entry in compressed)
    assert "compressed" in run_ok("map", image).out


def test_map_for_people_is_a_table(disk):
    lines = run_ok("map", disk).out.splitlines()
    assert lines[0].split() == ["Offset", "Length", "Depth", "State", "File", "offset"]
    assert lines[1].split() == ["0x0", "0x1000", "0", "data", "0x0"]
    assert len({len(line.rstrip()) for line in lines}) == 1


def test_compare(disk, tmp_path):
    vhd, other, longer = tmp_path / "disk.vhd", tmp_path / "other.raw", tmp_path / "longer.raw"
    run_ok("convert", "-O", "vhd", disk, vhd)
    content = bytearray(disk.read_bytes())
    longer.write_bytes(content + bytes(MIB))
    content[5 * MIB + 17] ^= 1
    other.write_bytes(content)

    assert run("compare", disk, vhd).code == 0
    different = run("compare", vhd, other)
    assert (different.code, different.err) == (1, "")
    assert str(5 * MIB + 17) in different.out
    assert run("compare", "--output=json", vhd, other).json() == {
        "same": False, "virtual-size-a": 10 * MIB, "virtual-size-b": 10 * MIB,
        "first-difference": 5 * MIB + 17}

    assert run("compare", vhd, longer).code == 0
    assert run("compare", "-s", vhd, longer).code == 1
    quiet = run("compare", "-q", vhd, other)
    assert (quiet.code, quiet.out, quiet.err) == (1, "", "")


def test_compare_with_formats_that_are_given(disk, tmp_path):
    image = tmp_path / "disk.qcow2"
    oracle("qemu-img", "convert", "-O", "qcow2", disk, image)
    assert run("compare", disk, image).code == 0
    assert run("compare", "-F", "raw", disk, image).code == 1
    assert run("compare", "-f", "raw", image, disk).code == 1
    assert run("compare", "-f", "raw", "-F", "raw", image, image).code == 0


def test_compare_tells_opening_from_reading(disk, tmp_path):
    missing = run("compare", disk, tmp_path / "nothing")
    assert (missing.code, missing.out) == (2, "")
    # A qcow2 whose L1 table leads out of the file: it opens, and cannot be read.
    image = tmp_path / "broken.qcow2"
    oracle("qemu-img", "convert", "-O", "qcow2", disk, image)
    with open(image, "r+b") as file:
        file.seek(40)
        table = int.from_bytes(file.read(8), "big")
        file.seek(table)
        file.write((1 << 50).to_bytes(8, "big"))
    assert run("compare", disk, image).code == 4


def test_progress_goes_to_standard_error(disk, tmp_path):
    for words in (["hash", disk], ["compare", disk, disk], ["measure", "-O", "vhd", disk],
                  ["convert", "-O", "vhd", disk, tmp_path / "out.vhd"]):
        words += ["--force"] if words[0] == "convert" else []
        silent = run_ok(*words)
        assert silent.err == ""
        shown = run_ok(*words, "-p")
        assert shown.err.splitlines()[0].startswith("100.0 %")
        assert "/s" in shown.err
        assert shown.out == silent.out
        assert run_ok(*words, "-p", "-q").err == ""


def test_hash_of_a_huge_hole_does_not_read_it(tmp_path):
    image = write_raw(tmp_path / "huge.raw", 2 * GIB, [(GIB, 4 * KIB)])
    assert len(run_ok("hash", image).out.split()[0]) == 32
