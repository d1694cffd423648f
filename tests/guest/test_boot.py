"""Stock Debian kernels from a dynamic VHDX, as somebody at their console sees it."""
import lzma
import os
import struct

import pytest
from cases import FLAVOURS, boots, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import MIB, run, run_ok
from lab import archive, guests
from lab.debian import Unavailable
from lab.machine import PYTHON, VHD_RUN

# 20 before a release.
BOOTS = int(os.environ.get("VHDKIT_BOOTS", "3"))


FAILURE = 5  # of vhd-run's exit codes

# KVM_CHECK_EXTENSION of KVM_CAP_HYPERV: a kernel can be built without.
EMULATES_HYPER_V = "import fcntl; print(fcntl.ioctl(open('/dev/kvm', 'rb'), 0xae03, 44))"


def has_eoi_assist(machine):
    """Whether its KVM's guests have it: where it knows Hyper-V and processors do not virtualize local APICs themselves."""
    said = machine.run("sh", "-c", "cat /sys/module/kvm_intel/parameters/enable_apicv /sys/module/kvm_amd/parameters/avic").out
    return said[:1] in ("N", "0") and machine.run(PYTHON, "-c", EMULATES_HYPER_V).out.strip() != "0"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_to_a_shell_prompt_and_off(boots, workshop, root, machine, flavour):
    guest = boots.start([root], flavour)
    guest.boots()
    guest.type("echo $((6 * 7)) from $(uname -r)\n")
    guest.expect(rf"^42 from {workshop.kernel(flavour)[0].release}\r*$")
    messages = guest.run("dmesg")
    assert "Hypervisor detected: Microsoft Hyper-V" in messages
    assert ("Hyper-V: Using enlightened APIC" in messages) == has_eoi_assist(machine)
    assert guest.run("grep ' / ' /proc/mounts").split()[:3] == [guest.run("readlink /dev/lun/0").strip(), "/", "ext4"]
    guest.run("echo it was here >/written")
    guest.powers_off()
    assert run("check", "-q", root).code in (0, 3)
    raw = raw_of(root)
    shell("e2fsck", "-f", "-n", raw)
    assert shell("debugfs", "-R", "cat /written", raw) == "it was here\n"


def test_a_kernel_that_leaves_the_end_of_interrupts_to_the_hypervisor(machine, tmp_path):
    """As Linux before 4.12 does: behind an interrupt that nobody ends, none of its priority and below comes."""
    said = machine.run(PYTHON, "-c", EMULATES_HYPER_V).out.strip()
    try:
        kernel = archive.tiny_kernel("AUTO_EOI", tmp_path / "kernel")
    except Unavailable as error:
        pytest.skip(str(error))
    done = machine.run(VHD_RUN, "--memory", "64M", "--console", "none", "--kernel", kernel, seconds=120)
    if said == "0":
        assert done.code == FAILURE and "Auto-EOI" in done.err
    else:
        assert done.code == 0, done.err


def vmlinux_of(image, target):
    """The ELF file that a kernel packed with XZ has in it: where, Documentation/x86/boot.rst says."""
    data = image.read_bytes()
    offset, length = struct.unpack_from("<II", data, 0x248)
    begin = (data[0x1f1] + 1) * 512 + offset
    target.write_bytes(lzma.LZMADecompressor().decompress(data[begin:begin + length]))
    return target


def test_a_kernel_that_is_an_elf_file_by_pvh(boots, workshop, root, tmp_path):
    kernel, initrd = workshop.kernel("standard")
    vmlinux = vmlinux_of(kernel.image, tmp_path / "vmlinux")
    guest = boots.start_words(guests.words(vmlinux, initrd, [root]))
    guest.boots()
    assert guest.run("uname -r") == f"{kernel.release}\n"
    # What Linux's init_pvh_bootparams() writes there, whose caller is the PVH entry. A bzImage has a later version.
    assert guest.run("cat /sys/kernel/boot_params/version") == "0x020c\n"
    guest.powers_off()


def test_reboot(boots, root):
    guest = boots.start([root])
    end = guest.boots()
    guest.run("echo before >/before && sync")
    boot = guest.run("cat /proc/sys/kernel/random/boot_id")
    guest.type("reboot -f\n")
    guest.boots(start=end + len(guest.process.raw_out[end:]))
    assert guest.run("cat /before") == "before\n"
    assert guest.run("cat /proc/sys/kernel/random/boot_id") != boot
    guest.powers_off()
    assert run("check", "-q", root).code in (0, 3)


def test_a_terminal_and_its_way_out(boots, root):
    """Keys go to the guest, ^C too; Ctrl-A x ends the runner."""
    guest = boots.start([root], terminal=True)
    guest.boots()
    # Said by who will be interrupted: before, the terminal may still be the shell's.
    guest.type("sh -c 'echo now; sleep 1000'\n")
    guest.expect(r"^now\r*$")
    guest.type("\x03")
    guest.run("true")
    guest.type("\x01x")
    assert guest.ends() == 0
    assert run("check", "-q", root).code in (0, 3)


def test_two_controllers_have_the_disks_in_turn(boots, root, tmp_path):
    disks = [tmp_path / f"{size}.vhdx" for size in (8, 9, 10)]
    for disk in disks:
        run_ok("create", "-q", "-f", "vhdx", disk, f"{disk.stem}M")
    guest = boots.start([root, *disks], extra=["--controllers", "2"])
    guest.boots()
    assert guest.run("ls -d /sys/bus/scsi/devices/*:*:*:*/block | cut -d / -f 6").split() == [
        "0:0:0:0", "0:0:0:1", "1:0:0:0", "1:0:0:1"]
    sizes = guest.run("for number in 1 2 3; do blockdev --getsize64 /dev/lun/$number; done").split()
    assert [int(size) // MIB for size in sizes] == [8, 9, 10]
    guest.powers_off()


def test_boots_in_a_row(boots, root):
    for index in range(BOOTS):
        guest = boots.start([root], cpus=(1, 4, 2)[index % 3])
        guest.boots()
        guest.run(f"echo {index} >>/boots")
        guest.powers_off()
    assert shell("debugfs", "-R", "cat /boots", raw_of(root)).split() == [str(index) for index in range(BOOTS)]
    assert run("check", "-q", root).code in (0, 3)
