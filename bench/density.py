#!/usr/bin/env python3
"""Many small guests at once: what one more of them costs while they idle.

Guests of 72 MiB and one processor start in groups, each from a child of its own of one VHDX, with Debian's cloud kernel
and its integration services. When all of a group have reached their init and are quiet, the runners are looked at; at
the end all guests are asked to power off by their control sockets. Runs on a machine whose KVM is whole, else inside one
that QEMU emulates, whose times say little: counts and memory are the same.
"""
import json
import pathlib
import signal
import statistics
import sys
import time

from shared import contest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "guest"))
# pylint: disable=wrong-import-position
from lab import debian, fleet, guests  # noqa: E402
from lab.debian import Unavailable  # noqa: E402
from lab.machine import PYTHON, RUNNING, machine_with_kvm  # noqa: E402

COSTS = ROOT / "tests" / "guest" / "lab" / "partition_costs.py"
BOOT_SECONDS = 1800  # of a group, in an emulated machine
OFF_SECONDS = 600
SETTLE_SECONDS = 10


class Guests:
    """The fleet, whose guests are killed if need be."""

    def __init__(self, machine, work, memory):
        self.machine, self.consoles = machine, work / "consoles"
        self.fleet = fleet.Fleet(self.start, debian.kernel("cloud"), work, memory)

    def start(self, words):
        return guests.Guest(self.machine, words, self.consoles / f"{len(self.fleet.guests)}.log")

    def costs(self, seconds):
        pids = [guest.process.pid for guest in self.fleet.guests]
        done = self.machine.run(PYTHON, COSTS, seconds, *pids, seconds=seconds + 300)
        if done.code != 0:
            raise SystemExit(done.err)
        return json.loads(done.out)

    def shut_down(self):
        codes, seconds = self.fleet.shut_down(self.machine, OFF_SECONDS)
        if any(codes):
            raise SystemExit(f"exit codes {codes}")
        return seconds

    def close(self):
        for guest in self.fleet.guests:
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
            "wakes_per_second": sum(sum(one["wakes"].values()) for one in runners) / count / costs["seconds"],
            "causes_per_second": {name: value / count / costs["seconds"] for name, value in costs["causes"].items()},
            "exits_per_second": {name: value / count / costs["seconds"] for name, value in costs["exits"].items()}}


def show(row):
    print(f"{row['guests']:4} guests  started in {row['start_seconds']:6.1f} s  each: {row['pss_mib']:5.2f} MiB PSS, "
          f"{row['private_mib']:5.2f} MiB private beside {row['guest_mib']:5.1f} MiB of the guest's; "
          f"{row['threads']:.0f} threads, {row['descriptors']:.0f} descriptors; {row['core_percent']:5.2f} % of a core, "
          f"{row['exits_per_second'].get('exits', 0):6.1f} exits/s, {row['wakes_per_second']:5.1f} wakes/s", flush=True)


def show_slope(first, last):
    """What one more costs in the whole machine, the kernel's part included."""
    more = last["guests"] - first["guests"]
    memory = (last["machine_mib"] - first["machine_mib"]) / more
    kinds = ", ".join(f"{kind} {count:.0f}" for kind, count in last["descriptors_by_kind"].items())
    causes = sorted(last["causes_per_second"].items(), key=lambda item: -item[1])
    exits = ", ".join(f"{name} {rate:.1f}" for name, rate in causes if rate >= 0.05)
    print(f"one more: {memory:.2f} MiB of the machine's memory, {memory - last['guest_mib']:.2f} MiB of it not the guest's")
    print(f"descriptors of one: {kinds}\nexits a second of one: {exits}", flush=True)
    return {"machine_mib_of_one_more": memory}


def main():
    parser = contest.options(__doc__)
    parser.add_argument("--guests", type=int, default=32, help="how many at last (32)")
    parser.add_argument("--guest-memory", default=fleet.MEMORY, help=f"of each ({fleet.MEMORY})")
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
        all_guests = Guests(machine, work, options.guest_memory)
        try:
            for count in counts:
                seconds = all_guests.fleet.grow_to(count, BOOT_SECONDS)
                time.sleep(SETTLE_SECONDS)
                rows.append(summary(count, seconds, all_guests.costs(options.seconds)))
                show(rows[-1])
            slope = show_slope(rows[0], rows[-1]) if len(rows) > 1 else {}
            seconds = all_guests.shut_down()
            print(f"all were off, in good order, after {seconds:.1f} s", flush=True)
        finally:
            all_guests.close()
            machine.close()
    contest.save(options.json, {"rows": rows, **slope, "off_seconds": seconds})


if __name__ == "__main__":
    main()
