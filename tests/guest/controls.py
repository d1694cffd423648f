"""The control socket of a runner in the machine, through vhd ctl, which runs there too."""
import json
import time

from conftest import BUILD

VHD = BUILD / "tools" / "vhd"


class Control:
    """Commands to one runner. path: its socket, in the machine."""

    def __init__(self, machine, path):
        self.machine, self.path = machine, path

    @property
    def option(self):
        """For vhd-run."""
        return ["--control", self.path]

    def ctl(self, *words, before=(), seconds=60):
        """vhd ctl, ended."""
        return self.machine.run(VHD, "ctl", *before, self.path, *words, seconds=seconds)

    def ask(self, *words, seconds=60):
        """The result of a command that must succeed."""
        done = self.ctl(*words, before=["--output=json"], seconds=seconds)
        assert done.code == 0, done.err
        return json.loads(done.out)

    def until(self, command, condition, seconds=60):
        """Asks until the condition holds for the result; also while nobody listens yet. Its last result."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done = self.ctl(command, before=["--output=json"])
            if done.code == 0 and condition(json.loads(done.out)):
                return json.loads(done.out)
        raise AssertionError(f"{command}: not within {seconds} s: {done.out}{done.err}")

    def refused(self, *words):
        """The error's kind and message of one that must not."""
        done = self.ctl(*words, before=["--output=json"])
        assert done.code == 1, (done.code, done.out, done.err)
        error = json.loads(done.out)["error"]
        return error["kind"], error["message"]
