"""QEMU's words for a guest as the runner's benchmarks start it."""
from lab import debian

MEMORY_MIB = 512
# What their initrd needs beside the modules of every guest.
VIRTIO = ["virtio_pci", "virtio_mmio", "virtio_blk"]
# Without a clock microvm's guests wait four seconds for one; without PIT and PIC they start sooner.
BOARDS = {"q35": "q35", "microvm": "microvm,rtc=on,pit=off,pic=off", "pc": "pc"}
APPEND = "console=ttyS0 quiet panic=-1"


def words(board, disks, cpus, *more, cache="cache=none,aio=io_uring"):
    kind = "virtio-blk-device" if board == "microvm" else "virtio-blk-pci"
    command = [debian.need("qemu-system-x86_64"), "-M", BOARDS[board], "-accel", "kvm", "-cpu", "host", "-m",
               f"{MEMORY_MIB}M", "-smp", str(cpus), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-serial", "stdio", "-object", "iothread,id=worker", *more]
    for index, disk in enumerate(disks):
        image_format = str(disk).rpartition(".")[2]
        command += ["-drive", f"file={disk},format={image_format},if=none,id=d{index},{cache},discard=unmap",
                    "-device", f"{kind},drive=d{index},iothread=worker,num-queues={cpus}"]
    return [*map(str, command)]


def with_kernel(board, kernel, initrd, disks, cpus, **options):
    """For a kernel of the host's."""
    return words(board, disks, cpus, "-kernel", kernel, "-initrd", initrd, "-append",
                 f"{APPEND} vhdkit.disks={len(disks)}", **options)
