"""vhd ctl, against a socket of the test's own that answers as it likes."""
import json

import pytest
from conftest import run, run_ok
from control_socket import ControlSocket

STATUS = {"state": "running", "uptime-seconds": 12.34, "processors": 2, "memory": 536870912, "console": "unix:/c",
          "sandbox": {"filters": True, "landlock": None},
          "disks": [{"disk": 0, "controller": 0, "lun": 0, "filename": "/vm/a.vhdx", "format": "vhdx",
                     "virtual-size": 8 << 30, "read-only": False},
                    {"disk": 1, "controller": 0, "lun": 1, "filename": "/vm/\u001b[2Jb.vhd", "format": "vhd",
                     "virtual-size": 1 << 20, "read-only": True}],
          "dvd-drive": {"disk": 2, "controller": 0, "lun": 2, "filename": None},
          "services": {"heartbeat": {"state": "ready", "guest": "running"},
                       "key-value-exchange": {"guest": {"FullyQualifiedDomainName": "a.example",
                                                        "NetworkAddressIPv4": "10.0.0.2\u0007"}}}}
COUNTERS = {"exits": {"hypercall": 12, "signal": 34},
            "controllers": [{"channels": [], "units": [{"lun": 3, "requests": 56, "errors": 7, "bytes-read": 4096,
                                                        "bytes-written": 0, "latency-us": []}]}]}


class Runner(ControlSocket):
    """One client at a time gets the answer, whatever it asks."""

    def __init__(self, path):
        self.answer, self.asked = {"result": {}}, []
        super().__init__(path)

    def meet(self, client):
        with client, client.makefile("rwb") as stream:
            request = json.loads(stream.readline())
            self.asked.append(request)
            if isinstance(self.answer, bytes):
                stream.write(self.answer)
            else:
                stream.write(json.dumps({"id": request["id"], **self.answer}).encode() + b"\n")

    def ctl(self, *words, **options):
        return run("ctl", *options.pop("before", ()), self.path, *words, **options)


@pytest.fixture
def runner(tmp_path):
    started = Runner(tmp_path / "control")
    yield started
    started.listener.close()


@pytest.mark.parametrize("command", ["pause", "resume", "shut-down", "restart", "power-off", "reset",
                                     "eject-media"])
def test_a_command_is_sent_and_nothing_said(runner, command):
    outcome = runner.ctl(command)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert [request["command"] for request in runner.asked] == [command]


@pytest.mark.parametrize("words, parameters", [
    (["add-disk", "/vm/b.vhdx,ro"], {"disk": "/vm/b.vhdx,ro"}),
    (["add-disk", "b,,c.vhdx,ro"], {"disk": "{folder}/b,,c.vhdx,ro"}),
    (["remove-disk", "3"], {"disk": 3}),
    (["remove-disk", "./3"], {"disk": "{folder}/./3"}),
    (["remove-disk", "b.vhdx"], {"disk": "{folder}/b.vhdx"}),
    (["remove-disk", "99999999999999999999"], {"disk": "{folder}/99999999999999999999"}),
    (["snapshot"], {}),
    (["snapshot", "0"], {"disk": 0}),
    (["snapshot", "--freeze"], {"freeze": True}),
    (["snapshot", "--freeze", "0"], {"disk": 0, "freeze": True}),
    (["resize-disk", "3", "10G"], {"disk": 3, "size": "10G"}),
    (["resize-disk", "b.vhdx", "+1536K"], {"disk": "{folder}/b.vhdx", "size": "+1536K"}),
    (["resize-disk", "--shrink", "0", "-3M"], {"disk": 0, "size": "-3M", "shrink": True}),
    (["insert-media", "a.iso"], {"filename": "{folder}/a.iso"}),
])
def test_a_command_s_argument(runner, tmp_path, words, parameters):
    """Files are found from where vhd is, not from where the runner is."""
    folder = tmp_path / "a,b"
    folder.mkdir()
    assert runner.ctl(*words, cwd=folder).code == 0
    commas = ",," if words[0] == "add-disk" else ","
    place = str(folder).replace(",", commas)
    assert runner.asked == [{"id": 1, "command": words[0],
                             **{key: value.replace("{folder}", place) if isinstance(value, str) else value
                                for key, value in parameters.items()}}]


def test_what_was_made_is_printed(runner):
    runner.answer = {"result": {"disk": 4}}
    assert runner.ctl("add-disk", "/a.vhdx").out == "disk 4\n"
    runner.answer = {"result": {"snapshots": [{"disk": 0, "filename": "/a_1.avhdx", "parent": "/a.vhdx"},
                                              {"disk": 1, "filename": "/b_1.avhdx", "parent": "/b.vhdx"}]}}
    assert runner.ctl("snapshot").out == "/a_1.avhdx\n/b_1.avhdx\n"
    runner.answer = {"result": {"disk": 0, "old-virtual-size": 8 << 20, "virtual-size": 20 << 20}}
    assert runner.ctl("resize-disk", "0", "20M").out == "disk 0: 8 MiB (8388608 bytes) -> 20 MiB (20971520 bytes)\n"


def test_status_for_people(runner):
    runner.answer = {"result": STATUS}
    lines = runner.ctl("status").out.splitlines()
    assert lines[0].split() == ["state:", "running"]
    assert lines[5].split() == ["sandbox:", "on,", "without", "Landlock"]
    assert lines[6].split() == ["DVD", "drive:", "empty"]
    assert lines[7].split() == ["heartbeat:", "running"]
    assert lines[8].split() == ["guest's", "name:", "a.example"]
    assert lines[9].split() == ["its", "IPv4:", "10.0.0.2\\x07"]
    assert "12.3 s" in lines[1] and "512 MiB" in lines[3] and "unix:/c" in lines[4]
    assert lines[-2].split() == ["0", "0", "0", "vhdx", "8", "GiB", "read-write", "/vm/a.vhdx"]
    assert lines[-1].split() == ["1", "0", "1", "vhd", "1", "MiB", "read-only", "/vm/\\x1b[2Jb.vhd"]


@pytest.mark.parametrize("sandbox, says", [({"filters": True, "landlock": 7}, "on"), (None, "off"),
                                           ({"filters": False, "landlock": 2}, "on, without filters of calls")])
def test_a_sandbox_for_people(runner, sandbox, says):
    runner.answer = {"result": {**STATUS, "sandbox": sandbox}}
    line, = [line for line in runner.ctl("status").out.splitlines() if line.startswith("sandbox:")]
    assert line.partition(":")[2].strip() == says


def test_counters_for_people(runner):
    runner.answer = {"result": COUNTERS}
    out = runner.ctl("counters").out
    assert "hypercall: 12" in " ".join(out.split())
    assert out.splitlines()[-1].split() == ["0", "3", "56", "7", "4", "KiB", "0", "bytes"]


@pytest.mark.parametrize("command, result", [("status", STATUS), ("counters", COUNTERS), ("pause", {})])
def test_json(runner, command, result):
    runner.answer = {"result": result}
    assert runner.ctl(command, before=["--output=json"]).json() == result


def test_a_refusal_is_told(runner):
    runner.answer = {"error": {"kind": "not-found", "message": "no such \u001bdisk"}}
    outcome = runner.ctl("pause")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "vhd: no such \\x1bdisk\n")
    outcome = runner.ctl("pause", before=["--output=json"])
    assert outcome.code == 1
    assert outcome.json() == {"error": {"kind": "not-found", "message": "no such \u001bdisk"}}


@pytest.mark.parametrize("answer", [b"", b'{"id": 1, "res', b"hello\n", b"[]\n", b'{"error": 3}\n', b'{"error": {}}\n',
                                    b"\xff\n"])
def test_no_answer(runner, answer):
    runner.answer = answer
    outcome = runner.ctl("status")
    assert outcome.code == 2
    assert outcome.err.startswith(f"vhd: {runner.path}: ")


@pytest.mark.parametrize("result", [None, 3, [], {"disks": 3}, {"disks": [3]}, {"memory": -1, "uptime-seconds": "x"}])
def test_an_odd_status_harms_nobody(runner, result):
    runner.answer = {"result": result}
    assert runner.ctl("status").code == 0
    assert runner.ctl("counters").code == 0


def test_nobody_there(tmp_path):
    outcome = run("ctl", tmp_path / "nothing", "status")
    assert outcome.code == 2 and "nothing: No such file" in outcome.err
    (tmp_path / "file").write_text("")
    outcome = run("ctl", tmp_path / "file", "status")
    assert outcome.code == 2 and "refused" in outcome.err
    outcome = run("ctl", "x" * 200, "status")
    assert outcome.code == 2 and "too long" in outcome.err


@pytest.mark.parametrize("words, message", [
    (["explode"], '"explode"'),
    (["pause", "now"], "takes no argument"),
    (["add-disk"], "needs a file"),
    (["remove-disk"], "needs a disk"),
    (["insert-media"], "needs a file"),
    (["resize-disk"], "needs a disk"),
    (["resize-disk", "0"], "needs a size"),
    (["resize-disk", "0", "much"], "is no size"),
    (["resize-disk", "0", "+1G", "1G"], "1G"),
    (["remove-disk", "0", "1G"], "takes one argument"),
    (["pause", "--freeze"], "--freeze belongs to snapshot"),
    (["snapshot", "--shrink"], "--shrink belongs to resize-disk"),
    (["status", "-n", "3"], "belong to top"),
    (["counters", "--interval", "3"], "belong to top"),
    (["top", "-n", "0"], "from 1 on"),
    (["top", "-n", "-1"], "from 1 on"),
    (["top", "--interval", "0"], "from 0.1"),
    (["top", "--interval", "nan"], "from 0.1"),
    (["top", "--interval", "1s"], "from 0.1"),
    (["top", "--output=json"], "top is for people"),
    (["top", "--output=svg"], "belongs to counters"),
    (["status", "--output=svg"], "belongs to counters"),
    (["top", "now"], "takes no argument"),
    ([], "COMMAND"),
])
def test_wrong_words_are_not_sent(runner, words, message):
    outcome = runner.ctl(*words)
    assert outcome.code == 2 and message in outcome.err
    assert runner.asked == []


def test_help_shows_the_commands():
    out = run_ok("ctl", "--help").out
    for command in ("status", "counters", "pause", "resume", "shut-down", "restart", "power-off", "reset", "add-disk",
                    "remove-disk", "snapshot", "resize-disk", "insert-media", "eject-media", "top"):
        assert command in out
