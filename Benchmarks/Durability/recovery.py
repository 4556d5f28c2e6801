#!/usr/bin/env python3
"""How long a node and Redis need with a million items until they serve, and how much memory: after a kill, with their
files out of the page cache, in turn.

    Benchmarks/Durability/recovery.py [--rounds 3] [--items 1000000] [--shards 1,2] [--folder .build/durable]

Items are in 1,000 groups (hashes) and have 100 bytes. Ours comes from its log alone, with segments that hold all of it, and
from what three seconds of further sets leave behind with the default segments, a snapshot and some log. Before it serves it has
written all of it again and synced that. Redis comes from its AOF, and from an RDB file."""

import argparse
import os
import pathlib
import random
import statistics

import servers

GROUPS = 1000


def forget(folder):
    """Takes the files out of the page cache, as after a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fill_node(home, items, sets_for=0.0, **store):
    with servers.node(home, shards=2, **store) as node:
        at_start = node.counters()["snapshots"]
        # All items are set once before the measured part begins.
        result = node.load(home / "out.json", "functions", "--callers", 16, "--groups", GROUPS, "--items", items // GROUPS, "--size", 100,
                           "--in-flight", 16, "--mix", "set=1" if sets_for else "get=1", "--duration", sets_for or 0.1, "--warm-up", 0,
                           "--patience", 300)
        assert result["violationCount"] == 0
        counters = node.counters()
        assert counters["items"] == items and (counters["snapshots"] > at_start) == (sets_for > 0)


def recover_node(home, items, shards, **store):
    forget(home)
    with servers.node(home, shards=shards, **store) as node:
        assert node.counters()["items"] == items
        return node.seconds, servers.peak_bytes(node.process)


def commands(items):
    """HSETs for redis-cli --pipe."""
    chance = random.Random(1)  # Values that an RDB file does not compress to nothing.
    for group in range(GROUPS):
        for item in range(items // GROUPS):
            name, field, value = b"group-%d" % group, b"item-%06d" % item, chance.randbytes(50).hex().encode()
            yield b"*4\r\n$4\r\nHSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$100\r\n%s\r\n" % (len(name), name, len(field), field, value)


AOF = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")


def fill_redis(home, items, *arguments):
    with servers.redis(home, *arguments):
        servers.redis_cli("--pipe", input=b"".join(commands(items)))
        if not arguments:
            servers.redis_cli("save")
        forget(home)  # Synced before the kill.


def recover_redis(home, items, *arguments):
    forget(home)
    with servers.redis(home, *arguments) as process:
        seconds = process.seconds
        assert servers.redis_cli("hlen", "group-0") == str(items // GROUPS) and servers.redis_cli("dbsize") == str(GROUPS)
        return seconds, servers.peak_bytes(process)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=servers.BUILT / "durable", type=pathlib.Path, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--shards", default="1,2")
    arguments = parser.parse_args()
    folder, items = arguments.folder.resolve() / "recovery", arguments.items
    homes = {name: servers.empty(folder / name) for name in ("log", "snapshot", "aof", "rdb")}
    whole = {"segment_bytes": max(64 * items, 1 << 20)}  # Twice this would be compacted, and each of two shards has 106 bytes for each item.
    fill_node(homes["log"], items, **whole)
    fill_node(homes["snapshot"], items, sets_for=3)
    fill_redis(homes["aof"], items, *AOF)
    fill_redis(homes["rdb"], items)
    results = {}
    for _ in range(arguments.rounds):
        for shards in map(int, arguments.shards.split(",")):
            for name, store in (("log", whole), ("snapshot", {})):
                # A recovered node writes its files anew: each round begins with those of the fill.
                home = servers.empty(folder / "copy")
                servers.copy(homes[name], home)
                results.setdefault((f"iii-{shards}", name), []).append(recover_node(home, items, shards, **store))
        for name, options in (("aof", AOF), ("rdb", ())):
            results.setdefault(("redis", name), []).append(recover_redis(homes[name], items, *options))
    for (side, name), measured in results.items():
        seconds = sorted(second for second, _ in measured)
        memory = statistics.median(peak for _, peak in measured)
        print(f"{side} from {name}: {statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), peak "
              f"{memory / 2**20:.0f} MiB, {size(homes[name]) / 2**20:.0f} MiB of files")
    servers.empty(folder)


if __name__ == "__main__":
    main()
