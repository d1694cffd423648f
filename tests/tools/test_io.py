"""vhd io: ranges of a disk read and changed from the command line."""
import os
import resource

import pytest
from conftest import MIB, fingerprint, names_in, run, run_ok, start, write_raw


@pytest.fixture(params=["vhd", "vhdx", "raw"])
def image(request, tmp_path):
    path = tmp_path / f"disk.{request.param}"
    if request.param == "raw":
        return write_raw(path, 10 * MIB, [(0, 4096)])
    run_ok("create", "-q", "-f", request.param, path, "10M")
    return path


def io(image, *commands, check=True, options=()):
    words = [word for command in commands for word in ("-c", command)]
    return (run_ok if check else run)("io", *options, *words, image)


def test_what_is_written_is_there_afterwards(image):
    outcome = io(image, "write -S 7 64K 3M", "flush", "write -P 0x11 -f 5M 4K", "zero 1M 512")
    assert outcome.out.splitlines() == ["wrote 3145728 bytes at 65536", "flushed",
                                        "wrote 4096 bytes at 5242880", "zeroed 512 bytes at 1048576"]
    before = fingerprint(image)
    io(image, "read -S 7 64K 960K", "read -P 0 1M 512", "read -P 0x11 5M 4K")
    assert fingerprint(image) == before, "reading changed the image"
    assert run("check", "-q", image).code in (0, 3) or image.suffix == ".raw"


def test_a_pattern_that_is_not_there_fails_and_says_where(image):
    io(image, "write -P 1 1M 8K", "write -P 2 1028K 512")
    outcome = io(image, "read -P 1 1M 8K", check=False)
    assert outcome.code == 1
    assert "the pattern ends at disk offset 0x101000: 0x02 instead of 0x01" in outcome.err


def test_the_last_command_is_the_first_that_fails(image):
    outcome = io(image, "write -P 1 0 512", "write 10M 512", "write -P 2 0 512", check=False)
    assert outcome.code == 1
    assert "end outside the disk" in outcome.err
    io(image, "read -P 1 0 512")


@pytest.mark.parametrize("kind,block", [("vhd", 2 * MIB), ("vhdx", MIB)])
def test_the_first_write_into_a_block_lies_where_it_belongs(tmp_path, kind, block):
    """Bug classes 2 and 17: every kind of offset into blocks that are not there yet, and across them."""
    image = tmp_path / f"disk.{kind}"
    run_ok("create", "-q", "-f", kind, "-o", f"block_size={block}", image, str(12 * block))
    places = [(0, 512), (2 * block - 512, 512), (2 * block + 512, 1024), (4 * block + block // 2, 4096),
              (6 * block - 1024, 2048), (7 * block - 512, block + 1024), (11 * block + 4096, block - 4096)]
    io(image, *(f"write -S {i} {at} {length}" for i, (at, length) in enumerate(places)), options=("--depth", "4"))
    gaps, end = [], 0
    for at, length in places:
        gaps.append((end, at - end))
        end = at + length
    io(image, *(f"read -S {i} {at} {length}" for i, (at, length) in enumerate(places)),
       *(f"read -P 0 {at} {length}" for at, length in gaps if length))
    assert run("check", "-q", image).code == 0


@pytest.mark.parametrize("command", ["write 0 100", "write 1 512"])
def test_only_whole_sectors(image, command):
    outcome = io(image, command, check=False)
    assert outcome.code == 1
    assert "not whole sectors" in outcome.err


def test_commands_come_from_standard_input(image):
    commands = "".join(f"write -P {i} {i}M 4K\n" for i in range(1, 9)) + "flush\n"
    run_ok("io", "-q", "--depth", "4", image, input=commands.encode())
    io(image, *(f"read -P {i} {i}M 4K" for i in range(1, 9)))


def test_past_the_page_cache(image):
    outcome = io(image, "write -S 5 0 64K", "write -P 1 512 512", "flush", "read -S 5 1K 63K", "zero 1M 512",
                 "read -P 1 512 512", options=("--cache", "none"), check=False)
    if "has no transfers past the cache" in outcome.err:
        pytest.skip("the file system has no O_DIRECT")
    assert outcome.code == 0, outcome.err
    io(image, "read -S 5 0 512", "read -P 1 512 512", "read -S 5 1K 63K")
    assert io(image, "read 0 512", options=("--cache", "writethrough"), check=False).code == 1


def test_bad_commands_are_refused_before_anything_is_opened(image):
    before = fingerprint(image)
    outcome = io(image, "write -P 1 0 512", "erase 0 512", check=False)
    assert outcome.code == 1
    assert '"erase 0 512": there are read, write, zero, trim and flush' in outcome.err
    assert fingerprint(image) == before


def test_trim_gives_space_back(tmp_path):
    for kind in ("vhd", "vhdx"):
        image = tmp_path / f"big.{kind}"
        run_ok("create", "-q", "-f", kind, image, "1G")
        io(image, "write -P 1 0 64M", options=("-q",))
        full = os.stat(image).st_blocks
        io(image, "trim 0 64M", "read -P 0 0 64M", options=("-q",))
        assert os.stat(image).st_blocks < full / 50
        assert os.stat(image).st_size < 8 * MIB
        run_ok("check", "-q", image)


def test_two_writers_never_meet_and_readers_wait_too(image):
    with start("io", image, stdin=-1) as writer:  # -1: a pipe; it waits for commands
        writer.stdin.write(b"write -P 1 0 512\nread 0 10M\n" * 2000)
        writer.stdin.close()
        writer.stdout.readline()  # it has the image open now
        for words in (["io", "-c", "write 0 512", image], ["hash", image]):
            outcome = run(*words)
            assert outcome.code == 1
            assert f"in use by process {writer.pid} (vhd)" in outcome.err
        assert run("hash", "-U", image).code in (0, 1)
        writer.kill()


def test_the_parent_of_a_child_is_written_with_a_warning(tmp_path):
    for kind in ("vhd", "vhdx"):
        parent, child = tmp_path / f"base.{kind}", tmp_path / f"child.{kind}"
        run_ok("create", "-q", "-f", kind, parent, "10M")
        run_ok("create", "-q", "-f", kind, "-b", parent, child)
        outcome = io(parent, "write 0 512")
        assert f"{parent}: is the parent of {child}" in outcome.err
        assert io(parent, "read 0 512").err == ""
    assert len(names_in(tmp_path)) == 4


def test_a_child_hides_its_parent_by_sectors(tmp_path):
    """Bug classes 9 and 11: zeroes in a child never let the parent show, and one sector hides one."""
    for kind in ("vhd", "vhdx"):
        parent, child = tmp_path / f"base.{kind}", tmp_path / f"child.{kind}"
        run_ok("create", "-q", "-f", kind, parent, "10M")
        io(parent, "write -P 1 0 4M")
        run_ok("create", "-q", "-f", kind, "-b", parent, child)
        io(child, "write -P 2 1M 512", "zero 2M 512", "trim 0 512", "flush", "write -P 3 3M 1M")
        io(child, "read -P 0 0 512", "read -P 1 512 1023K", "read -P 2 1M 512", "read -P 1 1049088 512",
           "read -P 0 2M 512", "read -P 3 3M 1M")
        io(parent, "read -P 1 0 4M")
        assert run("check", "-q", child).code in (0, 3)


def test_images_that_cannot_be_written(tmp_path, disk):
    run_ok("convert", "-q", "-O", "vhdx", disk, tmp_path / "disk.vhdx")
    before = fingerprint(tmp_path / "disk.vhdx")
    os.system(f"gzip -k {disk}")
    for path, words, says in (
            (f"{disk}.gz", [], "gzip file cannot be written"),
            (tmp_path / "disk.vhdx", ["--ignore-log"], "only written with its log"),
            (tmp_path / "disk.vhdx", ["-U"], "with a lock")):
        outcome = run("io", *words, "-c", "write 0 512", path)
        assert outcome.code == 1
        assert says in outcome.err
    assert fingerprint(tmp_path / "disk.vhdx") == before


def test_the_largest_image_is_written_without_its_table_in_memory(tmp_path):
    image = tmp_path / "huge.vhdx"
    run_ok("create", "-f", "vhdx", "-o", "block_size=1M", image, "64T")
    limit = (64 * MIB, 64 * MIB)  # its BAT has 512 MiB
    last = f"{(64 << 40) - 4096}"
    run_ok("io", "-c", "write -S 3 0 4K", "-c", f"write -S 4 {last} 4K", image,
           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit))
    io(image, "read -S 3 0 4K", f"read -S 4 {last} 4K")
    assert os.stat(image).st_blocks * 512 < 8 * MIB


@pytest.mark.parametrize("kind", ["vhd", "vhdx"])
def test_first_writes_into_one_block_at_one_time_leave_no_gap(kind, tmp_path):
    image = tmp_path / f"new.{kind}"
    run_ok("create", "-q", "-f", kind, image, "64M")
    io(image, *(f"write -S 1 {i * 4}K 4K" for i in range(32)), options=["-q", "--depth", "32"])
    assert run("check", "-q", image).code == 0
    io(image, "read -S 1 0 128K")
