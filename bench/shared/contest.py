"""What the benchmarks share: contenders that take turns, options, folders to work in, results as JSON."""
import argparse
import contextlib
import json
import random
import shutil
import statistics
import subprocess
import tempfile


def options(description):
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vhd", required=True, help="the vhd program; the others are taken from the same build")
    parser.add_argument("--runs", type=int, default=5, help="rounds after the warm-up (5)")
    parser.add_argument("--json", help="write the figures to this file too")
    parser.add_argument("--memory", default="/dev/shm", help="a folder on tmpfs (/dev/shm)")
    parser.add_argument("--disk", default="/var/tmp", help="a folder on the disk (/var/tmp)")
    return parser


@contextlib.contextmanager
def working_folder(parent):
    folder = tempfile.mkdtemp(prefix="vhdkit-bench-", dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_turns(runs, contenders):
    """{name: function} -> {name: [what it returned, ...]}. Each runs once in every round, in an order that is drawn
    anew, so that nothing periodic of the machine meets always the same one; a first round does not count."""
    order = random.Random()
    samples = {name: [] for name in contenders}
    for index in range(runs + 1):
        for name in order.sample(list(contenders), len(contenders)):
            figures = contenders[name]()
            if index > 0:
                samples[name].append(figures)
    return samples


def middle(samples, figure):
    return statistics.median(figure(sample) for sample in samples)


def middle_of_pairs(ours, theirs, figure):
    """The median of what the two came to in the same round."""
    return statistics.median(figure(a, b) for a, b in zip(ours, theirs))


def fio(filename, mode, size, depth, direct, *more, processor=None):
    """The job's side of fio's report. Without clock readings for each request, nor a search for the best clock, whose cost
    differs by a tenth of a second from run to run."""
    command = ["taskset", "-c", processor] if processor is not None else []
    command += ["fio", "--name=job", f"--filename={filename}", "--ioengine=io_uring", f"--rw={mode}", f"--bs={size}",
                f"--iodepth={depth}", f"--direct={int(direct)}", "--invalidate=0", "--randrepeat=1", "--norandommap", "--gtod_reduce=1",
                "--clocksource=cpu", "--output-format=json", *more]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    job = json.loads(said)["jobs"][0]
    return job["write" if "write" in mode else "read"]


def save(path, results):
    """Where the user wants them as JSON."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1, ensure_ascii=False)
