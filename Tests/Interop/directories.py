"""The directory of a store: the commands that look into one, and those that are recorded."""

import json
import subprocess

from node import BINARY, ROOT

VECTORS = ROOT / "Tests/Vectors"


def run(*arguments):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def log_with_batches(folder):
    """The log file with the only group, and the offset of its second batch."""
    lines = [json.loads(line) for line in run("inspect", folder).stdout.splitlines()]
    batches = [line["batch"] for line in lines if "batch" in line and line["batch"]["file"].endswith(".log")]
    name = max({b["file"] for b in batches}, key=lambda name: sum(b["file"] == name for b in batches))
    return folder / name, [b["offset"] for b in batches if b["file"] == name]
