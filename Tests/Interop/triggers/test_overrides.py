"""Streams that a worker takes over: functions `stream::<operation>(<stream>)`, seen from outside."""

import pytest

from clients import Subscriber
from executor import HELD, Executor, Failure

HANDLER_MS = 300
AT = {"stream_name": "own", "group_id": "g", "item_id": "i"}
GROUP = {"stream_name": "own", "group_id": "g"}


@pytest.fixture
def custom(start_node):
    return start_node({"timeouts": {"handler_ms": HANDLER_MS}})


@pytest.fixture
def owner(custom):
    with Executor(custom.worker_url()) as executor:
        yield executor


@pytest.fixture
def caller(custom):
    with Executor(custom.worker_url()) as executor:
        yield executor


@pytest.fixture
def patient(start_node):
    return start_node()


def fails(data):
    raise Failure("custom_code", "boom", stacktrace="at line 1")


# ---- What is passed on, and what comes back

OPS = [
    {"type": "set", "path": "a", "extra": 1},
    {"type": "merge", "value": {"b": 1}},
    {"type": "increment", "path": "n", "by": 2, "x": None},
    {"type": "append", "path": "l", "value": [1]},
    {"type": "remove", "path": "r"},
]
NORMAL_OPS = [
    {"type": "set", "path": "a", "value": None},
    {"type": "merge", "path": None, "value": {"b": 1}},
    {"type": "increment", "path": "n", "by": 2},
    {"type": "append", "path": "l", "value": [1]},
    {"type": "remove", "path": "r"},
]

PASSED = {
    "set": ({**AT, "data": {"z": 1, "a": 2.0}}, {**AT, "data": {"z": 1, "a": 2.0}}),
    "get": (AT, AT),
    "delete": (AT, AT),
    "list": (GROUP, GROUP),
    "list_groups": ({"stream_name": "own"}, {"stream_name": "own"}),
    "update": ({**AT, "ops": OPS}, {**AT, "ops": NORMAL_OPS}),
}


@pytest.mark.parametrize("operation", PASSED)
def test_only_the_declared_keys_are_passed_on(owner, caller, operation):
    data, passed = PASSED[operation]
    function_id = f"stream::{operation}(own)"
    owner.serve(function_id, {"new_value": 1})
    caller.call(f"stream::{operation}", {**data, "unknown": True})
    assert owner.called(function_id).data == passed


RESULTS = {
    # operation, what the function answers, what the caller gets, the event
    "set: a new value": ("set", {"new_value": 5}, {"old_value": None, "new_value": 5}, ("create", 5)),
    "set: an old value too": (
        "set",
        {"old_value": 1, "new_value": 2, "more": 3},
        {"old_value": 1, "new_value": 2},
        ("update", 2),
    ),
    "set: the old value is null": (
        "set",
        {"old_value": None, "new_value": {"a": 1}},
        {"old_value": None, "new_value": {"a": 1}},
        ("create", {"a": 1}),
    ),
    "set: the new value is null": (
        "set",
        {"new_value": None},
        {"old_value": None, "new_value": None},
        ("create", None),
    ),
    "update: a new value": (
        "update",
        {"new_value": 5},
        {"old_value": None, "new_value": 5},
        ("create", 5),
    ),
    "update: an old value and errors": (
        "update",
        {"old_value": 0, "new_value": 1, "errors": [{"op_index": 0}]},
        {"old_value": 0, "new_value": 1, "errors": [{"op_index": 0}]},
        ("update", 1),
    ),
    "update: no errors": (
        "update",
        {"old_value": 0, "new_value": 1, "errors": []},
        {"old_value": 0, "new_value": 1},
        ("update", 1),
    ),
    "delete: an old value": ("delete", {"old_value": 7}, {"old_value": 7}, ("delete", 7)),
    "delete: none": ("delete", {}, {"old_value": None}, None),
    "delete: null": ("delete", {"old_value": None}, {"old_value": None}, None),
    "get: a value": ("get", {"any": ["thing"]}, {"any": ["thing"]}, None),
    "get: false": ("get", False, False, None),
    "get: null": ("get", None, "absent", None),
    "list: a list": ("list", [3, 1], [3, 1], None),
    "list: no list": ("list", "unchecked", "unchecked", None),
    "list: null": ("list", None, "absent", None),
    "list_groups: a list": ("list_groups", ["b", "a"], ["b", "a"], None),
    "list_groups: no list": ("list_groups", {"a": 1}, {"a": 1}, None),
    "list_groups: null": ("list_groups", None, "absent", None),
}


@pytest.mark.parametrize("row", RESULTS)
def test_result_of_an_override(custom, owner, caller, row):
    """Clients and triggers hear of what it changed, and the store of nothing."""
    operation, answer, result, event = RESULTS[row]
    owner.serve("changed", None)
    owner.trigger("stream", "changed", {"stream_name": "own"})
    with Subscriber(custom.stream_url("/stream/own/g")) as subscriber:
        assert subscriber.event() == {"type": "sync", "data": []}
        owner.serve(f"stream::{operation}(own)", answer)
        message = caller.call(f"stream::{operation}", PASSED[operation][0])
        assert message.get("result", "absent") == result
        assert "error" not in message
        # Custom events come from the node: what came before them is all there was.
        caller.emit("own", "g", "end", None, item="i")
        if event:
            assert subscriber.event() == {"type": event[0], "data": event[1]}
            data = owner.called("changed").data
            assert data["event"] == {"type": event[0], "data": event[1]}
            assert (data["event_type"], data["id"], data["groupId"]) == (event[0], "i", "g")
        assert subscriber.event()["type"] == "event"
        assert owner.called("changed").data["event_type"] == "event"
    owner.withdraw(f"stream::{operation}(own)")
    assert caller.result("stream::list_all") == {"stream": [], "count": 0}


CODES = {"set": "STREAM_SET_ERROR", "delete": "STREAM_DELETE_ERROR", "update": "STREAM_UPDATE_ERROR"}

FAILURES = {
    "set: an error": ("set", fails, "STREAM_SET_ERROR", "Failed to set value: boom"),
    "delete: an error": ("delete", fails, "STREAM_DELETE_ERROR", "Failed to delete value: boom"),
    "update: an error": ("update", fails, "STREAM_UPDATE_ERROR", "Failed to update value: boom"),
    "set: nothing": (
        "set",
        None,
        "STREAM_SET_ERROR",
        "Failed to set value: Function returned no result",
    ),
    "delete: nothing": (
        "delete",
        None,
        "STREAM_DELETE_ERROR",
        "Failed to delete value: Function returned no result",
    ),
    "update: nothing": (
        "update",
        None,
        "STREAM_UPDATE_ERROR",
        "Failed to update value: Function returned no result",
    ),
    "set: no new value": (
        "set",
        {"old_value": 1},
        "JSON_ERROR",
        "Failed to convert result to value: missing field `new_value`",
    ),
    "update: no new value": (
        "update",
        {},
        "JSON_ERROR",
        "Failed to convert result to value: missing field `new_value`",
    ),
    "set: a number": (
        "set",
        5,
        "JSON_ERROR",
        "Failed to convert result to value: invalid type: integer `5`, expected struct SetResult",
    ),
    "delete: a string": (
        "delete",
        "x",
        "JSON_ERROR",
        'Failed to convert result to value: invalid type: string "x", expected struct DeleteResult',
    ),
    "update: a boolean": (
        "update",
        True,
        "JSON_ERROR",
        "Failed to convert result to value: invalid type: boolean `true`, expected struct UpdateResult",
    ),
    "get: an error": ("get", fails, "custom_code", "boom"),
    "list: an error": ("list", fails, "custom_code", "boom"),
    "list_groups: an error": ("list_groups", fails, "custom_code", "boom"),
    "set: no answer in time": ("set", HELD, "STREAM_SET_ERROR", None),
    "get: no answer in time": ("get", HELD, "invocation_timeout", None),
}


@pytest.mark.parametrize("row", FAILURES)
def test_failure_of_an_override_changes_nothing(custom, owner, caller, row):
    operation, answer, code, text = FAILURES[row]
    with Subscriber(custom.stream_url("/stream/own/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
        owner.serve(f"stream::{operation}(own)", answer)
        error = caller.error(f"stream::{operation}", PASSED[operation][0])
        assert error["code"] == code
        assert text is None or error["message"] == text
        if code == "custom_code":
            assert error["stacktrace"] == "at line 1", "passed on as it is"
        caller.emit("own", "g", "end", None)
        assert subscriber.event()["type"] == "event"


@pytest.mark.parametrize("operation", PASSED)
def test_bad_input_never_reaches_an_override(owner, caller, operation):
    owner.serve(f"stream::{operation}(own)", {"new_value": 1})
    data = {**PASSED[operation][0], "stream_name": "own"}
    del data["group_id" if "group_id" in data else "stream_name"]
    error = caller.error(f"stream::{operation}", data)
    assert error["code"] == "deserialization_error"
    assert owner.all_called(f"stream::{operation}(own)") == []


def test_send_and_list_all_cannot_be_overridden(custom, owner, caller):
    owner.serve("stream::send(own)", "no")
    owner.serve("stream::list_all(own)", "no")
    with Subscriber(custom.stream_url("/stream/own/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
        assert caller.emit("own", "g", "t", 1) is None
        assert subscriber.event() == {"type": "event", "event": {"type": "t", "data": 1}}
    assert caller.result("stream::list_all", stream_name="own") == {"stream": [], "count": 0}


def test_override_begins_and_ends_with_its_function(owner, caller):
    caller.set("own", "g", "i", "stored")
    owner.serve("stream::get(own)", "custom")
    assert caller.result("stream::get", **AT) == "custom"
    assert caller.result("stream::get", **{**AT, "stream_name": "other"}) is None
    owner.withdraw("stream::get(own)")
    assert caller.result("stream::get", **AT) == "stored"
    owner.serve("stream::get(own)", "custom")
    owner.close()
    # A call that is on its way to the function when that goes fails, as with any function.
    answer = caller.call("stream::get", AT)
    while answer.get("result") != "stored":
        assert answer.get("result") == "custom" or answer["error"]["code"] in (
            "function_not_found",
            "invocation_stopped",
        )
        answer = caller.call("stream::get", AT)


def test_registration_is_a_barrier_whatever_shard_a_caller_is_on(custom, owner):
    """Once the owner has an answer to what it sent next, no caller anywhere reaches the store."""
    callers = [Executor(custom.worker_url()) for _ in range(4)]
    for number in range(100):
        owner.serve(f"stream::get({number})", number)
        at = {**AT, "stream_name": str(number)}
        assert [caller.result("stream::get", **at) for caller in callers] == [number] * 4
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("name", ["", "a)b", "(", "żółć", "x:y::z"])
def test_override_of_an_odd_name(owner, caller, name):
    owner.serve(f"stream::get({name})", {"of": name})
    assert caller.result("stream::get", **{**AT, "stream_name": name}) == {"of": name}


def test_override_may_call_the_store_for_another_stream(owner, caller):
    """The SDK's idiom: a custom stream that keeps its items under another name."""

    def store(data):
        owner.invoke("stream::set", {**data, "stream_name": "kept"})
        return {"new_value": data["data"]}

    owner.serve("stream::set(own)", store)
    assert caller.set("own", "g", "i", 5) == {"old_value": None, "new_value": 5}
    owner.barrier()
    assert caller.result("stream::get", **{**AT, "stream_name": "kept"}) == 5


def test_void_call_of_an_override_runs_it_and_tells_subscribers(custom, owner, caller):
    owner.serve("stream::set(own)", {"new_value": 5})
    with Subscriber(custom.stream_url("/stream/own/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
        invocation = caller.invoke("stream::set", {**AT, "data": 1}, action={"type": "void"})
        assert subscriber.event() == {"type": "create", "data": 5}
    caller.barrier()
    assert invocation not in caller.results


# ---- Joins

SYNCS = {
    "list: a list": (None, "list", [1, {"a": 2}], {"type": "sync", "data": [1, {"a": 2}]}),
    "list: no list": (None, "list", "anything", {"type": "sync", "data": "anything"}),
    "list: nothing": (None, "list", None, {"type": "sync", "data": None}),
    "get: a value": ("i", "get", {"a": 2}, {"type": "sync", "data": {"a": 2}}),
    "get: nothing": ("i", "get", None, {"type": "sync", "data": None}),
    "list: an error": (None, "list", fails, None),
    "get: an error": ("i", "get", fails, None),
    "list: no answer in time": (None, "list", HELD, None),
}


@pytest.mark.parametrize("row", SYNCS)
def test_sync_of_an_overridden_stream(custom, owner, caller, row):
    item, operation, answer, sync = SYNCS[row]
    owner.serve(f"stream::{operation}(own)", answer)
    with Subscriber(custom.stream_url()) as subscriber:
        subscriber.join("own", "g", item=item)
        if sync:
            frame = subscriber.receive()
            assert (frame["event"], frame["id"], frame["groupId"]) == (sync, item, "g")
        subscriber.join("other", "g", subscription="after")  # Waits for the one before.
        frame = subscriber.receive()
        assert (frame["streamName"], frame["event"]["type"]) == ("other", "sync")
        caller.set("own", "g", "i", 5)
        assert subscriber.event() == {"type": "create", "data": 5}, "subscribed in any case"
    expected = {"stream_name": "own", "group_id": "g"} | ({} if item is None else {"item_id": item})
    assert owner.called(f"stream::{operation}(own)").data == expected


@pytest.mark.parametrize("fails_", [False, True], ids=["answered", "failed"])
@pytest.mark.parametrize("item", [None, "i"], ids=["group", "item"])
def test_frames_are_held_until_the_custom_list_has_answered(patient, item, fails_):
    """Interest first, then the list: what changes meanwhile comes behind the `sync`, or in its place."""
    operation = "list" if item is None else "get"
    with Executor(patient.worker_url()) as owner, Executor(patient.worker_url()) as caller:
        owner.serve(f"stream::{operation}(own)")
        with Subscriber(patient.stream_url()) as subscriber:
            subscriber.join("own", "g", item=item)
            call = owner.called(f"stream::{operation}(own)")
            caller.set("own", "g", "other", 0)
            for number in range(3):
                caller.set("own", "g", "i", number)
            with Subscriber(patient.stream_url("/stream/own/g/i")) as probe:
                if item is not None:  # Its own sync waits too.
                    owner.called(f"stream::{operation}(own)").answer("probe")
                assert probe.event()["type"] == "sync"
                caller.set("own", "g", "i", 3)
                assert probe.event()["data"] == 3
            if fails_:
                call.fail("custom_code")
            else:
                call.answer(["listed"])
                frame = subscriber.receive()
                assert frame["event"] == {"type": "sync", "data": ["listed"]}
            caller.set("own", "g", "i", 4)
            seen = []
            while not seen or seen[-1]["event"]["data"] != 4:
                seen.append(subscriber.receive())
            values = [frame["event"]["data"] for frame in seen if frame["id"] == "i"]
            assert values == [0, 1, 2, 3, 4]
            assert len(seen) - len(values) == (1 if item is None else 0)
            stamps = [frame["timestamp"] for frame in seen if frame["id"] == "i"]
            if not fails_ and item is not None:
                stamps.insert(0, frame["timestamp"])
            assert stamps == sorted(set(stamps)), "a client drops what is not newer"


def test_client_that_goes_while_its_sync_is_made_leaves_once(patient):
    with Executor(patient.worker_url()) as owner:
        owner.serve("stream::list(own)")
        owner.serve("left", None)
        owner.trigger("stream:leave", "left")
        subscriber = Subscriber(patient.stream_url())
        subscriber.join("own", "g", subscription="gone")
        call = owner.called("stream::list(own)")
        subscriber.close()
        assert owner.called("left").data["subscription_id"] == "gone"
        call.answer([1])
        owner.barrier()
        assert owner.all_called("left") == []


def test_pings_are_answered_while_a_sync_is_made(patient):
    with Executor(patient.worker_url()) as owner:
        owner.serve("stream::list(own)")
        with Subscriber(patient.stream_url("/stream/own/g")) as subscriber:
            call = owner.called("stream::list(own)")
            assert subscriber.socket.ping().wait(5)
            call.answer([])
            assert subscriber.event()["type"] == "sync"


def test_call_of_the_node_itself_is_overridden_too(owner, caller, custom):
    """A trigger may call a stream function, and that function may be taken over."""
    owner.serve("stream::list(own)", ["custom"])
    owner.trigger("stream", "stream::list", config={"stream_name": "own"})
    caller.result("stream::set", **AT, data=1)
    assert owner.called("stream::list(own)").data == GROUP
    counters = custom.counters()
    assert counters["triggers_failed"] == 0


def test_snapshot_that_fits_no_frame_is_left_out(owner, caller, custom):
    deep = []
    for _ in range(125):
        deep = [deep]
    owner.serve("stream::list(own)", deep)
    with Subscriber(custom.stream_url()) as subscriber:
        subscriber.join("own", "g")
        owner.called("stream::list(own)")
        caller.result("stream::send", **GROUP, type="t", data=1)
        assert subscriber.event()["type"] == "event"
    assert custom.counters()["custom_syncs_refused"] == 1


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("item", [None, "i"], ids=["group", "item"])
def test_sync_of_a_further_subscription_is_stamped_when_it_is_sent(start_node, item, shards):
    """What the connection was sent meanwhile is older: a client drops what is not newer."""
    node = start_node({"shards": shards})
    operation = "list" if item is None else "get"
    with Executor(node.worker_url()) as owner, Executor(node.worker_url()) as caller:
        owner.serve(f"stream::{operation}(own)")
        with Subscriber(node.stream_url()) as subscriber:
            for group in ("g", "h", "k", "l"):
                stamps = []
                for subscription in ("first", "second"):
                    subscriber.join("own", group, item=item, subscription=f"{subscription} {group}")
                    call = owner.called(f"stream::{operation}(own)")
                    if subscription == "second":
                        for number in range(3):
                            caller.set("own", group, "i", number)
                            frame = subscriber.receive()
                            assert frame["event"]["data"] == number
                            stamps.append(frame["timestamp"])
                    call.answer("made")
                    frame = subscriber.receive()
                    assert frame["event"] == {"type": "sync", "data": "made"}
                    stamps.append(frame["timestamp"])
                caller.set("own", group, "i", 3)
                frame = subscriber.receive()
                assert frame["event"]["data"] == 3
                stamps.append(frame["timestamp"])
                assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_item_stands_still_while_the_sync_of_its_group_is_made(start_node, shards):
    """The `sync` of the group is of before its events, so that they come behind it, each once."""
    node = start_node({"shards": shards})
    with Executor(node.worker_url()) as owner, Executor(node.worker_url()) as caller:
        owner.serve("stream::list(own)")
        with Subscriber(node.stream_url()) as subscriber, Subscriber(node.stream_url()) as probe:
            probe.join("own", "g", item="i", subscription="probe")
            subscriber.join("own", "g", item="i", subscription="item")
            assert probe.event()["type"] == subscriber.event()["type"] == "sync"
            subscriber.join("own", "g", subscription="group")
            call = owner.called("stream::list(own)")
            for number in range(3):
                caller.set("own", "g", "i", number)
                assert probe.event()["data"] == number
            call.answer(["listed"])
            frames = [subscriber.receive() for _ in range(4)]
            assert [frame["event"]["data"] for frame in frames] == [["listed"], 0, 1, 2]
            stamps = [frame["timestamp"] for frame in frames]
            assert stamps == sorted(set(stamps)), "a client drops what is not newer"


def test_client_that_goes_while_its_sync_is_stamped_leaves_once(patient):
    with Executor(patient.worker_url()) as owner:
        owner.serve("stream::list(own)")
        owner.serve("left", None)
        owner.trigger("stream:leave", "left")
        for _ in range(20):
            with Subscriber(patient.stream_url()) as subscriber:
                for subscription in ("a", "b"):
                    subscriber.join("own", "g", subscription=subscription)
                    owner.called("stream::list(own)").answer([])
                    if subscription == "a":
                        assert subscriber.event()["type"] == "sync"
                subscriber.socket.socket.shutdown(2)
            ended = [owner.called("left").data["subscription_id"] for _ in range(2)]
            assert sorted(ended) == ["a", "b"]
        assert patient.counters()["subscriptions"] == 0


# ---- More happens than may wait while a function makes a `sync`


def flood(caller, text="x" * 8000):
    for number in range(12):  # 96 KB of 64 KiB that may wait.
        caller.set("own", "g", "i", {"n": number, "text": text})


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("item", [None, "i"], ids=["group", "item"])
def test_sync_that_comes_too_late_is_asked_for_again(start_node, item, shards):
    node = start_node({"shards": shards, "limits": {"stream_client_budget_bytes": 65536}})
    operation = f"stream::{'list' if item is None else 'get'}(own)"
    with Executor(node.worker_url()) as owner, Executor(node.worker_url()) as caller:
        owner.serve(operation)
        with Subscriber(node.stream_url()) as subscriber:
            subscriber.join("own", "g", item=item)
            late = owner.called(operation)
            flood(caller)
            counters = node.counters()
            assert counters["history_readers_lost"] == 1 and counters["waiting_history_bytes"] == 0
            late.answer("too old")
            call = owner.called(operation)
            caller.set("own", "g", "i", 1)
            call.answer("new")
            frames = [subscriber.receive() for _ in range(2)]
            assert [frame["event"]["data"] for frame in frames] == ["new", 1]
            caller.set("own", "g", "i", 2)
            frames.append(subscriber.receive())
            assert frames[-1]["event"]["data"] == 2
            stamps = [frame["timestamp"] for frame in frames]
            assert stamps == sorted(set(stamps))
    assert node.counters()["joins_asked_again"] == 1


def test_sync_that_is_too_late_three_times_ends_the_connection(start_node):
    node = start_node({"shards": 2, "limits": {"stream_client_budget_bytes": 65536}})
    with Executor(node.worker_url()) as owner, Executor(node.worker_url()) as caller:
        owner.serve("stream::list(own)")
        with Subscriber(node.stream_url()) as subscriber:
            subscriber.join("own", "g")
            for _ in range(3):
                call = owner.called("stream::list(own)")
                flood(caller)
                call.answer("too old")
            assert subscriber.close_code() == 1013
    counters = node.counters()
    assert counters["joins_asked_again"] == 2 and counters["waiting_history_bytes"] == 0


def test_history_keeps_what_fits(start_node):
    node = start_node({"limits": {"stream_client_budget_bytes": 65536}})
    with Executor(node.worker_url()) as owner, Executor(node.worker_url()) as caller:
        owner.serve("stream::list(own)")
        with Subscriber(node.stream_url()) as subscriber:
            subscriber.join("own", "g")
            call = owner.called("stream::list(own)")
            flood(caller, "x" * 4000)
            assert 48_000 < node.counters()["waiting_history_bytes"] < 65536
            call.answer("sync")
            assert subscriber.event()["data"] == "sync"
            assert [subscriber.event()["data"]["n"] for _ in range(12)] == list(range(12))
    assert node.counters()["history_readers_lost"] == 0
