"""vhd-mount with real file systems: the kernel's, through loop devices, and those of FUSE drivers."""
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from conftest import BUILD, names_in, run, run_ok

from mounts import (disk, folder, image, needs_fuse, MIB, MOUNT, convert, has_ended, is_mounted, mount, mounted, need, server_of, shell, unmount,
                       wait_until)

FSCK = {"ext4": ["e2fsck", "-f", "-n"], "xfs": ["xfs_repair", "-n"]}
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


@pytest.fixture
def inside(tmp_path):
    path = tmp_path / "inside"
    path.mkdir()
    yield path
    while is_mounted(path):
        shell("umount", "-l", path)


@pytest.fixture(params=["ext4", "xfs"])
def file_system(request, tmp_path):
    """A dynamic VHDX whose whole disk is an empty file system, and its type."""
    need(MKFS[request.param][0], FSCK[request.param][0])
    raw = tmp_path / "fs.raw"
    with open(raw, "wb") as file:
        file.truncate(400 * MIB)
    shell(*MKFS[request.param], raw)
    return convert(raw, "vhdx"), request.param


def fill(place, files):
    for index in range(files):
        (place / f"file{index}").write_bytes(os.urandom(20000) * (1 + index % 7))


def test_a_kernel_file_system_through_a_loop_device(file_system, folder, inside):
    image, kind = file_system
    with mounted(image, folder):
        shell("mount", "-o", "loop", folder / "disk", inside)
        fill(inside, 100)
        shell("cp", "-r", "--sparse=always", "/usr/include/linux", inside)
        shell("fstrim", inside)
        shell("umount", inside)
        shell(*FSCK[kind], folder / "disk")
    assert run("check", "-q", image).code in (0, 3)
    with mounted(image, folder, "-o", "ro"):
        shell("mount", "-o", "loop,ro", folder / "disk", inside)
        shell("diff", "-r", "/usr/include/linux", inside / "linux")
        shell("umount", inside)


def test_the_server_is_killed_under_a_file_system(file_system, folder, inside):
    """What was synced is there after the next mount, and fsck has nothing to say after its replay."""
    image, kind = file_system
    for round_ in range(3):
        mount(image, folder, "-o", "rw")
        shell("mount", "-o", "loop", folder / "disk", inside)
        synced = inside / f"synced{round_}"
        synced.write_bytes(bytes([round_]) * 300000)
        shell("sync", "-f", synced)
        fill(inside, 30)
        pid = server_of(folder)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: has_ended(pid), "its end")
        shell("umount", "-l", inside, check=False)
        shell("umount", "-l", folder)
        assert run("check", "-q", image).code in (0, 3)
        mount(image, folder, "-o", "rw")
        shell("mount", "-o", "loop", folder / "disk", inside)
        for earlier in range(round_ + 1):
            assert (inside / f"synced{earlier}").read_bytes() == bytes([earlier]) * 300000
        shell("umount", inside)
        shell(*FSCK[kind], folder / "disk")
        unmount(folder)


def test_the_files_inside_in_one_step(image, folder):
    with_fs = ["--fs"], ["--partition", "1"], ["-o", "fs"]
    for index, words in enumerate(with_fs):
        mount(image, folder, *words)
        assert (folder / "folder" / "greeting").read_text() == "hello\n"
        (folder / f"new{index}").write_text(str(index))
        unmount(folder)
        assert not any("vhd-mount" in line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                       if str(folder.parent) in line)
    mount(image, folder, "--fs", "-o", "ro")
    assert [(folder / f"new{index}").read_text() for index in range(3)] == ["0", "1", "2"]
    with pytest.raises(OSError):
        (folder / "more").write_text("x")
    unmount(folder)
    assert run("check", "-q", image).code in (0, 3)


def test_a_signal_ends_the_inner_mount_too(image, folder):
    mount(image, folder, "--fs")
    (folder / "late").write_text("in time")
    pid = server_of(folder)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: has_ended(pid), "its end")
    assert not is_mounted(folder) and names_in(folder) == []
    mount(image, folder, "--fs", "-o", "ro")
    assert (folder / "late").read_text() == "in time"
    unmount(folder)


def test_which_file_system_when_there_are_several(disk, folder):
    need("mkfs.ext4")
    small = disk.with_name("small.raw")
    with open(small, "wb") as file:
        file.truncate(10 * MIB)
    shell("mkfs.ext4", "-q", "-F", small)
    with open(disk, "r+b") as file:
        file.seek((135168 + 2048) * 512)
        file.write(small.read_bytes())
    image = convert(disk, "vhdx")
    done = shell(MOUNT, "--fs", image, folder, check=False)
    assert done.returncode == 1
    assert "there are several file systems: partition 1 (ext4), partition 5 (ext4); --partition says which" in done.stderr
    assert names_in(folder) == []
    mount(image, folder, "--partition", "5")
    assert names_in(folder) == ["lost+found"]
    unmount(folder)


def test_ntfs(tmp_path, folder):
    need("mkntfs", "ntfs-3g")
    raw = tmp_path / "ntfs.raw"
    with open(raw, "wb") as file:
        file.truncate(64 * MIB)
    shell("mkntfs", "-q", "-F", "-f", raw)
    image = convert(raw, "vhd")
    with mounted(image, folder):
        inner = tmp_path / "inner"
        inner.mkdir()
        shell("ntfs-3g", folder / "disk", inner)
        fill(inner, 20)
        shell("umount", inner)
    with mounted(image, folder):
        assert shell("ntfsfix", "-n", folder / "disk").returncode == 0
        shell("ntfs-3g", "-o", "ro", folder / "disk", inner)
        assert len(names_in(inner)) == 20
        shell("umount", inner)


def in_a_namespace(script, *words):
    """A shell script with mounts of its own, which end with it; $1 and so on are the words."""
    return shell("unshare", "--mount", "sh", "-eu", "-c", script, "sh", *words)


# /dev/fuse is everybody's on a desktop and root's in many containers.
AS_NOBODY = """
mknod "$2/fuse" c 10 229
chmod 666 "$2/fuse"
mount --bind "$2/fuse" /dev/fuse
chown -R 65534:65534 "$2"
export XDG_RUNTIME_DIR="$2" HOME="$2"
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
until_ended() { while pgrep -u 65534 vhd-mount -r S,R,D >/dev/null; do sleep 0.05; done; }
"""

WITHOUT_ROOT = AS_NOBODY + """
nobody "$1" "$3" "$2/mnt"
nobody ls "$2/mnt"
nobody dd if=/dev/zero of="$2/mnt/disk.p5" bs=4096 count=3 conv=notrunc
nobody fusermount3 -u "$2/mnt"
until_ended
nobody "$1" --fs "$3" "$2/mnt"
nobody cat "$2/mnt/folder/greeting"
nobody fusermount3 -u "$2/mnt"
until_ended
"""


def test_without_root(image, folder):
    need("setpriv", "fusermount3", "fuse2fs", "unshare")
    for path in folder.parents:
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    said = in_a_namespace(WITHOUT_ROOT, MOUNT, folder.parent, image).stdout.split()
    assert said == ["disk", "disk.p1", "disk.p5", "info.json", "hello"]
    assert run("check", "-q", image).code in (0, 3)


A_DRIVER_DIES = AS_NOBODY + """
nobody "$1" -f --fs "$3" "$2/mnt" 2>"$2/said" &
server=$!
until nobody test -e "$2/mnt/folder/greeting"; do sleep 0.05; done
pkill -KILL -u 65534 fuse2fs
code=0
wait $server || code=$?
echo "it ended with $code"
mountpoint -q "$2/mnt" && echo "it is still mounted"
ls "$2"
cat "$2/said"
"""


def test_a_driver_that_dies_leaves_no_dead_mount(image, folder):
    need("setpriv", "fusermount3", "fuse2fs", "unshare", "mountpoint")
    for path in folder.parents:
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    said = in_a_namespace(A_DRIVER_DIES, MOUNT, folder.parent, image).stdout
    assert "it ended with 1" in said and "its driver has ended without unmounting it" in said
    assert "still mounted" not in said and "vhd-mount-" not in said


# mount(8) looks for the program itself, and not in the caller's PATH.
AS_MOUNT_DOES_IT = """
mount -t tmpfs tmpfs /usr/local/sbin
ln -s "$1" /usr/local/sbin/vhd-mount
mount -t fuse.vhd-mount -o ro,name=vhdi1 "$2" "$3"
ls "$3"
findmnt -n -o FSTYPE "$3"
umount "$3"
echo "$2 $3 fuse.vhd-mount ro,noauto,nofail,x-systemd.idle-timeout=9,umask=077 0 0" >"$4"
mount -T "$4" "$3"
stat -c %a "$3/disk"
umount "$3"
"""


def test_mount_and_fstab(image, folder, tmp_path):
    need("mount.fuse3", "unshare")
    said = in_a_namespace(AS_MOUNT_DOES_IT, MOUNT, image, folder, tmp_path / "fstab").stdout.split()
    assert said == ["info.json", "vhdi1", "vhdi1.p1", "vhdi1.p5", "fuse.vhd-mount", "400"]


# A line without ro, which mount(8) hands on with rw; each mounts, says how, and unmounts.
AS_CAREFUL_AS_WITHOUT_FSTAB = """
mount -t tmpfs tmpfs /usr/local/sbin
ln -s "$1" /usr/local/sbin/vhd-mount
for options in nofail rw nodev,nosuid force-share writable; do
  echo "$2 $3 fuse.vhd-mount noauto,$options 0 0" >"$4"
  mount -T "$4" "$3" 2>/dev/null
  findmnt -n -o OPTIONS "$3" | cut -d , -f 1
  umount "$3"
done
"""


def test_fstab_is_as_careful_as_the_program(image, folder, tmp_path):
    need("mount.fuse3", "unshare")
    run_ok("snapshot", image)  # what is written to a parent breaks its children
    said = in_a_namespace(AS_CAREFUL_AS_WITHOUT_FSTAB, MOUNT, image, folder, tmp_path / "fstab").stdout.split()
    assert said == ["ro", "ro", "ro", "ro", "rw"]


WHO_MAY_LOOK = """
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
"$1" -o ro "$2" "$3"
nobody cat "$3/info.json" >/dev/null 2>&1 && echo everybody || echo root
umount "$3"
"$1" -o ro,allow_other "$2" "$3"
nobody cat "$3/info.json" >/dev/null 2>&1 && echo everybody || echo root
umount "$3"
"$1" -o ro,auto_unmount "$2" "$3"
pkill -KILL -f "^$1 -o ro,auto_unmount $2"
for i in $(seq 100); do mountpoint -q "$3" || break; sleep 0.1; done
mountpoint -q "$3" && echo mounted || echo unmounted
"""


def test_who_may_look_and_who_cleans_up(image, folder):
    need("setpriv", "unshare", "mountpoint")
    for path in folder.parents:
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    assert in_a_namespace(WHO_MAY_LOOK, MOUNT, image, folder).stdout.split() == ["root", "everybody", "unmounted"]


def test_fio_verifies_what_it_wrote(image, folder):
    need("fio")
    seconds = os.environ.get("VHDKIT_FIO_SECONDS", "5")
    with mounted(image, folder):
        done = subprocess.run(
            ["fio", "--name=verify", f"--filename={folder}/disk", "--rw=randrw", "--bsrange=4k-256k",
             "--ioengine=io_uring", "--iodepth=16", "--numjobs=4", "--size=22M", "--offset_increment=24M",
             "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--time_based", f"--runtime={seconds}", "--group_reporting"],
            check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert run("check", "-q", image).code in (0, 3)


def test_overlays(image, folder, tmp_path):
    before = image.read_bytes()

    def write(value):
        with open(folder / "disk", "r+b") as file:
            file.seek(70 * MIB)
            file.write(bytes([value]) * 8192)

    def holds(path, value):
        return run("io", "-q", path, input=f"read -P {value} 70M 8K\n".encode()).code == 0

    with mounted(image, folder, "--overlay", "tmp"):
        write(1)
        assert (folder / "disk").read_bytes()[70 * MIB] == 1
    assert image.read_bytes() == before

    child = tmp_path / "child.avhd"
    with mounted(image, folder, "--overlay", child):
        write(2)
    assert image.read_bytes() == before
    assert holds(child, 2)
    with mounted(image, folder, "--overlay", child, "--discard"):
        assert (folder / "disk").read_bytes()[70 * MIB] == 2
    assert not child.exists() and image.read_bytes() == before

    for words in (["--overlay", child, "--commit"], ["-o", "overlay=tmp,commit"]):
        with mounted(image, folder, *words):
            write(3)
        wait_until(lambda: not child.exists(), "the commit")
        assert holds(image, 3)
    assert run("check", "-q", image).code in (0, 3)
    stranger = tmp_path / ("stranger" + image.suffix)
    run_ok("create", "-q", "-f", image.suffix[1:], stranger, "10M")
    done = shell(MOUNT, "--overlay", stranger, image, folder, check=False)
    assert done.returncode == 1 and "overlay" in done.stderr
    assert names_in(folder) == []
