"""vhd log: the log of a VHDX and what a replay would do."""
from conftest import fingerprint, run, run_ok, unpack_sample


def test_the_log_of_a_real_image(tmp_path):
    image = unpack_sample("iotest-dirtylog-10G-4M.vhdx.bz2", tmp_path)
    before = fingerprint(image)
    report = run_ok("log", "--output=json", image).json()
    assert report["state"] == "dirty"
    # samples/README.md: one valid entry, at offset 0xc000 of the log.
    assert [(entry["log-offset"], entry["active"]) for entry in report["entries"]] == [(0xC000, True)]
    data = [d for d in report["entries"][0]["descriptors"] if d["kind"] == "data"]
    assert report["replay"]["sectors-written"] == len(data)
    assert all(d["file-offset"] % 4096 == 0 and d["length"] == 4096 for d in data)
    text = run_ok("log", image).out
    assert "dirty" in text and "0xc000" in text
    assert fingerprint(image) == before


def test_an_empty_log(tmp_path):
    image = unpack_sample("hyperv-dynamic-10M.vhdx.gz", tmp_path)
    report = run_ok("log", "--output=json", image).json()
    assert (report["state"], report["entries"], report["fragments"]) == ("empty", [], [])
    assert report["log-guid"] == "00000000-0000-0000-0000-000000000000"
    assert "empty" in run_ok("log", image).out


def test_what_has_no_log(disk, tmp_path):
    refused = run("log", disk)
    assert refused.code == 1
    assert "raw" in refused.err and "vhdx" in refused.err
    assert run("log", tmp_path / "nothing").code == 1
