#!/usr/bin/env python3
"""`./dev test`: every check of the project, one after another, counted in test cases.

A case is a doctest or pytest case, a rule of the lint, a fuzzer, a build, or a test program without
cases of its own. The last line is "N passed, N failed, N skipped".
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree

import fuzz
import lint

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
BUILD = ROOT / "build"
SANITIZED = ROOT / "build-asan"
THREADS = ROOT / "build-tsan"

GUESTS = "tests/guest"
ANOTHER_MACHINE = ["--reruns", "3", "-rR"]

# Times meson's 30 s for a test program: against hangs, on the slowest machine.
HANG_GUARD = 40
FUZZ_SECONDS = 60
FUZZERS_AT_A_TIME = 2
TAIL_LINES = 40


class Tally:
    """Cases, counted; names of those that need a person's eyes."""

    def __init__(self):
        self.passed = 0
        self.failed = []   # names
        self.skipped = []  # "name: reason"

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def summary(self):
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"


def one_case(name, passed):
    tally = Tally()
    if passed:
        tally.passed = 1
    else:
        tally.failed.append(name)
    return tally


def say(text=""):
    print(text, flush=True)


def show_tail(log):
    lines = log.read_text(errors="replace").splitlines()
    for line in lines[-TAIL_LINES:]:
        say(f"    {line}")
    say(f"    (all of it: {log.relative_to(ROOT)})")


def start_logged(command, log, environment=None):
    """The process; both its outputs go to the log."""
    with open(log, "wb") as output:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                env={**os.environ, **(environment or {})})


def run_logged(command, log, environment=None):
    """The exit code; both outputs go to the log."""
    return start_logged(command, log, environment).wait()


# --- steps: each returns a Tally ---

def step_lint():
    tally = Tally()
    for rule, findings in lint.run_rules().items():
        tally.add(one_case(f"lint: {rule}", not findings))
        for finding in findings[:TAIL_LINES]:
            say(f"    {finding}")
    return tally


class Build:
    """A build, running since it was made; step() waits for its end."""

    def __init__(self, name, *options, niceness=0):
        self.name = name
        self.log = LOGS / f"{name.replace(' ', '-')}.log"
        self.process = start_logged(["nice", "-n", str(niceness), "./dev", "build", *options], self.log)

    def step(self):
        passed = self.process.wait() == 0
        if not passed:
            show_tail(self.log)
        return one_case(self.name, passed)


DOCTEST_SUMMARY = re.compile(
    r"\[doctest\] test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped")
DOCTEST_FAILED_CASE = re.compile(r"^TEST CASE:\s+(.*)$", re.MULTILINE)
SKIPPED_CASE = re.compile(r"^skipped: (.+)$", re.MULTILINE)
EXIT_CODE_OF_SKIPPED = 77


def doctest_tally(program, output, summary, exit_code):
    """The cases of a doctest program that ran to its end."""
    tally = Tally()
    failed = int(summary.group(3))
    named = list(dict.fromkeys(DOCTEST_FAILED_CASE.findall(output)))[:failed]
    named += [f"case {index + 1}" for index in range(len(named), failed)]
    tally.failed = [f"{program}: {name}" for name in named]
    if exit_code != 0 and not failed:
        tally.failed.append(f"{program}: exit code {exit_code}")
    # A case that skips itself says so and counts as passed for doctest.
    own = [f"{program}: {name}" for name in dict.fromkeys(SKIPPED_CASE.findall(output))]
    tally.passed = int(summary.group(2)) - len(own)
    tally.skipped = own + [f"{program}: decorated to be skipped"] * int(summary.group(4))
    return tally


def program_tally(build_name, result):
    """One line of meson's testlog.json."""
    program = f"{build_name}/{result['name'].split(' / ')[-1]}"
    output, exit_code = result.get("stdout", ""), result["returncode"]
    summary = DOCTEST_SUMMARY.search(output)
    if summary and result["result"] != "TIMEOUT":
        return doctest_tally(program, output, summary, exit_code)
    if exit_code == EXIT_CODE_OF_SKIPPED:
        tally = Tally()
        tally.skipped.append(f"{program}: exit code {EXIT_CODE_OF_SKIPPED}")
        return tally
    return one_case(f"{program}: {result['result']}", result["result"] == "OK")


def show_failed_program(result):
    say(f"    {result['name']}: {result['result']}")
    for line in (result.get("stdout", "") + result.get("stderr", "")).splitlines()[-TAIL_LINES:]:
        say(f"    {line}")


def step_programs(folder, *command):
    """Meson's tests in a build folder: all of them, or those that the command runs."""
    log = LOGS / f"tests-{folder.name}.log"
    results = folder / "meson-logs" / "testlog.json"
    results.unlink(missing_ok=True)
    command = command or ("meson", "test", "-C", str(folder), "--no-rebuild")
    exit_code = run_logged([*command, "--print-errorlogs", "--timeout-multiplier", str(HANG_GUARD)], log,
                           fuzz.SANITIZER_ENVIRONMENT)
    if not results.is_file():
        show_tail(log)
        return one_case(f"{folder.name}: meson test", False)
    tally = Tally()
    for line in results.read_text().splitlines():
        result = json.loads(line)
        program = program_tally(folder.name, result)
        if program.failed:
            show_failed_program(result)
        tally.add(program)
    if exit_code != 0 and not tally.failed:
        tally.add(one_case(f"{folder.name}: meson test", False))
    return tally


def pytest_case_tally(case):
    name = f"{case.get('classname')}::{case.get('name')}"
    tally = Tally()
    skipped = case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None:
        tally.failed.append(name)
    elif skipped is not None:
        tally.skipped.append(f"{name}: {skipped.get('message')}")
    else:
        tally.passed = 1
    return tally


def step_pytest(name, *what):
    log, report = LOGS / f"{name}.log", LOGS / f"{name}.xml"
    report.unlink(missing_ok=True)
    environment = {"VHDKIT_BUILD": str(BUILD), "PYTHONDONTWRITEBYTECODE": "1"}
    exit_code = run_logged([sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider",
                            f"--junitxml={report}", *what], log, environment)
    tally = Tally()
    if report.is_file():
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            tally.add(pytest_case_tally(case))
    if exit_code != 0 and not tally.failed:
        tally.failed.append(f"{name}: exit code {exit_code}")
    if tally.failed:
        show_tail(log)
    return tally


def step_fuzz():
    tally = Tally()
    names = fuzz.fuzzer_names()
    for outcome in fuzz.run_all(names, FUZZ_SECONDS, FUZZERS_AT_A_TIME):
        say(f"    {outcome.summary()}")
        if not outcome.passed:
            say(outcome.details())
        tally.add(one_case(f"fuzz: {outcome.name}", outcome.passed))
    return tally


def timed(title, step, *arguments):
    start = time.monotonic()
    say(f"{title} ...")
    tally = step(*arguments)
    say(f"{title}: {tally.summary()} ({time.monotonic() - start:.0f} s)")
    return tally


def run_steps():
    total = Tally()
    total.add(timed("lint", step_lint))
    gcc = timed("g++ build", Build("g++ build", "--werror").step)
    total.add(gcc)
    if not gcc.failed:
        total.add(timed("tests, g++", step_programs, BUILD))
    # The programs' cases come one after another and leave a processor free.
    clang_build = Build("clang-19 build", "--sanitize", "--werror", niceness=19)
    if not gcc.failed:
        total.add(timed("tests of the programs", step_pytest, "pytest", "tests", f"--ignore={GUESTS}"))
    clang = timed("clang-19 build, sanitizers", clang_build.step)
    total.add(clang)
    if not gcc.failed:
        # Apart: the machine in which guests run takes a processor as long as it is there.
        # In an emulated machine a processor of a guest is lost now and then, whoever runs the guest: a case that fails
        # gets another machine, and is named. One that fails each time has failed.
        total.add(timed("guests", step_pytest, "guests", GUESTS, *ANOTHER_MACHINE))
    if not clang.failed:
        total.add(timed("tests, sanitizers", step_programs, SANITIZED))
        total.add(timed(f"fuzzers, {FUZZ_SECONDS} s each", step_fuzz))
    total.add(timed("threads, thread sanitizer", step_programs, THREADS, "./dev", "threads"))
    return total


def main():
    LOGS.mkdir(parents=True, exist_ok=True)
    total = run_steps()
    say()
    for name in total.skipped:
        say(f"skipped: {name}")
    for name in total.failed:
        say(f"failed: {name}")
    say(total.summary())
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
