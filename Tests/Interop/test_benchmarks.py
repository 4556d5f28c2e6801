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


def test_isolation_is_measured(tmp_path):
    result = tmp_path / "result.json"
    command = [sys.executable, ROOT / "Benchmarks/isolation.py", "--small", "--json", result]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    cases = json.loads(result.read_text())
    assert set(cases) == {"nothing", "list", "fan", "join"}
    for name, rounds in cases.items():
        for p50, p99, longest, meanwhile in rounds:
            assert 0 < p50 <= p99 <= longest
            assert name == "nothing" or int(meanwhile.split()[0]) > 0, f"{name}: {meanwhile}"
