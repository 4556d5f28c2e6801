"""Many changes, or leaves, through one remote handler: all are handled, in order, and the node stays small."""

import os
import random
import socket
import threading
import time

import pytest

from clients import Subscriber, Worker
from executor import Executor
from node import FULL

CHANGES = 100_000 if FULL else 5_000
ITEMS = 100
PAYLOAD = "x" * 1000
# What 10,000 waiting events of this size may take, with their calls in flight, and the stores' own.
GROWTH_BYTES_MAX = 96 << 20
PATIENCE_SECONDS = 300


# Events of one trigger that may wait before its writers do.
WAITING_MAX = 10_000


class Writer(Worker):
    """Sends void calls as fast as the node takes them."""

    def set_many(self, count, items=ITEMS, pad=PAYLOAD):
        for number in range(count):
            at = {"stream_name": "s", "group_id": "g", "item_id": str(number % items)}
            self.send(
                {
                    "type": "invokefunction",
                    "function_id": "stream::set",
                    "action": {"type": "void"},
                    "data": {**at, "data": {"n": number, "pad": pad}},
                }
            )


class Handler(Writer):
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


# ---- A full queue


def wait_for_counter(node, name):
    deadline = time.monotonic() + 20
    while (counters := node.counters())[name] == 0:
        assert time.monotonic() < deadline, f"{name} stays 0"
        time.sleep(0.05)  # The node logs no more than fifty a second of a kind.
    return counters


def test_writer_is_read_no_further_while_the_queue_is_full(node):
    """Nothing is lost, and nobody else waits: neither another writer, nor the handler's own calls."""
    count = WAITING_MAX + 30_000  # More than the buffers of the sockets hold.
    with (
        Handler(node.worker_url(), 1) as handler,
        Writer(node.worker_url()) as writer,
        Writer(node.worker_url()) as other,
    ):
        thread = threading.Thread(target=writer.set_many, args=(count,), kwargs={"pad": "y" * 200})
        thread.start()
        wait_for_counter(node, "trigger_writers_held")
        assert thread.is_alive(), "its socket is full"
        other.set("unwatched", "g", "i", 1)
        handler.handle(count)
        thread.join()
        assert "result" in writer.call("stream::list_all", {})
        for item, seen in enumerate(handler.seen):
            assert seen == list(range(item, count, ITEMS))
        assert node.counters()["trigger_events_dropped"] == 0


@pytest.mark.parametrize("polite", [True, False], ids=["close frame", "end of the connection"])
def test_what_a_held_writer_said_before_its_end_still_counts(node, polite):
    count = WAITING_MAX + 500
    with Handler(node.worker_url(), 1) as handler, Writer(node.worker_url()) as writer:
        writer.set_many(count, pad="")
        wait_for_counter(node, "trigger_writers_held")
        if polite:
            thread = threading.Thread(target=writer.close)  # Waits for the node's half.
        else:
            thread = threading.Thread(target=writer.socket.socket.shutdown, args=(socket.SHUT_WR,))
        thread.start()
        handler.handle(count)
        thread.join()
        for item, seen in enumerate(handler.seen):
            assert seen == list(range(item, count, ITEMS))


def test_writer_waits_for_the_handler_timeout_at_most(start_node):
    """A handler that never answers: then the oldest events are dropped, and counted."""
    node = start_node({"timeouts": {"handler_ms": 700}})
    with Handler(node.worker_url(), 1), Writer(node.worker_url()) as writer:
        writer.set_many(WAITING_MAX + 500, items=1, pad="")
        began = time.monotonic()
        assert "result" in writer.answer(writer.invoke("stream::list_all", data={}))
        assert time.monotonic() - began < 10
        counters = wait_for_counter(node, "trigger_events_dropped")
        assert counters["trigger_writers_held"] >= 1
        assert any('"trigger_events_dropped"' in line for line in node.lines)


def test_connection_that_serves_a_trigger_is_never_held(node):
    """It could not answer while it waits for itself."""
    with Handler(node.worker_url(), 1) as handler:
        handler.set_many(WAITING_MAX + 500, pad="")
        assert "result" in handler.answer(handler.invoke("stream::list_all", data={}))
        counters = wait_for_counter(node, "trigger_events_dropped")
        assert counters["trigger_writers_held"] == 0


# ---- Leaves


def test_every_leave_of_a_mass_disconnect_is_heard(start_node):
    """Far more leaves at once than a trigger's queue holds of other events."""
    node = start_node({"limits": {"subscriptions_per_connection": 2000}})
    connections, each = 6, 2000
    with Executor(node.worker_url()) as worker:
        left = set()
        worker.serve("left", lambda data: left.add(data["subscription_id"]))
        worker.trigger("stream:leave", "left")
        subscribers = [Subscriber(node.stream_url()) for _ in range(connections)]
        for number, subscriber in enumerate(subscribers):
            for sub in range(each):
                subscriber.join("s", f"g{sub % 7}", subscription=f"{number}/{sub}")
            for _ in range(each):
                assert subscriber.event()["type"] == "sync"
        for subscriber in subscribers:
            subscriber.socket.socket.close()  # Without a word.
        deadline = time.monotonic() + 30
        while len(left) < connections * each and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(left) == connections * each
        assert node.counters()["trigger_events_dropped"] == 0
