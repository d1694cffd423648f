#!/usr/bin/env python3
"""The rules of this project's source that a compiler does not know. Prints FILE:LINE: RULE: MESSAGE."""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Who may import whom. No arrow runs upwards; the two formats do not know each other.
IMPORTS = {
    "support": [],
    "async": ["support"],
    "disk": ["support", "async"],
    "libvhd": ["support", "async", "disk"],
    "vhdx": ["support", "async", "disk"],
    "image": ["support", "async", "disk", "libvhd", "vhdx"],
    "vmbus": ["support", "async"],
    "vsp-storage": ["support", "async", "disk", "vmbus"],
    "tools": ["support", "async", "disk", "image"],
    "fuse": ["support", "async", "disk", "image", "tools"],
    "hypervisor": ["support", "async", "disk", "image", "vmbus", "vsp-storage", "tools"],
}
EVERYTHING = list(IMPORTS)
UNBOUND = {"tests": EVERYTHING, "bench": EVERYTHING, "fuzz": EVERYTHING}

FUNCTION_LINES = 70
TEST_FUNCTION_LINES = 100  # a test's table of cases stands in its function
FILE_LINES = 500
TEST_FILE_LINES = 800
README_LINES = 20


class Source:
    """A text file, its lines, and its code with comments, strings and directives blanked out."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.room = self.name.split("/")[0] if "/" in self.name else ""
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.splitlines()
        self.is_header = path.suffix == ".h"
        self.is_cpp = path.suffix in (".h", ".cpp")
        self.is_test = path.stem.endswith("_test") or self.room in ("tests", "fuzz")
        self.code = blanked(self.text) if self.is_cpp else ""

    def line_of(self, position):
        return self.text.count("\n", 0, position) + 1


LITERALS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^(\n]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.DOTALL | re.MULTILINE)


def blanked(text):
    return LITERALS.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def sources():
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "build", "__pycache__", "corpus")))
        for name in sorted(names):
            path = pathlib.Path(folder, name)
            if path.suffix in (".h", ".cpp", ".py", ".sh", ".md", ".build") or name == "dev":
                found.append(Source(path))
    return found


# Each rule takes all sources and yields (file name, line, message).

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def may_import(source):
    if source.room in UNBOUND:
        return [source.room, "tests"] + UNBOUND[source.room]
    allowed = [source.room] + IMPORTS.get(source.room, [])
    return allowed + ["tests"] if source.is_test else allowed


def rule_imports(files):
    """Includes are "room/file.h" and follow the table of rooms."""
    for source in filter(lambda s: s.is_cpp, files):
        for match in INCLUDE.finditer(source.text):
            line, target = source.line_of(match.start()), match.group(2)
            room = target.split("/")[0] if "/" in target else ""
            if match.group(1) == "<":
                if (ROOT / target).is_file():
                    yield source.name, line, f'write "{target}": it is our own file'
            elif not (ROOT / target).is_file():
                yield source.name, line, f'"{target}" is no file of this project, counted from its root'
            elif room not in may_import(source):
                yield source.name, line, f"{source.room}/ may not import {room}/"


def rule_format(files):
    """clang-format-19 has nothing to change."""
    names = [s.name for s in files if s.is_cpp]
    output = subprocess.run(["clang-format-19", "--dry-run", "-Werror", *names], cwd=ROOT, check=False,
                            capture_output=True, text=True)
    found = re.findall(r"^(.+?):(\d+):\d+: error: ", output.stderr, re.MULTILINE)
    for name, line in found:
        yield name, int(line), "clang-format-19 would change this"
    if output.returncode != 0 and not found:
        yield "clang-format-19", 0, output.stderr.strip()


def closing(code, position):
    """Where the brace that opens at position is closed."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(code, position):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    return len(code)


CONTAINER = re.compile(r"\b(namespace|class|struct|union|extern)\b")


def functions(code):
    """Start and end of every function body, with its head: a heuristic over braces."""
    position, head_start, start = 0, 0, None
    while match := re.compile(r"[;{}]").search(code, position):
        position = match.end()
        head = code[head_start:match.start()]
        if match.group() == "{":
            stripped = head.strip()
            goes_on = start is not None and (not stripped or stripped[0] == ",")  # member initialisers
            if "(" not in head and not goes_on and CONTAINER.search(head):
                head_start = position
                continue
            end = closing(code, match.start())
            if "(" in head or goes_on:
                start = start if goes_on else head_start + len(head) - len(head.lstrip())
                yield start, end
            position = end + 1
        else:
            start = None
        head_start = position


def rule_function_length(files):
    """Functions have at most 70 lines, tests with their tables 100."""
    for source in filter(lambda s: s.is_cpp, files):
        limit = TEST_FUNCTION_LINES if source.is_test else FUNCTION_LINES
        for start, end in functions(source.code):
            count = source.code.count("\n", start, end) + 1
            if count > limit:
                yield source.name, source.line_of(start), f"function of {count} lines; at most {limit}"


def rule_file_length(files):
    """Files have at most 500 lines, tests 800."""
    for source in filter(lambda s: s.is_cpp or s.path.suffix in (".py", ".sh"), files):
        limit = TEST_FILE_LINES if source.is_test else FILE_LINES
        if len(source.lines) > limit:
            yield source.name, limit + 1, f"{len(source.lines)} lines; at most {limit}"


def awaited(code, position):
    """The expression behind a co_await: up to the semicolon or the bracket that it stands in."""
    depth = 0
    for index in range(position, len(code)):
        character = code[index]
        depth += (character in "([{") - (character in ")]}")
        if depth < 0 or character == ";":
            return code[position:index]
    return code[position:]


def await_fault(before, expression):
    if "{" in expression:
        return "braces behind co_await: name the value first (g++ 12 destroys it twice)"
    if re.search(r"(?:^|[^\w)\]\s])\s*\[", expression):
        return "a lambda behind co_await: name it first (g++ 12 destroys it twice)"
    if "co_await" in expression or "co_await" in before:
        return "one co_await per statement"
    if re.search(r"\?", before):
        return "co_await in a conditional expression: use if"
    return None


def rule_await(files):
    """One co_await per statement; its arguments have no braces and no lambdas."""
    for source in filter(lambda s: s.is_cpp, files):
        for match in re.finditer(r"\bco_await\b", source.code):
            before = re.split(r"[;{}]", source.code[:match.start()])[-1]
            if before.rstrip().endswith("operator"):
                continue
            if fault := await_fault(before, awaited(source.code, match.end())):
                yield source.name, source.line_of(match.start()), fault


UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def rule_unfinished(files):
    """No notes of unfinished work."""
    for source in files:
        for match in UNFINISHED.finditer(source.text):
            yield source.name, source.line_of(match.start()), f"{match.group()}: do it, or write an issue"


def rule_dead_file(files):
    """Every .cpp stands in its folder's meson.build, every .h is included by somebody."""
    included = {m.group(2) for s in files if s.is_cpp for m in INCLUDE.finditer(s.text)}
    for source in filter(lambda s: s.is_cpp, files):
        build = source.path.parent / "meson.build"
        listed = build.is_file() and re.search(rf"'{re.escape(source.path.stem)}(\.cpp)?'", build.read_text())
        if source.is_header and source.name not in included:
            yield source.name, 1, "nobody includes this header"
        if not source.is_header and not listed:
            yield source.name, 1, f"not in {build.relative_to(ROOT)}"


def rule_header(files):
    """Headers begin with a comment that says what they are, and have #pragma once."""
    for source in filter(lambda s: s.is_header, files):
        if not source.text.startswith("// "):
            yield source.name, 1, "begin with a comment: what is this, in a sentence?"
        if "#pragma once" not in source.lines:
            yield source.name, 1, "no #pragma once"


def rule_fmt_in_header(files):
    """Headers do not include fmt: it is slow to compile."""
    for source in filter(lambda s: s.is_header, files):
        for match in INCLUDE.finditer(source.text):
            if match.group(2).startswith("fmt/"):
                yield source.name, source.line_of(match.start()), "include fmt in the .cpp"


def rule_using_namespace(files):
    """No using-directives in headers; in .cpp files none for std or vhdkit as a whole."""
    for source in filter(lambda s: s.is_cpp, files):
        for match in re.finditer(r"\busing\s+namespace\s+([\w:]+)", source.code):
            if source.is_header or match.group(1) in ("std", "vhdkit"):
                yield source.name, source.line_of(match.start()), "name what is used"


def rule_exceptions_rtti(files):
    """Nothing of ours throws or asks for dynamic types."""
    for source in filter(lambda s: s.is_cpp, files):
        for match in re.finditer(r"\b(throw|dynamic_cast|typeid)\b", source.code):
            if source.text[match.end():].lstrip().startswith('"'):
                continue  # how a consteval function says that its argument is wrong
            yield source.name, source.line_of(match.start()), "return a Result; use a virtual function"


def rule_room_readme(files):
    """Every room has a README of at most 20 lines."""
    rooms = {s.room for s in files if s.is_cpp and s.room}
    for room in sorted(rooms):
        readme = ROOT / room / "README.md"
        count = len(readme.read_text().splitlines()) if readme.is_file() else 0
        if not 1 <= count <= README_LINES:
            yield f"{room}/README.md", 1, f"{count} lines; 1 to {README_LINES}"


RULES = [rule_imports, rule_format, rule_function_length, rule_file_length, rule_await, rule_unfinished,
         rule_dead_file, rule_header, rule_fmt_in_header, rule_using_namespace, rule_exceptions_rtti,
         rule_room_readme]


def run_rules():
    """Rule name -> its findings as lines of text."""
    files = sources()
    results = {}
    for rule in RULES:
        name = rule.__name__.removeprefix("rule_").replace("_", "-")
        results[name] = [f"{file}:{line}: {name}: {message}" for file, line, message in rule(files)]
    return results


def run_tidy():
    """clang-tidy over every compiled file of build-asan; returns its warnings."""
    def tidy(source):
        command = ["clang-tidy-19", "-p", "build-asan", "--quiet", source.name]
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout

    files = [s for s in sources() if s.path.suffix == ".cpp"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        output = "".join(pool.map(tidy, files))
    warnings = re.findall(r"^/.*?: (?:warning|error): .*$", output, re.MULTILINE)
    return sorted({line.replace(f"{ROOT}/", "") for line in warnings})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tidy", action="store_true", help="run clang-tidy-19 too: slow")
    arguments = parser.parse_args()
    results = run_rules()
    if arguments.tidy:
        results["tidy"] = run_tidy()
    for findings in results.values():
        for finding in findings:
            print(finding)
    broken = [name for name, findings in results.items() if findings]
    print(f"{len(results)} rules, {len(broken)} broken" + (f": {', '.join(broken)}" if broken else ""))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
