#!/usr/bin/env python3
"""A mixed attack on one shard, and what a probe beside it sees.

    attack.py [--seconds 600] [--quiet-seconds 20] [--node-core 0] [--load-core 1] [--json FILE] [--small]

A probe writes 100 changes a second, and a subscriber reads them: the time of a change counts from when it was due
until the subscriber has it. It runs before, during and after an attack by 4 workers and 24 stream clients at a time,
which stay a second or two each, and of which half end with a reset:

    results      a worker sends results that nobody asked for
    calls        a worker sends void calls: events of 16 KiB, lists, sets
    reads        a worker reads a group of 1 MiB again and again, and takes none of the answers
    logs         a worker sends OTLP log records, 500 a frame
    pings        6 clients send pings, and read nothing
    unfinished   6 clients send fragments of messages that never end
    upgrades     6 clients send heads of 14 KB to paths that join, and go before the answer
    joins        6 clients join and leave in turn, hundreds of groups each, and read nothing

The node has --node-core, all else --load-core, where the probe comes before the attackers. The exit code is 0 when

    p99 of the probe during the attack <= 3 * p99 before, and
    peak of resident memory <= resident memory before + 4 * worker budget + 24 * stream client budget, and
    within --quiet-seconds after the attack memory and connections are what they were before (memory: up to 32 MiB more).

--small: a few seconds, for the tests: the first condition is printed, but decides nothing.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import random
import selectors
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Tests/Interop"))
from node import Node, configuration  # noqa: E402
from raw import HANDSHAKE, PING, Raw, TEXT, frame  # noqa: E402

MIB = 1 << 20
CHANGES_PER_SECOND = 100
WORKER_BUDGET, CLIENT_BUDGET = 64 * MIB, 8 * MIB
WORKERS, CLIENTS = 4, 24
ROOM_AFTER = 32 * MIB


# ---- The probe


class Probe:
    """Changes at a steady pace, and when a subscriber had each."""

    def __init__(self, node):
        self.seen = {}  # By number: when it was due, and how long it took.
        self.sent = 0
        self.ended = threading.Event()
        self.worker = Raw(node.worker_port).upgrade()
        self.subscriber = Raw(node.stream_port).upgrade("/stream/probe/g/i")
        self.subscriber.message()  # `sync`.
        self.began = time.monotonic()
        for run in (self.send, self.read, self.take):
            threading.Thread(target=run, daemon=True).start()

    def due(self, number):
        return self.began + number / CHANGES_PER_SECOND

    def send(self):
        text = '{"type":"invokefunction","invocation_id":"%d","function_id":"stream::set","data":%s}'
        data = '{"stream_name":"probe","group_id":"g","item_id":"i","data":%d}'
        for number in range(1 << 30):
            if self.ended.wait(max(0, self.due(number) - time.monotonic())):
                return
            self.sent = number + 1
            self.worker.send(frame(text % (number, data % number)))

    def read(self):
        self.subscriber.socket.settimeout(None)
        with contextlib.suppress(Exception):  # It is closed at the end.
            while True:
                opcode, payload = self.subscriber.frame()
                if opcode == PING:
                    self.subscriber.send(frame(payload, opcode=10))
                elif opcode == TEXT:
                    number = json.loads(payload)["event"]["data"]
                    self.seen[number] = time.monotonic() - self.due(number)

    def take(self):
        """The answers of the sets; the node closes nobody who reads."""
        self.worker.socket.settimeout(None)
        with contextlib.suppress(Exception):
            while True:
                opcode, payload = self.worker.frame()
                if opcode == PING:
                    self.worker.send(frame(payload, opcode=10))

    def phase(self, seconds, meanwhile=lambda: None):
        """p50, p99 and maximum of the changes of the next seconds. What has not come counts with the time until now."""
        first, end = self.sent, time.monotonic() + seconds
        while time.monotonic() < end:
            meanwhile()
            time.sleep(0.05)
        last, patience = self.sent, time.monotonic() + 5
        while any(number not in self.seen for number in range(first, last)) and time.monotonic() < patience:
            time.sleep(0.01)
        now = time.monotonic()
        took = sorted(self.seen.get(number, now - self.due(number)) for number in range(first, last))
        return {
            "changes": len(took),
            "lost": sum(number not in self.seen for number in range(first, last)),
            "p50_ms": statistics.median(took) * 1000,
            "p99_ms": took[math.ceil(len(took) * 0.99) - 1] * 1000,
            "max_ms": took[-1] * 1000,
        }

    def close(self):
        self.ended.set()
        self.worker.close()
        self.subscriber.close()


# ---- The attackers


def call(function, data, void=True):
    invocation = "" if void else '"invocation_id":"a",'
    return frame(f'{{"type":"invokefunction",{invocation}"function_id":"{function}","data":{json.dumps(data)}}}')


def at(group, **fields):
    return {"stream_name": "attack", "group_id": group, **fields}


def results():
    text = '{"type":"invocationresult","invocation_id":"%032x","function_id":"f","result":"%s"}'
    return b"".join(frame(text % (random.getrandbits(128), "x" * 200)) for _ in range(500))


def calls():
    send = call("stream::send", at("events", event_type="e", data="x" * (16 << 10)))
    change = call("stream::set", at("sets", item_id="i", data="x" * 1000))
    return send * 8 + call("stream::list_all", {}) * 20 + change * 50 + call("engine::functions::list", {}) * 20


def reads():
    return call("stream::list", at("read"), void=False) * 50


def logs():
    record = {"timeUnixNano": "1", "severityNumber": 9, "body": {"stringValue": "attack"}}
    text = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record] * 500}]}]})
    return frame("LOGS" + text, opcode=2)


def pings():
    return frame("x" * 100, opcode=PING) * 500


def unfinished():
    return frame("x" * 1000, final=False) + frame("x" * 1000, opcode=0, final=False) * 60


def joins():
    def message(kind, number):
        data = {"subscriptionId": str(number), "streamName": "attack", "groupId": f"g{number}"}
        return frame(json.dumps({"type": kind, "data": data}))

    return b"".join(message(kind, number) for number in range(200) for kind in ("join", "leave"))


def upgrade(path, padding=0):
    head = HANDSHAKE.format(path=path)
    return (head[:-2] + (f"X-Padding: {'x' * padding}\r\n" if padding else "") + "\r\n").encode()


# Kind: whether it is a worker, how many at a time, the opening, what is sent again and again, once only.
KINDS = {
    "results": (True, 1, upgrade("/"), results, False),
    "calls": (True, 1, upgrade("/"), calls, False),
    "reads": (True, 1, upgrade("/"), reads, False),
    "logs": (True, 1, upgrade("/otel"), logs, False),
    "pings": (False, 6, upgrade("/"), pings, False),
    "unfinished": (False, 6, upgrade("/"), unfinished, True),
    "upgrades": (False, 6, upgrade("/stream/attack/read", 14_000), bytes, True),
    "joins": (False, 6, upgrade("/"), joins, False),
}


class Attacker:
    """One connection of a kind, and the next when it has ended."""

    def __init__(self, selector, port, opening, body, once, stay):
        self.selector, self.port, self.opening, self.once, self.stay = selector, port, opening, once, stay
        self.body, self.socket, self.count, self.sent = memoryview(body), None, 0, 0
        self.begin()

    def begin(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", self.port))
        self.left, self.ends, self.idle = memoryview(self.opening), time.monotonic() + random.uniform(*self.stay), False
        self.count += 1
        self.selector.register(self.socket, selectors.EVENT_WRITE, self)

    def end(self):
        self.selector.unregister(self.socket)
        if self.count % 2:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.begin()

    def write(self):
        try:
            size = self.socket.send(self.left)
        except BlockingIOError:
            return
        except OSError:
            return self.end()  # The node has closed it.
        self.sent += size
        self.left = self.left[size:]
        if not self.left:
            self.left = self.body
            if not self.body or self.idle:
                self.selector.modify(self.socket, selectors.EVENT_READ, self)
            self.idle = self.once

    def run(self, events, now):
        if now > self.ends:
            self.end()
        elif events & selectors.EVENT_WRITE:
            self.write()
        else:
            with contextlib.suppress(BlockingIOError):
                try:
                    gone = not self.socket.recv(65536)
                except ConnectionError:
                    gone = True
                if gone:
                    self.end()


def attack(kind, ports, core, seconds, pipe):
    """The process of a kind. Says how many connections it made, and how many bytes it sent."""
    os.sched_setaffinity(0, {core})
    os.nice(10)
    is_worker, count, opening, body, once = KINDS[kind]
    selector, end = selectors.DefaultSelector(), time.monotonic() + seconds
    stay = (0.02, 0.1) if kind == "upgrades" else (1, 2)
    all = [Attacker(selector, ports[is_worker], opening, body(), once, stay) for _ in range(count)]
    while (now := time.monotonic()) < end:
        ready = selector.select(0.05)
        for key, events in ready:
            key.data.run(events, now)
        for each in all:
            if now > each.ends:
                each.end()
    os.write(pipe, json.dumps({"kind": kind, "connections": sum(a.count for a in all), "bytes": sum(a.sent for a in all)}).encode())


def start(kind, ports, core, seconds):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            attack(kind, ports, core, seconds, writing)
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


def finish(pid, reading):
    with os.fdopen(reading) as pipe:
        said = json.loads(pipe.read() or "null")
    os.waitpid(pid, 0)
    return said


# ---- The run


def state(counters):
    return {name: value for name, value in counters.items() if name in ("stream_connections", "worker_connections")}


def run(node, options):
    with Raw(node.worker_port).upgrade() as worker:
        worker.message()
        for number in range(64):
            worker.send(call("stream::set", at("read", item_id=str(number), data="x" * (16 << 10)), void=False))
            worker.message()
    for thread in os.listdir(f"/proc/{node.process.pid}/task"):
        os.sched_setaffinity(int(thread), {options.node_core})
    os.sched_setaffinity(0, {options.load_core})
    probe = Probe(node)
    probe.phase(min(1, options.quiet_seconds))
    before = probe.phase(options.quiet_seconds)
    base, connections = node.resident_bytes(), state(node.counters())
    ports, peak = (node.stream_port, node.worker_port), [0]

    def look():
        peak[0] = max(peak[0], node.resident_bytes())

    attackers = [start(kind, ports, options.load_core, options.seconds) for kind in KINDS]
    during = probe.phase(options.seconds, look)
    said = [finish(*attacker) for attacker in attackers]
    deadline = time.monotonic() + options.quiet_seconds
    while time.monotonic() < deadline:
        back = node.resident_bytes() <= base + ROOM_AFTER and state(node.counters()) == connections
        if back:
            break
        time.sleep(0.2)
    after = probe.phase(options.quiet_seconds)
    counters, resident = node.counters(), node.resident_bytes()
    probe.close()
    limit = base + WORKERS * WORKER_BUDGET + CLIENTS * CLIENT_BUDGET
    return {
        "before": before,
        "during": during,
        "after": after,
        "attackers": said,
        "resident_mib": {"before": base / MIB, "peak": peak[0] / MIB, "limit": limit / MIB, "after": resident / MIB},
        "counters": {name: value for name, value in counters.items() if isinstance(value, int) and value},
        "holds": {
            "p99": during["p99_ms"] <= 3 * before["p99_ms"],
            "memory": peak[0] <= limit,
            "back": back,
            "nothing lost": before["lost"] + during["lost"] + after["lost"] == 0,
        },
    }


def report(result):
    for phase in ("before", "during", "after"):
        numbers = result[phase]
        print(f"{phase:7} {numbers['changes']:6} changes, {numbers['lost']} lost: p50 {numbers['p50_ms']:.2f} ms, p99 {numbers['p99_ms']:.2f} ms, max {numbers['max_ms']:.1f} ms")
    for each in result["attackers"]:
        if each:
            print(f"{each['kind']:10} {each['connections']:7} connections, {each['bytes'] / MIB:9.1f} MiB sent")
    memory = result["resident_mib"]
    print(
        f"resident {memory['before']:.0f} MiB before, {memory['peak']:.0f} at most, {memory['after']:.0f} after; limit {memory['limit']:.0f} = "
        f"{memory['before']:.0f} + {WORKERS} * {WORKER_BUDGET // MIB} + {CLIENTS} * {CLIENT_BUDGET // MIB}"
    )
    print("counters", json.dumps(result["counters"]))
    print(", ".join(f"{name}: {'holds' if holds else 'DOES NOT HOLD'}" for name, holds in result["holds"].items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--quiet-seconds", type=float, default=20)
    parser.add_argument("--node-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.small:
        options.seconds, options.quiet_seconds = 3, 3
    with tempfile.TemporaryDirectory() as folder:
        node = Node(folder, configuration({"shards": 1})).start()
        try:
            result = run(node, options)
        finally:
            node.kill()
    report(result)
    if options.json:
        options.json.write_text(json.dumps(result))
    decides = {name: holds for name, holds in result["holds"].items() if not (options.small and name == "p99")}
    sys.exit(0 if all(decides.values()) else 1)


if __name__ == "__main__":
    main()
