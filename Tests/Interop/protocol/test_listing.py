"""Groups that are read in steps: what one connection asks for meanwhile keeps its order, and what is shared of a
`sync` reaches everybody whole."""

import json
import random
import time

import pytest

from calls import answer, call, invoke
from clients import Subscriber, Worker
from executor import Executor
from node import yaml
from probe import Probe
from raw import Raw, frame

STREAM = "s"


def place(group, item=None):
    return {"stream_name": STREAM, "group_id": group} | ({} if item is None else {"item_id": item})


def put(connection, group, item, value):
    assert "result" in call(connection, "stream::set", **place(group, item), data=value)


def fill(connection, group, count, size):
    """Pipelined, since many writes make a group large."""
    connection.send(
        b"".join(invoke(i, "stream::set", {**place(group, f"i{i}"), "data": "x" * size}) for i in range(count))
    )
    for _ in range(count):
        assert "result" in answer(connection)


@pytest.fixture(params=[1, 2], ids=["one-shard", "two-shards"])
def node(request, start_node):
    return start_node({"shards": request.param})


@pytest.fixture
def workers(node):
    """One on each shard, if there are two."""
    with Raw(node.worker_port) as first, Raw(node.worker_port) as second:
        yield [first.upgrade(), second.upgrade()]


@pytest.fixture
def other(node):
    with Raw(node.worker_port) as other:
        yield other.upgrade()


def test_a_list_shows_nothing_that_its_connection_asks_for_later(workers):
    for number, worker in enumerate(workers):
        groups = [f"{number} {i}" for i in range(4)]
        for group in groups:
            fill(worker, group, 40, 20_000)
        calls = []
        for group in groups:
            calls += [invoke(0, "stream::list", place(group))]
            calls += [invoke(1, "stream::set", {**place(group, f"i{i}"), "data": "new"}) for i in range(40)]
            calls += [invoke(2, "stream::list", place(group))]
        worker.send(b"".join(calls))
        for group in groups:
            assert answer(worker)["result"] == ["x" * 20_000] * 40
            assert all(answer(worker)["result"]["new_value"] == "new" for _ in range(40))
            assert answer(worker)["result"] == ["new"] * 40


def test_names_that_are_listed_behind_a_list_hold_the_groups_made_between(workers):
    for number, worker in enumerate(workers):
        fill(worker, f"large {number}", 40, 20_000)
        made = [f"made {number} {i}" for i in range(20)]
        calls = [invoke(0, "stream::list", place(f"large {number}"))]
        calls += [invoke(1, "stream::set", {**place(group, "i"), "data": 1}) for group in made]
        calls += [invoke(2, "stream::list_groups", {"stream_name": STREAM})]
        worker.send(b"".join(calls))
        assert len(answer(worker)["result"]) == 40
        assert all("result" in answer(worker) for _ in made)
        assert set(made) <= set(answer(worker)["result"])


def test_a_list_of_a_group_that_has_become_small_holds_nobody_up(workers, other):
    """When its turn comes there is nothing left to read in steps."""
    fill(other, "first", 1000, 8_000)
    for number, worker in enumerate(workers):
        groups = [f"{number} {i}" for i in range(12)]
        for group in groups:
            put(other, group, "large", "x" * 300_000)
        calls = [invoke(0, "stream::list", place("first"))]
        for group in groups:
            calls += [invoke(1, "stream::list", place(group))]
            calls += [invoke(2, "stream::set", {**place(group, "later"), "data": "later"})]
        worker.send(b"".join(calls))
        other.send(b"".join(invoke(0, "stream::set", {**place(g, "large"), "data": "small"}) for g in groups))
        for _ in groups:
            assert "result" in answer(other)
        assert len(answer(worker)["result"]) == 1000
        for _ in groups:
            assert answer(worker)["result"] in (["small"], ["x" * 300_000])
            assert answer(worker)["result"] == {"old_value": None, "new_value": "later"}


def test_a_restricted_worker_is_answered_in_its_order_too(start_node):
    """The node decides about each of its calls, and lets several go before the first has begun."""
    own = {"host": "127.0.0.1", "port": 0}
    guarded = {**own, "rbac": {"expose_functions": ['match("*")']}}
    workers = [
        {"name": "iii-stream", "config": {**own, "shards": 1}},
        {"name": "iii-worker-manager", "config": own},
        {"name": "iii-worker-manager", "config": guarded},
    ]
    node = start_node(text=yaml({"workers": workers}))
    with Raw(node.worker_port) as plain, Raw(node.worker_ports[1]) as worker:
        fill(plain.upgrade(), "g", 40, 20_000)
        worker.upgrade()
        for old, new in [("x" * 20_000, "y" * 20_000), ("y" * 20_000, "z")]:
            calls = [invoke(0, "stream::list", place("g"))]
            calls += [invoke(1, "stream::set", {**place("g", f"i{i}"), "data": new}) for i in range(40)]
            worker.send(b"".join(calls))
            assert answer(worker)["result"] == [old] * 40
            assert all("result" in answer(worker) for _ in range(40))


def test_a_large_sync_and_what_follows_it_are_not_too_much(node, workers):
    """They are more than may wait for a subscriber, which is not slow for that."""
    fill(workers[0], "g", 900, 20_000)
    with Subscriber(node.stream_url("/stream/s/g")) as first:
        assert len(first.event()["data"]) == 900
        for i in range(3):
            put(workers[0], "g", "i0", i)
            with Subscriber(node.stream_url("/stream/s/g")) as subscriber:
                state = subscriber.event()["data"][0]
                while state != i:
                    state = subscriber.event()["data"]


def test_who_comes_back_sees_nothing_older_than_before(node, workers):
    """A `sync` may be shared with those who came before, but not with who has seen more than it already."""
    for group, count, size in [("medium", 100, 1000), ("large", 100, 10_000)]:
        fill(workers[0], group, count, size)
        with Subscriber(node.stream_url()) as subscriber, Subscriber(node.stream_url()) as first:
            first.join(STREAM, group)
            assert first.event()["type"] == "sync"
            subscriber.join(STREAM, group)
            state = subscriber.event()["data"]
            for i in range(10):
                put(workers[0], group, "i0", i)
                assert subscriber.event() == {"type": "update", "data": i}
                subscriber.leave(STREAM, group)
                subscriber.join(STREAM, group)
                state[0] = i
                assert subscriber.event() == {"type": "sync", "data": state}


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_names_of_many_groups_are_sorted_and_hold_up_nobody(start_node, shards):
    """Sorted and written in steps; a hundred thousand at once took a tenth of a second, each time."""
    node = start_node({"shards": shards})
    draw = random.Random(shards)
    names = {f"s{number % 7}": set() for number in range(7)}
    with Raw(node.worker_port).upgrade() as filler, Worker(node.worker_url()) as worker:
        for number in range(60_000):
            names[f"s{number % 7}"].add(f"{draw.randrange(1 << 40):x}")
        calls = [
            frame(json.dumps({"type": "invokefunction", "function_id": "stream::set", "action": {"type": "void"},
                              "data": {"stream_name": stream, "group_id": group, "item_id": "i", "data": 1}}))
            for stream, groups in names.items() for group in groups
        ]
        for first in range(0, len(calls), 1000):
            filler.send(b"".join(calls[first:first + 1000]))
        deadline = time.monotonic() + 10
        while node.counters()["groups"] < len(calls):
            assert time.monotonic() < deadline
        expected = {"stream": [{"id": stream, "groups": sorted(groups)} for stream, groups in sorted(names.items())], "count": 7}
        with Probe(node, stream="s0", group=min(names["s0"])) as probe:
            asked = [worker.invoke("stream::list_all", data={}) for _ in range(8)]
            asked.append(worker.invoke("stream::list_groups", data={"stream_name": "s3"}))
            # It comes behind them, and none of them shows it.
            asked.append(worker.invoke("stream::set", data={"stream_name": "z", "group_id": "g", "item_id": "i", "data": 1}))
            answers = [worker.receive() for _ in asked]
        assert [answer["invocation_id"] for answer in answers] == asked
        assert all(answer["result"] == expected for answer in answers[:8])
        assert answers[8]["result"] == sorted(names["s3"])
        assert probe.p99() < 0.25
        asked = [worker.invoke("stream::list_all", data={}) for _ in range(8)]
    with Worker(node.worker_url()) as worker:  # The lists of who has gone are given up.
        assert worker.result("stream::list_groups", stream_name="z") == ["g"]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_names_are_collected_up_to_what_the_answer_may_be(start_node, shards):
    """Beyond, the list is refused before anything is sorted or written. What was collected is charged to the caller, and
    given back."""
    size = 64 << 10
    node = start_node({"shards": shards, "limits": {"message_bytes": size, "frame_bytes": size}})
    with Executor(node.worker_url()) as worker:
        names = [f"{n:0200d}" for n in range(400)]
        for stream, count in (("within", 310), ("over", 330), ("far", 400)):
            for group in names[:count]:
                worker.set(stream, group, "i", 1)
        assert worker.result("stream::list_groups", stream_name="within") == names[:310]
        before = node.counters()["results_too_large"]
        for stream in ("over", "far"):
            assert worker.error("stream::list_groups", {"stream_name": stream})["code"] == "result_too_large"
        assert worker.error("stream::list_all", {})["code"] == "result_too_large"
        counters = node.counters()
        assert counters["results_too_large"] == before + 3
        assert counters["waiting_gathers_bytes"] == 0
        assert worker.result("stream::list_groups", stream_name="within") == names[:310]
