"""Many changes through one remote handler: all are handled, in order, and the node stays small."""

import itertools
import json
import os
import random
import threading
import time

import pytest

from clients import TIMEOUT_SECONDS, Worker
from executor import Executor
from node import FULL

CHANGES = 100_000 if FULL else 5_000
ITEMS = 100
PAYLOAD = "x" * 1000
# What 10,000 waiting events of this size may take, with their calls in flight, and the stores' own.
GROWTH_BYTES_MAX = 96 << 20
PATIENCE_SECONDS = 300


class Writer(Worker):
    """Sends void calls as fast as the node takes them."""

    def set_many(self, count):
        for number in range(count):
            at = {"stream_name": "s", "group_id": "g", "item_id": str(number % ITEMS)}
            self.send(
                {
                    "type": "invokefunction",
                    "function_id": "stream::set",
                    "action": {"type": "void"},
                    "data": {**at, "data": {"n": number, "pad": PAYLOAD}},
                }
            )


class Handler(Worker):
    """Answers the calls of `changed`, in batches and in no order; keeps what it saw."""

    def __init__(self, url, seed):
        super().__init__(url)
        self.random = random.Random(seed)
        self.seen = [[] for _ in range(ITEMS)]
        self.count = 0
        self.send({"type": "registerfunction", "id": "changed"})
        config = {"stream_name": "s"}
        self.send(
            {
                "type": "registertrigger",
                "id": "t",
                "trigger_type": "stream",
                "function_id": "changed",
                "config": config,
            }
        )
        self.result("stream::list_groups", stream_name="none")

    def handle(self, count):
        waiting = []
        while self.count < count:
            message = self.receive(PATIENCE_SECONDS)
            assert message["type"] == "invokefunction", message
            data = message["data"]
            self.seen[int(data["id"])].append(data["event"]["data"]["n"])
            self.count += 1
            waiting.append(message["invocation_id"])
            if len(waiting) == ITEMS // 2 or self.count % ITEMS == 0 or self.count == count:
                self.random.shuffle(waiting)
                for invocation in waiting:
                    self.answer_with_nothing(invocation)
                waiting.clear()

    def answer_with_nothing(self, invocation):
        message = {"type": "invocationresult", "invocation_id": invocation}
        self.send({**message, "function_id": "changed"})


def test_all_changes_are_handled_in_order_and_in_bounded_memory(start_node, capsys):
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    node = start_node()
    with Handler(node.worker_url(), seed) as handler, Writer(node.worker_url()) as writer:
        writer.set_many(ITEMS)  # The store, the sockets and the queues get their buffers.
        handler.handle(ITEMS)
        before = node.resident_bytes()
        largest = before
        thread = threading.Thread(target=writer.set_many, args=(CHANGES,))
        began = time.monotonic()
        thread.start()
        for done in range(ITEMS, CHANGES + ITEMS, CHANGES // 100):
            handler.handle(min(done + CHANGES // 100, CHANGES + ITEMS))
            largest = max(largest, node.resident_bytes())
        seconds = time.monotonic() - began
        thread.join()
        for item, seen in enumerate(handler.seen):
            assert seen == [item, *range(item, CHANGES, ITEMS)]
        writer.result("stream::list_all")
        counters = node.counters()
    with capsys.disabled():
        print(
            f"\n{CHANGES} changes in {seconds:.1f} s, {CHANGES / seconds:.0f} a second; "
            f"RSS {before >> 20} MiB, at most {largest >> 20} MiB"
        )
    assert counters["trigger_events_dropped"] == 0
    assert largest - before < GROWTH_BYTES_MAX
