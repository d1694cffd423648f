"""Whole disks started by their own boot loaders: GRUB and syslinux, from every kind of image."""
import json
import pathlib
import re
import signal
import tempfile

import pytest
from cases import boots, machine, skip_unavailable, workshop  # noqa: F401, fixtures
from conftest import MIB, fingerprint, run, run_ok
from controls import Control
from lab import boot_disks, guests
from lab.machine import RUNNING, VHD_RUN

# What --help says.
POWER_OFF, BAD_START, NO_LOADER, NO_BOOT, SIGNALLED = 0, 1, 8, 9, 128

APPEND = "console=ttyS0 quiet panic=-1 vhdkit.disks=1"
MENU = """
set timeout=3
menuentry 'the first one' {{
  linux {boot}/vmlinuz {append} vhdkit.chosen=first
  initrd {boot}/initrd
}}
menuentry 'the second one' {{
  linux {boot}/vmlinuz {append} vhdkit.chosen=second
  initrd {boot}/initrd
}}
"""


class Folder:
    """Where a disk is made, from trees that go when it is done."""

    def __init__(self, workshop):
        self.kernel, self.initrd = workshop.kernel("cloud")
        self._place = tempfile.TemporaryDirectory(dir=workshop.folder)
        self.path = pathlib.Path(self._place.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._place.cleanup()

    def tree(self, name):
        path = self.path / name
        path.mkdir()
        return path

    def plant_kernel(self, boot):
        (boot / "vmlinuz").write_bytes(self.kernel.image.read_bytes())
        (boot / "initrd").write_bytes(self.initrd.read_bytes())


@pytest.fixture(scope="module")
@skip_unavailable
def grub_disk(workshop):
    """Raw: an MBR, GRUB behind it, and one ext4 with everything."""
    with Folder(workshop) as folder:
        root = guests.plant_root(folder.tree("root"))
        folder.plant_kernel(root / "boot")
        boot_disks.plant_grub(root / "boot", MENU.format(boot="/boot", append=APPEND + " vhdkit.partition=1"))
        return boot_disks.make_grub_disk(root, workshop.folder / "grub-mbr.raw", 96)


@pytest.fixture(scope="module")
@skip_unavailable
def grub_gpt_disk(workshop):
    """Raw: a GPT, GRUB in a BIOS boot partition, /boot on XFS, the root on ext4."""
    target = workshop.folder / "grub-gpt.raw"
    with Folder(workshop) as folder:
        boot = folder.tree("boot")
        folder.plant_kernel(boot)
        boot_disks.plant_grub(boot, MENU.format(boot="", append=APPEND + " vhdkit.partition=3"))
        xfs = boot_disks.make_xfs(boot, folder.path / "xfs", 320 * MIB)
        ext4 = guests.make_ext4(guests.plant_root(folder.tree("root")), folder.path / "ext4", 64 * MIB, label="root")
        starts = boot_disks.partitioned(target, "gpt", [
            (boot_disks.GPT_BIOS_BOOT, 1, None), (boot_disks.GPT_LINUX, 320, xfs), (boot_disks.GPT_LINUX, 64, ext4)])
        boot_disks.install_grub(target, "(hd0,gpt2)/grub", ["part_gpt", "xfs"], starts[0])
    return target


def image_of(raw, target, *options):
    run_ok("convert", "-q", "-O", target.suffix[1:], "--guest", "linux", *options, raw, target)
    return target


def chosen(guest):
    return re.search(r"vhdkit.chosen=(\w+)", guest.run("cat /proc/cmdline")).group(1)


def test_grub_on_an_mbr_with_ext4(boots, grub_disk, tmp_path):
    """By its menu's own choice, and after the guest's restart by ours."""
    image = image_of(grub_disk, tmp_path / "disk.vhdx")
    guest = boots.start_words(guests.own_words([image]))
    guest.expect("GNU GRUB", 60)
    end = guest.boots()
    assert chosen(guest) == "first"
    assert "Hypervisor detected: Microsoft Hyper-V" in guest.run("dmesg")
    assert "Microsoft Corporation Virtual Machine" in guest.run("dmesg | grep DMI:")
    assert guest.run("grep ' / ' /proc/mounts").split()[:3] == ["/dev/sda1", "/", "ext4"]
    guest.run("echo it was here >/written")
    guest.type("reboot -f\n")
    menu = guest.expect("GNU GRUB", 60, end).end()
    guest.expect("the second one", 20, menu)
    guest.type("\x1b[B")
    guest.type("\r")
    guest.boots(start=menu)
    assert chosen(guest) == "second"
    assert guest.run("cat /written") == "it was here\n"
    guest.powers_off()
    assert run("check", "-q", image).code in (0, 3)


@pytest.mark.parametrize("kind", ["fixed", "dynamic", "chain"])
def test_grub_on_a_gpt_with_xfs(boots, grub_gpt_disk, tmp_path, kind):
    """From a VHD of each type."""
    image = image_of(grub_gpt_disk, tmp_path / "disk.vhd", "-o", f"subformat={'fixed' if kind == 'fixed' else 'dynamic'}")
    if kind == "chain":
        base, image = image, tmp_path / "child.avhd"
        run_ok("create", "-q", "-f", "vhd", "-b", base, image)
        before = fingerprint(base)
    guest = boots.start_words(guests.own_words([image], cpus=2))
    guest.boots()
    assert chosen(guest) == "first"
    assert guest.run("grep ' / ' /proc/mounts").split()[:3] == ["/dev/sda3", "/", "ext4"]
    assert guest.run("nproc") == "2\n"
    guest.powers_off()
    assert kind != "chain" or fingerprint(base) == before


def at_the_command_line(boots, disk, folder):
    """A guest whose GRUB waits for commands."""
    guest = boots.start_words(guests.own_words([image_of(disk, folder / "disk.vhdx")]))
    guest.expect("the second one", 60)
    guest.type("c")
    guest.expect("grub>", 20)
    return guest


def test_grub_switches_the_machine_off(boots, grub_disk, tmp_path):
    """By what is typed at its command line: APM."""
    guest = at_the_command_line(boots, grub_disk, tmp_path)
    guest.type("halt\r")
    assert guest.ends() == POWER_OFF


# --- syslinux ---

# Two seconds at its prompt, counted by the BIOS's timer.
SYSLINUX = """
PROMPT 1
TIMEOUT 20
DEFAULT first
LABEL first
  KERNEL {boot}/vmlinuz
  INITRD {boot}/initrd
  APPEND {append} vhdkit.chosen=first
LABEL second
  KERNEL {boot}/vmlinuz
  INITRD {boot}/initrd
  APPEND {append} vhdkit.chosen=second
"""


@pytest.fixture(scope="module")
@skip_unavailable
def syslinux_disk(workshop):
    """Raw: an MBR, syslinux on a FAT, the root on ext4."""
    target = workshop.folder / "syslinux.raw"
    with Folder(workshop) as folder:
        config = folder.path / "syslinux.cfg"
        config.write_text(SYSLINUX.format(boot="", append=APPEND + " vhdkit.partition=2"))
        files = {"vmlinuz": folder.kernel.image, "initrd": folder.initrd, "syslinux.cfg": config}
        fat = boot_disks.make_fat_with_syslinux(files, folder.path / "fat", 48 * MIB, MIB // boot_disks.SECTOR)
        ext4 = guests.make_ext4(guests.plant_root(folder.tree("root")), folder.path / "ext4", 64 * MIB, label="root")
        boot_disks.partitioned(target, "dos", [(boot_disks.FAT16, 48, fat), (boot_disks.LINUX, 64, ext4)])
        boot_disks.install_mbr(target)
    return target


@pytest.fixture(scope="module")
@skip_unavailable
def extlinux_disk(workshop):
    """Raw: an MBR, and one ext4 with extlinux and everything."""
    target = workshop.folder / "extlinux.raw"
    with Folder(workshop) as folder:
        root = guests.plant_root(folder.tree("root"))
        (root / "boot" / "extlinux").mkdir()
        config = SYSLINUX.format(boot="/boot", append=APPEND + " vhdkit.partition=1")
        (root / "boot" / "extlinux" / "extlinux.conf").write_text(config)
        # It does not read what newer file systems have by default.
        ext4 = guests.make_ext4(root, folder.path / "ext4", 96 * MIB, "root", "-O", "^64bit,^metadata_csum")
        files = {"vmlinuz": folder.kernel.image, "initrd": folder.initrd}
        boot_disks.install_extlinux(ext4, "boot/extlinux", files)
        boot_disks.partitioned(target, "dos", [(boot_disks.LINUX, 96, ext4)])
        boot_disks.install_mbr(target)
    return target


def test_grub_on_the_screen_and_the_serial_port(boots, grub_disk, tmp_path):
    """As Azure's images have it, GRUB_TERMINAL="console serial": both are this console, and all is said once."""
    guest = at_the_command_line(boots, grub_disk, tmp_path)
    guest.type("serial --unit=0 --speed=115200\r")
    guest.type("terminal_input console serial\r")
    guest.type("terminal_output console serial\r")
    guest.type("echo twi'c'e an'd' o'n'ce\r")
    said = guest.expect("twice and once", 20).end()
    guest.type("halt\r")
    assert guest.ends() == POWER_OFF
    assert b"once" not in guest.process.raw_out[said:]


def test_syslinux_on_a_fat(boots, syslinux_disk, tmp_path):
    """By what is typed at its prompt."""
    image = image_of(syslinux_disk, tmp_path / "disk.vhdx")
    guest = boots.start_words(guests.own_words([image]))
    guest.expect("boot: ", 60)
    guest.type("second\r")
    guest.boots()
    assert chosen(guest) == "second"
    guest.powers_off()


def test_extlinux_on_ext4(boots, extlinux_disk, tmp_path):
    """By itself, when its time is over."""
    image = image_of(extlinux_disk, tmp_path / "disk.vhd")
    guest = boots.start_words(guests.own_words([image]))
    guest.expect("boot: ", 60)
    guest.boots()
    assert chosen(guest) == "first"
    guest.powers_off()


# Reads its disk's second sector 40 times, and gives up.
FORTY_READS = bytes([
    0xb9, 0x28, 0x00,  # mov cx, 40
    0x51,              # next: push cx
    0xb8, 0x01, 0x02,  # mov ax, 0x0201
    0xb9, 0x02, 0x00,  # mov cx, 2
    0xba, 0x80, 0x00,  # mov dx, 0x80
    0xbb, 0x00, 0x80,  # mov bx, 0x8000
    0xcd, 0x13,        # int 0x13
    0x59,              # pop cx
    0x72, 0x04,        # jc failed
    0xe2, 0xec,        # loop next
    0xcd, 0x18,        # int 0x18
    0xf4, 0xeb, 0xfd,  # failed: hlt; jmp failed
])


@pytest.mark.parametrize("limit,waits", [("", False), (",iops=20", True), (",bps=10K", True)])
def test_a_limit_holds_for_what_a_loader_reads(machine, tmp_path, limit, waits):
    """A call that has to wait comes again every 5 ms, two seconds long."""
    image = disk_with(tmp_path, boot_sector(FORTY_READS))
    done = machine.run(VHD_RUN, "--report", tmp_path / "report", "--disk", f"{image}{limit}")
    assert done.code == NO_BOOT, done.err
    exits = json.loads((tmp_path / "report").read_text())["exits"]["port"]
    assert (exits > 41 + 40) == waits, exits


# --- what does not boot ---

def disk_with(folder, sector, name="disk"):
    """A dynamic VHDX that begins with these bytes."""
    raw = folder / f"{name}.raw"
    with open(raw, "wb") as file:
        file.truncate(16 * MIB)
        file.write(sector)
    image = folder / f"{name}.vhdx"
    run_ok("convert", "-q", "-O", "vhdx", raw, image)
    return image


def boot_sector(code):
    return code.ljust(510, b"\x00") + b"\x55\xaa"


def test_disks_without_a_boot_loader(machine, tmp_path):
    partitions = bytearray(boot_sector(b""))
    partitions[0x1be] = 0x80
    # What is there, and how the message says so.
    for name, sector, says in (("empty", b"\x00" * 512, "empty"), ("text", b"no boot sector" * 40, "55 AA"),
                               ("parts", bytes(partitions), "no code")):
        image = disk_with(tmp_path, sector, name)
        before = fingerprint(image)
        done = machine.run(VHD_RUN, "--disk", image)
        assert done.code == NO_LOADER, (name, done.err)
        assert says in done.err and str(image) in done.err
        assert fingerprint(image)[0] == before[0]


def test_a_disk_with_large_sectors(machine, tmp_path):
    image = tmp_path / "disk.vhdx"
    run_ok("create", "-q", "-f", "vhdx", "-o", "logical_sector_size=4096", image, "16M")
    done = machine.run(VHD_RUN, "--disk", image)
    assert done.code == NO_LOADER, done.err
    assert "512 bytes, not of 4096" in done.err and str(image) in done.err


def test_a_torn_gpt(boots, grub_gpt_disk, tmp_path):
    """GRUB, which finds itself by sector numbers, says that its partition is not there; nothing else is done."""
    image = image_of(grub_gpt_disk, tmp_path / "disk.vhdx")
    run_ok("io", "-q", "-c", "write -P 0 512 512", image)
    before = run_ok("hash", image).out
    guest = boots.start_words(guests.own_words([image]))
    guest.expect("no such partition", 60)
    guest.expect("grub rescue>", 20)
    guest.process.signal(signal.SIGTERM)
    assert guest.ends(20) == SIGNALLED + signal.SIGTERM
    assert run_ok("hash", image).out == before


@pytest.mark.parametrize("number", [b"\x18", b"\x19"])
def test_a_loader_that_gives_up(machine, tmp_path, number):
    """It writes a letter by INT 10h first: mov ax, 0x0e58; int 0x10; int NUMBER."""
    image = disk_with(tmp_path, boot_sector(b"\xb8\x58\x0e\xcd\x10\xcd" + number))
    done = machine.run(VHD_RUN, "--disk", image)
    assert done.code == NO_BOOT, done.err
    assert done.out == "X"
    assert "nothing to boot" in done.err


@pytest.mark.parametrize("code", [b"\xeb\xfe", b"\xb4\x00\xcd\x16\xeb\xfa", b"\xfa\xf4", b"\xb4\x01\xcd\x16\xeb\xfa"])
def test_a_loader_that_does_not_end(machine, tmp_path, code):
    """It jumps to itself, reads keys for ever, halts, looks for keys: a signal and keys end it all the same."""
    image = disk_with(tmp_path, boot_sector(code))
    guest = machine.start(VHD_RUN, "--disk", image)
    guest.until(lambda: False, 2)
    assert guest.code is RUNNING, guest.err
    guest.signal(signal.SIGTERM)
    assert guest.wait(20) == SIGNALLED + signal.SIGTERM, guest.err
    guest = machine.start(VHD_RUN, "--disk", image, terminal=True)
    guest.until(lambda: False, 2)
    guest.write("abc\x01x")
    assert guest.wait(20) == POWER_OFF


def test_no_other_disk_is_booted_in_place_of_one_that_was_taken_away(machine, tmp_path):
    """The first one says A, and waits; the other one would say X, and give up."""
    first = disk_with(tmp_path, boot_sector(b"\xb8\x41\x0e\xcd\x10\xeb\xfe"), "first")
    other = disk_with(tmp_path, boot_sector(b"\xb8\x58\x0e\xcd\x10\xcd\x18"), "other")
    control = Control(machine, tmp_path / "control")
    guest = machine.start(VHD_RUN, *control.option, "--disk", first, "--disk", other)
    guest.expect("A", 60)
    control.ask("remove-disk", 0)
    control.ask("reset")
    assert guest.wait(20) == NO_LOADER, guest.err
    assert f"{first}: the disk that the guest boots from was taken away" in guest.err
    assert guest.out == "A"


def test_words_that_belong_together(machine, tmp_path):
    image = disk_with(tmp_path, boot_sector(b"\xf4"))
    for words, says in (([], "--kernel"), (["--disk", image, "--append", "quiet"], "--append"),
                        (["--disk", image, "--initrd", image], "--initrd")):
        done = machine.run(VHD_RUN, *words)
        assert done.code == BAD_START, (words, done.err)
        assert says in done.err
