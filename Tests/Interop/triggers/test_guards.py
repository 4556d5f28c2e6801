"""Streams that need a guard: a join waits for the first `stream:join` trigger that matches it, or is refused."""

import time

import pytest

from clients import Subscriber, Worker


def register_guard(worker, function="guard", stream="secret", trigger="t-guard"):
    worker.send({"type": "registerfunction", "id": function})
    worker.send({"type": "registertrigger", "id": trigger, "trigger_type": "stream:join",
                 "function_id": function, "config": {"stream_name": stream}})


def answer_join(worker, result):
    while True:
        message = worker.receive()
        if message["type"] == "invokefunction":
            worker.send({"type": "invocationresult", "invocation_id": message["invocation_id"],
                         "function_id": message["function_id"], "result": result})
            return message["data"]


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def guarded(start_node, request):
    return start_node({"shards": request.param, "guarded_streams": ["secret", "tenant-*"], "timeouts": {"handler_ms": 2000}})


def test_join_of_a_guarded_stream_waits_for_its_first_guard(guarded):
    with Subscriber(guarded.stream_url()) as client, Worker(guarded.worker_url()) as worker:
        client.join("secret", "g")
        client.join("open", "g", subscription="other")  # It waits behind the first.
        worker.result("stream::list_all")
        register_guard(worker)
        assert answer_join(worker, None)["stream_name"] == "secret"
        assert client.event() == {"type": "sync", "data": []}
        assert client.event() == {"type": "sync", "data": []}


def test_join_of_a_guarded_stream_is_refused_when_no_guard_comes(guarded):
    with Subscriber(guarded.stream_url()) as client:
        client.join("tenant-a", "g")
        assert client.event()["type"] == "unauthorized"
    assert guarded.counters()["joins_unguarded"] == 1
    assert "tenant-a" in guarded.wait_for("join_unguarded")["stream"]


def test_guard_that_has_gone_is_not_waited_for(guarded):
    with Subscriber(guarded.stream_url()) as client:
        with Worker(guarded.worker_url()) as worker:
            register_guard(worker)
            worker.result("stream::list_all")
            client.join("secret", "g")
            answer_join(worker, True)
            assert client.event()["type"] == "sync"
        with Worker(guarded.worker_url()) as other:  # Its answer comes when the first one's end is known.
            while guarded.counters()["worker_connections"] > 1:
                other.result("stream::list_all")
            other.result("stream::list_all")
            began = time.monotonic()
            client.join("secret", "g", subscription="again")
            assert client.event()["type"] == "unauthorized"
            assert time.monotonic() - began < 1.5
            client.join("elsewhere", "g", subscription="open")
            assert client.event()["type"] == "sync"


def test_guard_whose_condition_skips_it_has_not_answered(guarded):
    with Subscriber(guarded.stream_url()) as client, Worker(guarded.worker_url()) as worker:
        worker.send({"type": "registerfunction", "id": "guard"})
        worker.send({"type": "registerfunction", "id": "never"})
        worker.send({"type": "registertrigger", "id": "t", "trigger_type": "stream:join", "function_id": "guard",
                     "config": {"stream_name": "secret", "condition_function_id": "never"}})
        worker.result("stream::list_all")
        client.join("secret", "g")
        answer_join(worker, False)
        assert client.event()["type"] == "unauthorized"
