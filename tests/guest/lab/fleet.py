"""Many guests of one kernel at once: each on a child of its own of one VHDX, with a control socket of its own."""
import time

from lab import guests
from lab.debian import said

# Debian's cloud kernel has been seen to start in 64 MiB with these words, but not always. It needs most before it has freed
# what it needs no more: the directories of its tracing take 9 MiB then, its ciphers' own tests some more, and an initrd
# that is not compressed is there twice.
MEMORY = "72M"
APPEND = "initcall_blacklist=tracer_init_tracefs cryptomgr.notests"


class Fleet:
    """start: makes a guest of its runner's words, and sees to its end. memory: of each."""

    def __init__(self, start, kernel, folder, memory=MEMORY):
        self.start, self.kernel, self.folder, self.memory = start, kernel, folder, memory
        self.initrd = guests.make_initrd(kernel, folder / "initrd", ["hv_utils"], compressed=True)
        raw = guests.make_root(folder / "parent.raw", files={"usr/sbin/poweroff": guests.POWEROFF})
        self.parent = guests.to_image(raw, folder / "parent.vhdx")
        self.guests = []

    def control(self, index):
        return self.folder / f"control{index}"

    def image(self, index):
        return self.folder / f"child{index}.vhdx"

    def grow_to(self, count, patience):
        """Starts guests, all at once, until there are so many; seconds until the last has reached its prompt."""
        begin, old = time.monotonic(), len(self.guests)
        for index in range(old, count):
            said(guests.VHD, "create", "-q", "-f", "vhdx", "-b", self.parent, self.image(index))
            self.guests.append(self.start(guests.words(
                self.kernel.image, self.initrd, [self.image(index)], memory=self.memory, append=APPEND,
                extra=["--control", self.control(index)])))
        for guest in self.guests[old:]:
            guest.boots(patience)
        return time.monotonic() - begin

    def shut_down(self, machine, patience):
        """Asks all to power off; their runners' exit codes, and seconds from the first order to the last one's end."""
        begin = time.monotonic()
        for index, guest in enumerate(self.guests):
            done = machine.run(guests.VHD, "ctl", self.control(index), "shut-down", seconds=patience)
            if done.code != 0:
                raise guest.failed(done.err)
        codes = [guest.ends(patience) for guest in self.guests]
        return codes, time.monotonic() - begin
