#!/usr/bin/env python3
"""Requests to an image against io_uring on a raw file (fio) and against qemu-img bench on the same image; opening the
largest image there is.

Every contender of a row runs once in each round, in an order drawn anew, after one warm-up round; ratios are medians of
the rounds' own ratios. Rates say little on a shared machine: the CPU time of a request stands beside them.
"""
import json
import os
import re
import resource
import subprocess
import time

from shared import contest

MIB = 1 << 20
QEMU_NAME = {"vhd": "vpc", "vhdx": "vhdx"}
DISK_BYTES = 1024 * MIB
REQUESTS = {1: 20000, 32: 100000}
CHAIN_LENGTH = 8
ALLOCATIONS = 2000
BLOCK = 2 * MIB
OPENED_SIZES = ["64T", "1G"]  # the largest VHDX there is, and a usual one


def timed(command):
    """Seconds and CPU seconds of a process, and what it said."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


class Row:
    """One kind of request."""

    def __init__(self, writes, size, depth, direct, count, step=None):
        self.writes, self.size, self.depth, self.direct = writes, size, depth, direct
        self.count, self.step = count, step

    def name(self):
        kind = "allocating write" if self.step else "write" if self.writes else "read"
        return f"{kind} {self.size >> 10}K depth {self.depth}{' direct' if self.direct else ''}"


# From one request's offset to the next, in requests: comes everywhere, and never across the disk's end.
QEMU_STEP = 13


def run_ours(vhd, image, row, step=None):
    """Requests a second, CPU microseconds a request: of the requests alone. Offsets go up by the step, or are random."""
    command = ["taskset", "-c", "0", vhd, "bench", "--output=json", "-c", str(row.count), "-d", str(row.depth),
               "-s", str(row.size), "--cache", "none" if row.direct else "writeback"]
    command += ["-S", str(step)] if step else ["--random"]
    report = json.loads(timed(command + (["-w"] if row.writes else []) + [image])[2])
    return report["requests-per-second"], report["cpu-microseconds-per-request"]


def run_fio(raw, row):
    """CPU of the whole process, less that of one request: fio's own figures leave out the kernel's workers, who carry out
    cached requests that it did not wait for, reads as well as writes."""
    def run(count):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        side = contest.fio(raw, "randwrite" if row.writes else "randread", row.size, row.depth, row.direct,
                           f"--number_ios={count}", f"--size={DISK_BYTES}", "--io_size=100G",
                           f"--iodepth_batch={row.depth}", f"--iodepth_batch_complete_max={row.depth}", processor="0")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return side, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    side, cpu = run(row.count)
    return side["iops"], (cpu - run(1)[1]) * 1e6 / side["total_ios"]


def run_qemu(image, image_format, row):
    # It knows no random offsets.
    step = row.step or row.size * QEMU_STEP
    command = ["taskset", "-c", "0", "qemu-img", "bench", "-f", QEMU_NAME[image_format], "-c", str(row.count), "-d",
               str(row.depth), "-s", str(row.size), "-S", str(step), "-t", "none" if row.direct else "writeback"]
    _, cpu, said = timed(command + (["-w"] if row.writes else []) + [image])
    seconds = float(re.search(r"completed in ([\d.]+) seconds", said).group(1))
    return row.count / max(seconds, 1e-9), cpu * 1e6 / row.count


def make_image(vhd, image_format, subformat, path):
    """An image whose every block has its place."""
    options = ["-o", f"subformat={subformat}"]
    if subformat == "dynamic":
        options += ["-o", f"block_size={BLOCK}"]
    subprocess.run([vhd, "create", "-q", "--force", "-f", image_format, *options, path, str(DISK_BYTES)], check=True)
    subprocess.run([vhd, "bench", "-w", "-s", str(MIB), "-c", str(DISK_BYTES // MIB), path], check=True,
                   stdout=subprocess.DEVNULL)
    return path


def make_chain(vhd, base, folder):
    """Empty children over it: reads go through all of them."""
    top = base
    for index in range(CHAIN_LENGTH - 1):
        child = os.path.join(folder, f"child{index}.vhdx")
        subprocess.run([vhd, "create", "-q", "--force", "-f", "vhdx", "-b", top, child], check=True)
        top = child
    return top


class PageCache:
    """Has all of a file, page by page, or nothing of it. What writing and reading ahead leave there are groups of pages;
    how the kernel groups them is luck, and makes a cached read a third cheaper and a cached write up to ten times dearer
    (ext4, Linux 6.18)."""

    def __init__(self):
        self.whole = set()

    def settle(self, path, is_wanted):
        with open(path, "rb", buffering=0) as file:
            os.fsync(file.fileno())
            if is_wanted and path in self.whole:
                return
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self.whole.discard(path)
            if is_wanted:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                while file.read(MIB):
                    pass
                self.whole.add(path)


CACHE = PageCache()


def settled(row, files, run):
    """The run, with nothing of others left to be written, and all files in the cache for cached requests, none for
    direct ones, which have to look there: else the first one pays for the next."""
    def prepared():
        for path in files:
            CACHE.settle(path, not row.direct)
        return run()
    return prepared


def compare(runs, contenders):
    """Name → (median rate, median CPU, ratio of ours to it in rate, in CPU). QEMU's requests are compared with ours
    that come in its order, where that is another one."""
    samples = contest.take_turns(runs, contenders)
    rivals = {name: samples["vhd in steps" if name == "qemu" and "vhd in steps" in samples else "vhd"]
              for name in samples}
    return {name: (contest.middle(seen, lambda s: s[0]), contest.middle(seen, lambda s: s[1]),
                   contest.middle_of_pairs(rivals[name], seen, lambda a, b: a[0] / b[0]),
                   contest.middle_of_pairs(rivals[name], seen, lambda a, b: a[1] / b[1]))
            for name, seen in samples.items()}


def show(place, image_name, row, figures, results):
    cells = [f"{place:7} {image_name:16} {row.name():32}"]
    for name, (rate, cpu, rate_ratio, cpu_ratio) in figures.items():
        ratios = "" if name.startswith("vhd") else f" ({rate_ratio:5.2f}, {cpu_ratio:4.2f})"
        cells.append(f"{name} {rate:8.0f}/s {cpu:6.2f} us{ratios}")
        results.append({"place": place, "image": image_name, "row": row.name(), "contender": name, "rate": rate,
                        "cpu_us": cpu, "vhd_to_this_rate": rate_ratio, "vhd_to_this_cpu": cpu_ratio})
    print("  ".join(cells), flush=True)


def overwrites(vhd, folder, place, runs, results):
    raw = os.path.join(folder, "disk.raw")
    with open(raw, "wb") as file:
        for _ in range(DISK_BYTES // MIB):
            file.write(b"\x5a" * MIB)
    kinds = [("vhdx", "fixed"), ("vhdx", "dynamic"), ("vhd", "fixed"), ("vhd", "dynamic")]
    images = {f"{kind} {sub}": (kind, make_image(vhd, kind, sub, os.path.join(folder, f"{sub}.{kind}")))
              for kind, sub in kinds}
    rows = [Row(writes, size, depth, direct, REQUESTS[depth] // (4 if size > 4096 else 1))
            for direct in ((False,) if place == "tmpfs" else (False, True)) for size in (4096, 128 << 10)
            for depth in (1, 32) for writes in (False, True)]
    for row in rows:
        for name, (kind, image) in images.items():
            step = row.size * QEMU_STEP
            figures = compare(runs, {"vhd": settled(row, [image], lambda: run_ours(vhd, image, row)),
                                     "fio raw": settled(row, [raw], lambda: run_fio(raw, row)),
                                     "vhd in steps": settled(row, [image], lambda: run_ours(vhd, image, row, step)),
                                     "qemu": settled(row, [image], lambda: run_qemu(image, kind, row))})
            show(place, name, row, figures, results)
    top = make_chain(vhd, images["vhdx dynamic"][1], folder)
    for row in (one for one in rows if not one.writes):
        base = images["vhdx dynamic"][1]
        figures = compare(runs, {"vhd": settled(row, [base, top], lambda: run_ours(vhd, top, row)),
                                 "fio raw": settled(row, [raw], lambda: run_fio(raw, row))})
        show(place, f"chain of {CHAIN_LENGTH}", row, figures, results)


def allocations(vhd, folder, place, runs, results):
    for kind in ("vhdx", "vhd"):
        path = os.path.join(folder, f"new.{kind}")

        def fresh():
            subprocess.run([vhd, "create", "-q", "--force", "-f", kind, "-o", f"block_size={BLOCK}", path,
                            str(ALLOCATIONS * BLOCK)], check=True)
            return path
        for depth in (1, 32):
            row = Row(True, 4096, depth, False, ALLOCATIONS, BLOCK)
            figures = compare(runs, {"vhd": lambda: run_ours(vhd, fresh(), row, row.step),
                                     "qemu": lambda: run_qemu(fresh(), kind, row)})
            show(place, f"{kind} dynamic", row, figures, results)


# --- opening ---

def measured_whole(command):
    """Milliseconds of a process from its start to its end, and the most MiB that it had: this program's own at least,
    with which it began."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return (time.monotonic() - start) * 1e3, usage.ru_maxrss / 1024


def opening(vhd, folder, place, runs, results):
    """A program's whole life for one write into a fresh image."""
    for size in OPENED_SIZES:
        path = os.path.join(folder, "fresh.vhdx")

        def fresh():
            subprocess.run([vhd, "create", "-q", "--force", "-f", "vhdx", "-o", "block_size=1M", path, size],
                           check=True)
            return path
        contenders = {
            "vhd": lambda: measured_whole([vhd, "io", "-q", "-c", "write 0 4K", fresh()]),
            "qemu": lambda: measured_whole(["qemu-io", "-f", "vhdx", "-c", "write 0 4k", fresh()])}
        for name, seen in contest.take_turns(runs, contenders).items():
            milliseconds, mebibytes = (contest.middle(seen, lambda s, i=i: s[i]) for i in range(2))
            print(f"{place:7} open a fresh VHDX of {size:4} and write 4K  {name:5} {milliseconds:8.1f} ms {mebibytes:6.1f} MiB",
                  flush=True)
            results.append({"place": place, "image": "vhdx dynamic", "row": f"open {size}", "contender": name,
                            "milliseconds": milliseconds, "mebibytes": mebibytes})


def main():
    parser = contest.options(__doc__)
    parser.add_argument("--only", choices=["tmpfs", "disk"], help="one of the two places")
    options = parser.parse_args()
    print("requests a second and CPU of each; in brackets ours to theirs: rate, CPU")
    results = []
    for place, parent in (("tmpfs", options.memory), ("disk", options.disk)):
        if options.only not in (None, place):
            continue
        with contest.working_folder(parent) as folder:
            overwrites(options.vhd, folder, place, options.runs, results)
            allocations(options.vhd, folder, place, options.runs, results)
            opening(options.vhd, folder, place, options.runs, results)
    contest.save(options.json, results)


if __name__ == "__main__":
    main()
