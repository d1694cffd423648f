#!/usr/bin/env python3
"""Our runner against QEMU with KVM, on a machine whose KVM is whole: else all of them inside one that QEMU emulates.

Guests are Debian's cloud kernel with the same initrd and the same root. Contenders: vhd-run with its disks on VMBus;
QEMU's q35 and microvm with virtio-blk, an iothread and io_uring. They take turns, in an order that is drawn anew for
each round; ratios are medians of the rounds' own ratios. Images lie on a RAM disk, past the page cache. Times inside an
emulated machine compare only with each other.

  boot   seconds from the runner's start to the guest's init and to its power-off
  disk   a whole disk by its own GRUB, a dynamic VHDX against the same raw under SeaBIOS, on q35 and pc: seconds to the
         menu, on the serial line, where a key is typed at once, and to the guest's init
  fio    in the guest, on a second disk whose every block has its place: requests a second; memory of the runner beside
         the guest's
  exits  of the guest's processors for each of fio's requests, by KVM's statistics and its trace point; once
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "guest"))
# pylint: disable=wrong-import-position
from shared import contest, qemu  # noqa: E402
from lab import boot_disks, debian, guests  # noqa: E402
from lab.debian import Unavailable  # noqa: E402
from lab.machine import RUNNING, machine_with_kvm  # noqa: E402

MIB = 1 << 20
DATA_BYTES = 256 * MIB
ROOT_BYTES = 256 * MIB  # fio has 80 MiB of libraries
TRACE = "/sys/kernel/tracing/events/kvm/kvm_userspace_exit"

RUNNERS = ["vhd-run", "q35", "microvm"]
DISK_RUNNERS = ["vhd-run", "q35", "pc"]

DISK_MIB = 96
MENU_ENTRY = "what is measured"
MENU = f"""
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=-1
menuentry '{MENU_ENTRY}' {{
  linux /boot/vmlinuz {qemu.APPEND} vhdkit.disks=1 vhdkit.partition=1
  initrd /boot/initrd
}}
"""

# fio's mode, size of a request, depth
ROWS = [("randread", 4096, 1), ("randread", 4096, 32), ("randwrite", 4096, 1), ("randwrite", 4096, 32),
        ("read", 128 << 10, 8), ("write", 128 << 10, 8)]

FIO = """#!/bin/sh
# SECONDS, then MODE:BYTES:DEPTH of each row: lines of fio's report. One process for all: it takes seconds to begin.
{
  printf '%s\\n' '[global]' filename=/dev/lun/1 ioengine=io_uring direct=1 time_based runtime="$1" stonewall \\
    randrepeat=1 norandommap gtod_reduce=1
  shift
  for row; do
    printf '[%s]\\nrw=%s\\nbs=%s\\niodepth=%s\\n' "$row" $(echo "$row" | tr : ' ')
  done
} >/tmp/rows
fio --eta=never --output-format=json --output=/tmp/report /tmp/rows || exit 1
grep -E '"(jobname|iops|total_ios)"' /tmp/report | tr -d ' ",'
"""


class Place:
    """Files in the machine: where they are, and the words of the two kinds of runner for them."""

    def __init__(self, machine, work, options):
        self.machine, self.work, self.folder = machine, work, None
        self.options = options

    def prepare(self, kernel, initrd):
        self.kernel, self.initrd = kernel, initrd
        if self.options.place or not self.machine.is_emulated:
            self.folder = self.options.place or self.work
        else:
            self.folder = "/dev/shm/bench"
            self.sh(f"mkdir -p {self.folder} && mkfs.ext4 -q -F /dev/ram0 && mount /dev/ram0 {self.folder}")
        for name in ("root.vhdx", "data.vhdx", "data.raw", "boot.vhdx", "boot.raw") if self.folder != self.work else ():
            self.sh(f"cp {self.work}/{name} {self.folder}/{name}")

    def sh(self, script, seconds=300):
        done = self.machine.run("sh", "-c", script, seconds=seconds)
        if done.code != 0:
            raise SystemExit(f"{script}: {done.out}{done.err}")
        return done.out


class Contender:
    """A runner, its processors and the format of its second disk."""

    def __init__(self, runner, cpus, image):
        self.runner, self.cpus, self.image = runner, cpus, image

    def words(self, place):
        disks = [f"{place.folder}/root.vhdx", f"{place.folder}/data.{self.image}"]
        if self.runner == "vhd-run":
            return guests.words(place.kernel, place.initrd, [(disk, "cache=none") for disk in disks], self.cpus,
                                f"{qemu.MEMORY_MIB}M")
        return qemu.with_kernel(self.runner, place.kernel, place.initrd, disks, self.cpus)


class WholeDisk(Contender):
    """Boots from its only disk, by what is on it."""

    def __init__(self, runner, cpus):
        super().__init__(runner, cpus, "vhdx" if runner == "vhd-run" else "raw")

    def words(self, place):
        disk = f"{place.folder}/boot.{self.image}"
        if self.runner == "vhd-run":
            return guests.own_words([(disk, "cache=none")], self.cpus, f"{qemu.MEMORY_MIB}M")
        return qemu.words(self.runner, [disk], self.cpus)


def until_it_ends(what, contender, *arguments):
    """In an emulated machine a guest hangs now and then, whoever runs it. It is said, and tried again."""
    for _ in range(3):
        try:
            return what(contender, *arguments)
        except guests.GuestFailed as error:
            print(f"again: {contender.runner}, {contender.cpus} cpus: {str(error).splitlines()[-1]}", flush=True)
    raise SystemExit(f"{contender.runner} does not run")


@contextlib.contextmanager
def started(place, contender):
    log = place.work / "consoles" / f"{contender.runner}-{contender.cpus}-{contender.image}.log"
    guest = guests.Guest(place.machine, contender.words(place), log)
    try:
        yield guest
    finally:
        if guest.process.code is RUNNING:
            guest.process.signal(signal.SIGKILL)
            guest.process.wait(30)


def boot(contender, place):
    """Seconds to init, to the prompt, and from the order to power off to the runner's end."""
    begin = time.monotonic()
    with started(place, contender) as guest:
        guest.expect("guest: init", guests.BOOT_SECONDS)
        init = time.monotonic() - begin
        guest.boots()
        prompt = time.monotonic() - begin
        begin = time.monotonic()
        guest.powers_off()
        return init, prompt, time.monotonic() - begin


def boot_by_its_loader(contender, place):
    """Seconds to GRUB's menu and to init."""
    begin = time.monotonic()
    with started(place, contender) as guest:
        guest.expect(MENU_ENTRY, guests.BOOT_SECONDS)
        menu = time.monotonic() - begin
        guest.type("\r")
        guest.expect("guest: init", guests.BOOT_SECONDS)
        init = time.monotonic() - begin
        guest.boots()
        guest.powers_off()
        return menu, init


# --- exits and memory ---

class Exits:
    """KVM's counters of the one guest that runs."""

    def __init__(self, place):
        self.place = place

    def read(self):
        """Exits to the kernel, exits to the runner. The second only between watch() and leave()."""
        kernel = int(self.place.sh("cat /sys/kernel/debug/kvm/exits"))
        lines = self.place.sh(f"cat {TRACE}/hist")
        return kernel, sum(int(count) for count in re.findall(r"hitcount:\s+(\d+)", lines))

    def watch(self):
        self.place.sh(f"echo hist:keys=reason >{TRACE}/trigger")

    def leave(self):
        self.place.sh(f"echo '!hist:keys=reason' >{TRACE}/trigger")


def memory_beside(place, pid):
    """MiB of the runner's own: what is resident less the guest's memory."""
    total, size = 0, 0
    for line in place.sh(f"cat /proc/{pid}/smaps").splitlines():
        if match := re.match(r"(Size|Rss):\s+(\d+) kB", line):
            if match.group(1) == "Size":
                size = int(match.group(2)) >> 10
            elif size < qemu.MEMORY_MIB // 2:
                total += int(match.group(2))
    return total / 1024


def fio(guest, rows, seconds):
    """(requests a second, requests) of each row, one after the other."""
    words = " ".join(":".join(map(str, row)) for row in rows)
    said = guest.run(f"fio-rows {seconds} {words}", seconds * len(rows) * 5 + 120)
    figures = [tuple(sum(map(float, re.findall(rf"^{name}:(\S+)", job, re.MULTILINE)))
                     for name in ("iops", "total_ios"))  # of reads, writes, trims, flushes
               for job in said.split("jobname:")[1:]]
    assert len(figures) == len(rows), said
    return figures


def fio_rates(contender, place, seconds):
    """{row: requests a second}, MiB of the runner's own."""
    with started(place, contender) as guest:
        guest.boots()
        rates = [rate for rate, _ in fio(guest, ROWS, seconds)]
        memory = memory_beside(place, guest.process.pid)
        guest.powers_off()
    return dict(zip(ROWS, rates)), memory


def exits_of_rows(contender, place):
    """{row: (exits to the kernel, exits to the runner) of a request}. What fio does besides requests is in a short run
    as in a long one, and so not in their difference."""
    exits, figures = Exits(place), {}
    with started(place, contender) as guest:
        guest.boots()
        fio(guest, ROWS[:1], 1)  # its libraries are in memory then
        exits.watch()
        for row in ROWS:
            seen = []
            for seconds in (1, 4):
                before = exits.read()
                (_, count), = fio(guest, [row], seconds)
                after = exits.read()
                seen.append([count, after[0] - before[0], after[1] - before[1]])
            count, kernel, user = (long - short for short, long in zip(*seen))
            figures[row] = kernel / count, user / count
        exits.leave()
        guest.powers_off()
    return figures


# --- tables ---

def take_turns(runs, cpus, image, what, *arguments):
    return let_all_run(runs, [Contender(runner, cpus, image) for runner in RUNNERS], what, *arguments)


def let_all_run(runs, contenders, what, *arguments):
    return contest.take_turns(runs, {one.runner: lambda one=one: until_it_ends(what, one, *arguments)
                                     for one in contenders})


def row_name(row):
    return f"{row[0]} {row[1] >> 10}K depth {row[2]}"


def bench_boot(place, options, results):
    print("seconds from start to init, to the prompt, from `off` to the runner's end; ours to theirs to init")
    for cpus in (1, 2):
        samples = take_turns(options.runs, cpus, "vhdx", boot, place)
        for name, seen in samples.items():
            init, prompt, off = (contest.middle(seen, lambda s, i=i: s[i]) for i in range(3))
            ratio = contest.middle_of_pairs(samples["vhd-run"], seen, lambda a, b: a[0] / b[0])
            print(f"boot  {cpus} cpus  {name:8} init {init:6.2f} s  prompt {prompt:6.2f} s  off {off:5.2f} s"
                  f"  ({ratio:4.2f})", flush=True)
            results.append({"what": "boot", "cpus": cpus, "runner": name, "init": init, "prompt": prompt, "off": off,
                            "ratio": ratio})


def bench_disk(place, options, results):
    print("seconds from start to GRUB's menu and to init; ours to theirs")
    samples = let_all_run(options.runs, [WholeDisk(runner, 1) for runner in DISK_RUNNERS], boot_by_its_loader, place)
    for name, seen in samples.items():
        for index, until in enumerate(("menu", "init")):
            seconds = contest.middle(seen, lambda s, i=index: s[i])
            ratio = contest.middle_of_pairs(samples["vhd-run"], seen, lambda a, b, i=index: a[i] / b[i])
            print(f"disk  1 cpus  {name:8} {until} {seconds:6.2f} s  ({ratio:4.2f})", flush=True)
            results.append({"what": "disk", "cpus": 1, "runner": name, "until": until, "seconds": seconds, "ratio": ratio})


def bench_fio(place, options, results):
    print("requests a second; ours to theirs")
    for cpus in (1, 2):
        for image in ("vhdx", "raw"):
            samples = take_turns(options.runs, cpus, image, fio_rates, place, options.seconds)
            show_fio(cpus, image, samples, results)


def show_fio(cpus, image, samples, results):
    for row in ROWS:
        cells = [f"fio   {cpus} cpus  {image:4}  {row_name(row):22}"]
        for name, seen in samples.items():
            rate = contest.middle(seen, lambda s: s[0][row])
            ratio = contest.middle_of_pairs(samples["vhd-run"], seen, lambda a, b: a[0][row] / b[0][row])
            cells.append(f"{name} {rate:8.0f}/s ({ratio:4.2f})")
            results.append({"what": "fio", "cpus": cpus, "image": image, "row": row_name(row), "runner": name,
                            "rate": rate, "ratio": ratio})
        print("  ".join(cells), flush=True)
    for name, seen in samples.items():
        memory = contest.middle(seen, lambda s: s[1])
        print(f"fio   {cpus} cpus  {image:4}  {name:8} has {memory:5.1f} MiB of its own", flush=True)
        results.append({"what": "memory", "cpus": cpus, "image": image, "runner": name, "mib": memory})


def bench_exits(place, _options, results):
    print("exits of a request: to the kernel, and of these on to the runner")
    for cpus in (1, 2):
        for runner in RUNNERS:
            contender = Contender(runner, cpus, "vhdx")
            for row, (kernel, user) in until_it_ends(exits_of_rows, contender, place).items():
                print(f"exits {cpus} cpus  vhdx  {row_name(row):22}  {runner:8} {kernel:6.3f}  {user:6.3f}", flush=True)
                results.append({"what": "exits", "cpus": cpus, "row": row_name(row), "runner": runner,
                                "to_kernel": kernel, "to_user": user})


def make_files(vhd, work):
    root = guests.make_root(work / "root.raw", ["fio"], {"usr/bin/fio-rows": FIO}, ROOT_BYTES)
    raw = work / "data.raw"
    with open(raw, "wb") as file:
        for _ in range(DATA_BYTES // MIB):
            file.write(b"\x5a" * MIB)
    kernel = debian.kernel("cloud")
    image = work / "vmlinuz"
    shutil.copy(kernel.image, image)
    initrd = guests.make_initrd(kernel, work / "initrd", qemu.VIRTIO)
    for path in (root, raw, make_boot_disk(work, image, initrd)):
        subprocess.run([vhd, "convert", "-q", "-O", "vhdx", path, path.with_suffix(".vhdx")], check=True)
    return image, initrd


def make_boot_disk(work, kernel, initrd):
    with tempfile.TemporaryDirectory(dir=work) as folder:
        root = pathlib.Path(folder) / "root"
        root.mkdir()
        guests.plant_root(root)
        for path in (kernel, initrd):
            shutil.copy(path, root / "boot" / path.name)
        boot_disks.plant_grub(root / "boot", MENU)
        return boot_disks.make_grub_disk(root, work / "boot.raw", DISK_MIB)


def main():
    parser = contest.options(__doc__)
    parser.set_defaults(runs=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each fio row (4)")
    parser.add_argument("--only", choices=["boot", "disk", "fio", "exits"], help="one of them")
    parser.add_argument("--place", help="a folder of the machine for the images (default: ext4 on a RAM disk)")
    options = parser.parse_args()
    benches = {"boot": bench_boot, "disk": bench_disk, "fio": bench_fio, "exits": bench_exits}
    results = []
    with contest.working_folder(options.disk) as folder:
        work = pathlib.Path(folder)
        try:
            kernel, initrd = make_files(options.vhd, work)
            machine = machine_with_kvm(work)
        except Unavailable as error:
            raise SystemExit(f"no machine for guests: {error}") from error
        print(f"on {machine.kind}", flush=True)
        try:
            place = Place(machine, work, options)
            place.prepare(kernel, initrd)
            for name, bench in benches.items():
                if options.only in (None, name):
                    bench(place, options, results)
        finally:
            machine.close()
    contest.save(options.json, results)


if __name__ == "__main__":
    main()
