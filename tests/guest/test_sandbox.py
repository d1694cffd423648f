"""What is left to a runner: its threads' filters, its rights, its paths; and that a guest's life goes on in it."""
import os
import shutil

import pytest
from cases import boots, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import run, run_ok
from controls import Control
from lab import guests
from lab.machine import PYTHON, VHD_RUN

KINDS = {"processor", "storage", "bus", "console", "control", "signals"}
NO_CAPABILITY = "0000000000000000"


@pytest.fixture
def control(machine, tmp_path):
    return Control(machine, tmp_path / "control")


def landlock_version(machine):
    """landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)"""
    return int(machine.run(PYTHON, "-c", "import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))").out)


def threads_of(machine, process):
    """What /proc says of each thread, by thread."""
    done = machine.run("sh", "-c", "cat /proc/$1/task/*/status", "sh", process.pid)
    threads = []
    for line in done.out.splitlines():
        name, _, value = line.partition(":")
        if name == "Name":
            threads.append({})
        threads[-1][name] = value.strip()
    return threads


def are_confined(threads, by_root=True):
    """Each of them; the kernel's own workers of a ring are threads of the process too. What it could have gained by a
    program with rights, and its groups, only root gives up."""
    assert KINDS <= {thread["Name"] for thread in threads}, [thread["Name"] for thread in threads]
    for thread in threads:
        assert (thread["Seccomp"], thread["NoNewPrivs"]) == ("2", "1"), thread
        assert {thread[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {NO_CAPABILITY}, thread
        if by_root:
            assert (thread["CapBnd"], thread["Groups"]) == (NO_CAPABILITY, ""), thread


def test_every_thread_is_confined_and_a_whole_life_goes_on(boots, control, root, tmp_path, machine):
    """Disks and media come and go, a pause, a restart, a merge at the end: all that opens, makes and removes files."""
    data, iso, far = tmp_path / "data.vhdx", tmp_path / "medium.iso", tmp_path / "far"
    run_ok("create", "-q", "-f", "vhdx", data, "64M")
    far.mkdir()
    (far / "file").write_text("in the medium", encoding="utf-8")
    shell("genisoimage", "-quiet", "-o", iso, far)
    by_root = machine.is_emulated or os.geteuid() == 0
    guest = boots.start([root], extra=[*control.option, "--undo", "merge", "--report", tmp_path / "report"])
    guest.boots()
    are_confined(threads_of(machine, guest.process), by_root)
    assert control.ask("status")["sandbox"] == {"filters": True, "landlock": landlock_version(machine)}
    assert "on" in [line.split()[1] for line in control.ctl("status").out.splitlines() if line.startswith("sandbox:")]

    assert control.ask("add-disk", data)["disk"] == 1
    control.ask("insert-media", iso)
    guest.run("echo changed >/changed && sync")
    control.ask("pause")
    are_confined(threads_of(machine, guest.process), by_root)
    control.ask("resume")
    control.ask("eject-media")
    control.ask("remove-disk", "1")
    end = len(guest.process.raw_out)
    control.ask("reset")
    guest.boots(start=end)
    assert guest.run("cat /changed") == "changed\n"
    are_confined(threads_of(machine, guest.process), by_root)
    guest.powers_off()
    assert not os.path.exists(control.path)
    assert [path.name for path in tmp_path.glob("*undo*")] == []
    assert "sandbox" in (tmp_path / "report").read_text(encoding="utf-8")
    assert run("check", "-q", root).code in (0, 3)
    shell("e2fsck", "-f", "-n", raw_of(root))


def test_snapshots_in_the_sandbox_and_files_elsewhere(boots, control, root, tmp_path):
    near, elsewhere = tmp_path / "near.vhdx", tmp_path.parent / (tmp_path.name + "-elsewhere")
    run_ok("create", "-q", "-f", "vhdx", near, "64M")
    for name in ("a", "b"):
        (elsewhere / name).mkdir(parents=True)
        run_ok("create", "-q", "-f", "vhdx", elsewhere / name / "disk.vhdx", "64M")
    guest = boots.start([root], extra=[*control.option, "--files", elsewhere / "b"])
    guest.boots()
    kind, message = control.refused("add-disk", elsewhere / "a" / "disk.vhdx")
    assert kind == "permission" and "--files" in message
    kind, message = control.refused("insert-media", "/etc/passwd")
    assert kind == "permission" and "--files" in message
    assert control.ask("add-disk", elsewhere / "b" / "disk.vhdx")["disk"] == 1
    control.ask("remove-disk", "1")
    child, = control.ask("snapshot", "0")["snapshots"]
    assert child["parent"] == str(root) and os.path.dirname(child["filename"]) == str(tmp_path)
    guest.run("echo later >/later && sync")
    guest.powers_off()
    assert run("check", "-q", child["filename"]).code in (0, 3)
    shutil.rmtree(elsewhere)


@pytest.fixture
def open_place(machine):
    """A folder for strangers, to whom pytest's are closed."""
    made = machine.run("mktemp", "-d", "/dev/shm/vhdkit-user-XXXXXX")
    assert made.code == 0, made.err
    yield made.out.strip()
    machine.run("rm", "-r", made.out.strip())


def test_another_user(boots, machine, root, tmp_path, workshop, open_place):
    """Started by root: disk, kernel and initrd are somebody else's, and so is the runner from then on."""
    if not machine.is_emulated and os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    kernel, initrd = workshop.kernel("cloud")
    place = open_place
    made = machine.run("sh", "-eu", "-c", f'cp "$@" {place}; chown -R 65534:65534 {place}', "sh",
                       root, kernel.image, initrd)
    assert made.code == 0, made.err
    disk, kernel, initrd = (f"{place}/{path.name}" for path in (root, kernel.image, initrd))
    refused = machine.run(VHD_RUN, "--kernel", kernel, "--disk", disk)
    assert refused.code == 1 and "--user" in refused.err, (refused.code, refused.err)
    control = Control(machine, f"{place}/control")
    extra = [*control.option, "--user", "65534:65534", "--undo", "merge"]
    guest = boots.start_words(guests.words(kernel, initrd, [disk], extra=extra))
    guest.boots()
    threads = threads_of(machine, guest.process)
    are_confined(threads)
    assert {thread["Uid"] for thread in threads} == {"\t".join(["65534"] * 4)}
    guest.run("echo mine >/mine && sync")
    guest.powers_off()
    after = tmp_path / "after.vhdx"
    assert machine.run("mv", disk, after).code == 0
    assert shell("debugfs", "-R", "cat /mine", raw_of(after)) == "mine\n"


def test_without_a_sandbox(machine, boots, control, root):
    guest = boots.start([root], extra=[*control.option, "--sandbox", "off"])
    guest.boots()
    assert {thread["Seccomp"] for thread in threads_of(machine, guest.process)} == {"0"}
    assert control.ask("status")["sandbox"] is None
    assert "off" in [line.split()[1] for line in control.ctl("status").out.splitlines() if line.startswith("sandbox:")]
    guest.powers_off()


def test_words_that_will_not_do(machine, root):
    for words, says in ((["--sandbox", "maybe"], "on or off"), (["--user", "nobody-at-all"], "no user"),
                        (["--files", root], "is no folder")):
        done = machine.run(VHD_RUN, "--disk", root, *words)
        assert done.code == 1 and says in done.err, done.err
