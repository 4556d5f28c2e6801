"""Triggers of the type `stream`: what fires them, in which order, and what they get."""

import time

import pytest

from clients import Subscriber
from executor import HELD, Executor, Failure

HANDLER_MS = 300


@pytest.fixture
def short(start_node):
    return start_node({"timeouts": {"handler_ms": HANDLER_MS}})


@pytest.fixture
def worker(node):
    with Executor(node.worker_url()) as executor:
        executor.serve("changed", None)
        yield executor


@pytest.fixture
def writer(node):
    with Executor(node.worker_url()) as executor:
        yield executor


def fails(data):
    raise Failure("invocation_failed", "boom")


def update(writer, ops, item="i"):
    at = {"stream_name": "s", "group_id": "g", "item_id": item}
    return writer.result("stream::update", **at, ops=ops)


# ---- What fires, and what the handler gets

INCREMENT = [{"type": "increment", "path": "", "by": 1}]
BROKEN = [{"type": "increment", "path": "x", "by": 1}]

# What is done before, what is done, and the event that it must fire.
CHANGES = {
    "set of a new item": (None, lambda w: w.set("s", "g", "i", {"a": 1}), ("create", {"a": 1})),
    "set of an old item": (1, lambda w: w.set("s", "g", "i", 2), ("update", 2)),
    "set of the same value": (1, lambda w: w.set("s", "g", "i", 1), ("update", 1)),
    "set over a stored null": ("null", lambda w: w.set("s", "g", "i", 2), ("update", 2)),
    "set of null": (None, lambda w: w.set("s", "g", "i", None), ("create", None)),
    "update of a new item": (None, lambda w: update(w, INCREMENT), ("create", 1)),
    "update of an old item": (1, lambda w: update(w, INCREMENT), ("update", 2)),
    "update without operations": (1, lambda w: update(w, []), ("update", 1)),
    "update of nothing without operations": (None, lambda w: update(w, []), ("create", {})),
    "update whose operations fail": (1, lambda w: update(w, BROKEN), ("update", 1)),
    "delete of an item": (1, lambda w: w.delete("s", "g", "i"), ("delete", 1)),
    "delete of a stored null": ("null", lambda w: w.delete("s", "g", "i"), ("delete", None)),
    "send with an id": (None, lambda w: w.emit("s", "g", "t", [1], item="i"), ("event", [1])),
    "send without an id": (None, lambda w: w.emit("s", "g", "t", None), ("event", None)),
}


@pytest.mark.parametrize("row", CHANGES)
def test_change_fires_once_with_both_forms_of_the_payload(node, worker, writer, row):
    before, change, (kind, value) = CHANGES[row]
    if before is not None:
        writer.set("s", "g", "i", None if before == "null" else before)
    worker.trigger("stream", "changed", {"stream_name": "s"})
    with Subscriber(node.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
        change(writer)
        frame = subscriber.receive()
    call = worker.called("changed")
    event = {"type": kind, "data": value}
    if kind == "event":
        event = {"type": "event", "event": {"type": "t", "data": value}}
    assert frame["event"] == event
    names = {"event_type": kind, "stream_name": "s", "group_id": "g"}
    assert call.data == {**frame, **names}, "the frame, and the names of the reference"
    assert call.message.keys() == {"type", "invocation_id", "function_id", "data"}
    writer.barrier()
    worker.barrier()
    assert worker.all_called("changed") == []


QUIET = {
    "delete of nothing": lambda w: w.delete("s", "g", "none"),
    "get": lambda w: w.result("stream::get", stream_name="s", group_id="g", item_id="i"),
    "list": lambda w: w.result("stream::list", stream_name="s", group_id="g"),
    "list_groups": lambda w: w.result("stream::list_groups", stream_name="s"),
    "list_all": lambda w: w.result("stream::list_all"),
    "set with bad input": lambda w: w.error("stream::set", {"stream_name": "s"}),
    "update with bad operations": lambda w: w.error(
        "stream::update",
        {"stream_name": "s", "group_id": "g", "item_id": "i", "ops": [{"type": "no"}]},
    ),
}


def test_what_changes_nothing_fires_nothing(node, worker, writer):
    writer.set("s", "g", "i", 1)
    worker.trigger("stream", "changed", {"stream_name": "s"})
    for call in QUIET.values():
        call(writer)
    with Subscriber(node.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
    writer.set("s", "g", "i", "last")
    assert worker.called("changed").data["event"]["data"] == "last"


# ---- Filters

FIRE = {"s/g/i": ("s", "g", "i"), "s/g/j": ("s", "g", "j"), "s/h/i": ("s", "h", "i"), "t/g/i": ("t", "g", "i")}
FILTERS = {
    "the stream": ({"stream_name": "s"}, "s/g/i s/g/j s/h/i s/g/-"),
    "a group": ({"stream_name": "s", "group_id": "g"}, "s/g/i s/g/j s/g/-"),
    "an item": ({"stream_name": "s", "group_id": "g", "item_id": "i"}, "s/g/i"),
    "an item of any group": ({"stream_name": "s", "item_id": "i"}, "s/g/i s/h/i"),
    "null means any": ({"stream_name": "s", "group_id": None, "item_id": None}, "s/g/i s/g/j s/h/i s/g/-"),
    "empty means any": ({"stream_name": "s", "group_id": "", "item_id": ""}, "s/g/i s/g/j s/h/i s/g/-"),
    "unknown keys are ignored": ({"stream_name": "s", "group_id": "g", "x": 1}, "s/g/i s/g/j s/g/-"),
    "a stream that is not written": ({"stream_name": "S"}, ""),
}


@pytest.mark.parametrize("row", FILTERS)
def test_filter(worker, writer, row):
    config, expected = FILTERS[row]
    worker.trigger("stream", "changed", config)
    worker.serve("all", None)
    for stream in ("s", "t"):
        worker.trigger("stream", "all", {"stream_name": stream})
    for stream, group, item in FIRE.values():
        writer.set(stream, group, item, 1)
    writer.emit("s", "g", "t", 1)
    for _ in range(5):
        worker.called("all")  # Registered later: asked later.
    seen = [
        f"{data['streamName']}/{data['groupId']}/{data['id'] or '-'}"
        for data in worker.all_called("changed")
    ]
    assert sorted(seen) == sorted(expected.split())


def test_stream_of_the_empty_name(worker, writer):
    worker.trigger("stream", "changed", {"stream_name": ""})
    writer.set("s", "g", "i", 1)
    writer.set("", "g", "i", 2)
    assert worker.called("changed").data["streamName"] == ""


REFUSED = {
    "null": None,
    "a string": "s",
    "a list": [],
    "no stream_name": {"group_id": "g"},
    "stream_name null": {"stream_name": None},
    "stream_name a number": {"stream_name": 5},
    "group_id a number": {"stream_name": "s", "group_id": 5},
    "item_id a list": {"stream_name": "s", "item_id": []},
    "condition a boolean": {"stream_name": "s", "condition_function_id": True},
}


@pytest.mark.parametrize("row", REFUSED)
def test_bad_configuration_is_refused_and_leaves_the_old_trigger(worker, writer, row):
    worker.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="t")
    worker.trigger("stream", "other", REFUSED[row], trigger_id="t")
    refusal = worker.said("triggerregistrationresult")
    assert refusal["error"].pop("message").startswith("Failed to deserialize stream trigger: ")
    assert refusal == {
        "type": "triggerregistrationresult",
        "id": "t",
        "trigger_type": "stream",
        "function_id": "other",
        "error": {"code": "trigger_registration_failed"},
    }
    writer.set("s", "g", "i", 1)
    worker.called("changed")


# ---- Conditions

CONDITIONS = {
    "false": (False, False),
    "true": (True, True),
    "nothing": (None, True),
    "zero": (0, True),
    "an empty string": ("", True),
    "an object": ({"a": False}, True),
    "an error": (fails, False),
    "no answer in time": (HELD, False),
    "no function": ("unregistered", False),
}


@pytest.mark.parametrize("row", CONDITIONS)
def test_condition(short, row):
    """Of one item: the change after it comes only when this one is done with."""
    result, handled = CONDITIONS[row]
    with Executor(short.worker_url()) as worker:
        worker.serve("changed", None)
        if row != "no function":
            worker.serve("condition", result)
        worker.trigger("stream", "changed", {"stream_name": "s", "condition_function_id": "condition"})
        worker.set("s", "g", "i", "judged")
        if row != "no function":
            judged = worker.called("condition").data
            assert judged["event"] == {"type": "create", "data": "judged"}
        worker.serve("condition", True)
        worker.set("s", "g", "i", "let through")
        seen = [worker.called("changed").data["event"]["data"]]
        if handled:
            seen.append(worker.called("changed").data["event"]["data"])
        assert seen == (["judged"] if handled else []) + ["let through"]


# ---- Registration

def test_trigger_before_its_function_and_after_it_has_gone(worker, writer):
    worker.trigger("stream", "later", {"stream_name": "s"})
    writer.set("s", "g", "i", 1)
    writer.barrier()
    worker.serve("later", None)
    writer.set("s", "g", "i", 2)
    assert worker.called("later").data["event"]["data"] == 2
    worker.withdraw("later")
    writer.set("s", "g", "i", 3)
    writer.barrier()
    worker.serve("later", None)
    writer.set("s", "g", "i", 4)
    assert worker.called("later").data["event"]["data"] == 4


def test_same_id_again_replaces_and_never_doubles(node, worker, writer):
    """By the same worker, and by another one, which takes it over."""
    for _ in range(3):
        worker.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="t")
    writer.set("s", "g", "i", 1)
    worker.called("changed")
    with Executor(node.worker_url()) as other:
        other.serve("of other", None)
        other.trigger("stream", "of other", {"stream_name": "s", "group_id": "h"}, trigger_id="t")
        worker.untrigger("t")  # No longer its own.
        writer.set("s", "g", "i", 2)
        writer.set("s", "h", "i", 3)
        assert other.called("of other").data["event"]["data"] == 3
        assert other.all_called("of other") == []
    worker.barrier()
    assert worker.all_called("changed") == []


def test_id_is_taken_over_across_types(node, worker, writer):
    worker.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="t")
    worker.serve("joined", None)
    worker.trigger("stream:join", "joined", trigger_id="t")
    writer.set("s", "g", "i", 1)
    with Subscriber(node.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
    worker.called("joined")
    assert worker.all_called("changed") == []


def test_unregistered_trigger_and_that_of_a_gone_worker_fire_no_more(node, worker, writer):
    worker.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="one")
    with Executor(node.worker_url()) as other:
        other.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="two")
        writer.set("s", "g", "i", 1)
        worker.called("changed")
        worker.called("changed")
        worker.untrigger("one")
        writer.set("s", "g", "i", 2)
        worker.called("changed")
    while writer.result("engine::triggers::list")["triggers"]:
        writer.barrier()
    writer.set("s", "g", "i", 3)
    writer.barrier()
    worker.barrier()
    assert worker.all_called("changed") == []


# ---- Order

def test_events_of_one_item_are_handled_in_order_condition_included(node, worker, writer):
    worker.serve("condition")
    worker.serve("held")
    config = {"stream_name": "s", "condition_function_id": "condition"}
    worker.trigger("stream", "held", config)
    for number in range(4):
        writer.set("s", "g", "i", number)
    for number in range(4):
        condition = worker.called("condition")
        assert condition.data["event"]["data"] == number
        worker.barrier()
        assert not worker.calls.get("condition") and not worker.calls.get("held")
        condition.answer(True)
        handler = worker.called("held")
        assert handler.data["event"]["data"] == number
        worker.barrier()
        assert not worker.calls.get("condition")
        handler.answer(None)


def test_items_and_triggers_do_not_wait_for_each_other(node, worker, writer):
    worker.serve("held")
    worker.trigger("stream", "held", {"stream_name": "s"})
    worker.trigger("stream", "changed", {"stream_name": "s"})
    for item in ("a", "b"):
        for number in range(2):
            writer.set("s", "g", item, number)
    waiting = [worker.called("held") for _ in range(2)]
    assert {call.data["id"] for call in waiting} == {"a", "b"}
    seen = [worker.called("changed").data for _ in range(4)]
    assert sorted((data["id"], data["event"]["data"]) for data in seen) == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("b", 1),
    ]
    worker.barrier()
    assert not worker.calls.get("held")
    for call in waiting:
        call.answer(None)
    assert [worker.called("held").data["event"]["data"] for _ in range(2)] == [1, 1]


def test_sends_without_an_id_are_handled_in_order_per_group(node, worker, writer):
    worker.serve("held")
    worker.trigger("stream", "held", {"stream_name": "s"})
    for group in ("g", "h"):
        for number in range(3):
            writer.emit("s", group, "t", number)
    for number in range(3):
        calls = [worker.called("held") for _ in range(2)]
        assert {call.data["groupId"] for call in calls} == {"g", "h"}
        assert {call.data["event"]["event"]["data"] for call in calls} == {number}
        worker.barrier()
        assert not worker.calls.get("held")
        for call in calls:
            call.answer(None)


def test_at_most_256_calls_of_one_trigger_are_in_flight(node, worker, writer):
    worker.serve("held")
    worker.trigger("stream", "held", {"stream_name": "s"})
    for number in range(300):
        writer.invoke("stream::set", {"stream_name": "s", "group_id": "g", "item_id": str(number), "data": 1})
    writer.barrier()
    worker.barrier()
    calls = [worker.called("held") for _ in range(256)]
    worker.barrier()
    assert not worker.calls.get("held")
    calls[7].answer(None)
    worker.called("held")
    worker.barrier()
    assert not worker.calls.get("held")


@pytest.mark.parametrize("answer", [fails, HELD], ids=["an error", "no answer in time"])
def test_handler_that_fails_stops_nothing(short, answer):
    with Executor(short.worker_url()) as worker:
        worker.serve("changed", answer)
        worker.serve("next", None)
        worker.trigger("stream", "changed", {"stream_name": "s"})
        worker.trigger("stream", "next", {"stream_name": "s"})
        worker.set("s", "g", "i", 1)
        worker.set("s", "g", "i", 2)
        assert [worker.called("next").data["event"]["data"] for _ in range(2)] == [1, 2]
        assert [worker.called("changed").data["event"]["data"] for _ in range(2)] == [1, 2]


def test_handler_may_write_to_the_stream_that_it_watches(worker, writer):
    """It waits for its own writes, which fire it again: nothing may wait for it in turn."""

    def count(data):
        value = data["event"]["data"]
        at = {"stream_name": "s", "group_id": "g", "item_id": "i"}
        if value < 50:
            worker.invoke("stream::set", {**at, "data": value + 1})

    worker.serve("count", count)
    worker.trigger("stream", "count", {"stream_name": "s"})
    writer.set("s", "g", "i", 0)
    seen = [worker.called("count").data["event"]["data"] for _ in range(51)]
    assert seen == list(range(51))


def test_caller_does_not_wait_for_handlers(worker, writer):
    worker.serve("held")
    worker.trigger("stream", "held", {"stream_name": "s"})
    began = time.monotonic()
    for number in range(20):
        writer.set("s", "g", "i", number)
    assert time.monotonic() - began < 5
    worker.called("held")
