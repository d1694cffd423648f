"""A guest that is looked at and steered through the control socket of its runner."""
import json
import os
import re
import stat
import time
import xml.etree.ElementTree

import pytest
from cases import boots, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import MIB, run, run_ok
from controls import VHD, Control
from lab import guests

# Clients that do what they should not, all at once; the machine has python3.
BAD_CLIENTS = r"""
import socket, sys
def client():
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[1])
    one.settimeout(60)
    return one
garbage = client()
garbage.sendall(bytes(range(256)) * 40 + b"\n")
assert b"bad-request" in garbage.recv(10000)
long = client()
for _ in range(10):
    long.sendall(b"x" * (1 << 20))
long.sendall(b"\n")
assert b"bad-request" in long.recv(10000)
silent = client()
silent.setblocking(False)
sent = 0
try:
    while sent < 64 << 20:
        sent += silent.send(b'{"command": "counters"}\n' * 1000)
except BlockingIOError:
    pass
assert sent < 64 << 20
half = client()
half.sendall(b'{"command": "reset"')
half.close()
many = [client() for _ in range(20)]
answers = b""
for one in many:
    try:
        one.sendall(b'{"command": "status"}\n')
    except BrokenPipeError:
        pass  # of too many: it was told so, and closed
for one in many:
    answers += one.recv(100000)
assert b'"busy"' in answers and b'"running"' in answers
print("done")
"""


@pytest.fixture
def control(machine, tmp_path):
    return Control(machine, tmp_path / "control")


# Speaks too: what a guest reads leaves it by no exit to the runner, what it says does.
READER = "while dd if=/dev/lun/0 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null; do echo read; done\n"
MICROSECONDS = {"us": 1, "ms": 1000, "s": 1000000}


def tables_of(block):
    """What `top` prints of an interval: {a table's first title: its rows}, each row by title."""
    tables = {}
    for table in block.strip().split("\n\n")[1:]:
        titles, *rows = [re.split(" {2,}", line) for line in table.splitlines()]
        assert all(len(row) == len(titles) for row in rows), table
        tables[titles[0]] = [dict(zip(titles, row)) for row in rows]
    return tables


def microseconds(cell):
    value, unit = cell.split()
    return float(value) * MICROSECONDS[unit]


def check_interval(block, image, causes):
    """The reader's, and nobody else's."""
    tables = tables_of(block)
    disk, = tables["Disk"]
    requests, (read, unit) = float(disk["Requests/s"]), disk["Read/s"].split()
    assert disk["Image"] == image and disk["Errors/s"] == "0" and requests > 0
    read_bytes = float(read) * (1 << {"KiB": 10, "MiB": 20, "GiB": 30}[unit])
    assert 32 << 10 <= read_bytes / requests <= 70 << 10
    p50, p95, p99 = (microseconds(disk[title]) for title in ("p50", "p95", "p99"))
    assert 0 < p50 <= p95 <= p99
    assert 0 < microseconds(disk["Reads' p99"])
    assert float(tables["Channel"][0]["Packets/s"]) > 0
    processor, = tables["Processor"]
    assert processor.keys() == {"Processor", "Exits/s", *causes}
    rates = {cause: float(processor[cause]) for cause in causes}
    assert rates["port"] > 0
    assert float(processor["Exits/s"]) == pytest.approx(sum(rates.values()), rel=0.01, abs=1)


def reads_in(picture):
    """How many the picture of a disk's latencies says there were; it says how long they took as well."""
    root = xml.etree.ElementTree.fromstring(picture)
    words = "\n".join(text.text for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "controller 0, LUN 0" in words
    return int(re.search(r"^reads: (\d+), p50 \S+ [mu]?s, p95 \S+ [mu]?s, p99 \S+ [mu]?s$", words, re.MULTILINE).group(1))


def reads_counted(control):
    latencies = control.ask("counters")["controllers"][0]["units"][0]["read-latency-us"]
    return sum(entry["count"] for entry in latencies)


def check_top_and_pictures(guest, control, image):
    """Of a guest that reads meanwhile; how many reads it made at least."""
    guest.type(READER)
    guest.expect(r"^read\r*$")
    done = control.ctl("top", before=["-n", "2", "--interval", "4"], seconds=120)
    assert done.code == 0, done.err
    blocks = re.split(r"^(?=running, up for )", done.out, flags=re.MULTILINE)[1:]
    assert len(blocks) == 2, done.out
    causes = control.ask("counters")["exits"].keys()
    for block in blocks:
        check_interval(block, image, causes)
    before = reads_counted(control)
    picture = control.ctl("counters", before=["--output=svg"])
    assert picture.code == 0, picture.err
    assert before <= reads_in(picture.out) <= reads_counted(control)
    guest.type("\x03")
    guest.run("true")
    return before


def test_status_counters_pause_and_resume(boots, control, root, tmp_path):
    report = tmp_path / "report.svg"
    guest = boots.start([root], extra=[*control.option, "--report", report, "--output=svg"])
    guest.boots()
    status = control.ask("status")
    assert (status["state"], status["processors"], status["memory"]) == ("running", 1, 512 * MIB)
    assert status["console"] == "stdio" and status["uptime-seconds"] > 1
    assert [(disk["disk"], disk["filename"], disk["format"], disk["read-only"]) for disk in status["disks"]] == [
        (0, str(root), "vhdx", False)]
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
    people = control.ctl("status")
    assert people.code == 0 and str(root) in people.out

    before = control.ask("counters")
    guest.run("dd if=/dev/lun/0 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null")
    after = control.ask("counters")
    read = [counters["controllers"][0]["units"][0]["bytes-read"] for counters in (before, after)]
    assert read[1] - read[0] >= 4 * MIB
    assert sum(after["exits"].values()) > sum(before["exits"].values())
    reads = check_top_and_pictures(guest, control, str(root))

    # A guest that speaks all the time, and while it is paused not at all.
    guest.type("i=0; while [ $i -lt 1000000 ]; do i=$((i + 1)); echo tick$i; done\n")
    guest.expect(r"^tick20\r*$")
    control.ask("pause")
    control.ask("pause")
    assert control.ask("status")["state"] == "paused"
    time.sleep(1)
    said = len(guest.process.raw_out)
    time.sleep(5)
    assert len(guest.process.raw_out) == said, "a paused guest spoke"
    control.ask("resume")
    control.ask("resume")
    guest.expect(r"^tick\d+\r*$", start=said)
    assert control.ask("status")["state"] == "running"
    guest.type("\x03")
    guest.run("true", 60)
    guest.powers_off()
    assert reads_in(report.read_text(encoding="utf-8")) >= reads
    assert run("check", "-q", root).code in (0, 3)


def test_no_time_passes_in_a_paused_guest(boots, control, root):
    guest = boots.start([root], extra=control.option)
    guest.boots()
    guest.run("true")
    begun = time.monotonic()
    uptime = float(guest.run("cut -d ' ' -f 1 /proc/uptime"))
    control.ask("pause")
    time.sleep(30)
    control.ask("resume")
    passed_in_it = float(guest.run("cut -d ' ' -f 1 /proc/uptime")) - uptime
    passed = time.monotonic() - begun
    guest.note(f"{passed:.1f} s passed outside, {passed_in_it:.1f} s in the guest")
    assert passed > 30 and passed_in_it < passed - 25
    # Timers go on: a sleep takes its time.
    guest.run("sleep 1")
    assert guest.run("dmesg | grep -iE 'lockup|stall|unstable|hung|timed out' || true") == ""
    guest.powers_off()


def test_reset_and_power_off(boots, control, root):
    guest = boots.start([root], extra=[*control.option, "--no-reboot"])
    guest.boots()
    guest.run("echo before >/before && sync")
    end = len(guest.process.raw_out)
    control.ask("reset")
    guest.boots(start=end)
    assert guest.run("cat /before") == "before\n"
    # Of a paused one too.
    control.ask("pause")
    end = len(guest.process.raw_out)
    control.ask("reset")
    guest.boots(start=end)
    assert control.ask("status")["state"] == "running"
    control.ask("power-off")
    assert guest.ends() == 0
    assert not os.path.exists(control.path)
    assert run("check", "-q", root).code in (0, 3)
    shell("e2fsck", "-f", "-y", raw_of(root), codes=(0, 1))


def test_power_off_of_a_paused_guest(boots, control, root):
    guest = boots.start([root], extra=control.option)
    guest.boots()
    control.ask("pause")
    # What it would do later nobody expects any more.
    for command in "shut-down", "restart":
        assert control.refused(command)[0] == "busy"
    control.ask("power-off")
    assert guest.ends() == 0
    assert run("check", "-q", root).code in (0, 3)


def test_disks_by_the_names_that_people_know_them_by(boots, control, machine, root, workshop):
    """The runner was started in the disk's folder, and its clients are in others."""
    kernel, initrd = workshop.kernel("cloud")
    words = guests.words(kernel.image, initrd, [root.name], extra=control.option)
    guest = boots.start_words(["sh", "-c", f"cd {root.parent} && exec \"$@\"", "sh", *words])
    guest.boots()
    status = control.ask("status")
    assert [disk["filename"] for disk in status["disks"]] == [str(root)]
    there = machine.run("sh", "-c", f"cd {root.parent} && {VHD} ctl --output=json {control.path} snapshot ./{root.name}")
    assert there.code == 0, there.out
    child = json.loads(there.out)["snapshots"][0]["filename"]
    assert os.path.dirname(child) == str(root.parent)
    assert control.ask("resize-disk", child, "+1G")["disk"] == 0
    guest.powers_off()


def test_bad_clients_harm_nobody(boots, control, root, tmp_path, machine):
    script = tmp_path / "clients.py"
    script.write_text(BAD_CLIENTS, encoding="utf-8")
    guest = boots.start([root], extra=control.option)
    guest.boots()
    done = machine.run("/usr/bin/python3", script, control.path, seconds=120)
    assert (done.code, done.out) == (0, "done\n"), done.err
    assert control.ask("status")["state"] == "running"
    assert guest.run("echo still here") == "still here\n"
    guest.powers_off()


def test_a_socket_that_cannot_be(boots, control, root):
    control.path.write_text("a file", encoding="utf-8")
    guest = boots.start([root], extra=control.option)
    assert guest.ends() == 1
    assert str(control.path) in guest.process.err
    assert control.path.read_text() == "a file"
