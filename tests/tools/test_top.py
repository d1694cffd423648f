"""vhd ctl top, against a socket of the test's own, on a terminal of the test's own and without one."""
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest
from conftest import program, run, start
from control_socket import ControlSocket

SHOWS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"


class Busy(ControlSocket):
    """A runner whose only disk has a thousand reads more at each look, of 4 KiB and 100 us each."""

    def __init__(self, path):
        self.looks, self.begin = 0, time.monotonic()
        self.unit, self.name, self.answers = {"lun": 0}, "/vm/a.vhdx", None
        self.clients = []
        super().__init__(path)

    def meet(self, client):
        self.clients.append(client)
        threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        with client, contextlib.suppress(OSError), client.makefile("rwb") as stream:  # who leaves, leaves
            for line in stream:
                request = json.loads(line)
                answer = self.answers(request) if self.answers else None
                if answer is None:
                    answer = json.dumps({"id": request["id"], "result": self.result(request["command"])}).encode()
                stream.write(answer + b"\n")
                stream.flush()

    def result(self, command):
        if command == "status":
            return {"state": "running", "uptime-seconds": time.monotonic() - self.begin, "processors": 1,
                    "memory": 64 << 20, "disks": [{"disk": 0, "controller": 0, "lun": 0, "filename": self.name}]}
        assert command == "counters"
        self.looks += 1
        count = self.looks * 1000
        latency = [{"below": 128, "count": count}]
        return {"exits": {"port": count, "signal": 0}, "processors": [{"exits": {"port": count, "signal": 0}}],
                "controllers": [{"channels": [], "units": [
                    {**self.unit, "requests": count, "errors": 0, "bytes-read": count * 4096, "bytes-written": 0,
                     "latency-us": latency, "read-latency-us": latency, "write-latency-us": []}]}]}

    def end(self):
        self.listener.close()
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def runner(tmp_path):
    started = Busy(tmp_path / "control")
    yield started
    started.end()


class Terminal:
    """top on a terminal."""

    def __init__(self, runner, *options, size=(24, 80)):
        self.ours, self.theirs = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.theirs)
        self.screen = b""
        self.process = subprocess.Popen([program("vhd"), "ctl", *options, runner.path, "top"], stdin=self.theirs,
                                        stdout=self.theirs, stderr=self.theirs, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            while data := os.read(self.ours, 65536):
                self.screen += data
        except OSError:
            pass

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.ours, keys)

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.screen
            time.sleep(0.01)

    def page(self):
        """The lines of the last whole page."""
        pages = self.screen.split(b"\x1b[J")
        lines = (pages[-2] if len(pages) > 1 else b"").rpartition(b"\x1b[H")[2]
        return lines.decode().replace("\x1b[K", "").replace("\r", "").split("\n")

    def shows_rates(self):
        """Whether there is a page with rates."""
        return any(re.match(r"0:0 +\d", line) for line in self.page())

    def ends(self, seconds=60):
        """The exit code, with the terminal as it was and all that was written on it."""
        code = self.process.wait(seconds)
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.theirs)
        self.reader.join(seconds)
        assert not self.reader.is_alive(), "the terminal has not ended"
        os.close(self.ours)
        assert self.screen.count(LEAVES) == self.screen.count(SHOWS)
        assert self.screen.rfind(b"\x1b[?25l") < self.screen.rfind(b"\x1b[?25h")
        assert self.screen.rfind(b"\x1b[?7l") < self.screen.rfind(b"\x1b[?7h")
        return code


def blocks_of(out):
    return [block for block in re.split(r"^(?=running)", out, flags=re.MULTILINE) if block]


def test_blocks_where_there_is_no_terminal(runner):
    outcome = run("ctl", "-n", "3", "--interval", "0.2", runner.path, "top")
    assert (outcome.code, outcome.err) == (0, "")
    blocks = blocks_of(outcome.out)
    assert len(blocks) == 3 and runner.looks == 4 and "\x1b" not in outcome.out
    for block in blocks:
        assert block.startswith("running, up for ")
        words = re.search(r"^0:0 +(.*)$", block, re.MULTILINE).group(1)
        rate, amount, unit, *rest = words.split()
        # A thousand in an interval, which may take longer than was asked for.
        assert 0 < float(rate) <= 5000 and unit in ("KiB", "MiB"), words
        scale = 1 << (10 if unit == "KiB" else 20)
        assert float(amount) * scale / 4096 == pytest.approx(float(rate), rel=0.02)
        assert rest[:7] == ["0", "96", "us", "125", "us", "127", "us"] and rest[-1] == "/vm/a.vhdx"


def test_one_block(runner):
    assert len(blocks_of(run("ctl", "-n", "1", "--interval", "0.1", runner.path, "top").out)) == 1


def test_blocks_end_with_their_reader(runner):
    process = start("ctl", "--interval", "0.1", runner.path, "top")
    assert process.stdout.readline().startswith(b"running")
    process.stdout.close()
    assert process.wait(60) != 0


def test_a_disk_that_is_exchanged_has_no_rates_for_an_interval(runner):
    def answers(request):
        if runner.looks == 2:
            runner.name = "/vm/b.vhdx"
    runner.answers = answers
    blocks = blocks_of(run("ctl", "-n", "3", "--interval", "0.1", runner.path, "top").out)
    lines = [re.search(r"^0:0 .*$", block, re.MULTILINE).group().split() for block in blocks]
    assert [line[-1] for line in lines] == ["/vm/a.vhdx", "/vm/b.vhdx", "/vm/b.vhdx"]
    assert [line[1] == "-" for line in lines] == [False, True, False]


@pytest.mark.parametrize("key", [b"q", b"Q"])
def test_a_page_on_a_terminal(runner, key):
    terminal = Terminal(runner, "--interval", "0.2")
    terminal.until(terminal.shows_rates)
    looks = runner.looks
    terminal.until(lambda: runner.looks > looks + 2)
    terminal.type(b"Z")
    terminal.type(key)
    assert terminal.ends() == 0
    assert b"Z" not in terminal.screen, "keys were echoed"


def test_intervals_are_counted_on_a_terminal_too(runner):
    terminal = Terminal(runner, "--interval", "0.1", "-n", "2")
    assert terminal.ends() == 0
    assert runner.looks == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_end_it(runner, number):
    terminal = Terminal(runner, "--interval", "3600")
    terminal.until(lambda: terminal.page() != [""])
    os.kill(terminal.process.pid, number)
    assert terminal.ends() == -number


def test_control_c(runner):
    terminal = Terminal(runner, "--interval", "3600")
    terminal.until(lambda: terminal.page() != [""])
    terminal.type(b"\x03")
    assert terminal.ends() == -signal.SIGINT


def test_left_while_the_runner_does_not_answer(runner):
    stuck = threading.Event()

    def answers(request):
        if runner.looks == 1:
            stuck.wait(60)
    runner.answers = answers
    terminal = Terminal(runner, "--interval", "0.1")
    terminal.until(lambda: runner.looks == 1 and terminal.page() != [""])
    time.sleep(0.3)
    terminal.type(b"q")
    assert terminal.ends() == 0
    stuck.set()


def test_stopped_and_continued(runner):
    terminal = Terminal(runner, "--interval", "0.2")
    terminal.until(terminal.shows_rates)
    terminal.type(b"\x1a")
    assert os.waitpid(terminal.process.pid, os.WUNTRACED)[1] & 0xff == 0x7f
    terminal.until(lambda: LEAVES in terminal.screen)
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    os.kill(terminal.process.pid, signal.SIGCONT)
    terminal.until(lambda: terminal.screen.count(SHOWS) == 2)
    looks = runner.looks
    terminal.until(lambda: runner.looks > looks + 1)
    terminal.type(b"q")
    assert terminal.ends() == 0


def test_the_runner_ends(runner):
    terminal = Terminal(runner, "--interval", "0.1")
    terminal.until(terminal.shows_rates)
    runner.end()
    assert terminal.ends() == 2
    assert str(runner.path).encode() in terminal.screen.rpartition(LEAVES)[2]


@pytest.mark.parametrize("rows, columns", [(24, 80), (50, 200), (5, 30), (2, 10), (1, 1)])
def test_pages_fit(runner, rows, columns):
    terminal = Terminal(runner, "--interval", "0.1", size=(rows, columns))
    terminal.until(lambda: runner.looks > 3 and terminal.page() != [""])
    page = terminal.page()
    terminal.type(b"q")
    assert terminal.ends() == 0
    assert len(page) <= rows and (rows == 1 or page[0] == "running, up for"[:columns] or page[0].startswith("running"))
    if columns >= 30:
        assert all(len(line) <= columns for line in page), page
    if columns == 200:
        assert any(line.endswith("/vm/a.vhdx") for line in page)


def test_a_page_is_drawn_anew_for_another_size(runner):
    terminal = Terminal(runner, "--interval", "3600", size=(24, 200))
    terminal.until(lambda: any("Image" in line for line in terminal.page()))
    terminal.resize(24, 40)
    terminal.until(lambda: not any("Image" in line for line in terminal.page()))
    terminal.type(b"q")
    assert terminal.ends() == 0


def test_names_steer_no_terminal(runner):
    runner.name = "/vm/\x1b]0;owned\x07\x9b2J.vhdx"
    terminal = Terminal(runner, "--interval", "0.1", size=(24, 200))
    terminal.until(terminal.shows_rates)
    assert b"\x1b]" not in terminal.screen and b"\x07" not in terminal.screen
    assert b"\\x1b]0;owned\\x07\\x9b2J.vhdx" in terminal.screen
    terminal.type(b"q")
    assert terminal.ends() == 0


@pytest.mark.parametrize("answer", [b"", b"hello", b"[]", b'{"error": 3}', b"\xff"])
def test_no_answer(runner, answer):
    runner.answers = lambda request: answer
    outcome = run("ctl", "-n", "1", "--interval", "0.1", runner.path, "top")
    assert outcome.code == 2 and outcome.out == ""
    assert outcome.err.startswith(f"vhd: {runner.path}: ")


def test_a_refusal(runner):
    runner.answers = lambda request: b'{"id": null, "error": {"kind": "busy", "message": "too \\u001bmany"}}'
    outcome = run("ctl", "-n", "1", runner.path, "top")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "vhd: too \\x1bmany\n")
    terminal = Terminal(runner)
    assert terminal.ends() == 1


@pytest.mark.parametrize("result", ["null", "3", "[]", '{"controllers": 3, "exits": []}', '{"controllers": [3], "disks": 4}'])
def test_odd_answers_harm_nobody(runner, result):
    runner.answers = lambda request: b'{"result": %s}' % result.encode()
    outcome = run("ctl", "-n", "2", "--interval", "0.1", runner.path, "top")
    assert (outcome.code, outcome.err) == (0, "")


def test_nobody_there(tmp_path):
    assert run("ctl", tmp_path / "nothing", "top").code == 2
