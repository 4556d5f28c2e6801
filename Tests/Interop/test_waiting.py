"""What waits because of a connection is charged to it and bounded, and a peer that reads gets all of it in the end."""

import json
import threading
import time

import pytest

from clients import Worker
from raw import PING, PONG, Raw, frame

BUDGET = 1 << 20


def invoke(number, function, data):
    message = {"type": "invokefunction", "function_id": function, "data": data}
    return frame(json.dumps(message if number is None else {**message, "invocation_id": str(number)}))


def waiting(node, what):
    return node.counters()[f"waiting_{what}_bytes"]


def nothing_waits(node):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        counters = node.counters()
        left = {key: value for key, value in counters.items() if key.startswith("waiting_") and value}
        if not left:
            return counters
    raise AssertionError(f"still charged: {left}")


@pytest.mark.parametrize("function", ["stream::list", "stream::get"])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_reads_that_bring_more_than_the_budget_start_as_there_is_room(start_node, shards, function):
    """Twelve times the budget is asked for at once, of groups on all shards, so answers are kept for those before
    them. The reader begins to read when no more is answered."""
    node = start_node({"shards": shards}, worker={"limits": {"worker_budget_bytes": BUDGET}})
    groups, item = 12, {"item_id": "1"} if function == "stream::get" else {}
    with Worker(node.worker_url()) as writer:
        for group in range(groups):
            for number in range(1 if item else 3):
                writer.set("s", f"g{group}", str(number + 1), "x" * (60_000 if item else 20_000))
    with Raw(node.worker_port, receive_buffer=64 << 10).upgrade() as reader:
        reader.message()
        calls = [
            invoke(n, function, {"stream_name": "s", "group_id": f"g{n % groups}", **item}) for n in range(200)
        ]
        sending = threading.Thread(target=lambda: reader.send(b"".join(calls)))
        sending.start()
        kept = -1
        while (now := waiting(node, "answers") + waiting(node, "outbox")) != kept:
            kept = now  # Until it does not grow any more.
        assert kept <= 2 * BUDGET + 16 * 64_000, "the answers of a turn go in one send of 16 pieces at most"
        numbers = [int(json.loads(reader.message())["invocation_id"]) for _ in range(200)]
        assert numbers == list(range(200))
        sending.join()
        assert nothing_waits(node)["slow_readers_closed"] == 0


@pytest.mark.parametrize("shards", [1, 2])
def test_reader_that_goes_while_answers_wait_leaves_nothing(start_node, shards):
    node = start_node({"shards": shards}, worker={"limits": {"worker_budget_bytes": BUDGET}})
    with Worker(node.worker_url()) as writer:
        for group in range(8):
            writer.set("s", f"g{group}", "i", "x" * 60_000)
    for reset in (False, True):
        with Raw(node.worker_port, receive_buffer=4096).upgrade() as reader:
            reader.message()
            for n in range(150):
                reader.send(invoke(n, "stream::get", {"stream_name": "s", "group_id": f"g{n % 8}", "item_id": "i"}))
            while waiting(node, "outbox") + waiting(node, "answers") < BUDGET // 4:
                pass
            if reset:
                reader.reset()
    nothing_waits(node)
    with Worker(node.worker_url()) as other:
        assert other.get("s", "g1", "i") == "x" * 60_000
