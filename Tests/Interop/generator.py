"""The load generator, run against a node."""

import json
import os
import pathlib
import subprocess

import certificates
from node import ROOT

BENCH = pathlib.Path(os.environ.get("III_BENCH", ROOT / ".build/release/iii-stream-bench"))


def bench(node, tmp_path, *arguments, target=None, code=0):
    """Runs the load generator against the node; returns its result, or its words when it wrote none."""
    result = tmp_path / "result.json"
    done = subprocess.run(
        [
            *[BENCH, *arguments, "--json", result],
            *["--target", node.url(target or node.stream_port, "")],
            *["--workers", node.url(node.worker_port, "")],
            *(["--ca", certificates.authority().cert] if node.stream_port in certificates.secure_ports else []),
            *["--server-pid", str(node.process.pid)],
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=25,
    )
    assert done.returncode == code, done.stdout
    return json.loads(result.read_text()) if result.exists() else done.stdout
