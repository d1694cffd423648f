"""Guests: stock kernels with an initrd that finds its root on VMBus, root file systems, and their consoles."""
import pathlib
import tempfile

from lab import archive
from lab.debian import need, said
from lab.machine import BUILD, RUNNING, VHD_RUN, Timeout

HERE = pathlib.Path(__file__).resolve().parent
VHD = BUILD / "tools" / "vhd"

MODULES = ["hv_vmbus", "hv_storvsc", "sd_mod", "crc32c-intel", "ext4"]
BOOT_SECONDS = 240  # inside an emulated machine: eight times what it takes
PROMPT = r"^guest# "

# Remounted read-only, the root needs no recovery afterwards.
OFF = "#!/bin/sh\nsync\nmount -o remount,ro /\npoweroff -f\n"
# What the kernel starts when it is asked to power off in good order.
POWEROFF = """#!/bin/sh
echo "in good order" >/dev/console
sync
mount -o remount,ro /
exec busybox poweroff -f
"""
SG_TOOLS = ["sg_inq", "sg_vpd", "sg_readcap", "sg_unmap"]


def make_initrd(kernel, target, more_modules=(), compressed=False):
    modules = kernel.modules(*MODULES, *more_modules)
    archive.write_initrd(target, modules, (HERE / "inner_init.sh").read_text(), compressed)
    return target


def make_ext4(tree, target, size, label="data", *options):
    """A raw disk that is one file system with the tree's files in it."""
    with open(target, "wb") as file:
        file.truncate(size)
    said(need("mkfs.ext4"), "-q", "-F", "-b", "4096", "-L", label, *options, "-d", tree, target)
    return target


def plant_root(tree, programs=(), files=(), packages=()):
    """A root in a folder: busybox, /sbin/init, and these programs, {path: text} of scripts, and (unpacked package, paths
    of its programs)."""
    archive.plant(tree, *programs)
    for package, paths in packages:
        archive.plant_from(package, tree, *paths)
    archive.plant_busybox(tree)
    for name in ("boot", "dev", "proc", "sys", "root", "tmp", "mnt", "etc", "var/lib"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "usr" / "sbin" / "init").unlink(missing_ok=True)
    (tree / "usr" / "bin" / "init").unlink(missing_ok=True)
    archive.write_script(tree / "usr" / "sbin" / "init", (HERE / "inner_root_init.sh").read_text())
    archive.write_script(tree / "usr" / "sbin" / "off", OFF)
    for path, text in dict(files).items():
        archive.write_script(tree / path, text)
    return tree


def make_root(target, programs=(), files=(), size=64 << 20, packages=()):
    """A raw disk with such a root, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "root"
        tree.mkdir()
        return make_ext4(plant_root(tree, programs, files, packages), target, size, label="root")


def to_image(raw, target, *options):
    """A raw disk as an image of the kind that target's suffix says; the raw one goes."""
    said(VHD, "convert", "-q", "-O", target.suffix[1:], *options, raw, target)
    raw.unlink()
    return target


def words(kernel, initrd, disks, cpus=1, memory="512M", append="", extra=()):
    """vhd-run's command line. disks: paths, or (path, options after the comma)."""
    lines = ["console=ttyS0 quiet panic=-1", f"vhdkit.disks={len(disks)}", append]
    return own_words(disks, cpus, memory, ["--kernel", kernel, "--initrd", initrd, "--append",
                                           " ".join(filter(None, lines)), *extra])


def own_words(disks, cpus=1, memory="512M", extra=()):
    """The same, for a disk with a boot loader of its own."""
    command = [VHD_RUN, "--memory", memory, "--cpus", cpus, *extra]
    for disk in disks:
        command += ["--disk", disk if isinstance(disk, (str, pathlib.Path)) else ",".join(map(str, disk))]
    return [*map(str, command)]


class GuestFailed(AssertionError):
    """Begins with the console."""


class Guest:
    """A runner with a guest, its console in our hands. What is said on it is kept in log."""

    def __init__(self, machine, command, log, terminal=False):
        self.log, self.notes = log, ""
        self.commands = 0
        self.process = machine.start(*command, terminal=terminal)

    def console(self):
        """All of it, the runner's own messages, and how it ended."""
        code = self.process.code
        end = "it runs" if code is RUNNING else f"it ended with {code}"
        text = f"=== {self.log.stem} ===\n{self.process.out}\n--- the runner ---\n{self.process.err}{end}\n"
        return text.replace("\r", "").replace("\x1b[6n", "") + (f"--- notes ---\n{self.notes}" if self.notes else "")

    def keep(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text(self.console(), encoding="utf-8")

    def note(self, text):
        """A line for the log."""
        self.notes += text + "\n"

    def failed(self, why):
        """What to raise. Says what a runner that is still there does, too."""
        if self.process.code is RUNNING:
            try:
                self.note("its threads:\n" + self.process.threads())
            except Timeout as error:
                self.note(f"the machine does not answer: {error}")
        self.keep()
        return GuestFailed(f"{self.console()}\n{why}")

    def expect(self, pattern, seconds=60, start=0):
        try:
            return self.process.expect(pattern, seconds, start)
        except Timeout as error:
            raise self.failed(error) from None

    def boots(self, seconds=BOOT_SECONDS, start=0):
        """Waits for the shell's prompt; where in the console it is."""
        return self.expect(PROMPT, seconds, start).end()

    def type(self, text):
        self.process.write(text)

    def run(self, command, seconds=60, check=True):
        """A command's exit code and output, by way of the console; with check the output of one that succeeds."""
        self.commands += 1
        start, name = len(self.process.raw_out), self.commands
        # What the terminal echoes has quotes in it, and so is neither mark.
        self.type(f'echo @"<"@{name}; {command}; echo "@>"$?"@"{name}\n')
        done = self.expect(rf"^@<@{name}\r*\n((?s:.*?))@>(\d+)@{name}\r*$", seconds, start)
        output, code = done.group(1).decode(errors="replace").replace("\r", ""), int(done.group(2))
        self.expect(PROMPT, 20, done.end())
        if not check:
            return code, output
        if code != 0:
            raise self.failed(f"{command}: exit code {code}\n{output}")
        return output

    def ends(self, seconds=60):
        """The runner's exit code."""
        try:
            code = self.process.wait(seconds)
        except Timeout as error:
            raise self.failed(error) from None
        self.keep()
        return code

    def powers_off(self, seconds=60):
        self.type("off\n")
        code = self.ends(seconds)
        if code != 0:
            raise self.failed(f"the runner ended with {code}")
