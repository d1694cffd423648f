#!/usr/bin/env python3
"""The mounted disk against qemu-storage-daemon's FUSE export, vhdimount and, as the limit, libfuse's passthrough_ll.

The same fio jobs run on the same content through each server, in an order drawn anew in each round, after one
warm-up round; ratios are medians of the rounds' own ratios. passthrough_ll serves a raw file; it is compiled from
the example that libfuse3-dev brings. O_DIRECT keeps the kernel's cache out, so every request reaches the server.
"""
import contextlib
import os
import random
import subprocess
import time

from shared import contest

MIB = 1 << 20
DISK_BYTES = 1024 * MIB
EXAMPLES = "/usr/share/doc/libfuse3-dev/examples"
SECONDS = 2
# fio's mode, size of a request, depth
ROWS = [("randread", 4096, 1), ("randread", 4096, 32), ("randwrite", 4096, 1), ("randwrite", 4096, 32),
        ("read", 128 << 10, 8), ("read", MIB, 8), ("write", 128 << 10, 8), ("write", MIB, 8)]


class Server:
    """A process that serves one file of a mount."""

    def __init__(self, name, command, file, mount_point, is_writable=True):
        self.name, self.file, self.mount_point, self.is_writable = name, file, mount_point, is_writable
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_until_usable(self):
        for _ in range(200):
            if os.path.exists(self.file) and os.stat(self.file).st_size == DISK_BYTES:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"{self.name} serves nothing")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

    def run(self, row):
        """Requests a second, server CPU microseconds a request."""
        mode, size, depth = row
        before = self.cpu_seconds()
        side = contest.fio(self.file, mode, size, depth, True, f"--size={DISK_BYTES}", "--time_based",
                           f"--runtime={SECONDS}")
        return side["iops"], (self.cpu_seconds() - before) * 1e6 / max(side["total_ios"], 1)

    def stop(self):
        subprocess.run(["umount", self.mount_point], check=False, stderr=subprocess.DEVNULL)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            subprocess.run(["umount", "-l", self.mount_point], check=False, stderr=subprocess.DEVNULL)


def compile_limit(folder):
    program = os.path.join(folder, "passthrough_ll")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True)
    subprocess.run(["gcc", "-O2", "-w", "-o", program, f"{EXAMPLES}/passthrough_ll.c", *flags.stdout.split()], check=True)
    return program


def make_content(vhd, folder):
    """The same random bytes as raw, as our image, and as the others' image."""
    raw = os.path.join(folder, "raw", "disk")
    os.mkdir(os.path.dirname(raw))
    generator = random.Random(1)
    with open(raw, "wb") as file:
        for _ in range(DISK_BYTES // (16 * MIB)):
            file.write(generator.randbytes(16 * MIB))
    images = [os.path.join(folder, name) for name in ("ours.vhdx", "theirs.vhdx")]
    for image in images:
        subprocess.run([vhd, "convert", "-q", "-O", "vhdx", raw, image], check=True)
    return raw, images


def start_servers(vhd_mount, folder, raw, images):
    def point(name):
        path = os.path.join(folder, name)
        os.mkdir(path)
        return path
    ours, limit, other = point("ours"), point("limit"), point("vhdimount")
    export = os.path.join(folder, "export")
    open(export, "wb").close()
    yield Server("vhd-mount", [vhd_mount, "-f", "-o", "rw", images[0], ours], f"{ours}/disk", ours)
    yield Server("passthrough_ll", [compile_limit(folder), "-f", "-o", f"source={os.path.dirname(raw)}", limit],
                 f"{limit}/disk", limit)
    yield Server("qemu-storage-daemon", [
        "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=file,filename={images[1]}", "--blockdev",
        "driver=vhdx,node-name=disk,file=file", "--export",
        f"type=fuse,id=export,node-name=disk,mountpoint={export},writable=on"], export, export)
    yield Server("vhdimount", ["vhdimount", "-v", "-X", "allow_root", images[1], other], f"{other}/vhdi1", other, False)


def compare(runs, servers, row):
    """Name → (median rate, median CPU, ratio of ours to it in rate, ours less its CPU)."""
    samples = contest.take_turns(runs, {server.name: lambda server=server: server.run(row) for server in servers})
    ours = samples["vhd-mount"]
    return {name: (contest.middle(seen, lambda s: s[0]), contest.middle(seen, lambda s: s[1]),
                   contest.middle_of_pairs(ours, seen, lambda a, b: a[0] / b[0]),
                   contest.middle_of_pairs(ours, seen, lambda a, b: a[1] - b[1])) for name, seen in samples.items()}


def show(row, figures, results):
    mode, size, depth = row
    name = f"{mode} {size >> 10}K depth {depth}"
    cells = [f"{name:24}"]
    for server, (rate, cpu, ratio, more) in figures.items():
        against = "" if server == "vhd-mount" else f" ({ratio:.2f}, {more:+.1f} us)"
        cells.append(f"{server} {rate:7.0f}/s {cpu:6.1f} us{against}")
        results.append({"row": name, "contender": server, "rate": rate, "cpu_us": cpu, "vhd_to_this_rate": ratio,
                        "vhd_less_this_cpu_us": more})
    print("  ".join(cells), flush=True)


def bench(vhd, vhd_mount, folder, runs, results):
    raw, images = make_content(vhd, folder)
    with contextlib.ExitStack() as stack:
        servers = []
        for server in start_servers(vhd_mount, folder, raw, images):
            stack.callback(server.stop)
            server.wait_until_usable()
            servers.append(server)
        for row in ROWS:
            show(row, compare(runs, [s for s in servers if s.is_writable or "write" not in row[0]], row), results)
        for server in servers:
            print(f"{server.name}: at most {server.memory_mib():.0f} MiB")
            results.append({"contender": server.name, "memory_mib": server.memory_mib()})


def main():
    options = contest.options(__doc__).parse_args()
    vhd_mount = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(options.vhd))), "fuse", "vhd-mount")
    print("requests a second and server CPU of each; in brackets ours against theirs: rate, CPU")
    results = []
    with contest.working_folder(options.memory) as folder:
        bench(options.vhd, vhd_mount, folder, options.runs, results)
    contest.save(options.json, results)


if __name__ == "__main__":
    main()
