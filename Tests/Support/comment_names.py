#!/usr/bin/env python3
"""Finds names in the comments of the C core that no longer exist: a name that was changed, a function that has gone.

Names are words_with_underscores, words in backquotes that could be identifiers, and files of C. A file must be there. A word
must stand in the code of the project, outside of comments: as an identifier of C or Swift, or in a string, as a word of the
wire or a key of the configuration does. What only the system or another project names is listed in .ci/comment-names.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A comment, or what could look like one without being it.
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
QUOTED = re.compile(r"`([A-Za-z_][A-Za-z0-9_]*)(?:\(\))?`")
SNAKE = re.compile(r"(?<![\w`.*…-])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w*…]|\.[ch]\b)")
FILE = re.compile(r"(?<![\w*])\w+\.[ch]\b")


def is_comment(text):
    return text.startswith(("//", "/*"))


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def without_comments(text):
    return TOKEN.sub(lambda found: " " if is_comment(found[0]) else found[0], text)


def comments(text):
    """The comments of a file as (line, text)."""
    for found in TOKEN.finditer(text):
        if is_comment(found[0]):
            first = text.count("\n", 0, found.start()) + 1
            for offset, line in enumerate(found[0].split("\n")):
                yield first + offset, line


def main():
    known = set(WORD.findall((ROOT / ".ci/comment-names").read_text()))
    for path in tracked("*.c", "*.h", "*.swift"):
        known.update(WORD.findall(without_comments(path.read_text())))
    files = {path.name for path in tracked("*.c", "*.h")}
    status = 0
    for path in tracked("CSources/*.c", "CSources/*.h"):
        for line, text in comments(path.read_text()):
            names = [name for name in [*QUOTED.findall(text), *SNAKE.findall(text)] if name not in known]
            names += [name for name in FILE.findall(text) if name not in files]
            if "<" not in text:  # A header of the system.
                for name in names:
                    print(f"{path.relative_to(ROOT)}:{line}: {name}")
                    status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
