"""vhd-run: what it refuses and how it ends, each with a message and an exit code of its own; no image is harmed."""
import os
import re
import shutil
import signal
import subprocess
import tempfile

import pytest
from cases import machine, workshop  # noqa: F401, fixtures
from conftest import Outcome, fingerprint, program, run_ok
from controls import Control
from lab import archive
from lab.debian import Unavailable
from lab.machine import RUNNING, VHD_RUN, runs_guests_here

# What --help says.
POWER_OFF, BAD_START, NO_KVM, TRIPLE_FAULT, FAILURE, RESTART, NO_REPORT, SIGNALLED = 0, 1, 2, 4, 5, 6, 10, 128


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A function: the path of a tiny kernel."""
    folder = tmp_path_factory.mktemp("kernels")

    def path(what):
        try:
            return archive.tiny_kernel(what, folder / what)
        except Unavailable as error:
            pytest.skip(str(error))
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.vhdx"
    run_ok("create", "-q", "-f", "vhdx", path, "64M")
    run_ok("io", "-q", "-c", "write -P 1 0 1M", path)
    return path


def run_here(*words, prefix=()):
    """On this machine, whatever its KVM: for what is refused before or by it."""
    if not VHD_RUN.exists():
        pytest.skip(f"{VHD_RUN} is not built")
    return Outcome(subprocess.run([*map(str, (*prefix, VHD_RUN, *words))], check=False, stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=60))


# --- KVM ---

def in_a_namespace(script):
    """A prefix: mounts of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    return ["unshare", "--mount", "sh", "-eu", "-c", "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; "
            f"chmod 755 /dev; {script}" + '; exec "$@"', "sh"]


def test_no_kvm(kernels, image):
    before = fingerprint(image)
    outcome = run_here("--kernel", kernels("POWER_OFF"), "--disk", image, prefix=in_a_namespace("true"))
    assert outcome.code == NO_KVM
    assert "/dev/kvm" in outcome.err
    assert fingerprint(image) == before


def test_no_right_to_kvm(kernels):
    """A stranger, with a device that is root's."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to strangers
        os.chmod(folder, 0o755)
        kernel = shutil.copy(kernels("POWER_OFF"), folder)
        outcome = run_here("--kernel", kernel, prefix=[*in_a_namespace("mknod -m 600 /dev/kvm c 10 232"), "setpriv",
                                                       "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert outcome.code == NO_KVM
    assert "/dev/kvm" in outcome.err and "ermission" in outcome.err


def test_a_kvm_that_cannot_run_guests(kernels, image, tmp_path):
    if not os.path.exists("/dev/kvm"):
        pytest.skip("there is no /dev/kvm")
    try:
        if runs_guests_here(tmp_path):
            pytest.skip("this machine's KVM is whole")
    except Unavailable as error:
        pytest.skip(str(error))
    before = fingerprint(image)
    outcome = run_here("--kernel", kernels("POWER_OFF"), "--disk", image)
    assert outcome.code == NO_KVM
    assert re.search(r"KVM_CAP_\w+|64-bit", outcome.err), outcome.err
    assert fingerprint(image) == before


# --- what it is given ---

def test_no_kernel(machine, image, tmp_path):
    before = fingerprint(image)
    text = tmp_path / "text"
    text.write_text("this is no kernel\n" * 1000)
    os.mkfifo(tmp_path / "fifo")
    for kernel, says in ((text, "no kernel"), (tmp_path / "fifo", "no file"), (tmp_path / "missing", "No such file"), (tmp_path, "Is a directory"),
                         ("/dev/null", "no file")):
        done = machine.run(VHD_RUN, "--kernel", kernel, "--disk", image)
        assert done.code == BAD_START, (kernel, done.err)
        assert says in done.err and str(kernel) in done.err
    assert fingerprint(image) == before


def test_a_kernel_that_is_cut_short(machine, workshop, tmp_path):
    whole = workshop.kernel("cloud")[0].image.read_bytes()
    for length in (0x203, 0x260, 0x300, 20000, len(whole) // 2):
        short = tmp_path / f"kernel{length}"
        short.write_bytes(whole[:length])
        done = machine.run(VHD_RUN, "--kernel", short)
        assert done.code == BAD_START, (length, done.err)
        assert str(short) in done.err


def test_disks_that_will_not_do(machine, kernels, image, tmp_path):
    damaged, base, child = (tmp_path / f"{name}.vhdx" for name in ("damaged", "base", "child"))
    shutil.copy(image, damaged)
    with open(damaged, "r+b") as file:
        for offset in (64 << 10, 128 << 10):  # both headers
            file.seek(offset)
            file.write(b"\xff" * 512)
    run_ok("create", "-q", "-f", "vhdx", base, "64M")
    run_ok("create", "-q", "-f", "vhdx", "-b", base, child)
    base.unlink()
    before = [fingerprint(path) for path in (image, damaged, child)]
    for disk, says in ((damaged, "damaged.vhdx"), (child, "base.vhdx"), (tmp_path / "missing.vhdx", "No such file"),
                       (f"{image},speed=9", "speed"), (f"{image},iops=x", "number of requests"), (tmp_path, "directory")):
        done = machine.run(VHD_RUN, "--kernel", kernels("POWER_OFF"), "--disk", image, "--disk", disk)
        assert done.code == BAD_START, (disk, done.err)
        assert says in done.err
    assert [fingerprint(path) for path in (image, damaged, child)] == before


def test_a_disk_in_use(machine, kernels, image):
    """Another guest has it, for a guest and for vhd; and twice in one: the message names who has it."""
    other = machine.start(VHD_RUN, "--kernel", kernels("HALT"), "--disk", image)
    other.until(lambda: False, 5)
    assert other.code is RUNNING, other.err
    done = machine.run(VHD_RUN, "--kernel", kernels("POWER_OFF"), "--disk", image)
    assert done.code == BAD_START
    assert f"in use by process {other.pid} (vhd-run)" in done.err
    writer = machine.run(program("vhd"), "io", "-c", "write -P 2 0 512", image)
    assert writer.code == 1
    assert f"in use by process {other.pid} (vhd-run)" in writer.err
    other.signal(signal.SIGTERM)
    assert other.wait(20) == SIGNALLED + signal.SIGTERM
    done = machine.run(VHD_RUN, "--kernel", kernels("POWER_OFF"), "--disk", image, "--disk", image)
    assert done.code == BAD_START
    assert "in use" in done.err
    assert machine.run(VHD_RUN, "--kernel", kernels("POWER_OFF"), "--disk", image).code == POWER_OFF
    run_ok("io", "-q", "-c", "read -P 1 0 1M", image)


def test_more_memory_than_there_is(machine, kernels):
    for size in ("64T", "900G"):
        done = machine.run(VHD_RUN, "--memory", size, "--kernel", kernels("POWER_OFF"))
        assert done.code == BAD_START, (size, done.err)
        assert "memory" in done.err


def test_processors_that_cannot_be(machine, kernels):
    for count in ("0", "33", "-1", "two"):
        done = machine.run(VHD_RUN, "--cpus", count, "--kernel", kernels("POWER_OFF"))
        assert done.code == BAD_START, (count, done.err)
        assert "1 to 32" in done.err


def test_forms_of_a_report(tmp_path):
    done = run_here("--output", "svg", "--kernel", tmp_path / "none")
    assert done.code == BAD_START and "--output belongs to a --report" in done.err
    done = run_here("--output", "text", "--report", tmp_path / "report", "--kernel", tmp_path / "none")
    assert done.code == BAD_START and '"text" is neither' in done.err
    assert os.listdir(tmp_path) == []


def test_a_report_that_has_no_room(machine, kernels):
    """All else was done, and that is said apart from a start that failed."""
    done = machine.run(VHD_RUN, "--kernel", kernels("POWER_OFF"), "--report", "/dev/full")
    assert done.code == NO_REPORT and "/dev/full: No space left" in done.err, done.err


def test_a_report_that_nobody_reads(machine, kernels, image, tmp_path):
    """The disks do not wait for whoever holds a full pipe: they are closed by then."""
    pipe, control = tmp_path / "pipe", Control(machine, tmp_path / "control")
    guest = machine.start("sh", "-euc", 'mkfifo "$0"; exec 3<>"$0"; head -c 65536 /dev/zero >&3; exec "$@"', pipe, VHD_RUN,
                          *control.option, "--console", "none", "--kernel", kernels("HALT"), "--disk", image,
                          "--report", pipe)
    control.until("status", lambda status: status["state"] == "running")
    control.ask("power-off")
    machine.run("sh", "-c", 'while [ -e "$0" ]; do sleep 0.1; done', control.path)
    written = machine.run("sh", "-c", 'until "$0" io -q -c "write -P 2 0 512" "$1" 2>/dev/null; do sleep 0.1; done',
                          program("vhd"), image)
    assert written.code == 0 and guest.code is RUNNING, guest.err
    # It reads from the pipe that it writes to.
    assert machine.run("head", "-c", "65536", pipe).code == 0
    assert guest.wait(20) == POWER_OFF, guest.err


def test_help_lists_options_and_exit_codes():
    text = run_here("--help").out
    for word in ("--memory", "--cpus", "--kernel", "--initrd", "--append", "--disk", "--report", "--output", "--no-reboot",
                 "KVM is not there", "triple fault", "ended by a signal"):
        assert word in text


# --- how guests end ---

def test_power_off(machine, kernels, image):
    done = machine.run(VHD_RUN, "--kernel", kernels("POWER_OFF"), "--disk", image)
    assert done.code == POWER_OFF
    assert done.err == ""


def test_a_triple_fault(machine, kernels, image):
    done = machine.run(VHD_RUN, "--kernel", kernels("TRIPLE_FAULT"), "--disk", image)
    assert done.code == TRIPLE_FAULT
    assert "triple fault" in done.err


def test_a_reset(machine, kernels):
    done = machine.run(VHD_RUN, "--no-reboot", "--kernel", kernels("RESET"))
    assert done.code == RESTART, done.err
    again = machine.start(VHD_RUN, "--kernel", kernels("RESET"))
    again.until(lambda: False, 5)
    assert again.code is RUNNING, "it did not start anew"
    again.signal(signal.SIGTERM)
    assert again.wait(20) == SIGNALLED + signal.SIGTERM


def test_a_restart_takes_the_kernel_that_was_there(machine, kernels, tmp_path):
    """In the sandbox, and when another one has its name by then. One exit is one life of this guest."""
    kernel, control = tmp_path / "kernel", Control(machine, tmp_path / "control")
    assert machine.run("cp", kernels("RESET"), kernel).code == 0
    guest = machine.start(VHD_RUN, *control.option, "--console", "none", "--kernel", kernel)
    before = control.until("counters", lambda counters: counters["exits"]["port"] > 2)
    shutil.copy(kernels("POWER_OFF"), tmp_path / "new")
    assert machine.run("mv", tmp_path / "new", kernel).code == 0
    control.until("counters", lambda counters: counters["exits"]["port"] > before["exits"]["port"] + 20)
    assert guest.code is RUNNING, guest.err
    control.ask("power-off")
    assert guest.wait(20) == POWER_OFF, guest.err


def test_a_restart_that_fails_is_no_start_that_failed(machine, kernels, image, tmp_path):
    kernel, control = tmp_path / "kernel", Control(machine, tmp_path / "control")
    assert machine.run("cp", kernels("FLOOD"), kernel).code == 0
    guest = machine.start(VHD_RUN, *control.option, "--console", "none", "--kernel", kernel, "--disk", image)
    control.until("counters", lambda counters: counters["exits"]["port"] > 0)
    # The very file; nobody reads it now.
    assert machine.run("truncate", "-s", "0", kernel).code == 0
    control.ask("reset")
    assert guest.wait(20) == FAILURE, guest.err
    assert str(kernel) in guest.err
    run_ok("io", "-q", "-c", "read -P 1 0 1M", image)


@pytest.mark.parametrize("what", ["HALT", "SPIN"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_guest_that_hangs_is_ended_by_a_signal(machine, kernels, image, what, number):
    guest = machine.start(VHD_RUN, "--kernel", kernels(what), "--disk", image)
    guest.until(lambda: False, 2)
    assert guest.code is RUNNING, guest.err
    guest.signal(number)
    assert guest.wait(20) == SIGNALLED + number, guest.err
    run_ok("io", "-q", "-c", "read -P 1 0 1M", image)


def test_a_guest_that_hangs_is_ended_by_keys(machine, kernels):
    guest = machine.start(VHD_RUN, "--kernel", kernels("SPIN"), terminal=True)
    guest.until(lambda: False, 2)
    guest.write("abc\x01\x01\x01x")
    assert guest.wait(20) == POWER_OFF


def test_a_flood_on_the_console(machine, kernels, tmp_path):
    """Nobody reads for a while: the runner holds nothing of it back in memory, and still ends."""
    pipe = tmp_path / "pipe"
    sleeper = machine.start("sh", "-c", f"mkfifo {pipe}; sleep 8 <{pipe} & {VHD_RUN} --kernel {kernels('FLOOD')} >{pipe} & "
                            "pid=$!; sleep 5; grep VmRSS /proc/$pid/status; kill -TERM $pid; wait $pid; echo $?")
    sleeper.close_input()
    assert sleeper.wait(60) == 0, sleeper.err
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", sleeper.out).group(1))
    assert resident < 100 << 10
    assert int(sleeper.out.split()[-1]) == SIGNALLED + signal.SIGTERM


def test_a_console_that_is_gone(machine, kernels):
    """The reader of its output has ended."""
    done = machine.run("sh", "-c", f"(timeout 5 {VHD_RUN} --kernel {kernels('FLOOD')}; echo $? >&2) | head -c 100")
    assert done.out == "x" * 100
    assert int(done.err.split()[-1]) == 124, done.err
