"""What a machine starts with: initrds, programs with the libraries that they were linked to, tiny kernels."""
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from lab.debian import Unavailable, need, said

HERE = pathlib.Path(__file__).resolve().parent


def closure(*programs):
    """The programs' files, their libraries and their loader."""
    files = set()
    for program in programs:
        path = pathlib.Path(need(program))
        files.add(path)
        text = subprocess.run(["ldd", path], check=False, capture_output=True, text=True).stdout
        if "not found" in text:
            raise Unavailable(f"{program} misses libraries: {text}")
        files.update(pathlib.Path(name) for name in re.findall(r"(?:^\s*|=> )(/\S+)", text, re.MULTILINE))
    return sorted(files)


def plant(tree, *programs):
    """Copies the programs with all that they need, where they are here, into a tree that becomes a root.

    /bin, /sbin, /lib and /lib64 lead into /usr, as Debian has it.
    """
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (tree / name).exists():
            (tree / name).symlink_to(f"usr/{name}")
    copy_into(tree, pathlib.Path("/"), closure(*programs))


def plant_from(package, tree, *programs):
    """Programs of an unpacked package, by their paths in it, with this machine's libraries. After plant()."""
    files = closure(*[package / program for program in programs])
    copy_into(tree, package, [path for path in files if path.is_relative_to(package)])
    copy_into(tree, pathlib.Path("/"), [path for path in files if not path.is_relative_to(package)])


def copy_into(tree, root, files):
    """Files below root at the same places in the tree, where they are not there yet."""
    for path in files:
        target = tree / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(path, target)


def plant_busybox(tree):
    """busybox under all its names, those left out that are there already."""
    plant(tree, "busybox")
    busybox = tree / pathlib.Path(need("busybox")).relative_to("/")
    for name in said(busybox, "--list").split():
        link = tree / "usr" / "bin" / name
        if not link.exists() and not (tree / "usr" / "sbin" / name).exists():
            link.symlink_to(busybox.name)


def write_script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def pack_initrd(tree, target, compressed=False):
    """The tree as an initrd, at target when it is whole."""
    need("cpio")
    names = b"\0".join(os.fsencode(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(["cpio", "--quiet", "-0", "-o", "-H", "newc", "-R", "0:0"], cwd=tree, input=names,
                            capture_output=True, check=True).stdout
    handle, name = tempfile.mkstemp(dir=target.parent)
    with open(handle, "wb") as file:
        file.write(gzip.compress(packed, 1) if compressed else packed)
    os.chmod(name, 0o644)
    os.rename(name, target)


def write_initrd(target, modules, script, compressed=False):
    """busybox, modules in /modules in the order in which they load, and a script as /init."""
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        plant_busybox(tree)
        (tree / "modules").mkdir()
        for index, module in enumerate(modules):
            shutil.copy(module, tree / "modules" / f"{index:02}-{module.name}")
        for name in ("dev", "proc", "sys", "root", "host"):
            (tree / name).mkdir(exist_ok=True)
        write_script(tree / "init", script)
        pack_initrd(tree, target, compressed)


def tiny_kernel(what, target):
    """A kernel that does one thing: tiny.S says which there are."""
    said(need("gcc"), f"-D{what}", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x1000000,--build-id=none", "-o",
         target, HERE / "tiny.S")
    return target
