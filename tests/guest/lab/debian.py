"""Debian's kernels, downloaded as packages and unpacked beside the build: none is installed on this machine.

`python3 tests/guest/lab/debian.py` fetches them, about 100 MB, and says where they are. They stay in build/guest/,
named by package and version, so that it is done once.
"""
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = ROOT / "build" / "guest"

# The names under which Debian has its newest kernel of each kind.
FLAVOURS = {"cloud": "linux-image-cloud-amd64", "standard": "linux-image-amd64"}


class Unavailable(Exception):
    """What this machine lacks, in words; tests are skipped with them."""


def need(*programs):
    """Where each program is."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    found = [shutil.which(program, path=path) for program in programs]
    if None in found:
        raise Unavailable(f"{programs[found.index(None)]} is not installed")
    return found[0] if len(found) == 1 else found


def said(*words, seconds=300, **options):
    """A program's output; it must succeed."""
    done = subprocess.run([*map(str, words)], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds, **options)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, words))}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


class Kernel:
    """An unpacked kernel: the image that a loader takes, and its modules."""

    def __init__(self, flavour, folder):
        self.flavour, self.folder = flavour, folder
        self.image = next((folder / "boot").glob("vmlinuz-*"))
        self.release = self.image.name.removeprefix("vmlinuz-")
        tree = folder / "lib" / "modules" / self.release
        self._files = {path.stem.replace("-", "_"): path for path in tree.rglob("*.ko")}
        self._built_in = {pathlib.Path(line).stem.replace("-", "_")
                          for line in (tree / "modules.builtin").read_text().splitlines()}

    def modules(self, *names):
        """The files of these modules and of all that they need, in an order in which they load."""
        ordered = []

        def add(name):
            name = name.replace("-", "_")
            if name not in self._files:
                if name not in self._built_in:
                    raise Unavailable(f"{self.release} has no module {name}")
            elif self._files[name] not in ordered:
                for other in needs(self._files[name]):
                    add(other)
                ordered.append(self._files[name])
        for name in names:
            add(name)
        return ordered


def needs(module):
    """What a module says of itself. modules.dep, which has the same, is made only where a kernel is installed."""
    found = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return [name for name in found.group(1).decode().split(",") if name] if found else []


def newest(flavour):
    """Name and version of the package behind the flavour's name."""
    depends = re.search(r"Depends: (linux-image-\S+)", said("apt-cache", "depends", FLAVOURS[flavour]))
    if depends is None:
        raise Unavailable(f"apt-cache knows nothing of {FLAVOURS[flavour]}")
    return depends.group(1), candidate(depends.group(1))


def candidate(package):
    """The version that apt would take."""
    version = re.search(r"Candidate: (\S+)", said("apt-cache", "policy", package))
    if version is None or version.group(1) == "(none)":
        raise Unavailable(f"{package} cannot be had here")
    return version.group(1)


def download(package, version, folder):
    """The package's file. Lists that are old name files that are gone, so they are renewed once."""
    words = ["apt-get", "-q", "download", f"{package}={version}"]
    try:
        said(*words, cwd=folder)
    except Unavailable:
        said("apt-get", "-q", "update")
        said(*words, cwd=folder)
    return next(folder.glob("*.deb"))


def unpack(package, version, target):
    with tempfile.TemporaryDirectory(prefix="unpacking-", dir=CACHE) as place:
        place = pathlib.Path(place)
        said("dpkg-deb", "-x", download(package, version, place), place / "tree")
        (place / "tree").rename(target)


@contextlib.contextmanager
def alone():
    """Others who want the cache wait."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unpacked(kind, find):
    """The files of the package that find() names, with its version; where none can be had, those of one that is there
    already."""
    with alone():
        try:
            package, version = find()
            target = CACHE / f"{kind}_{package}_{version}"
            if not target.is_dir():
                unpack(package, version, target)
        except Unavailable:
            targets = sorted(CACHE.glob(f"{kind}_*"), key=os.path.getmtime)
            if not targets:
                raise
            target = targets[-1]
    return target


def kernel(flavour):
    """The newest kernel of the flavour."""
    return Kernel(flavour, unpacked(flavour, lambda: newest(flavour)))


def package(name):
    """The files of a package, its newest version."""
    return unpacked("package", lambda: (name, candidate(name)))


def main():
    for flavour in FLAVOURS:
        print(kernel(flavour).image)


if __name__ == "__main__":
    main()
