#!/usr/bin/env python3
"""Runs programs for somebody at the other end of a channel, who sees their outputs as they come.

    agent.py DEVICE      the channel is a device: a port of virtio-serial
    agent.py             the channel is standard input and output

Both sides send one JSON object a line; bytes are in base64. An `id` is the asker's choice and names one program.
Asked:    {"id", "start": [WORD...], "terminal": bool, "environment": {NAME: VALUE}}
          {"id", "write": BYTES}   {"id", "close": true}: its standard input   {"id", "signal": NUMBER}
Answered: {"ready": PROCESSORS}, once
          {"id", "pid": NUMBER}   {"id", "out": BYTES}   {"id", "err": BYTES}
          {"id", "exit": CODE, "reason": TEXT}; negative: the signal
Programs that run when the channel ends are killed.
"""
import base64
import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import termios

CHUNK = 1 << 16


def terminal_of_its_own():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Program:
    """One that runs, with our ends of its input and outputs."""

    def __init__(self, words, terminal, environment):
        self.to_write, self.closing = b"", False
        if terminal:
            self.input, theirs = os.openpty()
            self.outputs, inherited = {self.input: "out"}, [theirs] * 3
        else:
            (their_input, self.input), (out, their_out), (err, their_err) = os.pipe(), os.pipe(), os.pipe()
            self.outputs, inherited = {out: "out", err: "err"}, [their_input, their_out, their_err]
        try:
            self.process = subprocess.Popen(words, stdin=inherited[0], stdout=inherited[1], stderr=inherited[2],
                                            env={**os.environ, **environment}, start_new_session=True,
                                            preexec_fn=terminal_of_its_own if terminal else None)
        except OSError:
            self.close()
            raise
        finally:
            for descriptor in set(inherited):
                os.close(descriptor)
        self.end = os.pidfd_open(self.process.pid)
        for descriptor in {self.input, *self.outputs}:
            os.set_blocking(descriptor, False)

    def write(self):
        """As much as it takes now; whether that was all."""
        try:
            while self.to_write and self.input is not None:
                self.to_write = self.to_write[os.write(self.input, self.to_write):]
        except BlockingIOError:
            return False
        except OSError:
            self.to_write = b""  # it reads no more
        if self.closing and self.input not in (None, *self.outputs):
            os.close(self.input)
            self.input = None
        return True

    def close(self):
        for descriptor in {self.input, *self.outputs} - {None}:
            os.close(descriptor)


class Agent:
    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.programs = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(source, selectors.EVENT_READ, self.asked)
        self.received = b""
        self.ended = False

    def say(self, **message):
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self.sink, line):]

    def serve(self):
        self.say(ready=os.cpu_count())
        while not self.ended:
            # A program whose input is full is asked again by the clock: nobody sends so much that it would matter.
            full = [name for name, program in self.programs.items() if program.to_write]
            for key, _ in self.selector.select(0.01 if full else None):
                # What was done for one event may have closed the descriptor of the next.
                if self.selector.get_map().get(key.fd) == key:
                    key.data()
            for name in full:
                if name in self.programs:
                    self.programs[name].write()
        for program in self.programs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)

    def asked(self):
        data = os.read(self.source, CHUNK)
        self.ended = not data
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            self.obey(json.loads(line))

    def obey(self, message):
        name = message["id"]
        if "start" in message:
            self.start(name, message)
        elif name in self.programs:  # else it has ended while this was on its way
            program = self.programs[name]
            program.to_write += base64.b64decode(message.get("write", ""))
            program.closing = program.closing or "close" in message
            program.write()
            if "signal" in message:
                program.process.send_signal(message["signal"])

    def start(self, name, message):
        try:
            program = Program(message["start"], message.get("terminal", False), message.get("environment", {}))
        except OSError as error:
            self.say(id=name, exit=127, reason=str(error))
            return
        self.programs[name] = program
        self.say(id=name, pid=program.process.pid)
        for descriptor in program.outputs:
            self.selector.register(descriptor, selectors.EVENT_READ, lambda d=descriptor: self.read(name, d))
        self.selector.register(program.end, selectors.EVENT_READ, lambda: self.exited(name))

    def read(self, name, descriptor):
        """Passes a piece of output on; False where there is none now."""
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose last user has gone
        if data:
            self.say(**{"id": name, self.programs[name].outputs[descriptor]: base64.b64encode(data).decode()})
        else:
            self.forget(descriptor)
        return bool(data)

    def forget(self, descriptor):
        if descriptor in self.selector.get_map():
            self.selector.unregister(descriptor)

    def exited(self, name):
        program = self.programs[name]
        for descriptor in program.outputs:
            while self.read(name, descriptor):
                pass
            self.forget(descriptor)
        self.forget(program.end)
        os.close(program.end)
        program.close()
        del self.programs[name]
        self.say(id=name, exit=program.process.wait(), reason="")


def main():
    if len(sys.argv) > 1:
        source = sink = os.open(sys.argv[1], os.O_RDWR)
    else:
        source, sink = 0, os.dup(1)
        os.dup2(2, 1)
    Agent(source, sink).serve()


if __name__ == "__main__":
    main()
