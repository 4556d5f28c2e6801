"""What waits for triggers: each limit at it and over it, in the account of whom it concerns, and back again."""

import json
import time

import pytest

from clients import Subscriber
from executor import Executor
from node import INSTRUMENTED
from raw import Raw, frame

KIB = 1 << 10
LEAST = 64 * KIB  # The smallest limit in bytes.


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def write(writer, item, size=1):
    return writer.invoke("stream::set", {"stream_name": "s", "group_id": "g", "item_id": item, "data": "x" * size})


@pytest.fixture
def world(start_node):
    """A node with limits, a writer, and a worker whose handlers the test answers, for so many triggers."""
    opened = []

    def start(limits, triggers=1):
        node = start_node({"limits": limits})
        writer, handler = Executor(node.worker_url()), Executor(node.worker_url())
        opened.extend([writer, handler])
        for number in range(triggers):
            handler.serve(f"h{number}")
            handler.trigger("stream", f"h{number}", {"stream_name": "s"})
        return node, writer, handler

    yield start
    for executor in opened:
        executor.close()


# Writes to one item, of which the first is being handled: so many may wait, and one more holds the writer.
FULL = {
    "trigger_events": ({"trigger_events": 4}, 1, 1, 4),
    "trigger_event_bytes": ({"trigger_event_bytes": LEAST}, 1, 20 * KIB, 3),
    "writer_event_bytes": ({"writer_event_bytes": LEAST}, 2, 14 * KIB, 2),
}


@pytest.mark.parametrize("row", FULL)
def test_writer_goes_on_at_the_limit_of_a_queue_and_waits_over_it(world, row):
    limits, triggers, size, most = FULL[row]
    node, writer, handler = world(limits, triggers)
    calls = [write(writer, "i", size) for _ in range(1 + most)]
    first = [handler.called(f"h{number}") for number in range(triggers)]
    for call in calls:
        assert "error" not in writer.answer(call)
    counters = node.counters()
    assert counters["trigger_writers_held"] == 0
    assert most * size * triggers < counters["waiting_events_bytes"] < most * (size + KIB) * triggers
    assert "error" not in writer.answer(write(writer, "i", size))
    assert eventually(lambda: node.counters()["trigger_writers_held"] == 1)
    held = write(writer, "i", size)
    writer.set("elsewhere", "g", "i", 1)
    assert node.counters()["changes"] == 1 + most + 1 + 1, "what it writes there waits"
    for number in range(triggers):
        handler.handlers[f"h{number}"] = lambda data: None
    for call in first:
        call.answer()
    assert "error" not in writer.answer(held)
    assert eventually(lambda: node.counters()["waiting_events_bytes"] == 0)
    assert node.counters()["trigger_events_dropped"] == 0


@pytest.mark.parametrize("limits, size, triggers, counter", [
    ({"trigger_calls": 3}, 1, 1, "trigger_call_waits"),
    ({"handler_calls_per_worker": 3}, 1, 1, "trigger_server_waits"),
    ({"handler_bytes_per_worker": LEAST}, 20 * KIB, 1, "trigger_server_waits"),
], ids=["trigger_calls", "handler_calls_per_worker", "handler_bytes_per_worker"])
def test_handlers_are_given_calls_up_to_the_limit(world, limits, size, triggers, counter):
    """Of different items: three at once, and the fourth when one is answered."""
    node, writer, handler = world(limits, triggers)
    for item in "abc":
        writer.answer(write(writer, item, size))
    calls = [handler.called("h0") for _ in range(3)]
    assert node.counters()[counter] == 0
    writer.answer(write(writer, "d", size))
    handler.nothing_said()
    assert eventually(lambda: node.counters()[counter] == 1)
    assert handler.all_called("h0") == []
    calls[0].answer()
    assert handler.called("h0").data["id"] == "d"


def test_oldest_events_are_dropped_by_their_size(world):
    node, writer, handler = world({"trigger_event_bytes": LEAST})
    handler.serve("own")  # A writer that serves the handler is never held.
    handler.trigger("stream", "own", {"stream_name": "mine"}, trigger_id="own")
    for number in range(1 + 4):
        data = {"stream_name": "mine", "group_id": "g", "item_id": "i", "data": str(number) + "x" * 20 * KIB}
        handler.answer(handler.invoke("stream::set", data))
    assert eventually(lambda: node.counters()["trigger_events_dropped"] == 1)
    seen = []
    for _ in range(4):
        call = handler.called("own")
        seen.append(call.data["event"]["data"][0])
        call.answer()
    assert seen == ["0", "2", "3", "4"]


def test_join_that_a_handler_decides_about_is_in_the_account_of_its_client(start_node):
    node = start_node({"shards": 2})
    with Executor(node.worker_url()) as worker:
        worker.serve("join")
        worker.trigger("stream:join", "join")
        with Subscriber(node.stream_url()) as client:
            client.join("s", "g" * 200)
            call = worker.called("join")
            assert 200 < node.counters()["waiting_joins_bytes"] < 4 * KIB
            call.answer({})
            assert client.event()["type"] == "sync"
            assert eventually(lambda: node.counters()["waiting_joins_bytes"] == 0)
            client.join("s", "other", subscription="2")
            worker.called("join")
            assert node.counters()["waiting_joins_bytes"] > 0
        with Subscriber(node.stream_url()) as gone:
            gone.join("s", "g")
            call = worker.called("join")
            gone.socket.socket.close()
            call.answer({})
    assert eventually(lambda: node.counters()["waiting_joins_bytes"] == 0)


def join(number):
    data = {"subscriptionId": f"{number}", "streamName": "s", "groupId": f"g{number % 7}"}
    return frame(json.dumps({"type": "join", "data": data}))


@pytest.mark.skipif(INSTRUMENTED, reason="a sanitizer's memory says nothing")
def test_memory_of_leaves_that_waited_goes_back(start_node):
    """Sixty thousand at once for a handler that is slow: none is lost, and what they took is the kernel's again."""
    node = start_node({"shards": 2, "limits": {"subscriptions_per_connection": 10_000}})
    each, clients = 10_000, 6
    with Executor(node.worker_url()) as worker:
        worker.serve("left")
        before = node.resident_bytes()
        peers = [Raw(node.stream_port).upgrade() for _ in range(clients)]
        for peer in peers:
            for begin in range(0, each, 1000):
                peer.send(b"".join(join(number) for number in range(begin, begin + 1000)))
                for _ in range(1000):
                    assert b'"sync"' in peer.message()
        worker.trigger("stream:leave", "left", {"stream_name": "s"})
        for peer in peers:
            peer.close()
        assert eventually(lambda: node.counters()["waiting_events_bytes"] > (each * clients - 300) * 512, 30)
        most = node.resident_bytes() - before
        worker.handlers["left"] = lambda data: None
        with worker.changed:
            waiting = worker.calls.pop("left", [])
        for call in waiting:
            call.answer()
        assert eventually(lambda: node.counters()["waiting_events_bytes"] == 0, 60)
        assert eventually(lambda: node.counters()["triggers_handled"] == each * clients)
        assert node.counters()["trigger_events_dropped"] == 0
        assert eventually(lambda: node.resident_bytes() - before < max(most / 4, 16 << 20), 10), (most, node.resident_bytes() - before)
        assert node.counters()["memory_returned"] >= 1


def test_one_event_for_many_triggers_and_the_end_of_their_worker_are_done_in_steps(node):
    """Ten thousand triggers: in pieces of a turn each, so that others are served between them."""
    count = 10_000
    with Executor(node.worker_url()) as writer:
        with Raw(node.worker_port).upgrade() as worker:
            worker.message()
            registrations = [{"type": "registerfunction", "id": f"f{n}"} for n in range(2000)] + [
                {"type": "registertrigger", "id": f"t{n}", "trigger_type": "stream", "function_id": "f0",
                 "config": {"stream_name": "s"}} for n in range(count)]
            worker.send(b"".join(frame(json.dumps(message)) for message in registrations))
            assert eventually(lambda: len(writer.result("engine::triggers::list")["triggers"]) == count, 30)
            cut = node.counters()["control_turns_cut"]
            writer.set("s", "g", "i", 1)
            assert eventually(lambda: node.counters()["triggers_handled"] >= 5000)
            assert eventually(lambda: node.counters()["waiting_events_bytes"] >= (count - 5000) * 512)
            assert node.counters()["control_turns_cut"] > cut, "it took more than one turn"
            # Nothing is fired twice or left out: each trigger has one event.
            assert node.counters()["triggers_handled"] == 5000
        cut = node.counters()["control_turns_cut"]
        assert eventually(lambda: writer.result("engine::triggers::list")["triggers"] == [])
        functions = writer.result("engine::functions::list")["functions"]
        assert not any(function["function_id"].startswith("f") for function in functions)
        assert eventually(lambda: node.counters()["waiting_events_bytes"] == 0)
        assert node.counters()["control_turns_cut"] > cut
