#!/usr/bin/env python3
"""Boots a stock Debian kernel with vhd-run, with images as its disks, and shows what a command says in it.

    show.py [--cpus N] --folder FOLDER [IMAGE[,OPTION...]...] -- COMMAND...

The images lie in FOLDER, where the guest's root is made as well: the only place that the guest's machine can write.
"""
import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lab import debian, guests  # noqa: E402
from lab.debian import Unavailable  # noqa: E402
from lab.machine import machine_with_kvm  # noqa: E402


def show(options):
    folder = pathlib.Path(options.folder).resolve()
    kernel = debian.kernel("cloud")
    initrd = guests.make_initrd(kernel, folder / "guest-initrd")
    root = guests.to_image(guests.make_root(folder / "guest-root.raw", ["lsblk"]), folder / "guest-root.vhdx")
    machine = machine_with_kvm(folder)
    try:
        print(f"a guest on {machine.kind}, root on {root.name}", flush=True)
        words = guests.words(kernel.image, initrd, [root, *options.images], options.cpus)
        guest = guests.Guest(machine, words, folder / "guest-console.log")
        guest.boots()
        print(f"guest# {' '.join(options.command)}\n{guest.run(' '.join(options.command))}", end="")
        guest.powers_off()
        print("guest# off")
    finally:
        machine.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("images", nargs="*")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.command = words[split + 1:] or ["lsblk"]
    options.images = [str(pathlib.Path(options.folder).resolve() / image) for image in options.images]
    try:
        show(options)
    except (Unavailable, AssertionError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
