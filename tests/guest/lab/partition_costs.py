#!/usr/bin/env python3
"""What runners of guests cost while nobody asks anything of them.

    partition_costs.py SECONDS PID...

Prints JSON: "runners", for each process what it has of its own beside the guest's memory, its threads and descriptors,
and, within the seconds, the processor time that it took and how often its threads woke up, by their names; "exits" of
all guests within them, by KVM's statistics, and their "causes" by its trace points; and the machine's memory in use. KiB
and seconds. Needs root.
"""
import collections
import contextlib
import json
import os
import pathlib
import re
import sys
import time

DEBUG = pathlib.Path("/sys/kernel/debug/kvm")
TRACE = pathlib.Path("/sys/kernel/tracing/events/kvm")
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


def wakes(pid):
    """How often its threads have given their processor up by themselves, to be woken again; by their names."""
    sums = collections.Counter()
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        sums[fields["Name"]] += int(fields["voluntary_ctxt_switches"])
    return sums


# arch/x86/include/uapi/asm/vmx.h and svm.h: by the kernel's number of the instruction set, and the exit's.
CAUSES = {(1, 0): "exception", (1, 1): "interrupt", (1, 7): "interrupt window", (1, 10): "cpuid", (1, 12): "halt",
          (1, 30): "port", (1, 31): "register read", (1, 32): "register write", (1, 48): "page", (1, 49): "page",
          (1, 52): "timer", (2, 0x60): "interrupt", (2, 0x61): "interrupt", (2, 0x64): "interrupt window",
          (2, 0x72): "cpuid", (2, 0x78): "halt", (2, 0x7b): "port", (2, 0x7c): "register", (2, 0x400): "page"}
# Intel SDM 3A, table 11-6 "Local APIC Register Address Map Supported by x2APIC", and the timer's.
REGISTERS = {0x6e0: "timer's deadline", 0x80b: "end of interrupt", 0x830: "interrupt to a processor",
             0x838: "timer's count"}


class Causes:
    """Counts exits by their causes, in the kernel."""

    def __init__(self):
        self.triggers = {"kvm_exit": "hist:keys=isa,exit_reason", "kvm_msr": "hist:keys=write,ecx",
                         "kvm_userspace_exit": "hist:keys=reason,errno"}

    def __enter__(self):
        for event, trigger in self.triggers.items():
            (TRACE / event / "trigger").write_text(trigger)
        return self

    def __exit__(self, *_):
        for event, trigger in self.triggers.items():
            with contextlib.suppress(OSError):
                (TRACE / event / "trigger").write_text("!" + trigger)

    def counts(self):
        seen = collections.Counter()
        for isa, reason, count in self.lines("kvm_exit"):
            seen[CAUSES.get((isa, reason), f"number {reason:#x}")] += count
        for is_write, register, count in self.lines("kvm_msr"):
            what = REGISTERS.get(register, f"{register:#x}")
            seen[f"of registers: {what} {'written' if is_write else 'read'}"] += count
        seen["to the runner"] = sum(count for _, _, count in self.lines("kvm_userspace_exit"))
        return dict(seen)

    @staticmethod
    def lines(event):
        """The two keys and the count of each line."""
        text = (TRACE / event / "hist").read_text()
        return [[*map(int, found)] for found in re.findall(r"\{ \w+:\s+(\d+), \w+:\s+(\d+) \} hitcount:\s+(\d+)", text)]


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
    with Causes() as causes:
        before, begin = exits(), time.monotonic()
        taken = {pid: (processor_seconds(pid), wakes(pid)) for pid in pids}
        time.sleep(seconds)
        passed, after, seen = time.monotonic() - begin, exits(), causes.counts()
    runners = [{**memory_of(pid), "threads": threads_of(pid), "descriptors": descriptors_of(pid),
                "processor_seconds": processor_seconds(pid) - taken[pid][0], "wakes": wakes(pid) - taken[pid][1]}
               for pid in pids]
    json.dump({"seconds": passed, "memory": machine_memory(), "exits": {name: after[name] - before[name] for name in after},
               "causes": seen, "runners": runners}, sys.stdout)


if __name__ == "__main__":
    main()
