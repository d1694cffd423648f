"""vhd snapshot and vhd merge: checkpoints made, and put back into their parents."""
import fcntl
import gzip
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import fingerprint, names_in, oracle, program, run, run_ok, start

KINDS = ["vhd", "vhdx"]
NAME = r"base_[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\.avhdx?"


def io(image, *commands):
    run_ok("io", "-q", image, input="\n".join(commands).encode())


def disk_hash(image):
    return run_ok("hash", image).out.split()[0]


def snapshot(image):
    return run_ok("snapshot", image).out.strip()


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    image = tmp_path / f"base.{request.param}"
    run_ok("create", "-q", "-f", request.param, image, "64M")
    io(image, "write -S 1 0 10M", "write -P 9 63M 1M")
    return image


def test_a_snapshot_replaces_nothing_and_does_not_say_that_it_could(base, tmp_path):
    (tmp_path / "taken").write_bytes(b"precious")
    outcome = run("snapshot", "--to", tmp_path / "taken", base)
    assert outcome.code == 1
    assert "exists already" in outcome.err and "--force" not in outcome.err
    assert (tmp_path / "taken").read_bytes() == b"precious"


@pytest.fixture
def chain(base):
    """base, middle, newest, each with writes, zeroes and blocks of its own."""
    middle = snapshot(base)
    io(middle, "write -S 2 1M 1M", "zero 3M 4M", "write -P 3 40M 5K", "zero 63M 1M")
    newest = snapshot(middle)
    io(newest, "write -S 4 1536K 1M", "zero 40M 512", "write -P 5 3M 512")
    return base, middle, newest


def test_who_may_read_a_child(base, tmp_path):
    before = os.umask(0o022)
    try:
        for number, (mode, expected) in enumerate([(0o600, 0o600), (0o640, 0o640), (0o644, 0o644), (0o660, 0o640), (0o444, 0o644)]):
            base.chmod(mode)
            made = tmp_path / f"child{number}"
            run_ok("create", "-q", "-f", base.suffix[1:], "-b", base, made)
            for child in (snapshot(base), made):
                assert os.stat(child).st_mode & 0o7777 == expected
    finally:
        os.umask(before)


def test_a_checkpoint_is_named_as_hyper_v_names_them(base, tmp_path):
    before = disk_hash(base)
    child = snapshot(base)
    grandchild = snapshot(child)
    for path in (child, grandchild):
        assert re.fullmatch(NAME, path.rsplit("/", 1)[1])
    assert child.endswith(".avhd" if base.suffix == ".vhd" else ".avhdx")
    assert disk_hash(grandchild) == before
    named = tmp_path / "mine.avhdx"
    outcome = run_ok("snapshot", "--output=json", "--to", named, base)
    assert outcome.json() == {"filename": str(named), "parent": str(base)}
    assert run("snapshot", "--to", named, base).code == 1
    assert run("check", "-q", grandchild).code == 0


def test_a_checkpoint_is_the_same_disk_to_the_guest(base):
    facts = [run_ok("info", "--output=json", image).json() for image in (base, snapshot(base))]
    for key in ("virtual-size", "cluster-size"):
        assert facts[0][key] == facts[1][key]
    if base.suffix == ".vhdx":
        for key in ("disk-id", "block-size", "logical-sector-size", "physical-sector-size"):
            assert facts[0]["format-specific"]["data"][key] == facts[1]["format-specific"]["data"][key]


def test_each_child_into_its_parent(chain):
    base, middle, newest = chain
    wanted = disk_hash(newest)
    run_ok("merge", "-q", newest)
    assert disk_hash(middle) == wanted
    run_ok("merge", "-q", middle)
    assert disk_hash(base) == wanted
    assert names_in(base.parent) == [base.name]
    assert run("check", "-q", base).code in (0, 3)


def test_a_chain_into_its_base(chain):
    base, middle, newest = chain
    wanted = disk_hash(newest)
    report = run_ok("merge", "--output=json", "--into", base, newest).json()
    assert report["merged"] == [newest, middle]
    assert disk_hash(base) == wanted
    assert names_in(base.parent) == [base.name]


def test_a_dry_run_changes_nothing_and_says_what_it_would_do(chain):
    before = [fingerprint(image) for image in chain]
    base, middle, newest = chain
    report = run_ok("merge", "--output=json", "--dry-run", "--into", base, newest).json()
    assert report["dry-run"] and report["into"] == str(base) and report["merged"] == [newest, middle]
    assert report["data-bytes"] > 0
    assert [fingerprint(image) for image in chain] == before


def test_the_files_stay_where_they_are_asked_to(chain):
    base, middle, newest = chain
    wanted = disk_hash(newest)
    run_ok("merge", "-q", "--keep", "--into", base, newest)
    assert disk_hash(newest) == wanted
    assert disk_hash(base) == wanted
    assert len(names_in(base.parent)) == 3


def test_a_checkpoint_out_of_the_middle(chain):
    base, middle, newest = chain
    wanted = disk_hash(newest)
    identity = data_write_guid(middle)
    dry = run_ok("merge", "--output=json", "--dry-run", middle).json()
    assert dry["moved"] == [newest]
    report = run_ok("merge", "--output=json", middle).json()
    assert report["merged"] == [middle] and report["moved"] == [newest]
    assert names_in(base.parent) == sorted([base.name, os.path.basename(newest)])
    assert disk_hash(newest) == wanted
    assert run("check", "-q", newest).code in (0, 3)
    # Its content has its identity, and nothing else is accepted any more.
    assert data_write_guid(base) == identity
    assert "parent linkage2" not in run_ok("info", newest).out
    run_ok("merge", "-q", newest)
    assert disk_hash(base) == wanted


def data_write_guid(image):
    return run_ok("info", "--output=json", image).json()["format-specific"]["data"].get("data-write-guid")


def test_the_children_of_a_kept_image_stay_with_it(chain):
    base, middle, newest = chain
    wanted = disk_hash(newest)
    before = fingerprint(newest)
    assert run_ok("merge", "--output=json", "--keep", middle).json()["moved"] == []
    assert fingerprint(newest) == before
    assert disk_hash(newest) == wanted


def test_other_children_are_not_lost(chain):
    base, middle, newest = chain
    others = [snapshot(base), snapshot(middle)]
    before = [fingerprint(image) for image in (*chain, *others)]
    for words, child in ((["--into", base, newest], others[1]), ([middle], others[0])):
        outcome = run("merge", *words)
        assert outcome.code == 1
        assert f"is the parent of {child}, which would be lost" in outcome.err
    assert [fingerprint(image) for image in (*chain, *others)] == before


def test_what_cannot_be_merged(base, tmp_path):
    other = tmp_path / f"other{base.suffix}"
    run_ok("create", "-q", "-f", base.suffix[1:], other, "64M")
    child = tmp_path / f"child{base.suffix}"
    run_ok("create", "-q", "-f", base.suffix[1:], "-b", base, child)
    for words, says in (([base], "has no parent to merge into"), (["--into", other, child], "is not among the parents")):
        before = fingerprint(base)
        outcome = run("merge", *words)
        assert outcome.code == 1
        assert says in outcome.err
        assert fingerprint(base) == before


def test_a_merge_that_is_killed_goes_on(chain):
    """Bug class 20: killed at any moment, the child shows its disk and the merge can be called again."""
    base, middle, newest = chain
    io(newest, *(f"write -S {i} {i}M 1M" for i in range(20, 60)))
    wanted = disk_hash(newest)
    generator = random.Random(7)
    killed = 0
    for _ in range(200):
        with start("merge", "-q", "--keep", "--into", base, newest) as merger:
            time.sleep(generator.random() * 0.06)
            merger.send_signal(signal.SIGKILL)
        killed += merger.returncode == -signal.SIGKILL
        assert disk_hash(newest) == wanted
        if killed >= 25:
            break
    assert killed >= 10
    run_ok("merge", "-q", "--into", base, newest)
    assert disk_hash(base) == wanted
    assert names_in(base.parent) == [base.name]
    assert run("check", "-q", base).code in (0, 3)


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize("image_format", KINDS)
def test_a_larger_child_makes_its_parent_larger(tmp_path, image_format, subformat):
    base, child = tmp_path / f"base.{image_format}", tmp_path / f"child.{image_format}"
    run_ok("create", "-q", "-f", image_format, "-o", f"subformat={subformat}", base, "9M")
    io(base, "write -S 1 0 9M")
    run_ok("create", "-q", "-f", image_format, "-b", base, child, "75M")
    io(child, "write -S 2 7M 1M", "write -P 3 40M 5K", "write -P 4 76799K 1K")
    wanted = disk_hash(child)
    run_ok("merge", "-q", "--dry-run", child)
    assert run_ok("info", "--output=json", base).json()["virtual-size"] == 9 << 20
    run_ok("merge", "-q", child)
    assert disk_hash(base) == wanted
    assert names_in(tmp_path) == [base.name]
    assert run("check", "-q", base).code in (0, 3)


def test_a_larger_child_into_the_middle_of_a_chain(tmp_path):
    base, middle, newest = (tmp_path / name for name in ("base.vhdx", "middle.avhdx", "newest.avhdx"))
    run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", base, "9M")
    io(base, "write -P 1 0 9M")
    run_ok("create", "-q", "-f", "vhdx", "-b", base, middle)
    run_ok("resize", "-q", "--shrink", middle, "3584K")
    run_ok("create", "-q", "-f", "vhdx", "-b", middle, newest, "12M")
    io(newest, "write -P 2 8M 1M")
    wanted = disk_hash(newest)
    run_ok("merge", "-q", newest)
    assert disk_hash(middle) == wanted
    assert run("check", "-q", middle).code == 0


def smaller_child(folder, image_format, subformat):
    """Its parent has something behind its end."""
    base, child = folder / f"base.{image_format}", folder / f"child.{image_format}"
    size = "7680K" if image_format == "vhd" else "20M"
    run_ok("create", "-q", "-f", image_format, "-o", f"subformat={subformat}", base, size)
    io(base, "write -S 1 0 7680K")
    if image_format == "vhd":
        # A differencing VHD is not made smaller, but a parent gets larger where nobody knows of it.
        run_ok("create", "-q", "-f", "vhd", "-b", base, child)
        with tempfile.TemporaryDirectory(dir=folder) as elsewhere:
            moved = child.rename(os.path.join(elsewhere, child.name))
            run_ok("resize", "-q", base, "20M")
            io(base, "write -P 9 7680K 5M")
            moved.rename(child)
    else:
        io(base, "write -P 9 7680K 5M")
        run_ok("create", "-q", "-f", "vhdx", "-b", base, child)
        run_ok("resize", "-q", "--shrink", child, "7680K")
    io(child, "write -S 2 7M 100K", "zero 3M 1M", "write -P 3 7679K 1K")
    return base, child


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize("image_format", KINDS)
def test_a_smaller_child_makes_its_parent_smaller(tmp_path, image_format, subformat):
    base, child = smaller_child(tmp_path, image_format, subformat)
    wanted, marks = disk_hash(child), [fingerprint(image) for image in (base, child)]
    report = run_ok("merge", "--output=json", "--dry-run", child).json()
    assert (report["old-virtual-size"], report["virtual-size"]) == (20 << 20, 7680 << 10)
    assert "would resize" in run_ok("merge", "--dry-run", child).out
    assert [fingerprint(image) for image in (base, child)] == marks
    run_ok("merge", "-q", "--keep", child)
    for image in (base, child):
        assert disk_hash(image) == wanted
    run_ok("merge", "-q", child)
    assert disk_hash(base) == wanted
    assert run_ok("info", "--output=json", base).json()["virtual-size"] == 7680 << 10
    assert names_in(tmp_path) == [base.name]
    assert run("check", "-q", base).code in (0, 3)
    # Nothing of what was behind its end comes back.
    run_ok("resize", "-q", base, "20M")
    run_ok("io", "-q", "-c", "read -P 0 7680K 12800K", base)


@pytest.fixture
def waisted_chain(tmp_path):
    """The image in the middle is smaller than its parent and than its child, which shows zeroes behind its end."""
    base, middle, newest = (tmp_path / name for name in ("base.vhdx", "middle.avhdx", "newest.avhdx"))
    run_ok("create", "-q", "-f", "vhdx", "-o", "block_size=1M", base, "12M")
    io(base, "write -P 1 0 12M")
    run_ok("create", "-q", "-f", "vhdx", "-b", base, middle)
    io(middle, "write -P 2 1M 1M")
    run_ok("resize", "-q", "--shrink", middle, "3584K")
    run_ok("create", "-q", "-f", "vhdx", "-b", middle, newest, "9M")
    io(newest, "write -P 3 5M 512", "write -P 4 2M 1M")
    shown = ["read -P 1 0 1M", "read -P 2 1M 1M", "read -P 4 2M 1M", "read -P 1 3M 512K", "read -P 0 3584K 1536K",
             "read -P 3 5M 512", f"read -P 0 {(5 << 20) + 512} {(4 << 20) - 512}"]
    io(newest, *shown)
    return base, middle, newest, shown


@pytest.mark.parametrize("children", [["newest"], ["middle"], ["newest", "middle"], ["middle", "newest"]])
def test_what_a_smaller_image_in_the_middle_hides_stays_hidden(waisted_chain, tmp_path, children):
    base, middle, newest, shown = waisted_chain
    paths = {"middle": middle, "newest": newest}
    for child in children:
        run_ok("merge", "-q", paths[child])
        top = next(image for image in (newest, middle, base) if image.exists())
        io(top, *shown)
        assert run_ok("info", "--output=json", top).json()["virtual-size"] == 9 << 20
        for image in names_in(tmp_path):
            assert run("check", "-q", tmp_path / image).code in (0, 3)
    assert len(names_in(tmp_path)) == 3 - len(children)


def test_a_chain_with_a_smaller_image_in_the_middle_into_its_base(waisted_chain, tmp_path):
    base, _, newest, shown = waisted_chain
    run_ok("merge", "-q", "--into", base, newest)
    io(base, *shown)
    assert run_ok("info", "--output=json", base).json()["virtual-size"] == 9 << 20
    assert names_in(tmp_path) == [base.name]


def larger_child(folder, image_format, _):
    base, child = folder / f"base.{image_format}", folder / f"child.{image_format}"
    run_ok("create", "-q", "-f", image_format, base, "9M")
    io(base, "write -S 1 0 64K", "write -S 1 8M 1M")
    run_ok("create", "-q", "-f", image_format, "-b", base, child, "300M")
    io(child, "write -S 2 8M 64K", "write -P 3 290M 5K")
    return base, child


# What becomes of the parent, its kind, and the calls at which the merge is killed.
RESIZES = [(larger_child, "vhd", "dynamic", "io_uring_enter ftruncate"),
           (larger_child, "vhdx", "dynamic", "io_uring_enter ftruncate"),
           (smaller_child, "vhd", "dynamic", "io_uring_enter ftruncate fallocate unlink"),
           (smaller_child, "vhd", "fixed", "io_uring_enter renameat"),
           (smaller_child, "vhdx", "dynamic", "io_uring_enter fallocate unlink"),
           (smaller_child, "vhdx", "fixed", "io_uring_enter")]


def under_strace(call, *words):
    """A program of ours whose calls of one kind are traced, or meddled with; the words of strace come first."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    options, arguments = words[:words.index("--")], words[words.index("--") + 1:]
    return subprocess.run(["strace", "-f", *options, "-e", f"trace={call}", program("vhd"), *map(str, arguments)],
                          check=False, capture_output=True).returncode


def moments_of(call, folder, *words, most=80):
    """Runs it to its end. Of its calls of a kind the numbers of all, or of some all over it where there are many."""
    trace = folder / "calls"
    assert under_strace(call, "-o", trace, "--", *words) == 0
    count = trace.read_text().count(f"{call}(")
    trace.unlink()
    return range(1, count + 1, count // most + 1)


def kill_at(call, moment, *words):
    under_strace(call, "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={moment}", "--", *words)


@pytest.mark.parametrize("make,image_format,subformat,call", [(*one, call) for *one, calls in RESIZES
                                                              for call in calls.split()])
def test_a_merge_that_resizes_goes_on_when_it_is_killed(tmp_path, make, image_format, subformat, call):
    base, child = make(tmp_path, image_format, subformat)
    wanted = disk_hash(child)
    stored = tmp_path / "stored"
    stored.mkdir()
    for image in (base, child):
        shutil.copy(image, stored)
    for moment in moments_of(call, tmp_path, "merge", "-q", child):
        for name in names_in(stored):
            shutil.copy(stored / name, tmp_path / name)
        kill_at(call, moment, "merge", "-q", child)
        if child.exists():
            assert disk_hash(child) == wanted, f"killed at {call} {moment}"
            run_ok("merge", "-q", child)
        assert disk_hash(base) == wanted, f"killed at {call} {moment}, then done again"
        assert run("check", "-q", base).code in (0, 3)


@pytest.mark.parametrize("call", ["io_uring_enter", "unlink", "fsync", "fallocate", "ftruncate"])
def test_a_merge_that_is_killed_at_each_of_its_steps_goes_on(base, tmp_path, call):
    """Killed at its system calls of a kind, one after the other."""
    middle = snapshot(base)
    io(middle, "write -S 2 1M 64K", "zero 3M 4M", "write -P 3 40M 5K", "zero 63M 1M")
    newest = snapshot(middle)
    io(newest, "write -S 4 1080K 64K", "write -P 5 3M 512")
    wanted = disk_hash(newest)
    stored = tmp_path / "stored"
    shutil.copytree(base.parent, stored, ignore=shutil.ignore_patterns("stored"))
    for moment in moments_of(call, tmp_path, "merge", "-q", middle):
        for name in names_in(stored):
            shutil.copy(stored / name, base.parent / name)
        kill_at(call, moment, "merge", "-q", middle)
        assert disk_hash(newest) == wanted, f"killed at {call} {moment}"
        assert run("check", "-q", newest).code in (0, 3)
        if os.path.exists(middle):
            run_ok("merge", "-q", middle)
            assert disk_hash(newest) == wanted, f"killed at {call} {moment}, then done again"
        assert sorted(set(names_in(base.parent)) - {"stored"}) == sorted([base.name, os.path.basename(newest)])
    run_ok("merge", "-q", newest)
    assert disk_hash(base) == wanted


def test_an_interrupted_merge_says_so_and_leaves_the_child_whole(chain):
    base, _, newest = chain
    wanted = disk_hash(newest)
    io(newest, *(f"write -S {i} {i}M 1M" for i in range(10, 60)))
    wanted = disk_hash(newest)
    with start("merge", "-q", "--into", base, newest) as merger:
        time.sleep(0.02)
        merger.send_signal(signal.SIGINT)
        merger.communicate()
    assert merger.returncode in (0, -signal.SIGINT)
    assert disk_hash(base if merger.returncode == 0 else newest) == wanted


@pytest.fixture
def family(base, tmp_path):
    """base, two images between, newest, its child, and one of base's in another folder, which nobody knows of."""
    first = snapshot(base)
    io(first, "write -S 2 1M 64K", "write -P 3 40M 5K")
    second = snapshot(first)
    io(second, "write -P 4 1040K 8K", "zero 63M 512K")
    newest = snapshot(second)
    io(newest, "write -P 5 1044K 8K", "write -P 6 50M 512")
    heir = snapshot(newest)
    io(heir, "write -P 7 2M 512")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stray = elsewhere / f"stray{base.suffix}"
    run_ok("create", "-q", "-f", base.suffix[1:], "-b", base, stray)
    return base, first, second, newest, heir, str(stray)


def shows(image):
    """The content, or None of an image that does not open, since its parent is missing or another one."""
    outcome = run("hash", image)
    if outcome.code == 0:
        return outcome.out.split()[0]
    assert outcome.code == 1 and ("its parent was not found" in outcome.err or "the child names" in outcome.err)
    return None


@pytest.mark.parametrize("call", ["io_uring_enter", "unlink"])
def test_a_chain_merge_that_is_killed_at_each_of_its_steps_goes_on(family, tmp_path, call):
    """Whoever is left shows the child's disk, or does not open as soon as it would hide or show other content."""
    base, first, second, newest, heir, stray = family
    wanted = {image: disk_hash(image) for image in family}
    identity, is_vhdx = data_write_guid(newest), base.suffix == ".vhdx"
    stored = tmp_path / "stored"
    shutil.copytree(tmp_path, stored, ignore=shutil.ignore_patterns("stored"))
    words = ["merge", "-q", "--into", base, newest]

    def check_whoever_is_left():
        assert shows(heir) == wanted[heir]
        assert run("check", "-q", heir).code in (0, 3)
        if os.path.exists(newest):
            assert shows(newest) == wanted[newest]
            assert run("check", "-q", newest).code in (0, 3)
        between = [image for image in (first, second) if os.path.exists(image)]
        is_replaced = is_vhdx and data_write_guid(base) == identity
        assert is_replaced or not is_vhdx or len(between) == 2
        if is_replaced or len(between) < 2:
            assert [shows(image) for image in between] == [None] * len(between)
        if is_replaced:
            assert shows(stray) is None

    def check_the_end():
        check_whoever_is_left()
        assert not os.path.exists(newest)
        assert disk_hash(base) == wanted[newest]
        assert not is_vhdx or data_write_guid(base) == identity
        assert "parent linkage2" not in run_ok("info", heir).out

    moments = moments_of(call, tmp_path, *words)
    check_the_end()
    for moment in moments:
        shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
        kill_at(call, moment, *words)
        check_whoever_is_left()
        assert os.path.exists(newest) or call != "unlink"
        if os.path.exists(newest):
            run_ok(*words)
        check_the_end()
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    run_ok(*words)
    assert sorted(set(names_in(tmp_path)) - {"stored"}) == sorted([base.name, os.path.basename(heir), "elsewhere"])
    run_ok("merge", "-q", heir)
    assert disk_hash(base) == wanted[heir]


def stopped_at_its_first_lock(child, base, folder):
    """A merge that has planned everything and holds nothing yet; strace, and the merge's process."""
    trace = folder / "trace"
    rehearsal = folder / "rehearsal"
    shutil.copytree(base.parent, rehearsal)
    subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=openat", program("vhd"), "merge", "-q", "--into",
                    rehearsal / base.name, rehearsal / os.path.basename(child)], check=True, capture_output=True)
    openings = [line for line in trace.read_text().splitlines() if "openat(" in line]
    first = next(i for i, line in enumerate(openings, 1) if f'{os.path.basename(child)}", O_RDWR' in line)
    trace.unlink()
    tracer = subprocess.Popen(["strace", "-f", "-o", trace, "-e", "trace=openat", "-e",
                               f"inject=openat:signal=SIGSTOP:when={first}", program("vhd"), "merge", "-q", "--into",
                               base, child], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for _ in range(600):
        stopped = re.search(r"^(\d+) +--- stopped by SIGSTOP", trace.read_text() if trace.exists() else "", re.M)
        if stopped:
            return tracer, int(stopped[1])
        time.sleep(0.1)
    tracer.kill()
    raise AssertionError("the merge did not come to its locks")


@pytest.mark.parametrize("mother", ["base", "middle", "newest"])
def test_a_child_that_is_made_just_when_a_merge_begins_is_not_lost(chain, mother):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    base, _, newest = chain
    with tempfile.TemporaryDirectory() as folder:
        tracer, merger = stopped_at_its_first_lock(newest, base, pathlib.Path(folder))
        try:
            child = snapshot(dict(zip(["base", "middle", "newest"], chain))[mother])
            wanted = [disk_hash(image) for image in (*chain, child)]
            before = [fingerprint(image) for image in (*chain, child)]
        finally:
            os.kill(merger, signal.SIGCONT)
        _, errors = tracer.communicate(timeout=60)
    assert tracer.returncode == 1 and b"got another child, just when the merge began" in errors
    assert [disk_hash(image) for image in (*chain, child)] == wanted
    assert [fingerprint(image) for image in (*chain, child)] == before


@pytest.mark.parametrize("image_format", KINDS)
def test_nothing_is_changed_while_a_child_of_the_child_is_in_use(tmp_path, image_format):
    base, child = larger_child(tmp_path, image_format, None)
    heir = snapshot(child)
    before = [fingerprint(image) for image in (base, child, heir)]
    with open(heir, "r+b") as used:
        fcntl.lockf(used, fcntl.LOCK_EX)
        outcome = run("merge", child)
    assert outcome.code == 1 and heir in outcome.err
    assert [fingerprint(image) for image in (base, child, heir)] == before
    run_ok("merge", "-q", child)
    assert run_ok("info", "--output=json", base).json()["virtual-size"] == 300 << 20


def test_only_vhd_and_vhdx_are_merged(disk, tmp_path):
    """An overlay's content could make a raw base that nobody said to be raw something else."""
    overlay = tmp_path / "overlay.qcow2"
    assert oracle("qemu-img", "create", "-f", "qcow2", "-b", disk, "-F", "raw", overlay).code == 0
    before = [fingerprint(image) for image in (disk, overlay)]
    for words in ([], ["--dry-run"], ["--keep"]):
        outcome = run("merge", *words, overlay)
        assert outcome.code == 1
        assert "only vhd and vhdx images are merged, this is qcow2; vhd convert makes one disk of it" in outcome.err
    assert [fingerprint(image) for image in (disk, overlay)] == before


@pytest.fixture
def linked_child(base, tmp_path):
    """A child of base that is known by a link in another folder, and a child of it beside it."""
    child = tmp_path / f"child{base.suffix}"
    run_ok("create", "-q", "-f", base.suffix[1:], "-b", base, child)
    io(child, "write -S 2 1M 1M")
    heir = snapshot(child)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / f"vm{base.suffix}"
    link.symlink_to(child)
    return child, heir, link


def test_a_child_that_is_a_link_has_its_own_folder_too(base, linked_child, tmp_path):
    _, heir, link = linked_child
    # One child, whatever it is called.
    (tmp_path / f"alias{base.suffix}").symlink_to(heir)
    (tmp_path / f"zzz{base.suffix}").symlink_to(heir)
    wanted = disk_hash(heir)
    assert run_ok("merge", "--output=json", link).json()["moved"] == [heir]
    assert disk_hash(heir) == wanted
    assert names_in(link.parent) == []
    assert names_in(tmp_path) == sorted([f"alias{base.suffix}", base.name, os.path.basename(heir), "links",
                                         f"zzz{base.suffix}"])


def test_children_beside_a_linked_file_are_known_to_a_resize(base, linked_child, tmp_path):
    child, heir, link = linked_child
    link.unlink()
    os.unlink(heir)
    link.symlink_to(base)
    before = fingerprint(base)
    outcome = run("resize", "--shrink", link, "32M")
    assert outcome.code == 1 and f"is the parent of {child}" in outcome.err
    assert fingerprint(base) == before


def test_a_gzip_file_is_nobodys_child(base, tmp_path):
    child = snapshot(base)
    io(child, "write -S 2 1M 1M")
    packed = tmp_path / f"packed{base.suffix}"
    packed.write_bytes(gzip.compress(pathlib.Path(child).read_bytes(), 1))
    wanted = disk_hash(child)
    run_ok("merge", "-q", child)
    assert disk_hash(base) == wanted


def test_a_parent_that_cannot_be_named_is_found_before_anything_is_changed(base, tmp_path):
    """A path that is not UTF-8 has no form in UTF-16."""
    folder, apart = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "apart"
    folder.mkdir()
    apart.mkdir()
    mother = base.rename(folder / base.name)
    outcome = run("create", "-q", "-f", base.suffix[1:], "-b", mother, tmp_path / "child")
    assert outcome.code == 1 and "not UTF-8" in outcome.err
    assert names_in(tmp_path) == sorted(["apart", folder.name])
    # A link to the child is beside the parent, the child itself where no path to that can be named.
    child, heir = (f"{name}{base.suffix}" for name in ("child", "heir"))
    run_ok("create", "-q", "-f", base.suffix[1:], "-b", mother, folder / child)
    io(folder / child, "write -S 2 1M 1M")
    os.rename(folder / child, apart / child)
    (folder / child).symlink_to(apart / child)
    run_ok("snapshot", "--to", apart / heir, folder / child)
    images = [mother, apart / child, apart / heir]
    before = [fingerprint(image) for image in images]
    outcome = run("merge", folder / child)
    assert outcome.code == 1 and "not UTF-8" in outcome.err
    assert [fingerprint(image) for image in images] == before


DISK_ID = "01234567-89ab-cdef-0123-456789abcdef"


def says_of_disk(image):
    data = run_ok("info", "--output=json", image).json()["format-specific"]["data"]
    return data["disk-id"], data["logical-sector-size"], data["physical-sector-size"]


@pytest.mark.parametrize("words", [[], ["--keep"]])
def test_what_a_vhdx_says_of_its_disk_is_merged_too(tmp_path, words):
    """[MS-VHDX] 2.6.1.2, IsVirtualDisk; killed on the way, the merge can be called again."""
    base, child, stored = tmp_path / "base.vhdx", tmp_path / "child.vhdx", tmp_path / "stored"
    run_ok("create", "-q", "-f", "vhdx", base, "9M")
    io(base, "write -S 1 0 9M")
    run_ok("create", "-q", "-f", "vhdx", "-b", base, child)
    run_ok("set", "--disk-id", DISK_ID, "--physical-sector-size", "512", child)
    io(child, "write -P 2 1M 5K")
    wanted, identity = disk_hash(child), data_write_guid(base)
    assert says_of_disk(base)[0] != DISK_ID and says_of_disk(base)[2] == 4096
    stored.mkdir()
    for image in (base, child):
        shutil.copy2(image, stored)
    moments = moments_of("io_uring_enter", tmp_path, "merge", "-q", *words, child, most=1000)
    for moment in (None, *moments[-50:]):  # at the end, when the content is there
        for name in names_in(stored):
            shutil.copy2(stored / name, tmp_path / name)
        if moment:
            kill_at("io_uring_enter", moment, "merge", "-q", *words, child)
        if child.exists():
            assert disk_hash(child) == wanted, f"killed at {moment}"
            run_ok("merge", "-q", *words, child)
        assert says_of_disk(base) == (DISK_ID, 512, 512)
        assert disk_hash(base) == wanted
        assert (data_write_guid(base) == identity) == (words == ["--keep"])
        assert run("check", "-q", base).code in (0, 3)


def test_a_checkpoint_that_was_made_when_a_merge_was_broken_off_is_not_lost(tmp_path):
    base, child = tmp_path / "base.vhdx", tmp_path / "child.vhdx"
    run_ok("create", "-q", "-f", "vhdx", base, "9M")
    io(base, "write -S 1 0 9M")
    run_ok("create", "-q", "-f", "vhdx", "-b", base, child)
    io(child, "write -P 2 1M 5K")
    wanted, identity = disk_hash(child), data_write_guid(base)
    stored = tmp_path / "stored"
    stored.mkdir()
    for image in (base, child):
        shutil.copy2(image, stored)
    # Broken off when the child accepts both identities, and the base has its old one.
    for moment in reversed(moments_of("io_uring_enter", tmp_path, "merge", "-q", child, most=1000)):
        for name in names_in(stored):
            shutil.copy2(stored / name, tmp_path / name)
        kill_at("io_uring_enter", moment, "merge", "-q", child)
        if child.exists() and data_write_guid(base) == identity and "parent linkage2" in run_ok("info", child).out:
            break
    else:
        pytest.fail("was never broken off there")
    checkpoint = snapshot(base)
    outcome = run("merge", child)
    assert outcome.code == 1 and f"is the parent of {checkpoint}, which would be lost" in outcome.err
    assert disk_hash(checkpoint) == disk_hash(child) == wanted
    # Whichever of the two was written last.
    io(checkpoint, "write -P 8 3M 4K")
    precious = disk_hash(checkpoint)
    run_ok("set", "--disk-id", DISK_ID, child)
    outcome = run("merge", child)
    assert outcome.code == 1 and f"is the parent of {checkpoint}, which would be lost" in outcome.err
    assert disk_hash(checkpoint) == precious and disk_hash(child) == wanted
    os.remove(checkpoint)
    run_ok("merge", "-q", child)
    assert disk_hash(base) == wanted


@pytest.fixture
def broken_off(tmp_path):
    """A merge into the base that was killed when the newest image names it, before it has the new identity."""
    base = tmp_path / "base.vhdx"
    run_ok("create", "-q", "-f", "vhdx", base, "9M")
    io(base, "write -S 1 0 9M")
    middle, newest = tmp_path / "middle.avhdx", tmp_path / "newest.avhdx"
    run_ok("snapshot", "--to", middle, base)
    io(middle, "write -P 2 1M 64K")
    run_ok("snapshot", "--to", newest, middle)
    io(newest, "write -P 3 1M 5K")
    identity, stored = data_write_guid(base), tmp_path / "stored"
    stored.mkdir()
    for image in (base, middle, newest):
        shutil.copy2(image, stored)
    for moment in reversed(moments_of("io_uring_enter", tmp_path, "merge", "-q", "--into", base, newest, most=1000)):
        for name in names_in(stored):
            shutil.copy2(stored / name, tmp_path / name)
        kill_at("io_uring_enter", moment, "merge", "-q", "--into", base, newest)
        if newest.exists() and data_write_guid(base) == identity and "parent linkage2" in run_ok("info", newest).out:
            shutil.rmtree(stored)
            return base, middle, newest
    pytest.fail("was never broken off there")


def test_a_merge_that_is_killed_twice_goes_on(broken_off, tmp_path):
    base, middle, newest = broken_off
    assert f"vhdkit_merged: {{{data_write_guid(middle)}}}" in run_ok("info", newest).out
    assert run("check", "-q", newest).code == 0
    wanted, stored = disk_hash(newest), tmp_path / "stored"
    stored.mkdir()
    for image in broken_off:
        shutil.copy2(image, stored)
    for moment in moments_of("io_uring_enter", tmp_path, "merge", "-q", newest, most=1000)[-30:]:
        for name in names_in(stored):
            shutil.copy2(stored / name, tmp_path / name)
        kill_at("io_uring_enter", moment, "merge", "-q", newest)
        if newest.exists():
            assert disk_hash(newest) == wanted, f"killed at {moment}"
            run_ok("merge", "-q", newest)
        assert disk_hash(base) == wanted, f"killed at {moment}"
        assert shows(middle) is None


def test_an_image_between_that_was_written_since_is_not_lost(broken_off):
    base, middle, newest = broken_off
    io(middle, "write -P 9 2M 4K")
    precious, wanted = disk_hash(middle), disk_hash(newest)
    outcome = run("merge", newest)
    assert outcome.code == 1 and f"is the parent of {middle}, which would be lost" in outcome.err
    assert disk_hash(middle) == precious and disk_hash(newest) == wanted


def test_a_checkpoint_of_an_image_between_is_not_lost(broken_off):
    base, middle, newest = broken_off
    checkpoint = snapshot(middle)
    outcome = run("merge", newest)
    assert outcome.code == 1 and f"is the parent of {middle}, which would be lost" in outcome.err
    os.remove(checkpoint)
    wanted = disk_hash(newest)
    run_ok("merge", "-q", newest)
    assert disk_hash(base) == wanted


def test_a_chain_that_goes_on_after_a_broken_off_merge_is_merged(broken_off, tmp_path):
    base, _, newest = broken_off
    io(newest, "write -P 5 4M 4K")
    top = tmp_path / "top.avhdx"
    run_ok("snapshot", "--to", top, newest)
    io(top, "write -P 6 5M 4K")
    wanted = disk_hash(top)
    run_ok("merge", "-q", "--into", base, top)
    assert disk_hash(base) == wanted and not newest.exists() and not top.exists()


def test_another_parent_ends_what_a_child_says_of_a_merge(broken_off):
    base, _, newest = broken_off
    run_ok("reparent", "--to", base, newest)
    shown = run_ok("info", newest).out
    assert "vhdkit_merged" not in shown and "parent linkage2" not in shown
