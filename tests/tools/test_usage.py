"""Verbs, names of the program, help, manual, standard streams."""
import os
import subprocess

import pytest
from conftest import oracle, program, run, run_ok

VERBS = ["info", "check", "map", "chain", "log", "compare", "hash", "measure", "create",
         "convert"]
READING_VERBS = VERBS[:8]


def test_help_lists_every_verb():
    for outcome in (run_ok("--help"), run_ok("-h"), run_ok("help")):
        for verb in VERBS:
            assert f"\n  {verb} " in outcome.out
        assert outcome.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_teaches(verb):
    outcome = run_ok(verb, "--help")
    assert outcome.out == run_ok("help", verb).out
    assert outcome.out.startswith(f"vhd {verb}: ")
    for heading in ("Usage: vhd ", "\nOptions:\n", "\nExamples:\n", "\nExit codes:\n"):
        assert heading in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 90


@pytest.mark.parametrize("name", ["vhd", "vhd-convert", "vhd-inspect"])
def test_version(name):
    assert run_ok("--version", name=name).out.startswith(f"{name} 0.")


@pytest.mark.parametrize("words, message", [
    ([], "a verb is missing"),
    (["frobnicate"], 'no verb "frobnicate"'),
    (["info"], "IMAGE"),
    (["info", "a", "b"], "b"),
    (["info", "--bogus", "a"], "--bogus"),
    (["info", "-f", "vmdk", "a"], '"vmdk"'),
    (["info", "--output", "xml", "a"], '"xml"'),
    (["info", "--map", "nonsense", "a"], "nonsense"),
    (["map", "-f"], "format"),
    (["convert", "a", "b"], "-O"),
    (["create", "a", "1G"], "-f"),
    (["create", "-f", "vhdx", "a", "1Q"], "1Q"),
    (["hash", "--algorithm", "crc8", "a"], "crc8"),
    (["check", "--profile", "vmware", "a"], "azure"),
    (["help", "nothing"], "verb"),
    (["help", "--man", "nothing"], "nothing"),
])
def test_wrong_usage_says_what_is_wrong(words, message, tmp_path):
    outcome = run(*words, cwd=tmp_path)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("vhd: ")
    assert message in outcome.err.splitlines()[0]
    assert "--help" in outcome.err.splitlines()[1]
    assert os.listdir(tmp_path) == []


def test_wrong_usage_of_compare_is_not_taken_for_a_difference():
    assert run("compare", "--bogus", "a", "b").code == 2


def test_inspect_is_info_without_a_verb(disk):
    assert run_ok(disk, name="vhd-inspect").out == run_ok("info", disk).out
    assert run_ok("--output=json", disk, name="vhd-inspect").json()["format"] == "raw"


@pytest.mark.parametrize("verb", ["info", "map", "chain"])
def test_inspect_takes_the_verbs_that_read(verb, disk):
    assert run_ok(verb, disk, name="vhd-inspect").out == run_ok(verb, disk).out


def test_inspect_changes_nothing(disk, tmp_path):
    for words in (["convert", "-O", "vhd", disk, tmp_path / "x"], ["create", "-f", "raw", "x", "1M"],
                  ["check", "--repair", disk]):
        outcome = run(*words, name="vhd-inspect", cwd=tmp_path)
        assert outcome.code == 1
        assert "change" in outcome.err
    assert os.listdir(tmp_path) == [disk.name]
    shown = run_ok("--help", name="vhd-inspect").out
    assert all(f"\n  {verb} " in shown for verb in READING_VERBS)
    assert "\n  convert " not in shown


def test_convert_by_its_own_name(disk, tmp_path):
    run_ok("-O", "raw", disk, tmp_path / "copy", name="vhd-convert")
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
    assert run_ok("--help", name="vhd-convert").out.startswith("vhd-convert: ")


@pytest.mark.parametrize("name", ["vhd", "vhd-convert", "vhd-inspect"])
def test_the_manual_is_sound_roff(name, tmp_path):
    page = tmp_path / f"{name}.1"
    page.write_text(run_ok("help", "--man", name).out)
    checked = oracle("man", "--warnings", "-l", page)
    assert checked.code == 0
    assert checked.err == ""
    assert "NAME" in checked.out
    assert f"{name} " in checked.out


def test_a_message_is_one_line_whatever_the_name(tmp_path):
    outcome = run("info", "no\nsuch\x1b[31mfile", cwd=tmp_path)
    assert outcome.code == 1
    assert outcome.err == "vhd: no\\x0asuch\\x1b[31mfile: No such file or directory\n"


@pytest.mark.parametrize("words", [["info", "disk.raw"], ["map", "disk.raw"], ["--help"],
                                   ["convert", "-O", "raw", "disk.raw", "-"]])
def test_output_that_does_not_arrive_is_an_error(words, disk, tmp_path):
    full = run(*words, cwd=tmp_path, stdout=open("/dev/full", "wb"))
    assert full.code == 1
    assert "standard output" in full.err
    assert "No space left" in full.err


@pytest.mark.parametrize("words", [["compare", "disk.raw", "disk.raw"], ["compare", "--help"],
                                   ["ctl", "--help"]])
def test_output_that_does_not_arrive_is_no_answer_of_the_verb(words, disk, tmp_path):
    full = run(*words, cwd=tmp_path, stdout=open("/dev/full", "wb"))
    assert full.code == 2
    assert "standard output" in full.err


def test_a_closed_standard_output_is_an_error_and_hits_no_image(disk, tmp_path):
    for words in (f"info {disk}", f"convert -O raw {disk} -"):
        before = disk.read_bytes()
        outcome = subprocess.run(["sh", "-c", f"{program('vhd')} {words} >&-"], check=False,
                                 stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert outcome.returncode == 1
        assert b"standard output" in outcome.stderr
        assert disk.read_bytes() == before


def test_all_streams_closed_and_the_conversion_is_whole(disk, tmp_path):
    command = f"{program('vhd')} convert -p -O raw {disk} {tmp_path / 'copy'} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


def test_a_reader_that_goes_away_ends_the_listing(tmp_path, disk):
    command = f"{program('vhd')} map {disk} | true; exit 0"
    finished = subprocess.run(["sh", "-c", command], check=False, capture_output=True, timeout=30)
    assert finished.stderr == b""
