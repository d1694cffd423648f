"""A machine whose KVM runs guests: this one where its KVM is whole, else one that QEMU emulates with AMD's SVM.

Both look alike from here: they see this machine's files at the same paths, and an agent (agent.py) in them starts the
programs. The emulated one has a stock Debian kernel and kvm-amd; it may write below one folder and sees the rest
read-only and as it was when it first looked, through virtio-fs. Time in there is five to twenty times slower and not
comparable with time out here.
"""
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from lab import archive, debian
from lab.debian import Unavailable, need

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("VHDKIT_BUILD") or HERE.parents[2] / "build").resolve()
VHD_RUN = BUILD / "hypervisor" / "runner" / "vhd-run"

PYTHON = "/usr/bin/python3"
PROCESSORS = 2
# With XSAVE, Linux in a guest of a guest finds its state of another size than QEMU says. What needs it is used by Linux's
# AES if it is there, so it must not be. With ERMS its kernels clear and copy memory by single bytes, each of which QEMU
# emulates: without, memory is cleared eight times as fast.
CPU = "max,xsave=off,avx=off,avx2=off,fma=off,f16c=off,vaes=off,erms=off"
MEMORY = "4G"
MODULES = ["virtio_pci", "virtio_console", "virtiofs", "kvm-amd", "brd"]
START_SECONDS = 180
# So often it is looked whether the machine lives in which somebody waits for long, and so long that may take: less, so
# that nobody looks meanwhile.
LOOK_SECONDS = 60
ANSWER_SECONDS = 30
HOLD_SECONDS = 30  # ten times what it takes on a busy machine
STARTS = 3
NO_KVM = 2  # vhd-run's exit code

# What became of a program that nobody has ended yet.
RUNNING = None


class Timeout(AssertionError):
    """What was waited for, and what came instead."""


class Process:
    """A program in the machine. Its outputs grow while it runs."""

    def __init__(self, machine, name, words):
        self.machine, self.name, self.words = machine, name, words
        self.raw_out, self.raw_err = b"", b""
        self.code, self.pid = RUNNING, None
        self.changed = threading.Condition()

    @property
    def out(self):
        return self.raw_out.decode(errors="replace")

    @property
    def err(self):
        return self.raw_err.decode(errors="replace")

    def hear(self, message):
        """What the agent says of it."""
        with self.changed:
            self.raw_out += base64.b64decode(message.get("out", ""))
            self.raw_err += base64.b64decode(message.get("err", ""))
            self.pid = message.get("pid", self.pid)
            if "exit" in message:
                self.raw_err += message["reason"].encode()
                self.code = message["exit"]
            self.changed.notify_all()

    def write(self, data):
        data = data.encode() if isinstance(data, str) else data
        self.machine.say(id=self.name, write=base64.b64encode(data).decode())

    def threads(self):
        """What each of its threads does now, for people."""
        script = 'cd /proc/$1/task && for t in *; do echo "$(cat $t/comm) $(grep State $t/status)"; cat $t/stack; done'
        return self.machine.run("sh", "-c", script, "sh", self.pid, seconds=20).out

    def close_input(self):
        self.machine.say(id=self.name, close=True)

    def signal(self, number):
        self.machine.say(id=self.name, signal=int(number))

    def until(self, condition, seconds):
        """Waits until condition() holds or the program has ended; whether it holds. A machine that hangs meanwhile is found
        out, however long one would wait."""
        deadline = time.monotonic() + seconds
        while True:
            patience = deadline - time.monotonic()
            with self.changed:
                has_ended = self.changed.wait_for(lambda: condition() or self.code is not RUNNING,
                                                  min(patience, LOOK_SECONDS))
                if has_ended or patience <= LOOK_SECONDS:
                    return condition()
            if not self.machine.answers():
                raise Timeout(f"the machine does not answer, in which {self.words[0]} runs:\n{self.out}{self.err}")

    def wait(self, seconds=60):
        """The exit code; a signal's is negative."""
        if not self.until(lambda: self.code is not RUNNING, seconds):
            raise Timeout(f"{self.words[0]} has not ended after {seconds} s:\n{self.out}{self.err}")
        return self.code

    def expect(self, pattern, seconds, start=0):
        """Waits for the pattern in its output, from this byte on; the match, in bytes."""
        found = []

        def look():
            found[:] = [re.compile(pattern.encode(), re.MULTILINE).search(self.raw_out, start)]
            return found[0] is not None
        if not self.until(look, seconds):
            state = "it runs on" if self.code is RUNNING else f"it has ended with {self.code}"
            raise Timeout(f"not within {seconds} s: {pattern!r}; {state}\n{self.err}")
        return found[0]


class Machine:
    """Programs in it, through its agent. Ends with close()."""

    def __init__(self, kind, is_emulated, source, sink, clean_up):
        self.kind, self.is_emulated = kind, is_emulated  # the first is for people
        self._source, self._sink, self._clean_up = source, sink, clean_up
        self._processes, self._lock = {}, threading.Lock()
        self.ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._source:
            message = json.loads(line)
            if "ready" in message:
                self.ready.set()
            else:
                self._processes[message["id"]].hear(message)
        for process in list(self._processes.values()):
            if process.code is RUNNING:
                process.hear({"exit": -signal.SIGKILL, "reason": "the machine has ended"})

    def say(self, **message):
        with self._lock:
            self._sink.write(json.dumps(message).encode() + b"\n")
            self._sink.flush()

    def start(self, *words, terminal=False, environment=None):
        """A program, with pipes, or with a terminal of its own whose output is all `out`."""
        words = [*map(str, words)]
        with self._lock:
            process = Process(self, len(self._processes), words)
            self._processes[process.name] = process
        self.say(id=process.name, start=words, terminal=terminal, environment=environment or {})
        return process

    def run(self, *words, data=b"", seconds=60, environment=None):
        """A program that has ended, with its input closed after the data."""
        process = self.start(*words, environment=environment)
        if data:
            process.write(data)
        process.close_input()
        process.wait(seconds)
        return process

    def answers(self):
        """Whether a program of no length starts and ends in it."""
        try:
            return self.run("true", seconds=ANSWER_SECONDS).code == 0
        except (Timeout, OSError):
            return False

    def close(self):
        """What runs in it is killed, and nothing more can be asked."""
        self._clean_up()


def own_machine():
    agent = subprocess.Popen([sys.executable, HERE / "agent.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def clean_up():
        agent.stdin.close()
        agent.wait()
    machine = Machine("this machine's own KVM", False, agent.stdout, agent.stdin, clean_up)
    machine.ready.wait(START_SECONDS)
    return machine


# --- the emulated one ---

def qemu_words(folder, kernel, initrd, work, memory):
    return [need("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35,memory-backend=ram", "-accel", "tcg,thread=multi", "-cpu", CPU,
            "-smp", str(PROCESSORS), "-m", memory,
            "-object", f"memory-backend-memfd,id=ram,size={memory},share=on",
            "-serial", f"file:{folder / 'console'}",
            *file_server_words(folder, "host"), *file_server_words(folder, "work"),
            "-chardev", f"socket,id=agent,path={folder / 'agent'}",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=vhdkit",
            "-kernel", str(kernel), "-initrd", str(initrd),
            "-append", f"console=ttyS0 quiet panic=-1 tsc=reliable vhdkit.work={work} vhdkit.agent={HERE / 'agent.py'}"]


def file_server_words(folder, tag):
    return ["-chardev", f"socket,id={tag},path={folder / tag}",
            "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"]


def dying_with_us(*words):
    return [need("setpriv"), "--pdeathsig", "KILL", *words]


def start_file_server(folder, tag, source, caching):
    """virtiofsd for what is below source, by the name tag."""
    server, log = need("/usr/lib/qemu/virtiofsd"), folder / f"{tag}.log"
    process = subprocess.Popen(dying_with_us(server, f"--socket-path={folder / tag}", "-o", f"source={source}", "-o",
                                             f"{caching},sandbox=chroot", "--thread-pool-size=2"),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(log, "wb"))
    deadline = time.monotonic() + 20
    while not (folder / tag).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Timeout(f"virtiofsd: {log.read_text()}")
        time.sleep(0.02)
    return process


def emulated_machine(work, memory=MEMORY):
    """One that QEMU emulates; what runs in it may write below the folder work, and nowhere else."""
    for attempt in range(STARTS):
        machine = None
        try:
            machine = start_emulated_machine(work, memory)
            # Once in thirty times it meets what it keeps others from.
            machine.start(PYTHON, HERE / "hold_kvm.py").expect("held", HOLD_SECONDS)
            return machine
        except Timeout as error:
            if machine is not None:
                machine.close()
            why = error
        print(f"emulated machine {attempt + 1} of {STARTS}: {why}", file=sys.stderr, flush=True)
    raise Timeout(f"no emulated machine: {why}")


def start_emulated_machine(work, memory):
    if os.geteuid() != 0:
        raise Unavailable("virtiofsd, which gives the emulated machine its files, needs root")
    kernel = debian.kernel("cloud")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vhdkit-lab-"))
    processes = []

    def clean_up():
        for process in reversed(processes):
            process.kill()
            process.wait()
        shutil.rmtree(folder)
    try:
        initrd = folder / "initrd"
        archive.write_initrd(initrd, kernel.modules(*MODULES), (HERE / "outer_init.sh").read_text())
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "agent"))
            listener.listen()
            listener.settimeout(20)
            # Programs stay as they are while the machine is there, and lie in its memory once they were read.
            processes.append(start_file_server(folder, "host", "/", "cache=always"))
            # Both sides change these.
            processes.append(start_file_server(folder, "work", work, "cache=auto,timeout=0"))
            words = dying_with_us(*qemu_words(folder, kernel.image, initrd, work, memory))
            processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                              stderr=open(folder / "qemu", "wb")))
            channel, _ = listener.accept()
        machine = Machine("a machine emulated by QEMU, with SVM", True, channel.makefile("rb"),
                          channel.makefile("wb"), clean_up)
        deadline = time.monotonic() + START_SECONDS
        while not machine.ready.wait(0.1):
            if processes[-1].poll() is not None or time.monotonic() > deadline:
                raise Timeout("the emulated machine did not come up")
        return machine
    except (OSError, Timeout) as error:
        said = "".join((folder / name).read_text(errors="replace") for name in ("console", "qemu", "host.log", "work.log")
                       if (folder / name).exists())
        clean_up()
        raise Timeout(f"{error}\n{said}") from error
    except BaseException:
        clean_up()
        raise


# --- which one ---

def runs_guests_here(folder):
    """Whether our runner, on this machine, runs a kernel that powers off at once."""
    if not VHD_RUN.exists():
        raise Unavailable(f"{VHD_RUN} is not built")
    kernel = archive.tiny_kernel("POWER_OFF", pathlib.Path(folder) / "power_off")
    try:
        done = subprocess.run([VHD_RUN, "--memory", "64M", "--kernel", kernel], check=False, capture_output=True,
                              stdin=subprocess.DEVNULL, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    assert done.returncode in (0, NO_KVM), f"vhd-run ended with {done.returncode}:\n{done.stderr}"
    return done.returncode == 0


def machine_with_kvm(work):
    """This machine, if it runs a guest of a few instructions; VHDKIT_GUEST_MACHINE=own or emulated decides without."""
    kind = os.environ.get("VHDKIT_GUEST_MACHINE")
    if kind not in (None, "own", "emulated"):
        raise Unavailable("VHDKIT_GUEST_MACHINE is own or emulated")
    if kind == "own" or (kind is None and runs_guests_here(work)):
        return own_machine()
    return emulated_machine(work)
