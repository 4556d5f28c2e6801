#!/usr/bin/env python3
"""Storms and shards of one node: what no peer is measured beside. --small: a tenth."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "Peers"))
from pairs import BENCH, NODE, Ours  # noqa: E402


class Bench:
    def __init__(self, node, server, folder, core="1"):
        self.node, self.server, self.folder, self.core = node, server, pathlib.Path(folder), core
        self.number = 0

    def command(self, arguments, result):
        stream, worker = self.node.target(arguments[0])
        target = ["--target", stream, "--workers", worker, "--server-pid", self.server.process.pid]
        parts = ["taskset", "-c", self.core, BENCH, *arguments, "--quiet", "--json", result, *target]
        return [str(part) for part in parts]

    def run(self, *arguments, check=True):
        self.number += 1
        result = self.folder / f"result-{self.number}.json"
        done = subprocess.run(self.command(arguments, result), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{' '.join(map(str, arguments))}\n{done.stdout}")
        return json.loads(result.read_text())


def with_node(body, shards=1, cores="0"):
    with tempfile.TemporaryDirectory() as folder:
        node = Ours(shards)
        server = node.start(cores, folder)
        try:
            return body(Bench(node, server, folder))
        finally:
            server.stop()


def storm(scale, rate):
    def body(bench):
        arguments = ["connect", "--subscribers", 10_000 // scale, "--items", 1000, "--rounds", 3]
        result = bench.run(*arguments, *(["--rate", rate] if rate else []))
        for number, each in enumerate(result["rounds"]):
            print(
                f"storm of {each['connections']} joins to 1,000 items, {rate} writes/s, round {number + 1}: all in sync after "
                f"{each['seconds']:.2f} s, {each['syncsParsed']} different syncs, {each['syncBytes'] / 2**20:.0f} MiB, peak "
                f"{each['serverPeak'] / 2**20:.0f} MiB, server {each['serverCPU']:.2f} CPU-s, {each['listenOverflows']} overflows"
            )

    with_node(body)


def restart(scale):
    def body(bench):
        again = bench.folder / "again.sh"
        pid = bench.folder / "again.pid"
        again.write_text(f"echo $$ > {pid}\nexec taskset -c 0 {node_command(bench)}\n")
        arguments = ["fanout", "--subscribers", 10_000 // scale, "--items", 1000, "--rate", 10, "--duration", 4]
        done = subprocess.run(
            [part for part in bench.command([*arguments, "--restart", f"sh {again}"], bench.folder / "r.json") if part != "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        subprocess.run(["kill", pid.read_text().strip()], check=False)
        print(f"restart under {10_000 // scale} subscribers:", next((line.strip() for line in done.stdout.splitlines() if "restart:" in line), done.stdout))

    with_node(body)


def node_command(bench):
    return f"{NODE} --config {bench.folder}/node.yaml"


def shards(scale):
    arguments = ["fanout", "--subscribers", 1000, "--size", 40, "--in-flight", 16, "--duration", 2]
    ratios = []
    for number in range(9 if scale == 1 else 2):
        # Who comes first changes, so that a drift of the machine favours neither.
        values = {}
        for count in (1, 2) if number % 2 == 0 else (2, 1):
            values[count] = with_node(lambda bench: bench.run(*arguments)["server"]["perDelivery"], count)
        ratios.append(values[2] / values[1])
    print(f"two shards on one core, half of the subscribers off the owner's: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) of one shard's CPU a delivery (target ≤ 1.10)")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    scale = 10 if options.small else 1
    parts = {
        "storm": lambda: (storm(scale, 0), storm(scale, 100)),
        "restart": lambda: restart(scale),
        "shards": lambda: shards(scale),
    }
    for name, part in parts.items():
        if not options.only or name in options.only.split(","):
            part()
            sys.stdout.flush()


if __name__ == "__main__":
    main()
