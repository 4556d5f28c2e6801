#!/usr/bin/env python3
"""What an idle subscriber costs: memory of each, and CPU when one change a second goes to all.

    Benchmarks/idle.py [--subscribers 10000] [--seconds 20] [--shards 1]

Starts a node of its own (.build/release/iii-stream, or III_NODE), subscribes all to one group by URL, and
prints one line of JSON. Memory is the growth of the process's resident set, so the kernel's share of a
socket is not in it. Client and node share the machine; CPU is the node's own.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import select
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Tests/Interop"))

from node import Node, configuration
from raw import Raw, frame, subscribed


def subscribe(port, count):
    """Connects `count` subscribers that are read without waiting."""
    connections = subscribed(port, "/stream/idle/group", count)
    for connection in connections:
        connection.socket.settimeout(0)
    return connections


def drain(poller, connections, seconds, answer_pings):
    """Reads for `seconds`; returns how many events came. Pings are answered, as a real client does."""
    events = 0
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for fd, _ in poller.poll(left):
            connection = connections[fd]
            data = connection.socket.recv(4096)
            assert data, "the node closed a subscriber"
            events += data.count(b'"type":"update"') + data.count(b'"type":"create"')
            if answer_pings and b"\x89\x00" in data:
                connection.socket.send(frame(b"", 10))
    return events


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--shards", type=int, default=1)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    node = Node(tempfile.mkdtemp(), configuration({"shards": options.shards}))
    try:
        node.start()
        with Raw(node.worker_port).upgrade() as worker:
            worker.message()

            def write(number):
                data = {"stream_name": "idle", "group_id": "group", "item_id": "item", "data": {"number": number}}
                call = {"type": "invokefunction", "function_id": "stream::set", "data": data}
                worker.send(frame(json.dumps(call)))

            write(-1)
            # The first tenth touches what every node touches once; the rest is what each one costs.
            first = subscribe(node.stream_port, options.subscribers // 10)
            before = node.resident_bytes()
            rest = subscribe(node.stream_port, options.subscribers - len(first))
            after = node.resident_bytes()

            connections = {connection.socket.fileno(): connection for connection in first + rest}
            poller = select.epoll()
            for fd in connections:
                poller.register(fd, select.EPOLLIN)

            cpu = node.cpu_seconds()
            drain(poller, connections, options.seconds, True)
            idle_cpu = node.cpu_seconds() - cpu

            cpu = node.cpu_seconds()
            events = 0
            for number in range(options.seconds):
                write(number)
                events += drain(poller, connections, 1, True)
            busy_cpu = node.cpu_seconds() - cpu
            loaded = node.resident_bytes()
        assert events == options.seconds * options.subscribers, f"{events} events came"
        for connection in connections.values():
            connection.close()
        node.stop()
    finally:
        node.kill()
    result = {
        "subscribers": options.subscribers,
        "shards": options.shards,
        "resident_bytes_per_subscriber": round((after - before) / len(rest)),
        "resident_bytes_per_subscriber_after_events": round((loaded - before) / len(rest)),
        "resident_bytes": loaded,
        "idle_cpu_percent": round(100 * idle_cpu / options.seconds, 2),
        "one_set_a_second_cpu_percent": round(100 * busy_cpu / options.seconds, 2),
        "cpu_us_per_delivery": round((busy_cpu - idle_cpu) * 1e6 / events, 2),
        "seconds": options.seconds,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


main()
