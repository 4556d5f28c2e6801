"""Every limit with a setting, on both sides of it: what is within passes, what is over gets its answer
and is counted, and nobody else notices. (The budget of a slow stream client: test_slow_reader.py.)"""

import json
import threading
import time

import pytest
from clients import Subscriber, Worker, status_of
from executor import HELD, Executor
from raw import HANDSHAKE, PING, PONG, Ended, Raw, frame

MESSAGE_BYTES = 8192
FRAME_BYTES = 4096


@pytest.fixture
def small(start_node):
    return start_node({"limits": {"message_bytes": MESSAGE_BYTES, "frame_bytes": FRAME_BYTES, "value_bytes": 2048}})


def port_of(node, port):
    return node.stream_port if port == "stream" else node.worker_port


def padded(size):
    """A message of exactly `size` bytes that both ports answer with a pong, or leave without harm."""
    head = '{"type":"ping","pad":"'
    return head + "x" * (size - len(head) - 2) + '"}'


def fragments(message, size):
    """The frames of `message`, each with at most `size` bytes."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(
        frame(piece, opcode=1 if number == 0 else 0, final=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    )


def still_serves(node):
    with Worker(node.worker_url()) as worker:
        worker.set("limits", "g", "i", 1)
        assert worker.get("limits", "g", "i") == 1


@pytest.mark.parametrize("port", ["stream", "worker"])
def test_frame_at_the_limit_is_read_and_over_it_closes_with_1009(small, port):
    with Raw(port_of(small, port)).upgrade() as peer:
        peer.send(frame(padded(FRAME_BYTES)) + frame(b"", opcode=9))
        while peer.frame()[0] != 10:  # The pong behind the message: it was read to its end.
            pass
        before = small.counters()["messages_too_large"]
        peer.send(frame(padded(FRAME_BYTES + 1)))
        assert peer.close_code() == 1009
    assert small.counters()["messages_too_large"] == before + 1
    still_serves(small)


@pytest.mark.parametrize("port", ["stream", "worker"])
def test_message_at_the_limit_is_read_and_over_it_closes_with_1009(small, port):
    with Raw(port_of(small, port)).upgrade() as peer:
        peer.send(fragments(padded(MESSAGE_BYTES), FRAME_BYTES) + frame(b"", opcode=9))
        while peer.frame()[0] != 10:
            pass
        before = small.counters()["messages_too_large"]
        peer.send(fragments(padded(MESSAGE_BYTES + 1), FRAME_BYTES))
        assert peer.close_code() == 1009
    assert small.counters()["messages_too_large"] == before + 1
    still_serves(small)


def test_value_at_the_limit_is_stored_and_over_it_is_refused(small):
    at = "x" * (2048 - 2)  # The quotes count.
    with Executor(small.worker_url()) as worker:
        worker.set("s", "g", "i", at)
        arguments = {"stream_name": "s", "group_id": "g", "item_id": "i"}
        error = worker.error("stream::set", {**arguments, "data": at + "x"})
        assert error["code"] == "deserialization_error" and "value_bytes" in error["message"]
        append = {"type": "append", "path": "", "value": "x"}
        error = worker.error("stream::update", {**arguments, "ops": [append]})
        assert error["code"] == "STREAM_UPDATE_ERROR" and "value_bytes" in error["message"]
        assert worker.result("stream::get", **arguments) == at
        assert small.counters()["values_too_large"] == 2


def test_connections_at_the_limit_are_served_and_further_ones_are_refused(start_node):
    node = start_node({"limits": {"connections": 4}, "shards": 2})
    with Worker(node.worker_url()) as worker:
        peers = [Raw(node.stream_port).upgrade() for _ in range(3)]
        with Raw(node.stream_port) as further:
            further.send(HANDSHAKE.format(path="/").encode())
            head = further.head()
            assert head.startswith("HTTP/1.1 503 ") and "\r\nRetry-After: 2\r\n" in head
        for path in ("/", "/otel"):
            with Raw(node.worker_port).upgrade(path) as further:
                assert further.close_code() == 1012
        assert node.counters()["connections_refused"] == 3
        assert worker.set("s", "g", "i", 1)["new_value"] == 1
        peers.pop().close()
        deadline = time.monotonic() + 5
        while node.counters()["stream_connections"] > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status_of(node.stream_url()) == 101
        for peer in peers:
            peer.close()


def is_let_in(node):
    with Raw(node.stream_port) as peer:
        peer.send(HANDSHAKE.format(path="/").encode())
        return peer.status() == 101


def test_workers_over_the_limit_are_turned_away_at_a_pace(start_node):
    """SDKs come back at once: one close in 20 ms is what they may ask of a shard."""
    node = start_node({"limits": {"connections": 1}, "shards": 1})
    with Raw(node.stream_port).upgrade():
        began = time.monotonic()
        workers = [Raw(node.worker_port).upgrade() for _ in range(10)]
        assert [worker.close_code() for worker in workers] == [1012] * 10
        assert time.monotonic() - began >= 0.2
        assert node.counters()["workers_turned_away"] == 10


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_door_that_is_full_accepts_no_more_workers(start_node, shards):
    """As many as may are answered; one more waits in the kernel's queue until one of them has gone. The stream port has
    places of its own."""
    node = start_node({"limits": {"connections": 1, "turned_away": 2}, "shards": shards})
    with Raw(node.stream_port).upgrade(), Raw(node.worker_port) as first, Raw(node.worker_port):
        while node.counters()["accepts_paused"] < 1:
            pass
        with Raw(node.worker_port) as next_one:
            next_one.send(HANDSHAKE.format(path="/").encode())
            assert node.counters()["connections_accepted"] == node.counters()["connections_accepted"] == 3
            first.close()
            assert next_one.status() == 101
            assert next_one.close_code() == 1012
        with Raw(node.stream_port) as waiting, Raw(node.stream_port):
            while node.counters()["connections_refused"] < 5:
                pass
            with Raw(node.stream_port) as over, pytest.raises(Ended):
                over._fill()
            waiting.send(HANDSHAKE.format(path="/").encode())
            assert waiting.status() == 503
    while not is_let_in(node):
        pass  # The first connection has not gone yet.


def test_subscriptions_at_the_limit_are_served_and_a_further_one_is_refused(start_node):
    node = start_node({"limits": {"subscriptions_per_connection": 3}})
    with Subscriber(node.stream_url()) as client, Subscriber(node.stream_url()) as other:
        for number in range(3):
            client.join("s", f"g{number}", subscription=f"sub{number}")
            assert client.event()["type"] == "sync"
        client.join("s", "g3", subscription="sub3")
        assert client.event()["type"] == "unauthorized"
        assert node.counters()["subscriptions_refused"] == 1
        assert "limits.subscriptions_per_connection" in node.wait_for("join_refused")["detail"]
        client.join("s", "g1", subscription="sub1")  # One that it has: joins again.
        assert client.event()["type"] == "sync"
        client.leave("s", "g0", subscription="sub0")
        client.join("s", "g3", subscription="sub3")
        assert client.event()["type"] == "sync"
        other.join("s", "g0")
        assert other.event()["type"] == "sync"


def test_functions_at_the_limit_are_served_and_a_further_one_is_refused(start_node):
    node = start_node(worker={"limits": {"functions_per_worker": 3}})
    with Executor(node.worker_url()) as worker, Executor(node.worker_url()) as other:
        for name in "abc":
            worker.serve(name, name)
        worker.nothing_said()
        worker.serve("d", "d")
        answer = worker.said("functionregistrationresult")
        assert (answer["id"], answer["error"]["code"]) == ("d", "limit_reached")
        assert node.counters()["registrations_refused"] == 1
        assert [other.result(name) for name in "abc"] == ["a", "b", "c"]
        assert other.error("d")["code"] == "function_not_found"
        other.serve("d", "of another worker")
        assert worker.result("d") == "of another worker"
        worker.withdraw("a")
        worker.serve("e", "e")
        assert other.result("e") == "e"


def test_triggers_at_the_limit_fire_and_a_further_one_is_refused(start_node):
    node = start_node(worker={"limits": {"triggers_per_worker": 3}})
    with Executor(node.worker_url()) as worker, Executor(node.worker_url()) as other:
        for number in range(4):
            worker.serve(f"on{number}", None)
            worker.trigger("stream", f"on{number}", {"stream_name": "s"}, trigger_id=f"t{number}")
        answer = worker.said("triggerregistrationresult")
        assert (answer["id"], answer["error"]["code"]) == ("t3", "limit_reached")
        assert node.counters()["registrations_refused"] == 1
        other.set("s", "g", "i", 1)
        for number in range(3):
            assert worker.called(f"on{number}").data["id"] == "i"
        worker.untrigger("t0")
        worker.trigger("stream", "on3", {"stream_name": "s"}, trigger_id="t3")
        other.set("s", "g", "j", 1)
        assert worker.called("on3").data["id"] == "j"
        assert worker.all_called("on0") == []


def test_calls_at_the_limit_wait_and_a_further_one_is_refused(start_node):
    node = start_node(worker={"limits": {"pending_calls_per_worker": 3}})
    with Executor(node.worker_url()) as server, Executor(node.worker_url()) as spare:
        with Executor(node.worker_url()) as caller, Executor(node.worker_url()) as other:
            server.serve("held", HELD)
            spare.serve("spare", "spare")
            waiting = [caller.invoke("held", number) for number in range(3)]
            calls = [server.called("held") for _ in range(3)]
            # Of the caller: whatever it calls next. Of the executor: whoever calls it next.
            assert caller.error("spare")["code"] == "too_many_calls"
            assert other.error("held")["code"] == "too_many_calls"
            assert node.counters()["calls_refused"] == 2
            assert caller.set("s", "g", "i", 1)["new_value"] == 1  # Waits for nobody.
            assert other.result("spare") == "spare"
            calls[0].answer("done")
            assert caller.answer(waiting[0])["result"] == "done"
            assert caller.result("spare") == "spare"
            for call, invocation in zip(calls[1:], waiting[1:]):
                call.answer(call.data)
                assert caller.answer(invocation)["result"] == call.data


def test_worker_gets_as_much_as_its_budget_holds_and_is_closed_when_it_takes_nothing(start_node):
    """Calls wait for room. The worker sends pongs all the time, but takes nothing of what waits for it."""
    budget = 1 << 20
    node = start_node(
        {"ping": {"interval_ms": 400, "deadline_ms": 400}}, worker={"limits": {"worker_budget_bytes": budget}}
    )
    node.expected_errors.append("slow")
    stopped = Raw(node.worker_port, receive_buffer=4096).upgrade()
    stopped.message()
    stopped.send(frame(json.dumps({"type": "registerfunction", "id": "stuck"})))
    with Executor(node.worker_url()) as caller:
        deadline = time.monotonic() + 5
        while caller.call("engine::functions::list")["result"]["functions"] == [] and time.monotonic() < deadline:
            time.sleep(0.02)
        text = "x" * (64 << 10)
        # The kernel holds some megabytes.
        waiting = [caller.invoke("stuck", text) for _ in range(160)]
        caller.barrier()
        counters = node.counters()
        assert counters["waiting_outbox_bytes"] <= budget + (128 << 10)
        while node.counters()["slow_readers_closed"] == 0 and time.monotonic() < deadline:
            stopped.send(frame(b"", opcode=PONG))
            time.sleep(0.02)
        ends = [caller.answer(invocation)["error"]["code"] for invocation in waiting]
        assert ends[0] == "invocation_stopped"
        assert set(ends) <= {"invocation_stopped", "channel_send_failed", "function_not_found"}
        assert node.counters()["slow_readers_closed"] == 1
        assert caller.error("stuck")["code"] == "function_not_found"
    assert stopped.close_code() == 1012
    stopped.close()
    ended = node.counters()
    assert all(ended[key] == 0 for key in ended if key.startswith("waiting_")), ended


def test_slow_worker_that_takes_something_gets_all_its_calls(start_node):
    """Slower than its callers by far, and over its budget many times: each call reaches it, none ends with an error."""
    budget = 1 << 20
    node = start_node(
        {"ping": {"interval_ms": 300, "deadline_ms": 300}}, worker={"limits": {"worker_budget_bytes": budget}}
    )
    slow = Raw(node.worker_port, receive_buffer=64 << 10).upgrade()
    slow.message()
    slow.send(frame(json.dumps({"type": "registerfunction", "id": "slow"})))
    with Executor(node.worker_url()) as caller:
        deadline = time.monotonic() + 20
        while caller.call("engine::functions::list")["result"]["functions"] == [] and time.monotonic() < deadline:
            time.sleep(0.02)
        count, text, seen = 400, "x" * (64 << 10), []
        waiting, most = [], 0
        calling = threading.Thread(
            target=lambda: waiting.extend(caller.invoke("slow", {"n": n, "text": text}) for n in range(count))
        )
        calling.start()
        while len(seen) < count:
            opcode, payload = slow.frame()
            if opcode == PING:
                slow.send(frame(payload, opcode=PONG))
                continue
            call = json.loads(payload)
            seen.append(call["data"]["n"])
            if len(seen) % 20 == 0:  # It works on them, slowly.
                most = max(most, node.counters()["waiting_outbox_bytes"])
                time.sleep(0.03)
            slow.send(
                frame(
                    json.dumps(
                        {
                            "type": "invocationresult",
                            "invocation_id": call["invocation_id"],
                            "function_id": "slow",
                            "result": call["data"]["n"],
                        }
                    )
                )
            )
        calling.join()
        assert seen == list(range(count)), "in the order of the calls"
        assert budget // 4 < most <= budget + (128 << 10)
        assert [caller.answer(invocation)["result"] for invocation in waiting] == seen
    slow.close()
    assert node.counters()["slow_readers_closed"] == 0


@pytest.mark.parametrize("size, code", [(4096, None), (4097, 1009)])
def test_message_of_a_stream_client_has_a_limit_of_its_own(start_node, size, code):
    node = start_node({"limits": {"client_message_bytes": 4096}})
    with Raw(node.stream_port).upgrade() as peer:
        peer.send(frame(padded(size)) + frame(b"", opcode=9))
        if code is None:
            assert peer.frame()[0] == 10
        else:
            assert peer.close_code() == code
    with Raw(node.worker_port).upgrade() as worker:
        worker.message()
        worker.send(frame(padded(size)))
        assert json.loads(worker.message()) == {"type": "pong"}
    assert node.counters()["messages_too_large"] == (0 if code is None else 1)
    still_serves(node)


def test_unfinished_messages_are_charged_and_given_back(node):
    """Of workers: those of stream clients end with their limit."""
    with Raw(node.worker_port).upgrade() as worker:
        worker.message()
        worker.send(frame(b"x" * (1 << 20), final=False))
        worker.send(frame(b"", opcode=9))
        while worker.frame()[0] != 10:
            pass
        counters = node.counters()
        assert 1 << 20 <= counters["waiting_unfinished_bytes"] <= 4 << 20
        worker.send(frame(b"", opcode=0))
        worker.send(frame(b"", opcode=9))
        while worker.frame()[0] != 10:
            pass
        assert node.counters()["waiting_unfinished_bytes"] == 0


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_sync_at_its_limit_is_sent_and_a_larger_one_refuses_the_join(start_node, shards):
    """In steps, at once and of one item; a smaller `message_bytes` does not matter."""
    limits = {"sync_bytes": 600_000, "message_bytes": 1 << 19, "frame_bytes": 1 << 19, "value_bytes": 1 << 19}
    node = start_node({"shards": shards, "limits": limits})
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as client:
        for group in ("a", "b", "c"):
            worker.set("s", group, "i0", "x" * 199_997)  # With quotes, commas and brackets: 600,000 bytes.
            worker.set("s", group, "i1", "x" * 199_996)
            worker.set("s", group, "i2", "x" * 199_997)
            client.join("s", group)
            assert len(json.dumps(client.event()["data"], separators=(",", ":"))) == 600_000
            worker.set("s", group, "i1", "x" * 199_997)
            assert client.event()["type"] == "update"
            client.leave("s", group)
            client.join("s", group, subscription="refused")
            assert client.event() == {"type": "unauthorized", "reason": "sync_too_large"}
            worker.set("s", group, "i1", 1)  # Heard of by nobody: the join was refused.
            client.join("s", group)
            assert client.event()["data"][1] == 1
            client.leave("s", group)
    assert node.counters()["syncs_too_large"] == node.counters()["subscriptions_refused"] == 3
    assert "limits.sync_bytes" in node.wait_for("join_refused")["detail"]


def test_item_larger_than_a_sync_may_be_refuses_the_join(start_node):
    node = start_node({"limits": {"sync_bytes": 2000}})
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as client:
        for size, kind in ((1998, "sync"), (1999, "unauthorized")):
            worker.set("s", "g", "i", "x" * size)
            client.join("s", "g", item="i")
            assert client.event()["type"] == kind
            client.leave("s", "g")


def test_custom_sync_at_its_limit_is_sent_and_a_larger_one_refuses_the_join(start_node):
    node = start_node({"limits": {"sync_bytes": 2000}})
    with Executor(node.worker_url()) as owner, Subscriber(node.stream_url()) as client:
        owner.serve("left", None)
        owner.trigger("stream:leave", "left")
        for size, kind in ((1998, "sync"), (1999, "unauthorized")):
            owner.serve("stream::list(own)", "x" * size)
            client.join("own", "g")
            assert client.event()["type"] == kind
            client.leave("own", "g")
            assert owner.called("left").data["subscription_id"] == "s"
            owner.withdraw("stream::list(own)")
    assert node.counters()["syncs_too_large"] == 1
