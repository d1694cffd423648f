#!/usr/bin/env python3
"""What an idle guest costs the processors, by cause: our runner against QEMU's microvm, with the same kernel.

One guest at a time, of one processor, at a shell's prompt, with one disk; ours with Hyper-V's integration services. For
each runner: exits of the guest's processor by KVM's statistics and trace points, how often its threads woke up, and the
time of a processor that it took. Runs on a machine whose KVM is whole, else inside one that QEMU emulates, whose times
say little: exits and wakes are the same.
"""
import json
import pathlib
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "guest"))
# pylint: disable=wrong-import-position
from shared import contest, qemu  # noqa: E402
from lab import debian, guests  # noqa: E402
from lab.debian import Unavailable  # noqa: E402
from lab.machine import PYTHON, RUNNING, machine_with_kvm  # noqa: E402

COSTS = ROOT / "tests" / "guest" / "lab" / "partition_costs.py"
SETTLE_SECONDS = 20


def costs_of(machine, words, log, seconds):
    guest = guests.Guest(machine, words, log)
    try:
        guest.boots()
        time.sleep(SETTLE_SECONDS)
        done = machine.run(PYTHON, COSTS, seconds, guest.process.pid, seconds=seconds + 60)
        if done.code != 0:
            raise SystemExit(done.err)
        guest.powers_off()
    finally:
        if guest.process.code is RUNNING:
            guest.process.signal(signal.SIGKILL)
            guest.process.wait(60)
    return json.loads(done.out)


def rates(counts, seconds):
    """Of each name, the most frequent first; once a minute and less is left out."""
    found = {name: count / seconds for name, count in counts.items() if count / seconds > 1 / 60}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def figures_of(costs):
    runner, seconds = costs["runners"][0], costs["seconds"]
    return {"core_percent": 100 * runner["processor_seconds"] / seconds, "exits_per_second": costs["exits"]["exits"] / seconds,
            "causes": rates(costs["causes"], seconds), "wakes": rates(runner["wakes"], seconds)}


def show(name, figures):
    print(f"{name:8} {figures['exits_per_second']:6.1f} exits/s, {sum(figures['wakes'].values()):6.1f} wakes/s, "
          f"{figures['core_percent']:5.2f} % of a core")
    for what in ("causes", "wakes"):
        print(f"  {what}: " + ", ".join(f"{key} {rate:.1f}" for key, rate in figures[what].items()), flush=True)


def main():
    parser = contest.options(__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long each is watched (60)")
    options = parser.parse_args()
    with contest.working_folder(options.disk) as folder:
        work = pathlib.Path(folder)
        try:
            kernel = debian.kernel("cloud")
            initrd = guests.make_initrd(kernel, work / "initrd", ["hv_utils", *qemu.VIRTIO])
            image = guests.to_image(guests.make_root(work / "root.raw"), work / "root.vhdx")
            machine = machine_with_kvm(work)
        except Unavailable as error:
            raise SystemExit(f"no machine for guests: {error}") from error
        print(f"on {machine.kind}", flush=True)
        runners = {"vhd-run": guests.words(kernel.image, initrd, [image]),
                   "microvm": qemu.with_kernel("microvm", kernel.image, initrd, [image], 1, cache="cache=writeback")}
        results = {}
        try:
            for name, words in runners.items():
                results[name] = figures_of(costs_of(machine, words, work / "consoles" / f"{name}.log", options.seconds))
                show(name, results[name])
        finally:
            machine.close()
    contest.save(options.json, results)


if __name__ == "__main__":
    main()
