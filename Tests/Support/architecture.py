#!/usr/bin/env python3
"""Draws the house of the C core into ARCHITECTURE.md, or checks that every arrow in it points down.

    architecture.py            draws
    architecture.py --check    fails when an arrow runs up, when a circle of files is too large, and when the picture
                               in ARCHITECTURE.md is not that of the code

A room is a target of CSources, or a folder inside one. An arrow from a room to another one is an include, or a function
or variable of the other room that its code names: clang compiles each file, and nm says what its object defines and
needs.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# The order of the house, from the roof down. An arrow may only run to a lower line; rooms of one line do not know each
# other. A target whose inside has an order has a line for each folder, and for the files beside its folders. Its headers
# for others, `include`, are below all of these: they name nothing of what is behind them.
ORDER = [
    ["CStreamLoad"],
    ["CStreamCore/node"],
    ["CStreamCore/sessions"],
    ["CStreamCore/calls"],
    ["CStreamCore/streams"],
    ["CStreamCore/shard"],
    ["CStreamCore/include"],
    ["CStreamTransport", "CStreamProtocol"],
    ["CStreamStore/log", "CStreamLoop/choose", "CStreamWebSocket", "CStreamJSON", "CStreamTLS"],
    ["CStreamLoop/uring", "CStreamLoop/epoll"],
    ["CStreamStore/state", "CStreamLoop"],
    ["CStreamStore/include", "CStreamLoop/include"],
    ["CStreamProcess", "CStreamBase"],
]
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# Files of a room that may call each other in a circle.
CIRCLE_MAX = 4
BEGIN, END = "<!-- The picture is drawn by `make architecture`. -->", "<!-- End of the picture. -->"


def room_of(path):
    """The room of a file, by its path in CSources."""
    target, *rest = path.parts
    folder = f"{target}/{rest[0]}" if len(rest) > 1 else None
    if folder in RANKS:
        return folder
    return target


def tool(*names):
    """The first of `names` that is there: those of the Swift tool chain come first, as in .ci/fuzz."""
    swift = shutil.which("swift")
    folders = [pathlib.Path(swift).resolve().parent] if swift else []
    for name in names:
        for found in [folder / name for folder in folders] + [shutil.which(name)]:
            if found and os.access(found, os.X_OK):
                return str(found)
    sys.exit(f"architecture: none of these is installed: {', '.join(names)}")


class Code:
    """What the compiler says of CSources: which file includes which, and which file names what of which."""

    def __init__(self, root):
        self.root = root / "CSources"
        self.files = sorted(path.relative_to(self.root) for path in self.root.rglob("*.[ch]"))
        self.sources = [path for path in self.files if path.suffix == ".c"]
        self.folders = sorted({path.parent for path in self.files if path.name.endswith(".h")})
        self.includes = {path: self._includes(path) for path in self.files}
        self._compile()

    def _includes(self, path):
        found = set()
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', (self.root / path).read_text(), re.MULTILINE):
            for folder in [path.parent, *self.folders]:
                other = pathlib.Path(os.path.normpath(folder / name))
                if (self.root / other).is_file():
                    found.add(other)
                    break
        return found

    def _object(self, source, folder, options):
        out = folder / (str(source).replace("/", "-") + ".o")
        seen = out.with_suffix(".d")
        done = subprocess.run([*options, "-MMD", "-MF", seen, "-c", self.root / source, "-o", out], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"architecture: {source} does not compile:\n{done.stderr[-2000:]}")
        headers = {pathlib.Path(os.path.relpath(name, self.root)) for name in re.findall(r"\S+\.h", seen.read_text())}
        self._compare(source, {path for path in headers if not str(path).startswith("..")})
        names = subprocess.run([tool("llvm-nm", "nm"), "-P", out], capture_output=True, text=True, check=True).stdout
        kinds = collections.defaultdict(set)
        for line in names.splitlines():
            name, kind = line.split()[:2]
            kinds["needs" if kind == "U" else "defines" if kind.isupper() else "own"].add(name)
        return kinds

    def _compare(self, source, headers):
        """Our reading of `#include` must find all that the compiler has opened."""
        reached, left = set(), [source]
        while left:
            for other in self.includes[left.pop()] - reached:
                reached.add(other)
                left.append(other)
        if missing := headers - reached:
            sys.exit(f"architecture: {source} includes {', '.join(map(str, sorted(missing)))} in a way that is not read")

    def _compile(self):
        options = [tool("clang", "cc"), "-std=gnu17", "-O0", "-w"]
        options += [f"-I{self.root / folder}" for folder in self.folders]
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: self._object(source, pathlib.Path(folder), options), self.sources))
        homes = {name: source for source, kinds in zip(self.sources, objects) for name in kinds["defines"]}
        self.calls = {
            source: {homes[name]: name for name in sorted(kinds["needs"], reverse=True) if name in homes}
            for source, kinds in zip(self.sources, objects)
        }

    def arrows(self):
        """From each file to each other one that it includes or calls, with the reason."""
        for path, others in self.includes.items():
            for other in sorted(others):
                yield path, other, "includes it"
        for path, others in self.calls.items():
            for other, name in sorted(others.items()):
                yield path, other, f"calls {name}"

    def circles(self, files):
        """Sets of `files` each of which reaches all others of its set by calls, the largest first (Tarjan)."""
        index, low, stack, found = {}, {}, [], []

        def visit(file):
            index[file] = low[file] = len(index)
            stack.append(file)
            for other in sorted(self.calls.get(file, {})):
                if other not in files or other == file:
                    continue
                if other not in index:
                    visit(other)
                    low[file] = min(low[file], low[other])
                elif other in stack:
                    low[file] = min(low[file], index[other])
            if low[file] == index[file]:
                at = stack.index(file)
                found.append(sorted(stack[at:]))
                del stack[at:]

        for file in sorted(files):
            if file not in index:
                visit(file)
        return sorted(found, key=lambda circle: (-len(circle), circle))


def rooms_of(code):
    rooms = collections.defaultdict(list)
    for path in code.files:
        rooms[room_of(path)].append(path)
    return rooms


def arrows_of(code):
    """Rooms and the rooms that they know, each with the files and the reason of one such arrow."""
    found = {}
    for path, other, why in code.arrows():
        pair = room_of(path), room_of(other)
        if pair[0] != pair[1]:
            found.setdefault(pair, (path, other, why))
    return found


def breaches(code):
    for path in sorted(room for room in rooms_of(code) if room not in RANKS):
        yield f"{path}: a room that has no place in the order of {pathlib.Path(__file__).name}"
    for path, other, why in code.arrows():
        above, below = room_of(path), room_of(other)
        known = above in RANKS and below in RANKS
        if known and above != below and RANKS[above] >= RANKS[below]:
            yield f"{path} → {other}: {above} may not know {below} ({path.name} {why})"
    for room, files in sorted(rooms_of(code).items()):
        largest = code.circles({path for path in files if path.suffix == ".c"})[:1]
        if largest and len(largest[0]) > CIRCLE_MAX:
            names = ", ".join(path.name for path in largest[0])
            yield f"{room}: {len(largest[0])} files call each other in a circle, at most {CIRCLE_MAX} may: {names}"


def reduced(arrows):
    """Without the arrows that follow from others: what is above knows what is below."""

    def reaches(start, end, left_out):
        seen, left = set(), [start]
        while left:
            at = left.pop()
            for a, b in arrows:
                if a == at and (a, b) != left_out and b not in seen:
                    seen.add(b)
                    left.append(b)
        return end in seen

    return sorted(pair for pair in arrows if not reaches(*pair, pair))


def picture(code):
    arrows = arrows_of(code)
    rooms = rooms_of(code)
    names = sorted(rooms, key=lambda room: (RANKS.get(room, 0), room))
    node = {room: room.replace("/", "_") for room in names}
    lines = ["```mermaid", "graph TD"]
    lines += [f'    {node[room]}["{room}"]' for room in names]
    lines += [f"    {node[a]} --> {node[b]}" for a, b in reduced(arrows)]
    lines += ["```", "", "| room | largest circle of files | knows |", "|---|---|---|"]
    for room in names:
        sources = {path for path in rooms[room] if path.suffix == ".c"}
        largest = max((len(circle) for circle in code.circles(sources)), default=0)
        below = sorted((b for a, b in arrows if a == room), key=lambda other: (RANKS[other], other))
        shown = ", ".join(f"`{other}`" for other in below) or "-"
        lines.append(f"| `{room}` | {largest} | {shown} |")
    return "\n".join(lines)


def drawn(text, code):
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit("architecture: ARCHITECTURE.md has lost the two lines between which the picture stands")
    return f"{before}{BEGIN}\n\n{picture(code)}\n\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something is wrong")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    options = parser.parse_args()
    code = Code(options.root.resolve())
    document = options.root / "ARCHITECTURE.md"
    old = document.read_text()
    new = drawn(old, code)
    if not options.check:
        document.write_text(new)
    problems = list(breaches(code))
    if options.check and new != old:
        problems.append("ARCHITECTURE.md: the picture is not that of the code: make architecture")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
