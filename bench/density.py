#!/usr/bin/env python3
"""Many small guests at once: what one more of them costs while they idle.

Guests of 96 MiB and one processor start in groups, each from a child of its own of one VHDX, with Debian's cloud kernel
and its integration services. When all of a group have reached their init and are quiet, the runners are looked at; at
the end all guests are asked to power off by their control sockets. Runs on a machine whose KVM is whole, else inside one
that QEMU emulates, whose times say little: counts and memory are the same.
"""
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import time

from shared import contest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "guest"))
# pylint: disable=wrong-import-position
from lab import debian, guests  # noqa: E402
from lab.debian import Unavailable  # noqa: E402
from lab.machine import PYTHON, RUNNING, machine_with_kvm  # noqa: E402

COSTS = ROOT / "tests" / "guest" / "lab" / "partition_costs.py"
BOOT_SECONDS = 1800  # of a group, in an emulated machine
OFF_SECONDS = 600
SETTLE_SECONDS = 10


class Fleet:
    """The guests, and the images that they have of one parent."""

    def __init__(self, machine, vhd, work, options):
        self.machine, self.vhd, self.work, self.options = machine, vhd, work, options
        self.guests = []

    def prepare(self):
        kernel = debian.kernel("cloud")
        self.kernel = kernel.image
        self.initrd = guests.make_initrd(kernel, self.work / "initrd", ["hv_utils"])
        root = guests.make_root(self.work / "root.raw", files={"usr/sbin/poweroff": guests.POWEROFF})
        guests.to_image(root, self.work / "root.vhdx")

    def control(self, index):
        return self.work / f"control{index}"

    def image(self, index):
        return self.work / f"child{index}.vhdx"

    def grow_to(self, count):
        """Starts guests until there are so many; seconds until the last has reached its prompt."""
        begin, old = time.monotonic(), len(self.guests)
        for index in range(old, count):
            subprocess.run([self.vhd, "create", "-q", "-f", "vhdx", "-b", self.work / "root.vhdx", self.image(index)],
                           check=True)
            words = guests.words(self.kernel, self.initrd, [self.image(index)], memory=self.options.guest_memory,
                                 extra=["--control", self.control(index)])
            self.guests.append(guests.Guest(self.machine, words, self.work / "consoles" / f"{index}.log"))
        for guest in self.guests[old:]:
            guest.boots(BOOT_SECONDS)
        return time.monotonic() - begin

    def costs(self):
        pids = [guest.process.pid for guest in self.guests]
        seconds = self.options.seconds
        done = self.machine.run(PYTHON, COSTS, seconds, *pids, seconds=seconds + 300)
        if done.code != 0:
            raise SystemExit(done.err)
        return json.loads(done.out)

    def shut_down(self):
        """Seconds from the first one's order to the last one's end."""
        begin = time.monotonic()
        for index in range(len(self.guests)):
            done = self.machine.run(self.vhd, "ctl", self.control(index), "shut-down", seconds=OFF_SECONDS)
            if done.code != 0:
                raise SystemExit(f"guest {index}: {done.err}")
        for guest in self.guests:
            if guest.ends(OFF_SECONDS) != 0:
                raise SystemExit(guest.console())
        return time.monotonic() - begin

    def close(self):
        for guest in self.guests:
            if guest.process.code is RUNNING:
                guest.process.signal(signal.SIGKILL)
                guest.process.wait(60)


def middle(runners, figure):
    return statistics.median(map(figure, runners))


def summary(count, seconds, costs):
    runners = costs["runners"]
    kinds = {kind for runner in runners for kind in runner["descriptors"]}
    return {"guests": count, "start_seconds": seconds, "machine_mib": costs["memory"] / 1024,
            "pss_mib": middle(runners, lambda one: one["pss"]) / 1024,
            "private_mib": middle(runners, lambda one: one["private"]) / 1024,
            "guest_mib": middle(runners, lambda one: one["guest"]) / 1024,
            "threads": middle(runners, lambda one: one["threads"]),
            "descriptors": middle(runners, lambda one: sum(one["descriptors"].values())),
            "descriptors_by_kind": {kind: middle(runners, lambda one, kind=kind: one["descriptors"].get(kind, 0))
                                    for kind in sorted(kinds)},
            "core_percent": 100 * sum(one["processor_seconds"] for one in runners) / count / costs["seconds"],
            "exits_per_second": {name: value / count / costs["seconds"] for name, value in costs["exits"].items()}}


def show(row):
    print(f"{row['guests']:4} guests  started in {row['start_seconds']:6.1f} s  each: {row['pss_mib']:5.2f} MiB PSS, "
          f"{row['private_mib']:5.2f} MiB private beside {row['guest_mib']:5.1f} MiB of the guest's; "
          f"{row['threads']:.0f} threads, {row['descriptors']:.0f} descriptors; {row['core_percent']:5.2f} % of a core, "
          f"{row['exits_per_second'].get('exits', 0):6.1f} exits/s", flush=True)


def show_slope(first, last):
    """What one more costs in the whole machine, the kernel's part included."""
    more = last["guests"] - first["guests"]
    memory = (last["machine_mib"] - first["machine_mib"]) / more
    kinds = ", ".join(f"{kind} {count:.0f}" for kind, count in last["descriptors_by_kind"].items())
    exits = ", ".join(f"{name} {rate:.1f}" for name, rate in last["exits_per_second"].items() if rate >= 0.05)
    print(f"one more: {memory:.2f} MiB of the machine's memory, {memory - last['guest_mib']:.2f} MiB of it not the guest's")
    print(f"descriptors of one: {kinds}\nexits a second of one: {exits}", flush=True)
    return {"machine_mib_of_one_more": memory}


def main():
    parser = contest.options(__doc__)
    parser.add_argument("--guests", type=int, default=32, help="how many at last (32)")
    parser.add_argument("--guest-memory", default="96M", help="of each (96M): Debian's kernel needs more than 64M")
    parser.add_argument("--seconds", type=int, default=30, help="how long they are watched while they idle (30)")
    options = parser.parse_args()
    counts = sorted({max(1, options.guests // 4), max(1, options.guests // 2), options.guests})
    with contest.working_folder(options.disk) as folder:
        work, rows = pathlib.Path(folder), []
        try:
            machine = machine_with_kvm(work)
        except Unavailable as error:
            raise SystemExit(f"no machine for guests: {error}") from error
        print(f"on {machine.kind}", flush=True)
        fleet = Fleet(machine, pathlib.Path(options.vhd).resolve(), work, options)
        try:
            fleet.prepare()
            for count in counts:
                seconds = fleet.grow_to(count)
                time.sleep(SETTLE_SECONDS)
                rows.append(summary(count, seconds, fleet.costs()))
                show(rows[-1])
            slope = show_slope(rows[0], rows[-1]) if len(rows) > 1 else {}
            seconds = fleet.shut_down()
            print(f"all were off, in good order, after {seconds:.1f} s", flush=True)
        finally:
            fleet.close()
            machine.close()
    contest.save(options.json, {"rows": rows, **slope, "off_seconds": seconds})


if __name__ == "__main__":
    main()
