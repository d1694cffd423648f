#!/usr/bin/env python3
"""What runners of guests cost while nobody asks anything of them.

    partition_costs.py SECONDS PID...

Prints JSON: "runners", for each process what it has of its own beside the guest's memory, its threads and descriptors,
and the processor time that it took within the seconds; "exits" of all guests by KVM's statistics, within them too; and
the machine's memory in use. KiB and seconds. Needs root.
"""
import collections
import json
import os
import pathlib
import re
import sys
import time

DEBUG = pathlib.Path("/sys/kernel/debug/kvm")
TICKS = os.sysconf("SC_CLK_TCK")


def memory_of(pid):
    """{"pss", "private", "guest"}: of the process without its guest's memory, which alone has huge pages wished for and
    is left out of core dumps; and of that."""
    sums = collections.Counter()
    mapping = collections.Counter()
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if amount := re.match(r"(\w+):\s+(\d+) kB", line):
            mapping[amount.group(1)] = int(amount.group(2))
        elif line.startswith("VmFlags:"):  # the last line of a mapping
            if {"hg", "dd"} <= set(line.split()):
                sums["guest"] += mapping["Rss"]
            else:
                sums["pss"] += mapping["Pss"]
                sums["private"] += mapping["Private_Clean"] + mapping["Private_Dirty"]
    return dict(sums)


def descriptors_of(pid):
    """How many there are of each kind."""
    kinds = collections.Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        kinds[re.sub(r":\[\d+\]$|:\d+$", "", target) if not target.startswith("/") else "file"] += 1
    return dict(kinds)


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def exits():
    """KVM's statistics of all guests: exits, and their kinds."""
    names = ["exits", "halt_exits", "irq_exits", "io_exits", "mmio_exits", "signal_exits", "request_irq_exits",
             "irq_injections", "hypercalls", "halt_wakeup"]
    return {name: int((DEBUG / name).read_text()) for name in names if (DEBUG / name).exists()}


def machine_memory():
    fields = dict(re.findall(r"^(\w+):\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE))
    return int(fields["MemTotal"]) - int(fields["MemAvailable"])


def main():
    seconds, pids = float(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    before, begin = exits(), time.monotonic()
    taken = {pid: processor_seconds(pid) for pid in pids}
    time.sleep(seconds)
    passed, after = time.monotonic() - begin, exits()
    runners = [{**memory_of(pid), "threads": threads_of(pid), "descriptors": descriptors_of(pid),
                "processor_seconds": processor_seconds(pid) - taken[pid]} for pid in pids]
    json.dump({"seconds": passed, "memory": machine_memory(), "exits": {name: after[name] - before[name] for name in after},
               "runners": runners}, sys.stdout)


if __name__ == "__main__":
    main()
