"""A real distribution, as it is installed: Debian 12 from a dynamic VHDX, by its own GRUB, to its login prompt."""
import re

import pytest
from cases import boots, machine, raw_of, shell, skip_unavailable, workshop  # noqa: F401, fixtures
from conftest import run, run_ok
from controls import Control
from lab import distribution, guests

# systemd's units, one by one, on an emulated processor: some 40 s. What hangs is tried again on another machine.
LOGIN_SECONDS = 400
SHUT_DOWN_SECONDS = 300


@pytest.fixture
@skip_unavailable
def debian_image(tmp_path):
    image = tmp_path / "debian.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", "--guest", "linux", distribution.debian_disk(), image)
    return image


def log_in(guest):
    """By the console, as root; its shell then has the prompt that guest.run() waits for, and leaves lines as they are."""
    prompt = guest.expect(rf"{distribution.HOST_NAME} login: ", LOGIN_SECONDS).end()
    guest.type("root\r")
    guest.expect("Password: ", 120, prompt)
    guest.type(f"{distribution.PASSWORD}\r")
    shell_prompt = guest.expect(rf"root@{distribution.HOST_NAME}:~# ", 120, prompt).end()
    guest.type("stty sane; echo; TERM=dumb PS1='guest# ' exec sh\r")
    guest.boots(60, shell_prompt)


def test_debian_to_its_login_prompt(boots, machine, debian_image, tmp_path):
    control = Control(machine, tmp_path / "control")
    guest = boots.start_words(guests.own_words([debian_image], memory="1G", extra=control.option))
    guest.expect("GNU GRUB", 60)
    log_in(guest)
    assert guest.run("systemctl is-system-running --wait", LOGIN_SECONDS) == "running\n"
    assert guest.run("systemd-detect-virt") == "microsoft\n"
    assert guest.run("findmnt -n -o SOURCE,FSTYPE /").split() == ["/dev/sda2", "ext4"]
    assert f"root=UUID={distribution.ROOT_UUID}" in guest.run("cat /proc/cmdline")
    assert "12 (bookworm)" in guest.run("cat /etc/os-release")
    disks = guest.run("lsblk -n -r -o NAME,TYPE,PARTTYPENAME")
    assert [line.split()[:2] for line in disks.splitlines()] == [["sda", "disk"], ["sda1", "part"], ["sda2", "part"]]
    guest.run("systemctl is-active hv-kvp-daemon hv-vss-daemon")
    guest.run("echo it was here >/written")

    names = control.ask("status")["services"]["key-value-exchange"]["guest"]
    assert names["FullyQualifiedDomainName"] == distribution.HOST_NAME
    control.ask("shut-down")
    assert guest.ends(SHUT_DOWN_SECONDS) == 0
    assert not re.search("Oops|BUG:|WARNING:|FAILED", guest.console())
    assert run("check", "-q", debian_image).code in (0, 3)
    root = f"{raw_of(debian_image)}?offset={distribution.ROOT_OFFSET}"
    shell("e2fsck", "-f", "-n", root)
    assert shell("debugfs", "-R", "cat /written", root) == "it was here\n"
