#!/usr/bin/env python3
"""Durable sets: this node with `durability: commit`, Redis with `appendfsync always`, and the bare fdatasync of the
same disk, in turn, round after round, since a disk is not the same from one minute to the next.

    Benchmarks/Durability/durable.py [--rounds 5] [--seconds 3] [--cores 0,1] [--poll 100] [--folder .build/durable]

Without --cores the scheduler places servers and generators, on both sides. With --poll our node (`poll_us`) and our
generator look for work that long before they sleep; Redis and its generator cannot.

One line of JSON a measurement, then medians, and the range of what is a ratio of one round."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import time


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


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on(core):
    return [] if core is None else ["taskset", "-c", core]


def redis(folder, cores, clients, pipeline, seconds, guess):
    home = folder / "redis"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    server = subprocess.Popen(
        [*on(cores[0]), "redis-server", "--port", "7899", "--bind", "127.0.0.1", "--dir", home, "--appendonly", "yes",
         "--appendfsync", "always", "--save", ""], stdout=subprocess.DEVNULL)
    try:
        while subprocess.run(["redis-cli", "-p", "7899", "ping"], capture_output=True).stdout != b"PONG\n":
            time.sleep(0.05)
        count = max(2000, int(guess * seconds))
        before = cpu_seconds(server.pid)
        done = subprocess.run(
            [*on(cores[1]), "redis-benchmark", "-p", "7899", "-c", str(clients), "-P", str(pipeline), "-n", str(count),
             "-r", "100000", "-d", "100", "-t", "hset", "--csv"], capture_output=True, text=True, check=True)
        cpu = cpu_seconds(server.pid) - before
        fields = [field.strip('"') for field in done.stdout.splitlines()[-1].split(",")]
        return {"side": "redis", "clients": clients, "pipeline": pipeline, "rate": round(float(fields[1])),
                "p50_us": round(float(fields[4]) * 1000), "p99_us": round(float(fields[6]) * 1000),
                "cpu_us": round(cpu * 1e6 / count, 2)}
    finally:
        server.kill()
        server.wait()


def node(folder, arguments, shards, clients, pipeline, seconds):
    home = folder / "node"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    config = {"workers": [
        {"name": "iii-stream", "config": {"host": "127.0.0.1", "port": 0, "shards": shards, "poll_us": arguments.poll, "adapter": {
            "name": "kv", "config": {"store_method": "file_based", "file_path": str(home / "store")}}}},
        {"name": "iii-worker-manager", "config": {"host": "127.0.0.1", "port": 0}}]}
    (home / "config.yaml").write_text(json.dumps(config))
    server = subprocess.Popen([*on(arguments.cores[0]), arguments.node, "--config", home / "config.yaml"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            record = json.loads(line)
            if record["event"] == "listening":
                break
        subprocess.run(
            [*on(arguments.cores[1]), arguments.load, "functions", "--target", f"ws://{record['stream']}", "--workers",
             f"ws://{record['workers'][0]}", "--server-pid", str(server.pid), "--callers", str(clients),
             "--groups", str(clients), "--items", "100", "--size", "100", "--in-flight", str(pipeline),
             "--mix", "set=1", "--duration", str(seconds), "--warm-up", "1", "--poll",
             str(arguments.poll), "--quiet", "--json", home / "out.json"], check=True, stdout=subprocess.DEVNULL)
        result = json.loads((home / "out.json").read_text())
        work = result["works"][0]
        latency = work["latencies"]["set"]
        return {"side": f"iii-{shards}" + (" polling" if arguments.poll else ""), "clients": clients, "pipeline": pipeline,
                "rate": round(work["counts"]["answers"] / result["seconds"]), "p50_us": round(latency["p50"]),
                "p99_us": round(latency["p99"]), "cpu_us": round(result["server"]["perAnswer"], 2)}
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stderr.close()


KEYS = ("side", "clients", "pipeline")


def middle(lines, name):
    """The median, and for a ratio the range."""
    values = sorted(line[name] for line in lines)
    median = round(statistics.median(values), 2)
    return f"{median} ({values[0]} to {values[-1]})" if "_to_" in f"_{name}" else median


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built = pathlib.Path(__file__).resolve().parents[2] / ".build"
    parser.add_argument("--node", default=built / "release/iii-stream")
    parser.add_argument("--load", default=built / "release/iii-stream-bench")
    parser.add_argument("--folder", default=built / "durable", type=pathlib.Path, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--shards", default="1,2")
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
            ours = [node(arguments.folder, arguments, int(shards), clients, pipeline, arguments.seconds)
                    for shards in arguments.shards.split(",")]
            theirs = redis(arguments.folder, arguments.cores, clients, pipeline, arguments.seconds,
                           guess[pipeline] if clients > 1 else guess[1] / 8)
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
