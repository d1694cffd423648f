#!/usr/bin/env python3
"""Conversion against qemu-img and cp: times as ratios within one run, CPU time, memory, system calls.

Every command of a row runs once in each round, after one warm-up round, on the same input; the order within
a round is drawn anew, so that nothing periodic of the machine meets always the same one. On the disk each
command's time includes making its output durable (fsync), since `vhd convert` always does that.

The figures are medians. Beside them stand the ratios of the fastest runs; where the two are far apart, the machine
was measured. A virtual machine whose host takes back free memory makes any run several times slower that happens to
meet such pages, whoever makes it, so as much memory as a run can fill is filled and freed before each.
"""
import mmap
import os
import random
import subprocess
import tempfile
import time

from shared import contest

MIB = 1 << 20
GIB = 1 << 30
FORMATS = ("raw", "vhd", "vhdx")
QEMU_NAME = {"raw": "raw", "vhd": "vpc", "vhdx": "vhdx"}


def make_ext4(path):
    """(a) 4 GiB holding an ext4 file system with about 1.5 GiB of files of every size."""
    generator = random.Random(1)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as tree:
        total = 0
        for index in range(100000):
            if total >= 1500 * MIB:
                break
            size = int(2 ** generator.uniform(9, 23))
            folder = os.path.join(tree, f"d{index % 97}")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"f{index}"), "wb") as file:
                file.write(generator.randbytes(size))
            total += size
        with open(path, "wb") as file:
            file.truncate(4 * GIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", tree, path], check=True)


def make_random(path):
    """(b) 2 GiB of random bytes."""
    generator = random.Random(2)
    with open(path, "wb") as file:
        for _ in range(2 * GIB // (16 * MIB)):
            file.write(generator.randbytes(16 * MIB))


def make_scattered(path):
    """(c) 64 GiB holding 1 GiB scattered in pieces of 4 KiB to 1 MiB."""
    generator = random.Random(3)
    with open(path, "wb") as file:
        file.truncate(64 * GIB)
        total = 0
        while total < GIB:
            size = min(int(2 ** generator.uniform(12, 20)) // 4096 * 4096, GIB - total)
            file.seek(generator.randrange(0, (64 * GIB - size) // 4096) * 4096)
            file.write(generator.randbytes(size))
            total += size


INPUTS = {"a": make_ext4, "b": make_random, "c": make_scattered}


class Usage:
    """What one finished process cost, its output made durable. GNU time starts it: a child of this
    program itself would begin with this program's memory as its peak."""

    def __init__(self, command, output, durable):
        start = time.monotonic()
        peak = tempfile.NamedTemporaryFile("r")
        pid = os.posix_spawnp("/usr/bin/time", ["time", "-f", "%M", "-o", peak.name, *command], os.environ,
                              file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            raise SystemExit(f"failed: {' '.join(command)}")
        if durable:
            descriptor = os.open(output, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        self.wall = time.monotonic() - start
        self.cpu = usage.ru_utime + usage.ru_stime
        with peak:
            self.memory_mib = int(peak.read().split()[-1]) / 1024


def count_system_calls(command):
    """All system calls of the command and its threads, counted by strace in a run of its own."""
    with tempfile.NamedTemporaryFile("r") as summary:
        subprocess.run(["strace", "-f", "-c", "-o", summary.name] + command, check=True,
                       stdout=subprocess.DEVNULL)
        total = [line.split() for line in summary if line.rstrip().endswith("total")]
    return int(total[0][3])  # % time, seconds, usecs/call, calls


def commands_for(vhd, source, source_format, target_format, raw, folder):
    """Name → (command, output) of every contender for one conversion."""
    def output(name):
        return os.path.join(folder, f"out-{name}")
    qemu = ["qemu-img", "convert", "-f", QEMU_NAME[source_format], "-O", QEMU_NAME[target_format]]
    if target_format == "vhd":
        qemu += ["-o", "force_size=on"]
    return {
        "vhd": ([vhd, "convert", "-q", "--force", "--no-clone", "-O", target_format, source,
                 output("vhd")], output("vhd")),
        "qemu": (qemu + [source, output("qemu")], output("qemu")),
        "qemu -m 16 -W": (qemu + ["-m", "16", "-W", source, output("qemu16")], output("qemu16")),
        "cp": (["cp", "--sparse=always", raw, output("cp")], output("cp")),
    }


def get_memory_back():
    """What is free now is this machine's: nobody has to wait for the host to give it."""
    mmap.mmap(-1, 3 * GIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def measure(commands, runs, durable):
    """Name → medians, and the ratio of the first contender to each other one, pair by pair."""
    def run(command, output):
        get_memory_back()
        usage = Usage(command, output, durable)
        os.unlink(output)
        return usage
    samples = contest.take_turns(runs, {name: lambda pair=pair: run(*pair) for name, pair in commands.items()})
    ours = samples["vhd"]
    return {name: {
        "wall_s": contest.middle(usages, lambda u: u.wall),
        "cpu_s": contest.middle(usages, lambda u: u.cpu),
        "memory_mib": max(u.memory_mib for u in usages),
        "vhd_to_this_wall": contest.middle_of_pairs(ours, usages, lambda a, b: a.wall / b.wall),
        "vhd_to_this_cpu": contest.middle_of_pairs(ours, usages, lambda a, b: a.cpu / b.cpu),
        "vhd_to_this_best_wall": min(o.wall for o in ours) / min(u.wall for u in usages),
        "vhd_to_this_best_cpu": min(o.cpu for o in ours) / min(u.cpu for u in usages),
    } for name, usages in samples.items()}


def bench_copies(vhd, folder, place, inputs, runs, rows):
    durable = place != "tmpfs"
    for name in inputs:
        raw = os.path.join(folder, f"{name}.raw")
        INPUTS[name](raw)
        for source_format in FORMATS:
            # One at a time: what fills memory here makes the others slower.
            source = os.path.join(folder, f"{name}.{source_format}")
            if source_format != "raw":
                subprocess.run([vhd, "convert", "-q", "-O", source_format, raw, source], check=True)
            for target_format in FORMATS:
                row = bench_pair(commands_for(vhd, source, source_format, target_format, raw, folder),
                                 name == "c", runs, durable)
                row.update(place=place, input=name, pair=f"{source_format} → {target_format}")
                rows.append(row)
                print_row(row)
            if source_format != "raw":
                os.unlink(source)
        os.unlink(raw)


def bench_pair(commands, counts_calls, runs, durable):
    figures = measure(commands, runs, durable)
    if counts_calls:
        for contender, (command, output) in commands.items():
            figures[contender]["system_calls"] = count_system_calls(command)
            os.unlink(output)
    return {"figures": figures}


def print_header():
    print(f"{'place':6} {'input':5} {'pair':12} │ {'vhd':>7} {'CPU':>6} {'MiB':>4} {'calls':>7} │ wall (CPU), "
          "of the medians and of the fastest runs, as a multiple of: qemu-img │ qemu-img -m 16 -W │ "
          "cp --sparse=always │ qemu's calls")


def print_row(row):
    figures = row["figures"]
    ours = figures["vhd"]
    ratios = " │ ".join(f"{figures[n]['vhd_to_this_wall']:5.2f} ({figures[n]['vhd_to_this_cpu']:4.2f}) "
                        f"{figures[n]['vhd_to_this_best_wall']:5.2f} ({figures[n]['vhd_to_this_best_cpu']:4.2f})"
                        for n in ("qemu", "qemu -m 16 -W", "cp"))
    calls = ours.get("system_calls", "")
    print(f"{row['place']:6} {row['input']:5} {row['pair']:12} │ {ours['wall_s']:6.2f}s {ours['cpu_s']:5.2f}s "
          f"{ours['memory_mib']:4.0f} {calls:>7} │ {ratios} │ {figures['qemu'].get('system_calls', '')}",
          flush=True)


def bench_clones(vhd, folder, runs, rows):
    """(a) on a loop-mounted XFS that shares extents: raw ↔ VHDX against cp --reflink=never."""
    image = os.path.join(folder, "xfs.img")
    mount = os.path.join(folder, "xfs")
    os.mkdir(mount)
    with open(image, "wb") as file:
        file.truncate(16 * GIB)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        raw = os.path.join(mount, "a.raw")
        make_ext4(raw)
        for subformat in ("dynamic", "fixed"):
            vhdx = os.path.join(mount, f"{subformat}.vhdx")
            subprocess.run([vhd, "convert", "-q", "-O", "vhdx", "-o", f"subformat={subformat}", raw,
                            vhdx], check=True)
            subprocess.run(["sync", "-f", mount], check=True)
            for pair, source, options in (
                    (f"raw → {subformat} VHDX", raw, ["-O", "vhdx", "-o", f"subformat={subformat}"]),
                    (f"{subformat} VHDX → raw", vhdx, ["-O", "raw"])):
                outputs = {name: os.path.join(mount, f"out-{name}") for name in ("vhd", "cp")}
                commands = {
                    "vhd": ([vhd, "convert", "-q", *options, source, outputs["vhd"]], outputs["vhd"]),
                    "cp": (["cp", "--reflink=never", source, outputs["cp"]], outputs["cp"]),
                }
                figures = measure(commands, runs, True)
                rows.append({"place": "xfs", "input": "a", "pair": pair, "figures": figures})
                print(f"xfs    a     {pair:20} │ {figures['vhd']['wall_s']:6.3f}s, {figures['vhd']['memory_mib']:.0f} MiB │ "
                      f"{figures['cp']['vhd_to_this_wall']:.3f} of cp --reflink=never "
                      f"({figures['cp']['wall_s']:.2f}s)", flush=True)
            os.unlink(vhdx)
    finally:
        subprocess.run(["umount", mount], check=False)
        os.unlink(image)


def bench_info(vhd, folder, runs, rows):
    """`info` of a 64 TiB dynamic VHDX with 1 MiB blocks: a BAT of 512 MiB."""
    image = os.path.join(folder, "huge.vhdx")
    subprocess.run([vhd, "create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "64T"], check=True)
    usages = [Usage([vhd, "info", image], image, False) for _ in range(4 * runs)][runs:]
    wall = contest.middle(usages, lambda u: u.wall)
    memory = max(u.memory_mib for u in usages)
    peer = [Usage(["qemu-img", "info", "-f", "vhdx", image], image, False) for _ in range(runs)]
    peer_wall = contest.middle(peer, lambda u: u.wall)
    rows.append({"place": "tmpfs", "input": "64 TiB VHDX", "pair": "info", "wall_s": wall, "memory_mib": memory,
                 "qemu_wall_s": peer_wall})
    print(f"info of a 64 TiB VHDX with 1 MiB blocks: {wall * 1000:.1f} ms, {memory:.0f} MiB "
          f"(qemu-img: {peer_wall * 1000:.0f} ms, {max(u.memory_mib for u in peer):.0f} MiB)")
    os.unlink(image)


def main():
    parser = contest.options(__doc__)
    parser.add_argument("--inputs", default="abc", help="which of a, b, c (abc)")
    parser.add_argument("--places", default="tmpfs,disk,xfs,info", help="which of tmpfs, disk, xfs, info")
    options = parser.parse_args()
    rows = []
    print_header()
    for place in options.places.split(","):
        with contest.working_folder(options.memory if place in ("tmpfs", "info") else options.disk) as folder:
            if place == "xfs":
                bench_clones(options.vhd, folder, options.runs, rows)
            elif place == "info":
                bench_info(options.vhd, folder, options.runs, rows)
            else:
                bench_copies(options.vhd, folder, place, options.inputs, options.runs, rows)
    contest.save(options.json, rows)


if __name__ == "__main__":
    main()
