"""Disks, snapshots and media that come and go while the guest runs, by the control socket."""
import hashlib

import pytest
from cases import boots, files_of, machine, raw_of, root, shell, workshop  # noqa: F401, fixtures
from conftest import MIB, fingerprint, run, run_ok
from controls import Control
from lab import guests
from lab.debian import Unavailable, need, said
from test_interrupted import WRITER, synced_files

PLACE = "/sys/bus/scsi/devices/0:0:0:{}/block"


@pytest.fixture
def control(machine, tmp_path):
    return Control(machine, tmp_path / "control")


def new_image(path, size="64M"):
    run_ok("create", "-q", "-f", path.suffix[1:], path, size)
    return path


def appears(guest, lun):
    """Waits for the disk; its name in the guest."""
    place = PLACE.format(lun)
    return guest.run(f"until [ -d {place} ]; do sleep 0.1; done; name=$(ls {place}); "
                     "until [ -b /dev/$name ]; do sleep 0.1; done; echo $name", 60).split()[-1]


def vanishes(guest, lun, name):
    guest.run(f"while [ -d {PLACE.format(lun)} ] || grep -q ' {name}$' /proc/partitions; do sleep 0.1; done", 60)


def test_a_disk_comes_and_goes(boots, root, control, tmp_path):
    vhdx, vhd = new_image(tmp_path / "a, b.vhdx"), new_image(tmp_path / "c.vhd", "32M")
    guest = boots.start([root], cpus=2, extra=control.option)
    guest.boots()
    assert control.ask("add-disk", str(vhdx).replace(",", ",,"))["disk"] == 1
    assert control.ask("add-disk", f"{vhd},ro")["disk"] == 2
    names = [appears(guest, lun) for lun in (1, 2)]
    sizes = dict(line.split() for line in guest.run("lsblk -b -d -n -o NAME,SIZE").splitlines())
    assert sizes[names[0]] == str(64 * MIB) and int(sizes[names[1]]) >= 32 * MIB
    assert guest.run(f"cat /sys/block/{names[1]}/ro") == "1\n"
    guest.run(f"mke2fs -q /dev/{names[0]} 2>/dev/null || mke2fs /dev/{names[0]}")
    guest.run(f"mount -t ext4 /dev/{names[0]} /mnt && echo hello >/mnt/hello && umount /mnt", 60)

    assert control.refused("add-disk", str(vhdx).replace(",", ",,"))[0] == "busy"
    assert control.refused("remove-disk", 7)[0] == "not-found"
    assert control.refused("remove-disk", tmp_path / "nothing.vhdx")[0] == "not-found"
    assert control.refused("add-disk", tmp_path / "nothing.vhdx")[0] == "not-found"
    assert control.refused("add-disk", f"{vhd},colour=red")[0] == "invalid-argument"
    # Found out before the guest is asked to stand still, which this one cannot.
    assert control.refused("--freeze", "snapshot", 2)[0] == "read-only"
    assert control.refused("--freeze", "snapshot", 1)[0] == "not-found"

    control.ask("remove-disk", vhdx)
    vanishes(guest, 1, names[0])
    assert names[0] not in guest.run("lsblk -d -n -o NAME").split()
    assert [disk["disk"] for disk in control.ask("status")["disks"]] == [0, 2]
    # The runner has let go of it.
    assert run("check", "-q", vhdx).code in (0, 3)
    assert shell("debugfs", "-R", "cat /hello", raw_of(vhdx)) == "hello\n"
    run_ok("io", "-q", "-c", "write -P 1 0 512", vhdx)
    # No other disk takes the place that a guest which has not looked yet would take for the old one's.
    other = new_image(tmp_path / "d.vhdx", "16M")
    assert control.ask("add-disk", other)["disk"] == 3
    assert guest.run(f"blockdev --getsize64 /dev/{appears(guest, 3)}") == f"{16 * MIB}\n"
    guest.powers_off()
    for image in (root, vhd, other):
        assert run("check", "-q", image).code in (0, 3)


def test_a_disk_is_taken_away_under_requests(boots, root, control, tmp_path):
    disk = new_image(tmp_path / "disk.vhdx", "2G")
    guest = boots.start([root, disk], cpus=2, extra=control.option)
    guest.boots()
    name = guest.run("basename $(readlink /dev/lun/1)").strip()
    guest.run("{ (dd if=/dev/zero of=/dev/lun/1 bs=256k oflag=direct; echo first $? >/tmp/first) & "
              "(dd if=/dev/lun/1 of=/dev/null bs=64k skip=16000 iflag=direct; echo second $? >/tmp/second) & "
              "} 2>/dev/null")
    guest.run("sleep 2")
    control.ask("remove-disk", 1)
    ended = guest.run("until [ -s /tmp/first ] && [ -s /tmp/second ]; do sleep 0.1; done; cat /tmp/first", 120)
    assert ended.startswith("first ") and ended != "first 0\n"
    vanishes(guest, 1, name)
    assert guest.run("echo fine >/written && sync && cat /written") == "fine\n"
    assert run("check", "-q", disk).code in (0, 3)
    guest.powers_off()


def test_a_snapshot_while_the_guest_writes(boots, root, control, tmp_path):
    data = tmp_path / "data.vhdx"
    empty = tmp_path / "empty"
    empty.mkdir()
    guests.to_image(guests.make_ext4(empty, tmp_path / "data.raw", 256 * MIB), data)
    guest = boots.start([root, data], cpus=2, extra=control.option)
    guest.boots()
    guest.run("mount -t ext4 /dev/lun/1 /mnt")
    guest.type(WRITER.replace(">/f", ">/mnt/f").replace("</f", "</mnt/f") + "\n")
    guest.expect(r"^synced f12 ", 120)
    before = synced_files(guest)
    snapshots = control.ask("snapshot")["snapshots"]
    assert [(one["disk"], one["parent"]) for one in snapshots] == [(0, str(root)), (1, str(data))]
    last = max(int(name[1:]) for name in synced_files(guest))
    unchanged = [fingerprint(path) for path in (root, data)]
    guest.expect(rf"^synced f{last + 8} ", 120)
    second = control.ask("snapshot", 1)["snapshots"]
    assert second[0]["parent"] == snapshots[1]["filename"]
    assert [disk["filename"] for disk in control.ask("status")["disks"]] == [snapshots[0]["filename"],
                                                                          second[0]["filename"]]
    guest.expect(rf"^synced f{last + 16} ", 120)
    guest.type("\x03")
    assert guest.run("dmesg | grep -iE 'i/o error|sense key|ext4-fs error|timed out' || true") == ""
    guest.run("umount /mnt")
    guest.powers_off()
    synced = synced_files(guest)

    # The images that the snapshots left are as they were, whole, and older.
    assert [fingerprint(path) for path in (root, data)] == unchanged
    images = [data, snapshots[1]["filename"], second[0]["filename"]]
    held = []
    for index, image in enumerate(images):
        assert run("check", "-q", image).code in (0, 3)
        raw = tmp_path / f"{index}.raw"
        run_ok("convert", "-q", "-O", "raw", image, raw)
        shell("e2fsck", "-f", "-y", raw, codes=(0, 1))
        shell("e2fsck", "-f", "-n", raw)
        files = files_of(raw, tmp_path / f"files{index}")
        held.append({path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in files.glob("f*")})
    for name, digest in before.items():
        assert held[0][name] == digest
    assert f"f{last + 8}" not in held[0] and f"f{last + 16}" not in held[1]
    assert held[1][f"f{last + 8}"] == synced[f"f{last + 8}"]
    for name, digest in synced.items():
        assert held[2][name] == digest
    assert run_ok("chain", images[2]).out.count("ok") == 3

    # And it all goes back into one.
    run_ok("merge", "-q", "--into", data, images[2])
    assert run("check", "-q", data).code in (0, 3)


def has_size(guest, lun, size):
    """Waits until the guest's kernel says so, by itself."""
    guest.run(f"until [ $(lsblk -b -d -n -o SIZE /dev/lun/{lun}) = {size} ]; do sleep 0.1; done", 60)


def new_ext4(path, size):
    """An image that is one empty file system."""
    empty = path.with_suffix(".empty")
    empty.mkdir()
    return guests.to_image(guests.make_ext4(empty, path.with_suffix(".raw"), size), path)


def test_disks_get_another_size_while_the_guest_uses_them(boots, root, control, tmp_path):
    data, fixed, raw = new_ext4(tmp_path / "data.vhdx", 64 * MIB), tmp_path / "fixed.vhd", tmp_path / "disk.raw"
    run_ok("create", "-q", "-f", "vhd", "-o", "subformat=fixed", fixed, "16M")
    raw.write_bytes(bytes(16 * MIB))
    other, unused = new_image(tmp_path / "other.vhdx"), new_image(tmp_path / "unused.vhdx")
    run_ok("create", "-q", "-f", "vhdx", "-b", other, tmp_path / "child.avhdx")
    guest = boots.start([root, data, fixed, raw, other, (unused, "ro")], cpus=2, extra=control.option)
    guest.boots()
    guest.run("mount -t ext4 /dev/lun/1 /mnt && echo before >/mnt/before && sync")

    # A file system that is in use grows; it does nothing that would bring it the news.
    assert control.ask("resize-disk", 1, "+64M") == {"disk": 1, "old-virtual-size": 64 * MIB,
                                                     "virtual-size": 128 * MIB}
    has_size(guest, 1, 128 * MIB)
    guest.run("resize2fs /dev/lun/1", 120)
    assert int(guest.run("df -k /mnt | tail -n 1 | awk '{ print $2 }'")) > 100 * 1024
    guest.run("echo after >/mnt/after && sync")

    # Disks of other kinds, under requests, and of a guest that is paused.
    guest.type("while true; do dd if=/dev/lun/2 of=/dev/null bs=64k iflag=direct 2>/dev/null; done & reader=$!\n")
    assert control.ask("resize-disk", fixed, "24M")["virtual-size"] == 24 * MIB
    has_size(guest, 2, 24 * MIB)
    guest.run("kill $reader")
    control.ask("pause")
    assert control.ask("resize-disk", 3, "24M")["virtual-size"] == 24 * MIB
    assert control.ask("status")["state"] == "paused"
    control.ask("resume")
    has_size(guest, 3, 24 * MIB)
    for lun in (2, 3):
        guest.run(f"printf %4096s last | dd of=/dev/lun/{lun} bs=4096 seek={24 * MIB // 4096 - 1} conv=fsync")
    assert control.ask("--shrink", "resize-disk", 3, "-16M")["virtual-size"] == 8 * MIB
    has_size(guest, 3, 8 * MIB)
    code, _ = guest.run("dd if=/dev/lun/3 of=/dev/null bs=4096 skip=2048 count=1 2>&1 | grep -q '^0+0'", check=False)
    assert code == 0

    refusals = [(["1", "64M"], "invalid-argument", "--shrink"), (["1", f"{128 * MIB + 1}"], "invalid-argument", "multiple"),
                (["4", "+1G"], "invalid-argument", "is the parent of"), (["5", "+1G"], "read-only", "unused.vhdx"),
                (["9", "+1G"], "not-found", "no disk 9"), ([tmp_path / "child.avhdx", "1G"], "not-found", "is no disk")]
    for words, kind, says in refusals:
        refused = control.refused("resize-disk", *words)
        assert refused[0] == kind and says in refused[1], (words, refused)
    assert [disk["virtual-size"] // MIB for disk in control.ask("status")["disks"]][1:] == [128, 24, 8, 64, 64]
    assert guest.run("cat /mnt/before /mnt/after && umount /mnt && dmesg | grep -iE 'i/o error|ext4-fs error' || true") == (
        "before\nafter\n")
    guest.powers_off()

    for image in (root, data, fixed, other):
        assert run("check", "-q", image).code in (0, 3)
    after = raw_of(data)
    assert after.stat().st_size == 128 * MIB
    shell("e2fsck", "-f", "-n", after)
    assert shell("debugfs", "-R", "cat /after", after) == "after\n"
    assert raw_of(fixed).read_bytes()[-4096:].strip() == b"last"
    assert raw.stat().st_size == 8 * MIB


def test_an_undo_disk_gets_another_size(boots, root, control, tmp_path):
    data = new_ext4(tmp_path / "data.vhdx", 64 * MIB)
    before = fingerprint(data)
    guest = boots.start([root, data], extra=[*control.option, "--undo", "merge"])
    guest.boots()
    control.ask("resize-disk", data, "96M")
    has_size(guest, 1, 96 * MIB)
    control.ask("--shrink", "resize-disk", 1, "80M")
    has_size(guest, 1, 80 * MIB)
    guest.run("mount -t ext4 /dev/lun/1 /mnt && resize2fs /dev/lun/1 && echo more >/mnt/more && umount /mnt", 120)
    assert fingerprint(data) == before
    guest.powers_off()
    assert run("check", "-q", data).code in (0, 3)
    after = raw_of(data)
    assert after.stat().st_size == 80 * MIB
    shell("e2fsck", "-f", "-n", after)
    assert shell("debugfs", "-R", "cat /more", after) == "more\n"


@pytest.fixture
def isos(tmp_path):
    """Two ISO images; each has a file that says which it is."""
    made = []
    for name in ("first", "second"):
        tree = tmp_path / f"{name}-tree"
        tree.mkdir()
        (tree / "which").write_text(f"{name}\n")
        image = tmp_path / f"{name}.iso"
        try:
            said(need("genisoimage"), "-quiet", "-R", "-V", name, "-o", image, tree)
        except Unavailable as error:
            pytest.skip(str(error))
        made.append(image)
    return made


@pytest.fixture
def optical_words(workshop, tmp_path):
    """A function: vhd-run's words for a guest that has drivers for a DVD drive."""
    kernel, _ = workshop.kernel("cloud")
    try:
        initrd = guests.make_initrd(kernel, tmp_path / "initrd", ["sr_mod", "isofs"])
    except Unavailable as error:
        pytest.skip(str(error))
    return lambda disks, extra: guests.words(kernel.image, initrd, disks, extra=extra)


MOUNT = "mount -t iso9660 -o ro /dev/sr0 /mnt"


def test_an_iso_image_and_another_one(boots, root, control, isos, optical_words):
    before = [fingerprint(image) for image in isos]
    guest = boots.start_words(optical_words([root], [*control.option, "--iso", isos[0]]))
    guest.boots()
    assert guest.run(f"{MOUNT} && cat /mnt/which && umount /mnt") == "first\n"
    assert control.ask("status")["dvd-drive"]["filename"] == str(isos[0])
    control.ask("insert-media", isos[1])
    assert guest.run(f"until {MOUNT} 2>/dev/null; do sleep 0.2; done; cat /mnt/which && umount /mnt") == "second\n"
    control.ask("eject-media")
    assert control.refused("eject-media")[0] == "not-found"
    code, _ = guest.run(f"sleep 1; {MOUNT}", check=False)
    assert code != 0
    assert control.refused("insert-media", root)[0] in ("busy", "corrupt")
    assert control.ask("status")["dvd-drive"]["filename"] is None
    # Out of a drive that is in use, too.
    control.ask("insert-media", isos[0])
    guest.run(f"until {MOUNT} 2>/dev/null; do sleep 0.2; done")
    control.ask("insert-media", isos[1])
    guest.run("umount /mnt")
    assert guest.run(f"until {MOUNT} 2>/dev/null; do sleep 0.2; done; cat /mnt/which && umount /mnt") == "second\n"
    guest.powers_off()
    assert [fingerprint(image) for image in isos] == before


def test_a_drive_comes_with_its_first_medium(boots, root, control, isos, optical_words):
    guest = boots.start_words(optical_words([root], control.option))
    guest.boots()
    assert "dvd-drive" not in control.ask("status")
    control.ask("insert-media", isos[0])
    guest.run("until [ -b /dev/sr0 ]; do sleep 0.1; done")
    assert guest.run(f"until {MOUNT} 2>/dev/null; do sleep 0.2; done; cat /mnt/which && umount /mnt") == "first\n"
    guest.powers_off()


def test_what_is_no_iso_image(boots, root, tmp_path):
    none = tmp_path / "none.iso"
    none.write_bytes(bytes(MIB))
    guest = boots.start([root], extra=["--iso", none])
    assert guest.ends(60) == 1
    assert f"{none}: is no ISO image" in guest.process.err
