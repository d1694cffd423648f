"""Many guests at once: each of them lives, answers, and ends well. `./dev bench density` measures what they cost."""
import os
import re

import pytest
from cases import boots, machine, raw_of, shell, skip_unavailable, workshop  # noqa: F401, fixtures
from conftest import MIB, run
from controls import Control
from lab import debian
from lab.fleet import Fleet

COUNT = int(os.environ.get("VHDKIT_GUESTS", "8"))
PATIENCE = 60 * (COUNT + 8)  # they share the processors of one machine


@pytest.fixture
@skip_unavailable
def fleet(boots, tmp_path):
    return Fleet(boots.start_words, debian.kernel("cloud"), tmp_path)


def huge_pages_of_its_own(guest, machine):
    """KiB of its runner's, but for the guest's memory, which alone is left out of core dumps (dd)."""
    smaps = machine.run("cat", f"/proc/{guest.process.pid}/smaps").out
    mappings = re.findall(r"AnonHugePages:\s+(\d+) kB.*?VmFlags:([^\n]*)", smaps, re.DOTALL)
    assert len(mappings) > 10, smaps
    return sum(int(size) for size, flags in mappings if "dd" not in flags.split())


def test_many_small_guests_at_once(fleet, machine):
    fleet.grow_to(COUNT, PATIENCE)
    assert [huge_pages_of_its_own(guest, machine) for guest in fleet.guests] == [0] * COUNT
    for index, guest in enumerate(fleet.guests):
        guest.run(f"echo guest {index} >/written", PATIENCE)
    for index in range(COUNT):
        status = Control(machine, fleet.control(index)).ask("status", seconds=PATIENCE)
        assert (status["state"], status["memory"]) == ("running", 72 * MIB)
        assert [disk["filename"] for disk in status["disks"]] == [str(fleet.image(index))]
        assert status["services"]["shutdown"]["state"] == "ready"
    codes, _ = fleet.shut_down(machine, PATIENCE)
    assert codes == [0] * COUNT
    for index in range(COUNT):
        assert not fleet.control(index).exists()
        assert run("check", "-q", fleet.image(index)).code in (0, 3)
        raw = raw_of(fleet.image(index))
        shell("e2fsck", "-f", "-n", raw)
        assert shell("debugfs", "-R", "cat /written", raw) == f"guest {index}\n"
        raw.unlink()
    assert run("check", "-q", fleet.parent).code == 0
