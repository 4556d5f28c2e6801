"""The benchmarks in a small size, so that none of them rots."""

import json
import subprocess
import sys

from node import ROOT


def test_idle_subscribers_are_measured():
    command = [sys.executable, ROOT / "Benchmarks/idle.py", "--subscribers", "50", "--seconds", "1"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    assert result["subscribers"] == 50
    assert result["resident_bytes"] > 1 << 20
    assert result["cpu_us_per_delivery"] < 10_000
