#!/usr/bin/env python3
"""Runs the fuzzers of build-asan/fuzz for a while, each from its corpus in fuzz/corpus."""
import argparse
import base64
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-asan"
FINDINGS = BUILD / "findings"
LOGS = ROOT / "build" / "logs"

# No input may cost more than this: what a parser allocates must be justified by its file.
ALLOCATION_LIMIT_MIB = 256
# For one input, with sanitizers on a busy machine: a hang, not a slow run.
HANG_SECONDS = 30

# For every program of the sanitizers' build: a finding ends it, with names in its stack.
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:external_symbolizer_path=/usr/bin/llvm-symbolizer-19",
    "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-19",
    "UBSAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-19",
}


class Outcome:
    """One fuzzer's run: what it executed and what it found."""

    def __init__(self, name, exit_code, log):
        text = log.read_text(errors="replace")
        executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
        covered = re.findall(r"\bcov: (\d+)", text)
        self.name = name
        self.log = log
        self.passed = exit_code == 0
        self.executed = int(executed.group(1)) if executed else 0
        self.covered = int(covered[-1]) if covered else 0
        reproducer = re.findall(r"Test unit written to (\S+)", text)
        self.reproducer = pathlib.Path(reproducer[-1]) if reproducer else None

    def summary(self):
        figures = f"{self.name}: {self.executed} executions, {self.covered} edges"
        return figures if self.passed else f"{figures}, FAILED"

    def details(self):
        """For a finding: the end of the log, where the input is, and the input itself."""
        lines = self.log.read_text(errors="replace").splitlines()[-40:]
        if self.reproducer and self.reproducer.is_file():
            lines.append(f"reproducer: {self.reproducer}")
            lines.append("base64: " + base64.b64encode(self.reproducer.read_bytes()).decode())
        return "\n".join(lines)


def fuzzer_names():
    sources = {path.stem for path in (ROOT / "fuzz").glob("*.cpp")}
    return sorted(name for name in sources if (BUILD / "fuzz" / f"fuzz_{name}").is_file())


def run(name, seconds):
    findings = FINDINGS / name
    findings.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    corpus = ROOT / "fuzz" / "corpus" / name
    log = LOGS / f"fuzz-{name}.log"
    with tempfile.TemporaryDirectory(prefix="vhdkit-fuzz-") as scratch, open(log, "wb") as output:
        command = [str(BUILD / "fuzz" / f"fuzz_{name}"), scratch, *([str(corpus)] if corpus.is_dir() else []),
                   f"-max_total_time={seconds}", f"-timeout={HANG_SECONDS}", "-print_final_stats=1",
                   f"-malloc_limit_mb={ALLOCATION_LIMIT_MIB}", f"-artifact_prefix={findings}/"]
        finished = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=subprocess.STDOUT, env={**os.environ, **SANITIZER_ENVIRONMENT})
    return Outcome(name, finished.returncode, log)


def run_all(names, seconds, jobs):
    """Yields each fuzzer's Outcome as it ends."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(run, name, seconds) for name in names]
        for ended in concurrent.futures.as_completed(pending):
            yield ended.result()


def main():
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(fuzzer_names())}")
    parser.add_argument("--seconds", type=int, default=60, help="for each fuzzer (60)")
    parser.add_argument("--jobs", type=int, default=2, help="fuzzers at a time (2)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(fuzzer_names()))
    if unknown:
        parser.error(f"no fuzzer {', '.join(unknown)}; there are: {', '.join(fuzzer_names())}")
    failed = False
    for outcome in run_all(arguments.names or fuzzer_names(), arguments.seconds, arguments.jobs):
        print(outcome.summary(), flush=True)
        if not outcome.passed:
            failed = True
            print(outcome.details(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
