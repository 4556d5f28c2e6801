"""The benchmarks in a small size, so that none of them rots."""

import json
import shutil
import subprocess
import sys

import pytest

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


def measured(tmp_path, name, *arguments):
    command = [sys.executable, ROOT / "Benchmarks/Durability" / name, "--folder", tmp_path, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_compaction_is_measured(tmp_path):
    said = measured(tmp_path, "compaction.py", "--pairs", "1", "--seconds", "1").splitlines()
    assert said[0].startswith("with snapshots (") and not said[0].startswith("with snapshots (0)")
    assert said[1].startswith("without (0)")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed")
def test_durable_sets_and_recovery_are_measured(tmp_path):
    said = measured(tmp_path, "durable.py", "--rounds", "1", "--seconds", "0.5", "--shards", "1")
    assert {json.loads(line)["side"] for line in said.splitlines()[:7]} == {"iii-1", "redis", "fdatasync"}
    said = measured(tmp_path, "recovery.py", "--rounds", "1", "--items", "300000", "--shards", "2")
    assert len(said.splitlines()) == 4


def test_a_mixed_attack_is_measured(tmp_path):
    result = tmp_path / "result.json"
    command = [sys.executable, ROOT / "Benchmarks/attack.py", "--small", "--json", result]
    subprocess.run(command, stdout=subprocess.DEVNULL)  # Its conditions are told apart below.
    said = json.loads(result.read_text())
    assert said["holds"]["memory"] and said["holds"]["nothing lost"], said
    assert {each["kind"] for each in said["attackers"] if each["bytes"] > 100_000} == {each["kind"] for each in said["attackers"]}
    assert all(said[phase]["changes"] > 100 for phase in ("before", "during", "after"))
    assert said["counters"]["stream_connections"] == said["counters"]["worker_connections"] == 1
