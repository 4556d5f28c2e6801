#!/usr/bin/env python3
"""What memory a node takes: of a stored item, after an hour's worth of churn, of an idle connection.

    Benchmarks/memory.py [--only items,churn,idle] [--small] [--live-mib 128] [--operations N] [--seed N] [--json FILE]

Starts nodes of its own (.build/release/iii-stream, or III_NODE), in memory, one shard. All numbers are growth of the
process's resident set, so the kernel's share of a socket is not in them.

An hour is 3.6 million operations: 1,000 a second. They come in twelve parts of one mix of sizes each, six mixes in
turn, sizes spread evenly over their logarithm. A quarter of the sets goes to items that are there; over the
limit of live bytes random items are deleted. `live` are the bytes of keys and values and 64 more an item; `fresh` is
what a new node takes that is given, at once, what the other has in the end. The resident set is read right after each
part, without a pause, and once more after a pause.
"""

import argparse
import json
import math
import os
import pathlib
import random
import resource
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Tests/Interop"))

from node import INSTRUMENTED, Node, configuration  # noqa: E402
from raw import Raw, subscribed  # noqa: E402

MIXES = [(16, 65536), (16, 256), (256, 4096), (4096, 65536), (16, 1024), (1024, 16384)]
OVERHEAD = 64
TEXT = b"x" * 65536


class Writer:
    """A worker that sets and deletes items, and asks for no answers but now and then one, to be sure."""

    def __init__(self, node):
        self.raw = Raw(node.worker_port).upgrade()
        self.raw.message()
        self.raw.socket.settimeout(120)
        self.pending, self.size, self.asked = [], 0, 0

    def call(self, function, rest, invocation=b""):
        text = b'{"type":"invokefunction",%s"function_id":"stream::%s","data":{"stream_name":"memory","group_id":"g",%s}}' % (
            invocation,
            function,
            rest,
        )
        # A mask of zeros leaves the text as it is, and costs the node the same.
        size = len(text)
        head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big") if size < 65536 else b"\xff" + size.to_bytes(8, "big")
        self.pending += [b"\x81" + head + bytes(4), text]
        self.size += size
        if self.size > 1 << 20:
            self.flush()

    def set(self, key, size):
        self.call(b"set", b'"item_id":"%08d","data":"%s"' % (key, TEXT[: size - 2]))

    def delete(self, key):
        self.call(b"delete", b'"item_id":"%08d"' % key)

    def flush(self):
        if self.pending:
            self.raw.socket.sendall(b"".join(self.pending))
        self.pending, self.size = [], 0

    def settle(self):
        """Returns when the node has done all that was asked for."""
        self.asked += 1
        name = b'"invocation_id":"00000000-0000-4000-8000-%012d",' % self.asked
        self.call(b"get", b'"item_id":"none"', name)
        self.flush()
        while json.loads(self.raw.message()).get("invocation_id") != name[17:-2].decode():
            pass

    def close(self):
        self.raw.close()


def with_node(body):
    node = Node(tempfile.mkdtemp(), configuration({"shards": 1}))
    try:
        node.start()
        result = body(node)
        node.stop()
        return result
    finally:
        node.kill()


# ---- Items


def items(first, rest):
    """Bytes of a stored item with a key of 8 and a value of 100 bytes: all of a node's growth, and of the last ones."""

    def body(node):
        writer = Writer(node)
        writer.settle()
        empty = node.resident_bytes()
        sizes = []
        for begin, end in ((0, first), (first, first + rest)):
            for key in range(begin, end):
                writer.set(key, 100)
            writer.settle()
            sizes.append(node.resident_bytes())
        writer.close()
        return (sizes[1] - empty) / (first + rest), (sizes[1] - sizes[0]) / rest

    each, slope = with_node(body)
    print(f"memory of a stored item, key of 8 and value of 100 bytes: {each:.0f} B of each of {first + rest}, {slope:.0f} B of each beyond {first} (target ≤ {1.3 * 108 + 64:.0f})")
    return {"count": first + rest, "bytes": each, "slope": slope}


# ---- Churn


class Churn:
    def __init__(self, seed, limit):
        self.random = random.Random(seed)
        self.limit = limit
        self.keys, self.sizes, self.next, self.values = [], {}, 0, 0

    def live(self):
        return self.values + len(self.keys) * (8 + OVERHEAD)

    def part(self, writer, mix, operations):
        low, spread = math.log(mix[0]), math.log(mix[1] / mix[0])
        pick, keys, sizes = self.random.random, self.keys, self.sizes
        while operations > 0:
            operations -= 1
            if self.values > self.limit:
                at = int(pick() * len(keys))
                key, keys[at] = keys[at], keys[-1]
                keys.pop()
                self.values -= sizes.pop(key)
                writer.delete(key)
                continue
            size = int(math.exp(low + pick() * spread))
            if keys and pick() < 0.25:
                key = keys[int(pick() * len(keys))]
                self.values -= sizes[key]
            else:
                key, self.next = self.next, self.next + 1
                keys.append(key)
            sizes[key] = size
            self.values += size
            writer.set(key, size)


def churn(operations, limit, seed):
    parts = []
    state = Churn(seed, limit)

    def body(node):
        writer = Writer(node)
        writer.settle()
        empty = node.resident_bytes()
        for number in range(12):
            mix = MIXES[number % len(MIXES)]
            state.part(writer, mix, operations // 12)
            writer.settle()
            resident = node.resident_bytes() - empty
            parts.append({"mix": mix, "items": len(state.keys), "live": state.live(), "resident": resident, "ratio": resident / state.live()})
            print(f"  sizes {mix[0]:5}–{mix[1]:5}: {len(state.keys):7} items, {state.live() / 2**20:6.1f} MiB live, {resident / 2**20:6.1f} resident, {resident / state.live():.2f}", flush=True)
        cpu = node.cpu_seconds()
        time.sleep(2)
        writer.close()
        return node.resident_bytes() - empty, cpu

    def again(node):
        writer = Writer(node)
        writer.settle()
        empty = node.resident_bytes()
        for key in state.keys:
            writer.set(key, state.sizes[key])
        writer.settle()
        writer.close()
        return node.resident_bytes() - empty

    print(f"churn of {operations} operations, {limit >> 20} MiB of values, seed {seed}")
    later, cpu = with_node(body)
    fresh = with_node(again)
    worst, last = max(part["ratio"] for part in parts), parts[-1]["ratio"]
    result = {"operations": operations, "seed": seed, "parts": parts, "worst": worst, "last": last, "later": later / state.live(), "fresh": fresh, "of_fresh": later / fresh, "cpu_seconds": cpu}
    print(f"resident after churn: {last:.2f} of live, {result['later']:.2f} after a pause, at most {worst:.2f} (target ≤ 1.5); {result['of_fresh']:.2f} of a freshly filled node; {cpu:.1f} CPU-s")
    return result


# ---- Connections


def idle(first, rest):
    """Bytes of an idle connection with its subscription: all of a node's growth, and of the last ones."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def body(node):
        warm = subscribed(node.stream_port, "/stream/memory/group", 1)  # Code that runs for the first time is no memory of a connection.
        time.sleep(1)
        sizes, open_ones = [node.resident_bytes()], warm
        for count in (first, rest):
            open_ones += subscribed(node.stream_port, "/stream/memory/group", count)
            time.sleep(1.5)  # Until they are idle: buffers go back then.
            sizes.append(node.resident_bytes())
        for connection in open_ones:
            connection.close()
        return (sizes[2] - sizes[0]) / (first + rest), (sizes[2] - sizes[1]) / rest

    each, slope = with_node(body)
    print(f"memory of an idle connection: {each:.0f} B of each of {first + rest}, {slope:.0f} B of each beyond {first}")
    return {"count": first + rest, "bytes": each, "slope": slope}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="items,churn,idle")
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--live-mib", type=int)
    parser.add_argument("--operations", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--json")
    options = parser.parse_args()
    assert not INSTRUMENTED, "a sanitizer's memory says nothing"
    small = options.small
    parts = {
        # Tables double at powers of two: both counts are at the same place between two.
        "items": lambda: items(120_000, 120_000) if small else items(500_000, 500_000),
        "churn": lambda: churn(options.operations or (360_000 if small else 3_600_000), (options.live_mib or (32 if small else 128)) << 20, options.seed),
        "idle": lambda: idle(2000, 2000) if small else idle(5000, 5000),
    }
    result = {name: parts[name]() for name in options.only.split(",")}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


main()
