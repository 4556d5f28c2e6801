#!/usr/bin/env python3
"""What compaction costs those who write: the latency of durable sets with snapshots all the time (segments of 1 MiB) and with
none (1 GiB), in turn.

    Benchmarks/Durability/compaction.py [--pairs 5] [--seconds 5] [--folder .build/durable]

50 clients with 4 sets in flight, values of 200 bytes, 25,000 items, one shard."""

import argparse
import pathlib
import statistics

import servers


def measure(folder, seconds, segment):
    home = servers.empty(folder / "node")
    with servers.node(home, segment_bytes=segment) as node:
        before = node.counters()["snapshots"]
        result = node.load(home / "out.json", "functions", "--callers", 50, "--groups", 50, "--items", 500, "--size", 200,
                           "--in-flight", 4, "--mix", "set=1", "--duration", seconds, "--warm-up", 1)
        latency = result["works"][0]["latencies"]["set"]
        files = sum(path.stat().st_size for path in (home / "store").rglob("*") if path.is_file())
        counters = node.counters()
        return {"p50": latency["p50"], "p99": latency["p99"], "snapshots": counters["snapshots"] - before,
                "rate": result["works"][0]["counts"]["answers"] / result["seconds"], "files": files,
                "live": counters["value_bytes"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=servers.BUILT / "durable", type=pathlib.Path, help="on the disk to measure")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    pairs = []
    for _ in range(arguments.pairs):
        pairs.append([measure(arguments.folder.resolve(), arguments.seconds, segment) for segment in (1 << 20, 1 << 30)])
    for name, side in (("with snapshots", 0), ("without", 1)):
        p99 = sorted(pair[side]["p99"] for pair in pairs)
        middle = {key: statistics.median(pair[side][key] for pair in pairs) for key in pairs[0][side]}
        print(f"{name} ({middle['snapshots']:.0f}): {middle['rate']:.0f} sets/s, p50 {middle['p50']:.0f} us, p99 "
              f"{middle['p99']:.0f} us ({p99[0]:.0f} to {p99[-1]:.0f}), {middle['files'] / middle['live']:.1f} bytes of files for each of values")
    ratios = sorted(pair[0]["p99"] / pair[1]["p99"] for pair in pairs)
    print(f"p99 with to without: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
