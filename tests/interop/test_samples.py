"""Real images by Hyper-V and Virtual PC: size and content as the samples' README states them."""
import bz2
import gzip
import json
import os
import pathlib

import pytest

import oracles
from oracles import vhd  # noqa: F401, a fixture

FOLDER = pathlib.Path(os.environ.get("VHDKIT_SAMPLES", pathlib.Path(__file__).parents[3] / "shared" / "samples"))

# Name, bytes of the guest's disk, SHA-256 of them.
SAMPLES = [
    ("iotest-dirtylog-10G-4M.vhdx.bz2", 10737418240,
     "179cefe8b0587f123393eedf2aa7aa8d25798591178e6bc3950a09762f38f96f"),
    ("hyperv-dynamic-10M.vhdx.gz", 10485760, "8e2b5e9265d694b42b81819e3bff29770eff4ed0f4f9f311693ff3dbdc93efac"),
    ("hyperv-fixed-10M.vhd.gz", 10485760, "459325ab1fcd1d5ec9854cba790ee26378317cda177ffc1072008a1df88e6463"),
    ("virtualpc-dynamic.vhd.bz2", 136363130880, None),  # empty: all zeroes
]


@pytest.fixture(params=SAMPLES, ids=[sample[0].split(".")[0] for sample in SAMPLES])
def sample(request, tmp_path):
    name, size, digest = request.param
    packed = FOLDER / name
    if not packed.is_file():
        pytest.skip(f"{name} is not there (VHDKIT_SAMPLES)")
    opener = bz2.open if name.endswith(".bz2") else gzip.open
    path = tmp_path / name.rsplit(".", 1)[0]
    with opener(packed, "rb") as source, open(path, "wb") as target:
        while piece := source.read(1 << 20):
            # Zeroes stay holes: the dirty image is large.
            if piece.count(0) == len(piece):
                target.seek(len(piece), os.SEEK_CUR)
            else:
                target.write(piece)
        target.truncate(target.tell())
    before = oracles.sha256(path)
    yield path, size, digest
    assert oracles.sha256(path) == before, "the sample was changed"


def test_size(vhd, sample):
    path, size, _ = sample
    assert json.loads(vhd("info", "--output=json", path).out)["virtual-size"] == size


def test_hash(vhd, sample):
    path, _, digest = sample
    if digest is None:
        pytest.skip("empty: compared with zeroes by test_convert")
    assert vhd("hash", "--algorithm", "sha256", path).out.split()[0] == digest


def test_convert(vhd, sample, tmp_path):
    path, size, digest = sample
    target = tmp_path / "out.raw"
    vhd("convert", "-q", "-O", "raw", path, target)
    assert os.stat(target).st_size == size
    if digest is None:
        assert os.stat(target).st_blocks == 0
    else:
        assert oracles.sha256(target) == digest


def test_check(vhd, sample):
    path, _, _ = sample
    result = vhd("check", path, check=False)
    assert result.code in (0, 3), result.out + result.err


def test_gzip_is_read_as_it_is(vhd):
    packed = FOLDER / "hyperv-fixed-10M.vhd.gz"
    if not packed.is_file():
        pytest.skip("the sample is not there (VHDKIT_SAMPLES)")
    assert vhd("hash", "--algorithm", "sha256", packed).out.split()[0] == SAMPLES[2][2]


def test_repair_replays_the_log_as_qemu_does(vhd, tmp_path):
    name, _, digest = SAMPLES[0]
    packed = FOLDER / name
    if not packed.is_file():
        pytest.skip(f"{name} is not there (VHDKIT_SAMPLES)")
    path = tmp_path / "dirty.vhdx"
    with bz2.open(packed, "rb") as source:
        path.write_bytes(source.read())
    result = vhd("check", "--repair", path, check=False)
    assert result.code in (0, 3), result.out + result.err
    oracles.qemu_check(path)
    assert vhd("hash", "--algorithm", "sha256", path).out.split()[0] == digest
