#!/usr/bin/env python3
"""`stream::set` with 16 in flight on 100 connections against Redis HSET at the same pipelining, in pairs.
HSET is driven by redis-benchmark: 100 connections, 16 in flight, the same 64 bytes. Server CPU-µs each."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import types

import pairs

COUNT = 1_000_000


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hset(measurement, redis):
    server = redis.start(measurement.options.server_core, measurement.folder)
    try:
        before = cpu_seconds(server.process.pid)
        load = ["redis-benchmark", "-p", redis.port, "-c", 100, "-P", 16, "-n", COUNT, "-r", 100, "-q"]
        command = ["taskset", "-c", measurement.options.load_core, *load, "hset", "h", "f__rand_int__", "x" * 64]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        return (cpu_seconds(server.process.pid) - before) * 1e6 / COUNT
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    redis = pairs.peers()["redis"]
    if not redis or not shutil.which("redis-benchmark"):
        sys.exit("redis-server or redis-benchmark is not here")
    measurement = pairs.Measurement(types.SimpleNamespace(server_core=0, load_core=1, seconds=2, pairs=options.pairs))
    arguments, _, name = pairs.CASES["set-16"]
    ours, theirs = [], []
    for _ in range(options.pairs):
        ours.append(measurement.once(pairs.Ours(), arguments, name)[0])
        theirs.append(hset(measurement, redis))
    ratios = [a / b for a, b in zip(ours, theirs)]
    met = "✓" if statistics.median(ratios) <= 0.45 else "✗"
    print(f"| set-16 vs Redis HSET | {pairs.spread(ours)} | {pairs.spread(theirs)} | {pairs.spread(ratios, 2)} | ≤ 0.45 {met} | |")


if __name__ == "__main__":
    main()
