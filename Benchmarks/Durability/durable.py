#!/usr/bin/env python3
"""Durable sets: this node with `durability: commit`, Redis with `appendfsync always`, and the bare fdatasync of the
same disk, in turn, round after round, since a disk is not the same from one minute to the next.

    Benchmarks/Durability/durable.py [--rounds 5] [--seconds 3] [--cores 0,1] [--poll 100] [--folder .build/durable] [--io io_uring,epoll]

Without --cores the scheduler places servers and generators, on both sides. With --poll our node (`poll_us`) and our
generator look for work that long before they sleep; Redis and its generator cannot. With --io our node runs on each of them.

One line of JSON a measurement, then medians, and the range of what is a ratio of one round."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

import servers


def fdatasync(folder, seconds):
    """Syncs a second of 250 bytes written over zeros, and their median and 99th percentile."""
    path = folder / "fdatasync.dat"
    path.write_bytes(bytes(32 << 20))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    took, offset, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        os.pwrite(fd, b"x" * 250, offset)
        os.fdatasync(fd)
        took.append((time.monotonic() - begin) * 1e6)
        offset += 250
    os.close(fd)
    path.unlink()
    took.sort()
    return {"side": "fdatasync", "rate": round(len(took) / sum(took) * 1e6), "p50_us": round(took[len(took) // 2]),
            "p99_us": round(took[len(took) * 99 // 100])}


def against_redis(arguments, clients, pipeline, guess):
    count = max(2000, int(guess * arguments.seconds))
    with servers.redis(servers.empty(arguments.folder / "redis"), "--appendonly", "yes", "--appendfsync", "always",
                       core=arguments.cores[0]) as server:
        before = servers.cpu_seconds(server)
        done = subprocess.run(
            [*servers.on(arguments.cores[1]), "redis-benchmark", "-p", servers.REDIS_PORT, "-c", str(clients), "-P", str(pipeline),
             "-n", str(count), "-r", "100000", "-d", "100", "-t", "hset", "--csv"], capture_output=True, text=True, check=True)
        cpu = servers.cpu_seconds(server) - before
    fields = [field.strip('"') for field in done.stdout.splitlines()[-1].split(",")]
    return {"side": "redis", "clients": clients, "pipeline": pipeline, "rate": round(float(fields[1])),
            "p50_us": round(float(fields[4]) * 1000), "p99_us": round(float(fields[6]) * 1000),
            "cpu_us": round(cpu * 1e6 / count, 2)}


def against_node(arguments, shards, io, clients, pipeline):
    home = servers.empty(arguments.folder / "node")
    with servers.node(home, shards, arguments.poll, arguments.cores[0], arguments.node, io) as node:
        result = node.load(
            home / "out.json", "functions", "--callers", clients, "--groups", clients, "--items", 100, "--size", 100,
            "--in-flight", pipeline, "--mix", "set=1", "--duration", arguments.seconds, "--warm-up", 1, "--poll", arguments.poll,
            core=arguments.cores[1], program=arguments.load)
    work = result["works"][0]
    latency = work["latencies"]["set"]
    side = f"iii-{shards}" + (f" {io}" if io != "auto" else "") + (" polling" if arguments.poll else "")
    return {"side": side, "clients": clients, "pipeline": pipeline,
            "rate": round(work["counts"]["answers"] / result["seconds"]), "p50_us": round(latency["p50"]),
            "p99_us": round(latency["p99"]), "cpu_us": round(result["server"]["perAnswer"], 2)}


KEYS = ("side", "clients", "pipeline")


def middle(lines, name):
    """The median, and for a ratio the range."""
    values = sorted(line[name] for line in lines)
    median = round(statistics.median(values), 2)
    return f"{median} ({values[0]} to {values[-1]})" if "_to_" in f"_{name}" else median


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default=servers.NODE)
    parser.add_argument("--load", default=servers.LOAD)
    parser.add_argument("--folder", default=servers.BUILT / "durable", type=pathlib.Path, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--shards", default="1,2")
    parser.add_argument("--io", default="auto")
    parser.add_argument("--cores", type=lambda text: text.split(","), default=(None, None), metavar="SERVER,LOAD")
    parser.add_argument("--poll", type=int, default=0, metavar="MICROSECONDS")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    arguments.folder = arguments.folder.resolve()
    results = []
    guess = {1: 8000, 16: 100_000}
    for _ in range(arguments.rounds):
        round_of = []
        for clients, pipeline in ((50, 1), (50, 16), (1, 1)):
            if clients == 1:
                bare = fdatasync(arguments.folder, 1)
                round_of.append(bare)
            ours = [against_node(arguments, int(shards), io, clients, pipeline)
                    for shards in arguments.shards.split(",") for io in arguments.io.split(",")]
            theirs = against_redis(arguments, clients, pipeline, guess[pipeline] if clients > 1 else guess[1] / 8)
            if clients > 1:
                guess[pipeline] = theirs["rate"]
            for our in ours:
                our["to_redis"] = round(our["rate"] / theirs["rate"], 2)
            if clients == 1:
                for each in (*ours, theirs):
                    each["p50_to_fdatasync"] = round(each["p50_us"] / bare["p50_us"], 2)
            round_of += [*ours, theirs]
        for line in round_of:
            print(json.dumps(line), flush=True)
        results += round_of
    groups = {}
    for line in results:
        groups.setdefault((line["side"], line.get("clients"), line.get("pipeline")), []).append(line)
    for key, lines in groups.items():
        print(*(part for part in key if part is not None), {name: middle(lines, name) for name in lines[0] if name not in KEYS})


if __name__ == "__main__":
    main()
