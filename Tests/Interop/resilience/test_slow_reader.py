"""A subscriber that stops reading is closed with 1013 and counted, and hurts nobody else.

Open loop: 16 KiB values are written at fixed times, and the delay of each event counts from the time at
which its write was due. III_FULL=1 compares the delays of all others with and without the stopped one:
five interleaved pairs of longer runs, at the default budget.
"""

import json
import selectors
import statistics
import time

import pytest

from clients import Worker
from node import FULL, Node, configuration
from raw import CLOSE, PING, TEXT, Raw, frame

SUBSCRIBERS = 20
VALUE_SIZE = 16 << 10
ITEMS = 8
WRITES_PER_SECOND = 200
WRITES = 2500 if FULL else 700
STOP_AFTER = WRITES // 4  # Events that the stopped one reads before it stops.
RATIO_MAX = 1.25
PAIRS = 5

# Small enough to be used up in two seconds. The default needs the ten of the long run.
QUICK = {"limits": {"stream_client_budget_bytes": 1 << 20, "slow_reader_grace_ms": 100}}


class Reader:
    """A subscriber that reads whenever there is something, without a thread of its own."""

    def __init__(self, port, stop_after=None):
        # A small window: what waits is to wait at the node.
        self.raw = Raw(port, receive_buffer=512 << 10 if stop_after else None).upgrade("/stream/slow/group")
        self.raw.socket.settimeout(0)
        self.stop_after = stop_after
        self.state = {}
        self.numbers = []
        self.delays = []
        self.close_code = None
        self.synced = False
        self.take(time.monotonic_ns())  # The sync may have come right behind the handshake.

    @property
    def stopped(self):
        return self.stop_after is not None and len(self.numbers) >= self.stop_after

    def read(self):
        """Reads what is there."""
        try:
            piece = self.raw.socket.recv(1 << 18)
        except BlockingIOError:
            return
        self.raw.buffer += piece
        self.take(time.monotonic_ns())

    def take(self, now):
        """Takes the whole frames out of the buffer."""
        buffer = self.raw.buffer
        at = 0
        while True:
            size = len(buffer) - at
            length = buffer[at + 1] if size >= 2 else 0
            header = {126: 4, 127: 10}.get(length, 2)
            if size < header:
                break
            if header > 2:
                length = int.from_bytes(buffer[at + 2 : at + header], "big")
            if size < header + length:
                break
            self.message(buffer[at] & 15, buffer[at + header : at + header + length], now)
            at += header + length
        del buffer[:at]

    def message(self, opcode, payload, now):
        if opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big")
        elif opcode == TEXT:
            message = json.loads(payload)
            if message["event"]["type"] == "sync":
                self.synced = True
                return
            value = message["event"]["data"]
            self.state[message["id"]] = value["number"]
            self.numbers.append(value["number"])
            self.delays.append(now - value["due"])
        else:
            assert opcode == PING


def write(number, due):
    """The frame of the write that is due at `due`."""
    value = {"number": number, "due": due, "text": ""}
    value["text"] = "x" * (VALUE_SIZE - len(json.dumps(value)))
    data = {"stream_name": "slow", "group_id": "group", "item_id": f"item {number % ITEMS}", "data": value}
    return frame(json.dumps({"type": "invokefunction", "function_id": "stream::set", "data": data}))


def run(folder, stop, settings):
    """Returns the readers, the one that may stop first, and the state and counters at the end."""
    node = Node(folder, configuration({"shards": 2, **settings}))
    try:
        node.start()
        selector = selectors.DefaultSelector()
        readers = [Reader(node.stream_port, STOP_AFTER if stop else None)]
        readers += [Reader(node.stream_port) for _ in range(SUBSCRIBERS)]
        for reader in readers:
            selector.register(reader.raw.socket, selectors.EVENT_READ, reader)

        def turn(seconds):
            for key, _ in selector.select(max(0, seconds)):
                key.data.read()
                if key.data.stopped:
                    selector.unregister(key.data.raw.socket)

        def turn_until(condition):
            deadline = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < deadline, "the subscribers wait for something in vain"
                turn(0.01)

        turn_until(lambda: all(reader.synced for reader in readers))
        with Raw(node.worker_port).upgrade() as writer:
            start = time.monotonic_ns() + 50_000_000
            for number in range(WRITES):
                due = start + number * 1_000_000_000 // WRITES_PER_SECOND
                data = write(number, due)
                while (left := due - time.monotonic_ns()) > 0:
                    turn(left / 1e9)
                writer.send(data)
            others = readers[1:]
            turn_until(lambda: all(len(reader.numbers) == WRITES for reader in others))
        with Worker(node.worker_url()) as worker:
            state = {
                f"item {n}": worker.get("slow", "group", f"item {n}")["number"] for n in range(ITEMS)
            }
        if stop:
            turn_until(lambda: node.counters()["slow_readers_closed"] > 0)
            turn(0)
            readers[0].stop_after = None  # Reads on, to hear how it ended.
            selector.register(readers[0].raw.socket, selectors.EVENT_READ, readers[0])
            turn_until(lambda: readers[0].close_code is not None)
        counters = node.counters()
        for reader in readers:
            reader.raw.close()
        node.stop()
    finally:
        node.kill()
    return readers, state, counters


def check(readers, state, counters, stop):
    for reader in readers[1:] if stop else readers:
        assert reader.numbers == list(range(WRITES))
        assert reader.state == state
        assert reader.close_code is None
    assert counters["slow_readers_closed"] == (1 if stop else 0)
    if stop:
        seen = readers[0].numbers
        assert readers[0].close_code == 1013
        assert STOP_AFTER <= len(seen) < WRITES
        assert seen == list(range(len(seen))), "what it got before the end has no gap"


def p99_of(readers):
    delays = sorted(delay for reader in readers[1:] for delay in reader.delays)
    return delays[len(delays) * 99 // 100] / 1e6


def test_stopped_reader_is_closed_and_nobody_else_notices(tmp_path):
    check(*run(tmp_path, True, QUICK), True)


@pytest.mark.skipif(not FULL, reason="takes minutes: III_FULL=1")
def test_stopped_reader_costs_the_others_no_time(tmp_path):
    ratios = []
    for pair in range(PAIRS):
        p99 = {}
        for stop in (False, True) if pair % 2 == 0 else (True, False):
            folder = tmp_path / f"{pair}-{stop}"
            folder.mkdir()
            result = run(folder, stop, {})
            check(*result, stop)
            p99[stop] = p99_of(result[0])
        ratios.append(p99[True] / p99[False])
        print(f"pair {pair}: p99 {p99[False]:.2f} ms without, {p99[True]:.2f} ms with, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")
    assert statistics.median(ratios) <= RATIO_MAX


def update_of(size, number):
    """A void set of a value of `size` bytes."""
    data = {"stream_name": "slow", "group_id": "group", "item_id": "item", "data": {"n": number, "x": "x" * size}}
    return frame(json.dumps({"type": "invokefunction", "function_id": "stream::set", "data": data}))


@pytest.mark.parametrize("shards", [1, 2])
def test_reader_that_gets_more_than_twice_its_budget_at_once_is_not_closed(start_node, shards):
    """It has the grace to take it."""
    node = start_node({"shards": shards, "limits": {"stream_client_budget_bytes": 1 << 20}})
    with Raw(node.stream_port).upgrade("/stream/slow/group") as reader, Raw(node.worker_port).upgrade() as writer:
        reader.message()
        writer.message()
        writer.send(b"".join(update_of(700_000, number) for number in range(12)))
        numbers = [json.loads(reader.message())["event"]["data"]["n"] for _ in range(12)]
        assert numbers == list(range(12))
    assert node.counters()["slow_readers_closed"] == 0


def test_reader_over_the_hard_limit_is_closed_at_once(start_node):
    limits = {"stream_client_budget_bytes": 1 << 20, "stream_client_hard_bytes": 4 << 20}
    node = start_node({"limits": {**limits, "slow_reader_grace_ms": 3_600_000}})
    node.expected_errors.append("slow")
    with Raw(node.stream_port, receive_buffer=4096).upgrade("/stream/slow/group") as reader:
        with Raw(node.worker_port).upgrade() as writer:
            reader.message()
            writer.message()
            number, deadline = 0, time.monotonic() + 10
            while node.counters()["slow_readers_closed"] == 0 and time.monotonic() < deadline:
                writer.send(update_of(200_000, number))
                number += 1
            counters = node.counters()
            assert counters["slow_readers_closed"] == 1
            assert counters["waiting_outbox_bytes"] < 1 << 20
            assert number >= 20, "not before the limit"
        assert reader.close_code() == 1013


PINGS = {"interval_ms": 300, "deadline_ms": 300}


def large_group(node):
    """A group whose `sync`, of one frame, is larger than what the kernel takes for a small window."""
    with Worker(node.worker_url()) as worker:
        for item in range(7):
            worker.set("slow", "group", str(item), "x" * (1 << 20))


def test_pongs_do_not_keep_a_client_that_takes_nothing(start_node):
    """One frame that is larger than the budget waits for it, so it is within the budget for ever."""
    node = start_node({"ping": PINGS, "limits": {"stream_client_budget_bytes": 1 << 20}})
    node.expected_errors.append("slow")
    large_group(node)
    with Raw(node.stream_port, receive_buffer=4096) as reader:
        reader.upgrade("/stream/slow/group")
        deadline = time.monotonic() + 10
        while node.counters()["slow_readers_closed"] == 0 and time.monotonic() < deadline:
            reader.send(frame(b"", opcode=10))
            time.sleep(0.02)
        assert node.counters()["slow_readers_closed"] == 1


def test_client_that_takes_something_lives_longer_than_its_deadline(start_node):
    """It answers no ping before it comes to it, behind megabytes."""
    node = start_node({"ping": PINGS})
    large_group(node)
    with Raw(node.stream_port, receive_buffer=64 << 10) as reader:
        reader.upgrade("/stream/slow/group")
        began = time.monotonic()
        while len(reader.buffer) < 7 << 20:
            reader.buffer += reader.socket.recv(64 << 10)
            time.sleep(0.015)
        assert time.monotonic() - began > 3 * sum(PINGS.values()) / 1000
        while (opcode := reader.frame()[0]) != PING:
            assert opcode == TEXT
        reader.send(frame(b"", opcode=10))
    counters = node.counters()
    assert counters["slow_readers_closed"] == counters["dead_peers_closed"] == 0
