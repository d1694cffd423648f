"""What the tests with guests share: the machine, kernels, roots, guests whose console is shown when a case fails."""
import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess

import pytest
from conftest import BUILD, MIB, run_ok
from lab import debian, guests
from lab.debian import Unavailable
from lab.guests import Guest
from lab.machine import RUNNING, VHD_RUN, Timeout, machine_with_kvm

LOGS = BUILD / "logs" / "guest"
FLAVOURS = list(debian.FLAVOURS)


def skip_unavailable(function):
    """Packages that are missing are no failure."""
    @functools.wraps(function)
    def wrapped(*arguments, **named):
        try:
            return function(*arguments, **named)
        except Unavailable as error:
            pytest.skip(str(error))
    return wrapped


class ConsoleFirst:
    """Shows the consoles of a failed case's guests before all else, keeps why it failed, and has no more guests run where
    one failed: what holds it up, in an emulated machine, may be that machine's own processor.
    """

    def __init__(self, workshop):
        self.workshop = workshop

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        report = outcome.get_result()
        if report.failed:
            self.workshop.machine_is_suspect = True
        if report.failed and not isinstance(getattr(call.excinfo, "value", None), guests.GuestFailed):
            consoles = [value.consoles() for value in item.funcargs.values() if hasattr(value, "consoles")]
            if consoles:
                report.longrepr = "\n".join([*consoles, report.longreprtext])
        if report.failed:
            keep_failure(item, report)


def keep_failure(case, report):
    """Of a case that is tried again, nothing else says why."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with open(LOGS / f"{file_name(case)}-failed.log", "a", encoding="utf-8") as log:
        log.write(f"=== {report.when} ===\n{report.longreprtext}\n")


class Workshop:
    """Everything that is made once for all modules: the machine, initrds, roots."""

    def __init__(self, config, folder):
        self.folder = folder
        self._kernels, self._machine, self._why_not = {}, None, None
        self._is_broken = False
        self.machine_is_suspect = False
        for log in LOGS.glob("*-failed.log"):
            log.unlink()
        config.pluginmanager.register(ConsoleFirst(self))
        config.add_cleanup(self.close)

    def machine(self):
        """The machine; a new one after a case that it, or its guest, did not survive."""
        is_suspect, self.machine_is_suspect = self.machine_is_suspect, False
        if self._machine is not None and (is_suspect or not self._machine.answers()):
            self._machine.close()
            self._machine = None
        if self._why_not is None and self._machine is None:
            try:
                if not VHD_RUN.exists():
                    raise Unavailable(f"{VHD_RUN} is not built")
                self._machine = machine_with_kvm(self.folder)
            except (Unavailable, Timeout) as error:
                self._why_not, self._is_broken = str(error), isinstance(error, Timeout)
        # A machine that could be there and is not is no reason to skip anything.
        if self._is_broken:
            pytest.fail(self._why_not)
        if self._why_not is not None:
            pytest.skip(self._why_not)
        return self._machine

    def kernel(self, flavour, modules=()):
        """A kernel and its initrd, which loads these modules as well."""
        name = "-".join([flavour, *modules])
        if name not in self._kernels:
            try:
                kernel = debian.kernel(flavour)
                self._kernels[name] = kernel, guests.make_initrd(kernel, self.folder / f"initrd-{name}", modules)
            except Unavailable as error:
                pytest.skip(str(error))
        return self._kernels[name]

    def root(self):
        """A raw root, made once; not to be written."""
        path, new = self.folder / "root.raw", self.folder / "root.new"
        if not path.exists():
            try:
                guests.make_root(new, [*guests.SG_TOOLS, "lsblk", "resize2fs"])
            except Unavailable as error:
                pytest.skip(str(error))
            new.rename(path)
        return path

    def close(self):
        if self._machine is not None:
            self._machine.close()


_workshop = None


@pytest.fixture(scope="session")
def workshop(pytestconfig, tmp_path_factory):
    # A session's fixture that modules import is made once for each of them.
    global _workshop
    if _workshop is None:
        _workshop = Workshop(pytestconfig, tmp_path_factory.getbasetemp())
    return _workshop


@pytest.fixture
def machine(workshop):
    return workshop.machine()


class Boots:
    """Starts guests; ends those that are left when the case is over, and keeps what their consoles said."""

    def __init__(self, workshop, name):
        self.workshop, self.name = workshop, name
        self.guests = []

    def start(self, disks, flavour="cloud", terminal=False, modules=(), **options):
        """A guest with these disks, the first of them its root."""
        kernel, initrd = self.workshop.kernel(flavour, modules)
        return self.start_words(guests.words(kernel.image, initrd, disks, **options), terminal)

    def start_words(self, words, terminal=False):
        suffix = f"-{len(self.guests) + 1}" if self.guests else ""
        self.guests.append(Guest(self.workshop.machine(), words, LOGS / f"{self.name}{suffix}.log", terminal))
        return self.guests[-1]

    def consoles(self):
        return "\n".join(guest.console() for guest in self.guests)

    def close(self):
        for guest in self.guests:
            if guest.process.code is RUNNING:
                guest.process.signal(signal.SIGKILL)
                with contextlib.suppress(Timeout):  # workshop.machine() finds out why
                    guest.process.wait(20)
            guest.keep()


def file_name(node):
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in node.name)


@pytest.fixture
def boots(request, workshop, machine):
    started = Boots(workshop, file_name(request.node))
    yield started
    started.close()


@pytest.fixture
def root(workshop, tmp_path):
    """A dynamic VHDX with a root of its own."""
    return new_root(workshop, tmp_path)


def new_root(workshop, folder):
    image = folder / "root.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", "--guest", "linux", workshop.root(), image)
    return image


# --- the disks afterwards ---

def shell(*words, codes=(0,)):
    """Another program, which must end with one of the codes; its output."""
    words = [*map(str, words)]
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if shutil.which(words[0], path=path) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PATH": path})
    assert done.returncode in codes, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def raw_of(image):
    """The disk's content; an image with a dirty log is replayed on the way."""
    raw = image.with_suffix(".after.raw")
    run_ok("convert", "-q", "--force", "-O", "raw", image, raw)
    return raw


def files_of(raw, folder):
    """What is in a file system, taken out without mounting it."""
    folder.mkdir()
    shell("debugfs", "-R", f"rdump / {folder}", raw)
    return folder


def make_tree(folder):
    """Files of many sizes, names that need care, links, holes. Random, but the same every time."""
    generator = random.Random(6)
    for index in range(40):
        place = folder / f"folder{index % 7}" / f"deeper{index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        length = generator.choice([0, 1, 511, 4096, 4097, 70000, 300000])
        (place / f"file {index} ä").write_bytes(generator.randbytes(length))
    (folder / "link").symlink_to("folder0/deeper0/file 0 ä")
    with open(folder / "hole", "wb") as file:
        file.truncate(5 * MIB)
        file.seek(3 * MIB)
        file.write(b"in the middle")
    return folder


def same_trees(one, other):
    return shell("diff", "-r", "--no-dereference", one, other, codes=(0, 1)) == ""
