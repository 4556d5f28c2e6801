"""What the core's work costs, in numbers that noise does not move: allocations, system calls, sends."""

import json
import socket
import subprocess
import threading
import time

import pytest

from core import built_core

SUBSCRIBERS = 50
STREAM, GROUP = "cost", "g"
VALUE = '{"i":1000000,"n":1000000001,"pa":"abcdefghijklmnopqrstuvwxyz"}'


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    return built_core(["cost_node.c", "plane.c"], tmp_path_factory.mktemp("cost") / "cost_node", ["-luring"])


class CostNode:
    def __init__(self, command, folder):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        first = self.process.stdout.readline()
        assert first, self.process.stderr.read()[-2000:]
        self.ports = json.loads(first)

    def counters(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        counters = json.loads(self.process.stdout.readline())
        return counters

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0, self.process.stderr.read()[-2000:]
        self.process.stdout.close()
        self.process.stderr.close()


def upgraded(port, path):
    client = socket.create_connection(("127.0.0.1", port), 60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    return client


def masked(text):
    """A client's frame; a mask of zeros leaves the text as it is, and costs the node the same."""
    size = len(text)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + text


def read_frames(client, count):
    """Reads `count` frames, and returns the bytes they had."""
    data, at, total = b"", 0, 0
    while count > 0:
        while True:
            left = len(data) - at
            if left >= 2:
                size = data[at + 1] & 0x7F
                header = 2 if size < 126 else 4
                if left >= header:
                    size = size if size < 126 else int.from_bytes(data[at + 2 : at + 4], "big")
                    if left >= header + size:
                        break
            more = client.recv(1 << 16)
            assert more, "the node closed the connection"
            data += more
        at += header + size
        total += header + size
        count -= 1
    assert at == len(data), "more than what was asked for"
    return total


def call(function, extra):
    names = f'"stream_name":"{STREAM}","group_id":"{GROUP}","item_id":"i"'
    return masked(
        '{"type":"invokefunction","invocation_id":"00000000-0000-4000-8000-000000000001",'
        f'"function_id":"stream::{function}","data":{{{names}{extra}}}}}'.encode()
    )


SET = call("set", f',"data":{VALUE}')
CALLS = {
    "set": SET,
    "get": call("get", ""),
    "update": call("update", ',"ops":[{"type":"increment","path":"n","by":1}]'),
}


class Load:
    """A worker and subscribers in lockstep: what a turn of the node finds is always the same."""

    def __init__(self, node, subscribers):
        self.node = node
        self.worker = upgraded(node.ports["worker_port"], "/")
        read_frames(self.worker, 1)
        path = f"/stream/{STREAM}/{GROUP}"
        self.subscribers = [upgraded(node.ports["stream_port"], path) for _ in range(subscribers)]
        for each in self.subscribers:
            read_frames(each, 1)

    def calls(self, frame, rounds, at_once):
        for _ in range(rounds):
            self.worker.sendall(frame * at_once)
            read_frames(self.worker, at_once)
            for each in self.subscribers:
                read_frames(each, at_once)

    def measure(self, frame, rounds, at_once):
        """What the counters grew by, after a warm-up."""
        self.calls(SET, 2, at_once)
        self.calls(frame, 4, at_once)
        before = self.node.counters()
        self.calls(frame, rounds, at_once)
        after = self.node.counters()
        return {name: after[name] - before[name] for name in before}

    def close(self):
        for each in [self.worker, *self.subscribers]:
            each.close()


@pytest.fixture
def node(binary, tmp_path):
    node = CostNode([binary], tmp_path)
    yield node
    node.end()


# ---- Allocations


def test_a_delivery_allocates_nothing(node):
    """The same sets without subscribers and with many allocate the same, but for the counters' own."""
    rounds = 200
    alone, crowd = Load(node, 0), None
    without = alone.measure(SET, rounds, 4)
    alone.close()
    crowd = Load(node, SUBSCRIBERS)
    with_them = crowd.measure(SET, rounds, 4)
    crowd.close()
    assert with_them["deliveries"] == rounds * 4 * SUBSCRIBERS
    assert with_them["allocations"] - without["allocations"] <= rounds * 4 * 0.02


@pytest.mark.parametrize("name, most", [("get", 0), ("set", 1), ("update", 1)])
def test_allocations_of_a_call(node, name, most):
    """A set and an update make their new value, and nothing else."""
    rounds = 400
    load = Load(node, 0)
    growth = load.measure(CALLS[name], rounds, 4)
    load.close()
    assert growth["calls"] == rounds * 4
    assert growth["allocations"] <= rounds * 4 * most + 20


# ---- System calls and sends


def test_system_calls_of_a_turn(node):
    """One send a connection and turn, however many frames it brings; slices of 256 sends share a system
    call, and a turn has one more to wait."""
    load = Load(node, SUBSCRIBERS)
    rounds = 100
    growth = load.measure(SET, rounds, 16)
    load.close()
    # A client may see its calls split over two turns; then there are two sends.
    assert growth["sends"] <= rounds * (SUBSCRIBERS + 1) * 1.5
    assert growth["sends"] < growth["deliveries"] / 8
    assert growth["enters"] <= growth["turns"] * 4
    # Nothing is asked of the ring but sends; being asked for the counters wakes it by an eventfd.
    assert growth["submissions"] <= growth["sends"] + 10


# ---- Large groups


LARGE_ITEMS, LARGE_ITEM = 1280, 16 << 10  # 20 MiB: 80 steps.


def put(group, item, value):
    names = f'"stream_name":"{STREAM}","group_id":"{group}","item_id":"{item}"'
    return masked(
        '{"type":"invokefunction","invocation_id":"00000000-0000-4000-8000-000000000001",'
        f'"function_id":"stream::set","data":{{{names},"data":"{value}"}}}}'.encode()
    )


def joining(group, subscription):
    names = f'"subscriptionId":"{subscription}","streamName":"{STREAM}","groupId":"{group}"'
    return masked(f'{{"type":"join","data":{{{names}}}}}'.encode())


def read_all(client):
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass


def test_every_subscription_of_a_large_group_is_read_in_steps(node):
    """The first of a connection, and the others while somebody writes: each takes a turn a step, and answers between."""
    load = Load(node, 0)
    for item in range(LARGE_ITEMS):
        load.worker.sendall(put("large", item, "x" * LARGE_ITEM))
        read_frames(load.worker, 1)
    client = upgraded(node.ports["stream_port"], "/")
    reader = threading.Thread(target=read_all, args=(client,))  # Who does not read is not served.
    reader.start()
    for name in ["first", "second", "third"]:
        load.worker.sendall(put("large", "changing", name))  # The sync of before is not what it gets.
        read_frames(load.worker, 1)
        before = now = node.counters()
        client.sendall(joining("large", name))
        calls, deadline = 0, time.monotonic() + 20
        while now["syncs_serialised"] == before["syncs_serialised"]:
            assert time.monotonic() < deadline, "no sync is made"
            load.worker.sendall(put("large", "changing", calls) * 4)
            read_frames(load.worker, 4)
            calls += 4
            now = node.counters()

        assert now["turns"] - before["turns"] >= LARGE_ITEMS * LARGE_ITEM >> 18
        # Some turns find nothing to do but the step.
        assert calls >= 20, f"{calls} calls were answered while the group was read"
    client.shutdown(socket.SHUT_RDWR)
    reader.join()
    client.close()
    load.close()
