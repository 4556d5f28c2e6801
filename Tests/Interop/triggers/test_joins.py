"""What triggers of the types `stream:join` and `stream:leave` see and decide, over real sockets."""

import time
import uuid

import pytest

from clients import Subscriber
from executor import HELD, Executor, Failure

HANDLER_MS = 400


@pytest.fixture
def hooked(start_node):
    return start_node({"timeouts": {"handler_ms": HANDLER_MS}})


@pytest.fixture
def worker(hooked):
    with Executor(hooked.worker_url()) as executor:
        yield executor


@pytest.fixture
def patient(start_node):
    """A node whose handlers may take long."""
    return start_node()


def fails(data):
    raise Failure("invocation_failed", "boom")


def pong(subscriber):
    """The client's own ping is answered."""
    return subscriber.socket.ping().wait(5)


# ---- Payloads


@pytest.mark.parametrize("item", [None, "i", ""], ids=["group", "item", "empty item"])
def test_payload_of_join_and_leave(hooked, worker, item):
    for kind in ("join", "leave"):
        worker.serve(kind, None)
        worker.trigger(f"stream:{kind}", kind)
    before = time.time_ns() // 10**6
    with Subscriber(hooked.stream_url()) as subscriber:
        subscriber.join("s", "g/ü", item=item, subscription="sub")
        assert subscriber.event()["type"] == "sync"
        subscriber.leave("s", "g/ü", subscription="sub")
        seen = {kind: worker.called(kind) for kind in ("join", "leave")}
    for kind, call in seen.items():
        assert before <= call.data.pop("timestamp") <= time.time_ns() // 10**6
        assert int(call.data.pop("connection_id"), 16) > 0
        assert call.data == {
            "subscription_id": "sub",
            "stream_name": "s",
            "group_id": "g/ü",
            "id": item,
            "context": None,
            "event_type": f"stream:{kind}",
        }
        assert call.message.keys() == {"type", "invocation_id", "function_id", "data"}


def test_path_subscription_has_an_id_of_its_own(hooked, worker):
    worker.serve("join", None)
    worker.serve("leave", None)
    worker.trigger("stream:join", "join")
    worker.trigger("stream:leave", "leave")
    ids = []
    for _ in range(3):
        with Subscriber(hooked.stream_url("/stream/s/g%20h/i")) as subscriber:
            assert subscriber.event()["type"] == "sync"
        join, leave = worker.called("join").data, worker.called("leave").data
        assert (join["stream_name"], join["group_id"], join["id"]) == ("s", "g h", "i")
        assert leave["subscription_id"] == join["subscription_id"]
        ids.append(join["subscription_id"])
    assert len(set(ids)) == 3
    assert all(str(uuid.UUID(each)) == each and uuid.UUID(each).version == 4 for each in ids)
    # Neither half follows from the number of the connection.
    assert all(len({each[at] for each in ids}) == 3 for at in (slice(0, 13), slice(20, 36)))


def test_two_clients_with_one_subscription_id_are_two_connections(hooked, worker):
    """Tabs of one page draw the same subscription ids: only the connection tells them apart."""
    for kind in ("join", "leave"):
        worker.serve(kind, None)
        worker.trigger(f"stream:{kind}", kind)
    seen = []
    with Subscriber(hooked.stream_url()) as one, Subscriber(hooked.stream_url()) as two:
        for client in (one, two):
            client.join("s", "g")
            assert client.event()["type"] == "sync"
            seen.append(worker.called("join").data["connection_id"])
        assert seen[0] != seen[1]
        two.close()
        assert worker.called("leave").data["connection_id"] == seen[1]
        one.leave("s", "g")
        assert worker.called("leave").data["connection_id"] == seen[0]


# ---- What a join handler may answer

RESULTS = {
    "unauthorized true": ({"unauthorized": True}, False),
    "unauthorized true among other keys": ({"a": 1, "unauthorized": True}, False),
    "unauthorized false": ({"unauthorized": False}, True),
    "an empty object": ({}, True),
    "unauthorized is a string": ({"unauthorized": "true"}, False),
    "unauthorized is null": ({"unauthorized": None}, True),
    "unauthorized is 1": ({"unauthorized": 1}, False),
    "allowed true": ({"allowed": True}, True),
    "allowed false": ({"allowed": False}, False),
    "authorized null": ({"authorized": None}, False),
    "error with a text": ({"error": "no"}, False),
    "error null": ({"error": None}, True),
    "allowed and forbidden": ({"allowed": True, "unauthorized": True}, False),
    "nothing": (None, True),
    "true": (True, True),
    "false": (False, False),
    "a string": ("yes", False),
    "a number": (0, False),
    "a list": ([{"unauthorized": True}], False),
    "an error": (fails, False),
    "no answer in time": (HELD, False),
}


@pytest.mark.parametrize("path", [False, True], ids=["message", "path"])
@pytest.mark.parametrize("row", RESULTS)
def test_result_of_a_join_handler(hooked, worker, row, path):
    result, allowed = RESULTS[row]
    worker.serve("join", result)
    worker.serve("leave", None)
    worker.trigger("stream:join", "join")
    worker.trigger("stream:leave", "leave")
    with Subscriber(hooked.stream_url("/stream/s/g" if path else "/")) as subscriber:
        if not path:
            subscriber.join("s", "g")
        frame = subscriber.receive()
        if allowed:
            assert frame["event"] == {"type": "sync", "data": []}
        else:
            assert frame["event"] == {"type": "unauthorized"}
            assert (frame["streamName"], frame["groupId"], frame["id"]) == ("s", "g", None)
        worker.set("s", "g", "i", 1)
        subscriber.join("s", "g", item="i", subscription="other")  # The connection stays.
        if allowed:
            assert subscriber.event() == {"type": "create", "data": 1}
        assert subscriber.event()["type"] == ("sync" if allowed else "unauthorized")
    if allowed:
        assert {worker.called("leave").data["id"] for _ in range(2)} == {None, "i"}
    worker.barrier()
    assert worker.all_called("leave") == []


def test_odd_answer_of_a_join_handler_is_warned_about_once(hooked, worker):
    worker.serve("odd", {"allowed": False})
    worker.trigger("stream:join", "odd")
    for _ in range(3):
        with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
            assert subscriber.event() == {"type": "unauthorized"}
    warnings = [record for record in hooked.records if record["event"] == "join_result_odd"]
    assert [(record["function_id"], record["found"]) for record in warnings] == [("odd", "allowed")]
    assert '{"unauthorized": true}' in warnings[0]["detail"]


@pytest.mark.parametrize("row", RESULTS)
def test_fail_open_restores_the_original_for_join_handlers(start_node, row):
    node = start_node({"timeouts": {"handler_ms": HANDLER_MS}, "compat": {"fail_open": True}})
    result, _ = RESULTS[row]
    with Executor(node.worker_url()) as worker, Subscriber(node.stream_url()) as subscriber:
        worker.serve("join", result)
        worker.trigger("stream:join", "join")
        subscriber.join("s", "g")
        refuses = isinstance(result, dict) and result.get("unauthorized") is True
        assert subscriber.event()["type"] == ("unauthorized" if refuses else "sync")


def test_join_handler_that_is_not_there_refuses(hooked, worker):
    worker.trigger("stream:join", "nowhere")
    with Subscriber(hooked.stream_url()) as subscriber:
        subscriber.join("s", "g", item="i")
        frame = subscriber.receive()
        assert (frame["event"], frame["id"]) == ({"type": "unauthorized"}, "i")


@pytest.mark.parametrize(
    "result", [fails, HELD, "nowhere"], ids=["an error", "no answer in time", "no function"]
)
@pytest.mark.parametrize("which", ["function_id", "condition"])
def test_fail_open_allows_what_fails(start_node, result, which):
    node = start_node({"compat": {"fail_open": True}, "timeouts": {"handler_ms": 200}})
    with Executor(node.worker_url()) as worker:
        if result != "nowhere":
            worker.serve("decides", result)
        worker.serve("join", None)
        if which == "condition":
            worker.trigger("stream:join", "join", {"condition_function_id": "decides"})
        else:
            worker.trigger("stream:join", "decides")
        with Subscriber(node.stream_url("/stream/s/g")) as subscriber:
            assert subscriber.event()["type"] == "sync"


# ---- Filters

FILTERS = {
    "null": (None, True),
    "absent": ({}, True),
    "stream_name null": ({"stream_name": None}, True),
    "stream_name empty": ({"stream_name": ""}, True),
    "the stream": ({"stream_name": "s"}, True),
    "another stream": ({"stream_name": "t"}, False),
    "not an object": (5, True),
    "unknown keys": ({"group_id": "other", "x": 1}, True),
}


@pytest.mark.parametrize("row", FILTERS)
def test_filter_of_join_and_leave_triggers(hooked, worker, row):
    config, fires = FILTERS[row]
    for kind in ("join", "leave"):
        worker.serve(kind, None)
        worker.trigger(f"stream:{kind}", kind, config)
        worker.serve(f"{kind}::last", None)
        worker.trigger(f"stream:{kind}", f"{kind}::last")
    with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
    for kind in ("join", "leave"):
        worker.called(f"{kind}::last")
        if fires:
            worker.called(kind)
        else:
            assert worker.all_called(kind) == []


@pytest.mark.parametrize("config", [{"stream_name": 5}, {"condition_function_id": []}], ids=str)
@pytest.mark.parametrize("kind", ["join", "leave"])
def test_trigger_with_a_filter_of_the_wrong_type_is_refused_visibly(worker, kind, config):
    trigger_id = worker.trigger(f"stream:{kind}", "f", config)
    refusal = worker.said("triggerregistrationresult")
    assert refusal["id"] == trigger_id
    assert refusal["error"]["code"] == "trigger_registration_failed"


def test_trigger_without_a_config_is_taken(hooked, worker):
    """The Python SDK leaves out what is None."""
    worker.serve("join", {"unauthorized": True})
    worker.send(
        {"type": "registertrigger", "id": "t", "trigger_type": "stream:join", "function_id": "join"}
    )
    worker.nothing_said()
    with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event() == {"type": "unauthorized"}


# ---- Conditions

JOIN_CONDITIONS = {
    # The handler refuses: so `sync` tells that it was skipped.
    "false": (False, "sync"),
    "true": (True, "unauthorized"),
    "nothing": (None, "unauthorized"),
    "zero": (0, "unauthorized"),
    "an empty string": ("", "unauthorized"),
    "an object": ({"unauthorized": False}, "unauthorized"),
}


@pytest.mark.parametrize("row", JOIN_CONDITIONS)
def test_condition_of_a_join_trigger(hooked, worker, row):
    result, event = JOIN_CONDITIONS[row]
    worker.serve("condition", result)
    worker.serve("join", {"unauthorized": True})
    worker.trigger("stream:join", "join", {"condition_function_id": "condition"})
    with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == event
    condition = worker.called("condition").data
    if event == "unauthorized":
        assert worker.called("join").data == condition
    else:
        assert worker.all_called("join") == []


FAILURES = {"an error": fails, "no answer in time": HELD, "no function": None}


@pytest.mark.parametrize("row", FAILURES)
def test_condition_that_fails_refuses_the_join_and_skips_the_handler(hooked, worker, row):
    if row != "no function":
        worker.serve("condition", FAILURES[row])
    worker.serve("join", {})
    worker.trigger("stream:join", "join", {"condition_function_id": "condition"})
    with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event() == {"type": "unauthorized"}
    assert worker.all_called("join") == []


@pytest.mark.parametrize("row", [*FAILURES, "false", "true", "nothing"])
def test_condition_of_a_leave_trigger(hooked, worker, row):
    """Only `false` and a failure skip the handler. The same subscription's next leave waits for this one."""
    results = {**FAILURES, "false": False, "true": True, "nothing": None}
    if row != "no function":
        worker.serve("condition", results[row])
    worker.serve("leave", None)
    worker.trigger("stream:leave", "leave", {"condition_function_id": "condition"})
    with Subscriber(hooked.stream_url()) as subscriber:
        for group in ("first", "second"):
            subscriber.join("s", group)
            assert subscriber.event()["type"] == "sync"
            subscriber.leave("s", group)
            if group == "first":
                if row != "no function":
                    worker.called("condition")
                else:
                    subscriber.join("s", "between")  # Behind the leave, whose look-up has failed.
                    assert subscriber.event()["type"] == "sync"
                    worker.barrier()
                worker.serve("condition", True)
    seen = worker.called("leave").data["group_id"]
    if row in ("true", "nothing"):
        assert seen == "first"
        seen = worker.called("leave").data["group_id"]
    assert seen in ("second", "between")


# ---- Several triggers


def test_join_triggers_are_asked_one_after_the_other_in_their_order(patient):
    """The second is asked only once the first has answered, also when the first refused."""
    with Executor(patient.worker_url()) as first, Executor(patient.worker_url()) as second:
        first.serve("a")
        second.serve("b")
        first.serve("c")
        first.trigger("stream:join", "a", trigger_id="a")
        second.trigger("stream:join", "b", trigger_id="b")
        first.trigger("stream:join", "c", trigger_id="c")
        with Subscriber(patient.stream_url("/stream/s/g")) as subscriber:
            call = first.called("a")
            second.barrier()
            assert second.all_called("b") == []
            call.answer({"unauthorized": True})
            call = second.called("b")
            first.barrier()
            assert first.all_called("c") == []
            call.fail("invocation_failed")
            first.called("c").answer({"unauthorized": False})
            assert subscriber.event() == {"type": "unauthorized"}


def test_replaced_trigger_keeps_its_place_and_calls_once(hooked, worker):
    order = []
    for name in ("a", "b", "a2"):
        worker.serve(name, lambda data, name=name: order.append(name))
    worker.trigger("stream:join", "a", trigger_id="1")
    worker.trigger("stream:join", "b", trigger_id="2")
    worker.trigger("stream:join", "a2", trigger_id="1")
    with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
    assert order == ["a2", "b"]


def test_unregistered_trigger_and_that_of_a_gone_worker_call_nobody(hooked, worker):
    worker.serve("join", {"unauthorized": True})
    trigger_id = worker.trigger("stream:join", "join")
    with Executor(hooked.worker_url()) as other:
        other.trigger("stream:join", "join", trigger_id="of another")
        other.untrigger(trigger_id)  # Not its own: nothing happens.
        with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
            assert subscriber.event() == {"type": "unauthorized"}
        assert len(worker.all_called("join")) == 2
    worker.untrigger(trigger_id)
    with Subscriber(hooked.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"


# ---- Leaving


@pytest.mark.parametrize("end", ["leave", "close", "drop"])
def test_leave_comes_exactly_once(hooked, worker, end):
    worker.serve("leave", None)
    worker.trigger("stream:leave", "leave")
    subscriber = Subscriber(hooked.stream_url())
    for number in range(3):
        subscriber.join("s", f"g{number}", subscription=str(number))
        assert subscriber.event()["type"] == "sync"
    if end == "leave":
        for number in range(3):
            # The names that were joined are reported, whatever the message says.
            subscriber.leave("other", "names", subscription=str(number))
    elif end == "drop":
        subscriber.socket.socket.close()  # No close frame.
    subscriber.close()
    seen = [worker.called("leave").data for _ in range(3)]
    assert sorted((data["subscription_id"], data["group_id"]) for data in seen) == [
        ("0", "g0"),
        ("1", "g1"),
        ("2", "g2"),
    ]
    assert {data["stream_name"] for data in seen} == {"s"}
    worker.barrier()
    assert worker.all_called("leave") == []


def test_leave_with_the_id_alone_and_leave_of_nothing(hooked, worker):
    worker.serve("leave", None)
    worker.trigger("stream:leave", "leave")
    with Subscriber(hooked.stream_url()) as subscriber:
        subscriber.leave("s", "g", subscription="unknown")
        subscriber.join("s", "g", subscription="one")
        assert subscriber.event()["type"] == "sync"
        subscriber.send({"type": "leave", "data": {"subscriptionId": "one"}})
        assert worker.called("leave").data["subscription_id"] == "one"
    worker.barrier()
    assert worker.all_called("leave") == []


@pytest.mark.parametrize("result", [{"unauthorized": True}, fails, 5], ids=str)
def test_what_a_leave_handler_answers_does_not_matter(hooked, worker, result):
    worker.serve("leave", result)
    worker.serve("next", None)
    worker.trigger("stream:leave", "leave")
    worker.trigger("stream:leave", "next")
    with Subscriber(hooked.stream_url()) as subscriber:
        subscriber.join("s", "g")
        assert subscriber.event()["type"] == "sync"
        subscriber.leave("s", "g")
        worker.called("leave")
        worker.called("next")
        subscriber.join("s", "g")
        assert subscriber.event()["type"] == "sync"


def test_leave_never_overtakes_its_join(patient):
    """The client has joined, left and gone before the join handler answers."""
    with Executor(patient.worker_url()) as worker:
        worker.serve("join")
        worker.serve("leave", None)
        worker.trigger("stream:join", "join")
        worker.trigger("stream:leave", "leave")
        with Subscriber(patient.stream_url()) as subscriber:
            subscriber.join("s", "g")
            subscriber.leave("s", "g")
            call = worker.called("join")
            worker.barrier()
            assert worker.all_called("leave") == []
            call.answer({})
            assert subscriber.event()["type"] == "sync"
            worker.called("leave")
        worker.barrier()
        assert worker.all_called("leave") == []


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "refused"])
@pytest.mark.parametrize("end", ["close", "drop"])
def test_join_that_is_decided_after_the_client_has_gone(patient, allowed, end):
    """Allowed: whoever let it in hears that it has gone, once. Refused: there is nothing to tell."""
    with Executor(patient.worker_url()) as worker:
        worker.serve("join")
        worker.serve("leave", None)
        worker.trigger("stream:join", "join")
        worker.trigger("stream:leave", "leave")
        subscriber = Subscriber(patient.stream_url())
        subscriber.join("s", "g", item="i", subscription="gone")
        call = worker.called("join")
        if end == "drop":
            subscriber.socket.socket.close()
        subscriber.close()
        worker.barrier()
        assert worker.all_called("leave") == []
        call.answer({"unauthorized": not allowed})
        if allowed:
            data = worker.called("leave").data
            assert (data["subscription_id"], data["id"]) == ("gone", "i")
        worker.barrier()
        assert worker.all_called("leave") == []


# ---- The same subscription again


def test_same_subscription_again_is_join_then_leave_then_sync(hooked, worker):
    order = []
    worker.serve("join", lambda data: order.append(("join", data["group_id"])))
    worker.serve("leave", lambda data: order.append(("leave", data["group_id"])))
    worker.trigger("stream:join", "join")
    worker.trigger("stream:leave", "leave")
    with Subscriber(hooked.stream_url()) as subscriber:
        for group in ("one", "two", "two"):
            subscriber.join("s", group)
            frame = subscriber.receive()
            assert (frame["groupId"], frame["event"]["type"]) == (group, "sync")
        worker.set("s", "one", "i", 1)  # No longer subscribed.
        worker.set("s", "two", "i", 2)
        frame = subscriber.receive()
        assert (frame["groupId"], frame["event"]["data"]) == ("two", 2)
    worker.called("leave")
    worker.called("leave")
    worker.called("leave")
    assert order == [
        ("join", "one"),
        ("join", "two"),
        ("leave", "one"),
        ("join", "two"),
        ("leave", "two"),
        ("leave", "two"),
    ]


def test_same_subscription_refused_leaves_the_old_one(hooked, worker):
    worker.serve("join", lambda data: {"unauthorized": data["group_id"] == "closed"})
    worker.serve("leave", None)
    worker.trigger("stream:join", "join")
    worker.trigger("stream:leave", "leave")
    with Subscriber(hooked.stream_url()) as subscriber:
        subscriber.join("s", "open")
        assert subscriber.event()["type"] == "sync"
        subscriber.join("s", "closed")
        assert subscriber.event()["type"] == "unauthorized"
        worker.set("s", "open", "i", 1)
        assert subscriber.event() == {"type": "create", "data": 1}
        assert worker.all_called("leave") == []
    assert worker.called("leave").data["group_id"] == "open"


# ---- A handler that takes its time


def test_handler_that_hangs_stops_neither_pings_nor_other_clients(patient):
    with Executor(patient.worker_url()) as worker, Subscriber(patient.stream_url()) as waiting:
        waiting.join("free", "g", subscription="first")
        assert waiting.event()["type"] == "sync"
        worker.serve("join")
        worker.trigger("stream:join", "join", {"stream_name": "s"})
        waiting.join("s", "g")
        call = worker.called("join")
        assert pong(waiting)
        with Subscriber(patient.stream_url("/stream/free/g")) as other:
            assert other.event()["type"] == "sync"
            worker.set("free", "g", "i", 1)
            assert other.event()["type"] == "create"
        assert waiting.event() == {"type": "create", "data": 1}, "it still gets what it had"
        call.answer({})
        assert waiting.event()["type"] == "sync"


def test_handler_that_hangs_is_given_up_and_the_connection_goes_on(hooked, worker):
    worker.serve("join")
    worker.trigger("stream:join", "join", {"stream_name": "s"})
    with Subscriber(hooked.stream_url()) as subscriber:
        subscriber.join("s", "g")
        subscriber.join("free", "g", subscription="second")
        assert [subscriber.event()["type"] for _ in range(2)] == ["unauthorized", "sync"]
        worker.called("join").answer({})  # Too late.
        worker.set("s", "g", "i", 1)
        worker.set("free", "g", "i", 2)
        assert subscriber.event() == {"type": "create", "data": 2}


@pytest.mark.parametrize("count, closes", [(64, False), (65, True)])
def test_messages_that_wait_behind_a_join_have_a_limit(patient, count, closes):
    with Executor(patient.worker_url()) as worker, Subscriber(patient.stream_url()) as subscriber:
        worker.serve("join")
        worker.trigger("stream:join", "join", {"stream_name": "s"})
        subscriber.join("s", "g", subscription="first")
        call = worker.called("join")
        for number in range(count):
            subscriber.join("free", f"g{number}", subscription=str(number))
        if closes:
            assert subscriber.close_code() == 1008
            call.answer({})
            return
        assert pong(subscriber)
        call.answer({})
        frames = [subscriber.receive() for _ in range(1 + count)]
        assert [frame["groupId"] for frame in frames] == ["g", *(f"g{n}" for n in range(count))]
        assert {frame["event"]["type"] for frame in frames} == {"sync"}


def test_message_that_waits_on_a_refused_join_is_taken_in_order(patient):
    with Executor(patient.worker_url()) as worker, Subscriber(patient.stream_url()) as subscriber:
        worker.serve("join")
        worker.trigger("stream:join", "join")
        for group in ("a", "b", "c"):
            subscriber.join("s", group, subscription=group)
        for group in ("a", "b", "c"):
            call = worker.called("join")
            assert call.data["group_id"] == group
            worker.barrier()
            assert worker.all_called("join") == [], "one after the other"
            call.answer({"unauthorized": group == "b"})
            assert subscriber.receive()["groupId"] == group
