#!/usr/bin/env python3
"""A guest's requests through a storage controller against the same engine without it, and fio on a raw file.

The guest is a thread of the same process that never sleeps: what is measured is the host. It has one processor,
the host's side the other one; the others' other processor is kept as busy, or the kernel's workers of their rings would
run there. Contenders of a row take turns, in an order that is drawn anew for each round;
ratios are medians of the rounds' own ratios. `vhd bench` sends the same requests to the same image without rings,
packets or SCSI.
"""
import contextlib
import json
import os
import subprocess

from shared import contest

MIB = 1 << 20
DISK_BYTES = 1024 * MIB
GUEST_PROCESSOR, HOST_PROCESSOR = "0", "1"


class Row:
    """One kind of request."""

    def __init__(self, writes, size, depth, is_random, direct, count):
        self.writes, self.size, self.depth, self.random = writes, size, depth, is_random
        self.direct, self.count = direct, count

    def name(self):
        return (f"{'random' if self.random else 'sequential'} {'write' if self.writes else 'read'} "
                f"{self.size >> 10}K depth {self.depth}{' direct' if self.direct else ''}")


def said(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def busy_guest_processor():
    with subprocess.Popen(["taskset", "-c", GUEST_PROCESSOR, "sh", "-c", "while :; do :; done"]) as spinner:
        try:
            yield
        finally:
            spinner.kill()


def run_vsp(program, image, row, extra=()):
    """Rate, CPU microseconds of the host's side, signals to the guest."""
    command = [program, "--depth", str(row.depth), "--size", str(row.size), "--count", str(row.count), *extra]
    command += ["--image", image] if image else []
    command += ["--write"] if row.writes else []
    command += ["--random"] if row.random else []
    report = json.loads(said(command + (["--direct"] if row.direct else [])))
    return (report["requests-per-second"], report["cpu-microseconds-per-request"], report["signals-per-request"])


def run_alone(program, writes):
    """What the host's side of one request costs by itself, in microseconds."""
    command = ["taskset", "-c", HOST_PROCESSOR, program, "--alone", "--count", "1000000", "--ram", str(64 * MIB)]
    return json.loads(said(command + (["--write"] if writes else [])))["cpu-microseconds-per-request"]


def run_engine(vhd, image, row):
    command = ["taskset", "-c", HOST_PROCESSOR, vhd, "bench", "--output=json", "-c", str(row.count), "-d",
               str(row.depth), "-s", str(row.size), "--cache", "none" if row.direct else "writeback"]
    command += (["--random"] if row.random else []) + (["-w"] if row.writes else [])
    with busy_guest_processor():
        report = json.loads(said(command + [image]))
    return report["requests-per-second"], report["cpu-microseconds-per-request"], 0


def run_fio(raw, row):
    mode = f"{'rand' if row.random else ''}{'write' if row.writes else 'read'}"
    with busy_guest_processor():
        side = contest.fio(raw, mode, row.size, row.depth, row.direct, f"--number_ios={row.count}", f"--size={DISK_BYTES}",
                           "--io_size=100G", f"--iodepth_batch={row.depth}", f"--iodepth_batch_complete_max={row.depth}",
                           processor=HOST_PROCESSOR)
    return side["iops"], 0, 0


def show(place, row, samples, results):
    ours = samples["vsp"]
    rate, cpu, signals = (contest.middle(ours, lambda sample, i=i: sample[i]) for i in range(3))
    cells = [f"{place:6} {row.name():34} vsp {rate:8.0f}/s {1e6 * row.depth / rate:7.1f} us {cpu:6.2f} us CPU "
             f"{signals:5.3f} signals"]
    for name in (n for n in samples if n != "vsp"):
        their_rate = contest.middle(samples[name], lambda sample: sample[0])
        ratio = contest.middle_of_pairs(ours, samples[name], lambda a, b: a[0] / b[0])
        cells.append(f"{name} {their_rate:8.0f}/s {1e6 * row.depth / their_rate:7.1f} us ({ratio:4.2f})")
        results.append({"place": place, "row": row.name(), "to": name, "ratio": ratio, "rate": rate, "cpu_us": cpu,
                        "their_rate": their_rate, "signals_per_request": signals})
    print("  ".join(cells), flush=True)


def make_files(vhd, folder):
    raw, image = os.path.join(folder, "disk.raw"), os.path.join(folder, "disk.vhdx")
    with open(raw, "wb") as file:
        for _ in range(DISK_BYTES // MIB):
            file.write(b"\x5a" * MIB)
    subprocess.run([vhd, "convert", "-q", "-O", "vhdx", raw, image], check=True)
    return raw, image


def bench_place(options, place, parent, results):
    direct = place == "disk"
    with contest.working_folder(parent) as folder:
        raw, image = make_files(options.vhd, folder)
        for size, depth, is_random, count in ((4096, 32, True, 200000), (4096, 1, True, 20000),
                                              (128 << 10, 32, False, 20000)):
            for writes in (False, True):
                row = Row(writes, size, depth, is_random, direct, count // (8 if direct else 1))
                samples = contest.take_turns(options.runs, {
                    "vsp": lambda: run_vsp(options.program, image, row),
                    "engine": lambda: run_engine(options.vhd, image, row),
                    "fio raw": lambda: run_fio(raw, row)})
                show(place, row, samples, results)


def bench_memory(options, results):
    """A disk that answers at once: what the host's side costs by itself, and how channels add up, each of which has a
    processor that it shares with its guest."""
    for writes in (False, True):
        costs = [run_alone(options.program, writes) for _ in range(options.runs)]
        print(f"memory 4K {'write' if writes else 'read'}: the host's side of a request by itself "
              f"{contest.middle(costs, float):.3f} us")
        results.append({"place": "memory", "row": "alone", "writes": writes, "cpu_us": contest.middle(costs, float)})
        row = Row(writes, 4096, 32, True, False, 1000000)
        show("memory", row, contest.take_turns(options.runs, {"vsp": lambda: run_vsp(options.program, None, row)}), results)
        two_channels = ("--channels", "2", "--workers", "2", "--pairs")
        show("pairs", row, contest.take_turns(options.runs, {
            "vsp": lambda: run_vsp(options.program, None, row, two_channels),
            "one channel": lambda: run_vsp(options.program, None, row, ("--pairs",))}), results)


def main():
    parser = contest.options(__doc__)
    parser.add_argument("--only", choices=["memory", "tmpfs", "disk"], help="one of the three places")
    options = parser.parse_args()
    options.program = os.path.join(os.path.dirname(options.vhd), "../bench/vsp_bench")
    results = []
    if options.only in (None, "memory"):
        bench_memory(options, results)
    for place, parent in (("tmpfs", options.memory), ("disk", options.disk)):
        if options.only in (None, place):
            bench_place(options, place, parent, results)
    contest.save(options.json, results)


if __name__ == "__main__":
    main()
