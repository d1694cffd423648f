"""Integration services with Linux's hv_utils and Debian's daemons: power off, heartbeat, time, names and addresses."""
import hashlib
import json
import time

import pytest
from cases import FLAVOURS, boots, files_of, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import MIB, run, run_ok
from controls import VHD, Control
from lab import debian, guests
from lab.debian import Unavailable
from test_interrupted import WRITER, synced_files

POWER_OFF = "\x01p"
TIME_SYNCHRONIZATION = "{9527e630-d0ae-497b-adce-e80ab0175caf}"
# hv_utils knows these at best (drivers/hv/hv_util.c, hv_kvp.c and hv_snapshot.c).
VERSIONS = {"shutdown": "3.2", "heartbeat": "3.0", "time-synchronization": "4.0", "volume-snapshot": "5.0"}

DAEMONS = ("usr/sbin/hv_kvp_daemon", "usr/sbin/hv_vss_daemon")


@pytest.fixture(scope="module")
def raw_root(workshop, tmp_path_factory):
    """A root whose /sbin/poweroff is one, and with Debian's daemons."""
    try:
        package = debian.package("hyperv-daemons")
        return guests.make_root(tmp_path_factory.mktemp("services") / "root.raw", ["lsblk"],
                                {"usr/sbin/poweroff": guests.POWEROFF}, packages=[(package, DAEMONS)])
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def serviced_root(raw_root, tmp_path):
    image = tmp_path / "root.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", "--guest", "linux", raw_root, image)
    return image


class Serviced:
    """A guest with hv_utils, and what the runner reports of its services at the end."""

    def __init__(self, boots, image, folder, flavour="cloud", modules=()):
        self.path = folder / "report.json"
        self.guest = boots.start([image], flavour, modules=("hv_utils", *modules), extra=["--report", self.path])
        self.guest.boots()

    def report(self):
        return json.loads(self.path.read_text())["services"]

    def is_asked_to_power_off(self):
        self.guest.type(POWER_OFF)
        assert self.guest.ends(120) == 0
        return self.report()


def controlled(boots, machine, folder, *disks):
    """A guest with hv_utils, and its control socket."""
    control = Control(machine, folder / "control")
    guest = boots.start([*disks], modules=("hv_utils",), extra=control.option)
    guest.boots()
    return guest, control


def start_snapshot_daemon(guest):
    guest.run("hv_vss_daemon && until dmesg | grep 'VSS: userspace daemon'; do sleep 0.1; done")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_power_off_by_the_shutdown_service(boots, serviced_root, tmp_path, flavour):
    serviced = Serviced(boots, serviced_root, tmp_path, flavour)
    serviced.guest.run("echo it was here >/written")
    report = serviced.is_asked_to_power_off()
    assert "in good order" in serviced.guest.console()
    assert {name: report[name]["version"] for name in VERSIONS} == VERSIONS
    assert {report[name]["framework-version"] for name in VERSIONS} == {"3.0"}
    raw = raw_of(serviced_root)
    shell("e2fsck", "-f", "-n", raw)
    assert shell("debugfs", "-R", "cat /written", raw) == "it was here\n"


def test_a_guest_without_the_service_says_so_and_runs_on(boots, root):
    guest = boots.start([root])
    guest.boots()
    guest.type(POWER_OFF)
    guest.run("sleep 1")
    assert "cannot be asked to power off: the guest does not use the service" in guest.process.err
    guest.powers_off()


def test_heartbeats(boots, serviced_root, tmp_path):
    serviced = Serviced(boots, serviced_root, tmp_path)
    serviced.guest.run("sleep 12")
    heartbeat = serviced.is_asked_to_power_off()["heartbeat"]
    assert heartbeat["answers"] >= 3
    assert "stray-answers" not in heartbeat


def test_the_clock_is_set_when_the_service_begins(boots, machine, serviced_root, tmp_path):
    """The channel is closed and opened anew, with a clock that is wrong meanwhile."""
    serviced = Serviced(boots, serviced_root, tmp_path)
    guest = serviced.guest
    guest.run(f"cd /sys/bus/vmbus/devices; for d in *; do [ $(cat $d/class_id) = '{TIME_SYNCHRONIZATION}' ] && t=$d; done; "
              "cd /sys/bus/vmbus/drivers/hv_utils; echo $t >unbind")
    guest.run("date -s '2001-02-03 04:05:06' && [ $(date +%Y) = 2001 ]")
    guest.run("echo $t >bind")
    guest.run("until [ $(date +%Y) != 2001 ]; do sleep 0.1; done", 60)
    before = int(machine.run("date", "+%s").out)
    guest_time = int(guest.run("date +%s"))
    after = int(machine.run("date", "+%s").out)
    assert before - 1 <= guest_time <= after + 1
    report = serviced.is_asked_to_power_off()["time-synchronization"]
    assert report["times-set"] == 1
    assert "stray-answers" not in report


def test_the_clock_is_right_after_a_pause(boots, machine, serviced_root, tmp_path):
    """No time passes in a guest that is paused; when it goes on it is told what time it is."""
    guest, control = controlled(boots, machine, tmp_path, serviced_root)
    guest.run("true")
    control.ask("pause")
    time.sleep(20)
    control.ask("resume")
    host_time = int(machine.run("date", "+%s").out)
    guest.run(f"until [ $(date +%s) -ge {host_time - 1} ]; do sleep 0.1; done", 15)
    guest_time = int(guest.run("date +%s"))
    assert host_time - 1 <= guest_time <= int(machine.run("date", "+%s").out) + 1
    guest.powers_off()


def test_names_and_addresses(boots, workshop, serviced_root, tmp_path):
    serviced = Serviced(boots, serviced_root, tmp_path, modules=("dummy",))
    guest = serviced.guest
    guest.run("hostname speaking && echo '127.0.0.1 speaking.example speaking' >/etc/hosts")
    guest.run("ip address add 10.11.12.13/24 dev dummy0 && ip link set dummy0 up")
    guest.run("hv_kvp_daemon && until dmesg | grep 'KVP IC version 4.0'; do sleep 0.1; done")
    # As many questions and answers as there are names.
    guest.run("sleep 8")
    report = serviced.is_asked_to_power_off()["key-value-exchange"]
    assert report["version"] == "4.0"
    names = report["guest"]
    assert names["FullyQualifiedDomainName"].startswith("speaking")
    assert names["NetworkAddressIPv4"].strip(";") == "10.11.12.13"
    assert names["ProcessorArchitecture"] == "x86_64"
    assert workshop.kernel("cloud")[0].release.startswith(names["OSVersion"].split("-")[0])
    assert "stray-answers" not in report


def test_a_frozen_snapshot_of_a_guest_that_writes(boots, machine, serviced_root, tmp_path):
    """Nothing has to be replayed or repaired in what the snapshot leaves, and all that was synced is in it."""
    empty = tmp_path / "empty"
    empty.mkdir()
    data = guests.to_image(guests.make_ext4(empty, tmp_path / "data.raw", 256 * MIB), tmp_path / "data.vhdx")
    guest, control = controlled(boots, machine, tmp_path, serviced_root, data)
    kind, why = control.refused("snapshot", "--freeze")
    assert kind == "io" and "cannot be frozen" in why, "without the daemon"
    start_snapshot_daemon(guest)
    guest.run("mount -t ext4 /dev/lun/1 /mnt")
    guest.type(WRITER.replace(">/f", ">/mnt/f").replace("</f", "</mnt/f") + "\n")
    guest.expect(r"^synced f12 ", 120)
    before = synced_files(guest)
    snapshots = control.ask("snapshot", "--freeze", seconds=120)["snapshots"]
    assert [one["parent"] for one in snapshots] == [str(serviced_root), str(data)]
    last = max(int(name[1:]) for name in synced_files(guest))
    guest.expect(rf"^synced f{last + 8} ", 120)
    guest.type("\x03")
    status = control.ask("status")
    assert status["services"]["volume-snapshot"]["state"] == "ready"
    guest.run("umount /mnt")
    control.ask("shut-down")
    assert guest.ends(120) == 0

    assert run("check", "-q", data).code in (0, 3)
    raw = raw_of(data)
    shell("e2fsck", "-f", "-n", raw)
    held = {path.name: hashlib.md5(path.read_bytes()).hexdigest()
            for path in files_of(raw, tmp_path / "files").glob("f*")}
    for name, digest in before.items():
        assert held[name] == digest
    assert f"f{last + 8}" not in held


def test_a_guest_that_does_not_freeze_holds_up_no_end(boots, machine, serviced_root, tmp_path):
    guest, control = controlled(boots, machine, tmp_path, serviced_root)
    start_snapshot_daemon(guest)
    guest.run("kill -STOP $(pidof hv_vss_daemon)")
    asks = machine.start(VHD, "ctl", "--output=json", "--freeze", control.path, "snapshot")
    guest.run("sleep 2")
    guest.type("poweroff -f\n")
    assert asks.wait(120) == 1
    error = json.loads(asks.out)["error"]
    # Not that it has not answered within its minute.
    assert error["kind"] == "io" and "gone before it answered" in error["message"], error
    assert guest.ends() == 0
    assert run("check", "-q", serviced_root).code in (0, 3)
