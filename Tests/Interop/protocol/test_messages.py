"""What workers send that is odd, broken or new: each row of the tables of bad input and of newer clients."""

import json

import pytest

from clients import Subscriber
from executor import Executor
from raw import BINARY, TEXT, Raw, frame


@pytest.fixture
def worker(node):
    with Executor(node.worker_url()) as executor:
        yield executor


def call_text(**fields):
    message = {"type": "invokefunction", "invocation_id": "my id", "function_id": "stream::list_all"}
    return json.dumps({**message, **fields})


class Bare:
    """A worker connection without a library: what is sent is sent as it is."""

    def __init__(self, node):
        self.raw = Raw(node.worker_port).upgrade("/")
        assert json.loads(self.raw.message())["type"] == "workerregistered"

    def send(self, payload, opcode=TEXT):
        self.raw.send(frame(payload, opcode))

    def answers(self, payload, opcode=TEXT):
        """What comes for this message, up to the answers of what was sent behind it."""
        self.send(payload, opcode)
        # One is answered in its turn where streams are, the other where workers and functions are.
        behind = {"behind", "behind too"}
        for call, function_id in zip(behind, ("stream::list_all", "engine::workers::register")):
            self.send(call_text(invocation_id=call, function_id=function_id, data={}))
        seen = []
        while behind:
            message = json.loads(self.raw.message())
            if message.get("invocation_id") in behind:
                behind.remove(message["invocation_id"])
            else:
                seen.append(message)
        return seen


@pytest.fixture
def bare(node):
    client = Bare(node)
    yield client
    client.raw.close()


SILENT = {
    "an empty text": "",
    "blanks": " \r\n\t ",
    "no JSON": "hello",
    "half of an object": '{"type":"invokefunction"',
    "a list": "[]",
    "a string": '"ping"',
    "null": "null",
    "no type": "{}",
    "type null": '{"type":null}',
    "type a number": '{"type":5}',
    "an unknown type": '{"type":"nonsense"}',
    "a type in other letters": '{"type":"Ping"}',
    "pong": '{"type":"pong"}',
    "workerregistered": '{"type":"workerregistered","worker_id":"x"}',
    "registerfunction without an id": '{"type":"registerfunction"}',
    "registerfunction with a number for an id": '{"type":"registerfunction","id":5}',
    "registertrigger without a type": '{"type":"registertrigger","id":"t","function_id":"f","config":null}',
    "registertriggertype with a null description": '{"type":"registertriggertype","id":"t","description":null}',
    "unregisterfunction of nothing": '{"type":"unregisterfunction","id":"nothing"}',
    "unregistertrigger of nothing": '{"type":"unregistertrigger","id":"nothing"}',
    "unregistertrigger of nothing, with a type": '{"type":"unregistertrigger","id":"n","trigger_type":"stream"}',
    "unregistertriggertype of nothing": '{"type":"unregistertriggertype","id":"nothing"}',
    "invocationresult of no call": '{"type":"invocationresult","invocation_id":"x","function_id":"f","result":1}',
    "invocationresult without an id": '{"type":"invocationresult","function_id":"f"}',
    "triggerregistrationresult of no trigger": '{"type":"triggerregistrationresult","id":"x","trigger_type":"t",'
    '"function_id":"f","error":{"code":"c","message":"m"}}',
    "registerservice": '{"type":"registerservice","id":"s::x","name":"n","description":"d"}',
    "a call without ids": '{"type":"invokefunction","data":{}}',
    "a void call of nothing": '{"type":"invokefunction","function_id":"nothing","data":{},"action":{"type":"void"}}',
    "an HTTP function": '{"type":"registerfunction","id":"http","invocation":{"url":"http://x"}}',
}


@pytest.mark.parametrize("row", SILENT)
def test_message_without_an_answer_leaves_the_connection(bare, row):
    assert bare.answers(SILENT[row]) == []


BINARIES = {
    "OTLP": b"OTLP{}",
    "MTRC": b"MTRC{}",
    "LOGS": b"LOGS{}",
    "LOGS and no JSON": b"LOGS{",
    "bytes that are no text": b"\xff\xfe",
    "nothing": b"",
    "no JSON": b"hello",
}


@pytest.mark.parametrize("row", BINARIES)
def test_binary_without_an_answer_leaves_the_connection(bare, row):
    assert bare.answers(BINARIES[row], opcode=BINARY) == []


ANSWERED = {
    "binary JSON": (call_text(data={}), BINARY, None),
    "the type last": ('{"invocation_id":"my id","function_id":"stream::list_all","data":{},"type":"invokefunction"}', TEXT, None),
    "no data": (call_text(), TEXT, None),
    "data null": (call_text(data=None), TEXT, None),
    "optional fields null": (call_text(data={}, action=None, traceparent=None, baggage=None), TEXT, None),
    "a key twice": (call_text(data={})[:-1] + ',"function_id":"stream::list_all"}', TEXT, None),
    "unknown keys": (call_text(data={}, message_type="invokefunction", x=[1]), TEXT, None),
    "no function": (
        '{"type":"invokefunction","invocation_id":"my id","data":{}}',
        TEXT,
        ("invalid_message", ""),
    ),
    "function a number": (call_text(function_id=5), TEXT, ("invalid_message", "")),
    "action unknown": (call_text(action={"type": "later"}), TEXT, ("invalid_message", "stream::list_all")),
    "action a string": (call_text(action="void"), TEXT, ("invalid_message", "stream::list_all")),
    "enqueue without a queue": (call_text(action={"type": "enqueue"}), TEXT, ("invalid_message", "stream::list_all")),
    "enqueue": (call_text(action={"type": "enqueue", "queue": "q"}), TEXT, ("enqueue_error", "stream::list_all")),
    "an unknown type with an id": (
        '{"type":"nonsense","invocation_id":"my id"}',
        TEXT,
        ("invalid_message", ""),
    ),
    "no type with an id": ('{"invocation_id":"my id"}', TEXT, ("invalid_message", "")),
    "no JSON behind the id": (
        '{"invocation_id":"my id","function_id":"f","data":{,',
        TEXT,
        ("invalid_message", "f"),
    ),
    "a number out of range": (
        '{"type":"invokefunction","invocation_id":"my id","function_id":"f","data":1e400}',
        TEXT,
        ("invalid_message", "f"),
    ),
    "a lone surrogate": (
        '{"type":"invokefunction","invocation_id":"my id","function_id":"f","data":"\\ud800"}',
        TEXT,
        ("invalid_message", "f"),
    ),
    "an unknown function": (call_text(function_id="nothing"), TEXT, ("function_not_found", "nothing")),
}


@pytest.mark.parametrize("row", ANSWERED)
def test_call_is_answered_as_well_as_it_can_be_read(bare, row):
    text, opcode, error = ANSWERED[row]
    (message,) = bare.answers(text, opcode=opcode)
    assert message["type"] == "invocationresult" and message["invocation_id"] == "my id"
    if error:
        assert (message["error"]["code"], message["function_id"]) == error
    else:
        assert message["result"] == {"stream": [], "count": 0}


LONG = {
    "a function of the store": {"function_id": "stream::list_all", "data": {}},
    "a function of the node": {"function_id": "engine::workers::list", "data": {}},
    "a function of a worker": {"function_id": "echo", "data": 1},
    "no function": {"function_id": "nothing", "data": {}},
    "an overridden function": {"function_id": "stream::get", "data": {"stream_name": "o", "group_id": "g", "item_id": "i"}},
}


@pytest.mark.parametrize("id_, size", [("i" * 1024, 1024), ("i" * 1025, 1025), ("é" * 512, 1024), ("é" * 513, 1026), ("i" * 3_000_000, 3_000_000)],
                         ids=["at the limit", "over it", "at it, in bytes", "over it, in bytes", "megabytes"])
@pytest.mark.parametrize("row", LONG)
def test_id_of_a_call_is_repeated_up_to_its_limit(node, bare, worker, row, id_, size):
    worker.serve("echo", 2)
    worker.serve("stream::get(o)", 3)
    worker.barrier()
    bare.send(call_text(invocation_id=id_, **LONG[row]))
    message = json.loads(bare.raw.message())
    if size <= 1024:
        assert message["invocation_id"] == id_
        assert message.get("error", {}).get("code") in (None, "function_not_found")
    else:
        assert message["invocation_id"] == id_[: 1024 // len(id_[0].encode())]
        assert message["error"] == {"code": "invalid_message", "message": "invocation_id is longer than 1024 bytes"}
    assert len(worker.all_called("echo")) == (row == "a function of a worker" and size <= 1024)


@pytest.mark.parametrize("text", [
    '{"invocation_id":"%s","function_id":"f","data":{,',
    '{"type":"nonsense","invocation_id":"%s"}',
    '{"type":"invokefunction","invocation_id":"%s","data":{}}',
    '{"type":"invokefunction","invocation_id":"%s","function_id":"f","action":"void"}',
    '{"type":"invokefunction","invocation_id":"%s","function_id":"f","action":{"type":"enqueue","queue":"q"}}',
], ids=["no JSON", "no type of ours", "no function", "an action that is none", "a queue"])
def test_an_error_repeats_the_beginning_of_a_long_id(bare, text):
    (message,) = bare.answers(text % ("i" * 1_000_000))
    assert message["error"]["code"] == "invalid_message" and message["invocation_id"] == "i" * 1024


def test_a_void_call_has_any_id(bare, worker):
    worker.serve("note", None)
    worker.barrier()
    assert bare.answers(call_text(function_id="note", invocation_id="i" * 2000, data=5, action={"type": "void"})) == []
    assert worker.called("note").data == 5


@pytest.mark.parametrize("depth, valid", [(125, True), (126, False)])
def test_depth_of_a_message_is_limited_and_a_value_s_too(bare, depth, valid):
    """The message and its `data` are two levels, of 127."""
    value = "[" * depth + "]" * depth
    text = f'{{"type":"invokefunction","invocation_id":"my id","function_id":"nothing","data":{{"x":{value}}}}}'
    (message,) = bare.answers(text)
    assert message["error"]["code"] == ("function_not_found" if valid else "invalid_message")


BROKEN_RESULTS = {
    "no JSON behind the id": '"result":{,',
    "an error that is a number": '"error":5}',
    "an error with a code that is a number": '"error":{"code":5,"message":"m"}}',
    "an error without a message": '"error":{"code":"c"}}',
    "an error without a code": '"error":{"message":"m"}}',
}


@pytest.mark.parametrize("row", BROKEN_RESULTS)
def test_malformed_result_ends_the_call_with_its_error(bare, worker, row):
    """The caller must not wait for an answer that nobody can read."""
    assert bare.answers('{"type":"registerfunction","id":"f"}') == []
    invocation = worker.invoke("f", {})
    call = json.loads(bare.raw.message())
    head = '{"type":"invocationresult","invocation_id":"%s","function_id":"f",'
    bare.send(head % call["invocation_id"] + BROKEN_RESULTS[row])
    assert worker.answer(invocation)["error"]["code"] == "invalid_message"


RESULTS = {
    "a result": ({"result": {"a": 1.0}}, {"result": {"a": 1.0}}),
    "a result that is null": ({"result": None}, {}),
    "no result": ({}, {}),
    "an error": ({"error": {"code": "c", "message": "m"}}, {"error": {"code": "c", "message": "m"}}),
    "an error with a stack trace": (
        {"error": {"code": "c", "message": "m", "stacktrace": "s"}},
        {"error": {"code": "c", "message": "m", "stacktrace": "s"}},
    ),
    "an error and a result": (
        {"error": {"code": "c", "message": "m"}, "result": 1},
        {"error": {"code": "c", "message": "m"}},
    ),
    "an error that is null": ({"error": None, "result": 1}, {"result": 1}),
    "trace context of its own": (
        {"result": 1, "traceparent": "t2", "baggage": "b2"},
        {"result": 1, "traceparent": "t2", "baggage": "b2"},
    ),
}


@pytest.mark.parametrize("row", RESULTS)
def test_result_is_passed_on(node, worker, row):
    fields, expected = RESULTS[row]
    with Executor(node.worker_url()) as other:
        other.serve("f")
        invocation = worker.invoke("f", {"n": 1})
        other.called("f")._send(fields)
        message = worker.answer(invocation)
    for key in ("type", "invocation_id", "function_id"):
        message.pop(key)
    assert message == expected


TRACES = {
    "both": ({"traceparent": "t", "baggage": "b"}, {"traceparent": "t", "baggage": "b"}),
    "one": ({"traceparent": "t"}, {"traceparent": "t"}),
    "none": ({}, {}),
}


@pytest.mark.parametrize("row", TRACES)
def test_trace_context_goes_to_the_callee_and_comes_back(node, worker, row):
    sent, expected = TRACES[row]
    with Executor(node.worker_url()) as other:
        other.serve("f")
        invocation = worker.invoke("f", {}, **sent)
        call = other.called("f")
        assert {key: call.message[key] for key in ("traceparent", "baggage") if key in call.message} == expected
        call.answer(1)
        message = worker.answer(invocation)
        assert {key: message[key] for key in ("traceparent", "baggage") if key in message} == expected


def test_result_of_a_stranger_ends_no_call(node, worker):
    with Executor(node.worker_url()) as other, Executor(node.worker_url()) as stranger:
        other.serve("f")
        invocation = worker.invoke("f", {})
        call = other.called("f")
        result = {"type": "invocationresult", "invocation_id": call.message["invocation_id"]}
        stranger.send({**result, "function_id": "f", "result": "forged"})
        stranger.barrier()
        call.answer("true")
        assert worker.answer(invocation)["result"] == "true"


# ---- Newer clients

NEWER = {
    "registerfunction": {"type": "registerfunction", "id": "f", "observe": {"a": 1}},
    "registertrigger": {
        "type": "registertrigger",
        "id": "t",
        "trigger_type": "stream",
        "function_id": "f",
        "config": {"stream_name": "s"},
        "namespace": "n",
        "trigger_namespace": "m",
    },
    "registertriggertype": {
        "type": "registertriggertype",
        "id": "cron",
        "description": "d",
        "namespace": "n",
    },
    "unregistertriggertype": {"type": "unregistertriggertype", "id": "cron", "namespace": "n"},
    "observe": {"type": "observe", "invocation_id": "x"},
    "unobserve": {"type": "unobserve"},
    "observerack": {"type": "observerack"},
    "invocationsobserved": {"type": "invocationsobserved", "invocations": []},
    "localinvocationstats": {"type": "localinvocationstats", "stats": {}},
    "reattach": {"type": "reattach", "previous_worker_id": "unknown", "reattach_token": "x"},
}


def test_what_newer_clients_add_is_taken(worker):
    for message in NEWER.values():
        worker.send(message)
    worker.handlers["f"] = None
    worker.nothing_said()
    call = worker.call(
        "engine::workers::register",
        {"runtime": "python", "description": "d", "features": ["x"], "namespace": "n"},
        namespace="n",
        metadata={"a": 1},
        caller={"b": 2},
        observe_depth=3,
        activation={},
    )
    assert call["result"] == {"success": True}
    worker.set("s", "g", "i", 1)
    assert worker.called("f").data["event_type"] == "create"
    for function_id in ("engine::functions::info", "engine::channels::create", "engine::baggage::get"):
        assert worker.error(function_id, {})["code"] == "function_not_found"


# ---- The stream port

STREAM_JUNK = {
    "an empty text": "",
    "no JSON": "hello",
    "a list": "[]",
    "no type": "{}",
    "an unknown type": '{"type":"subscribe","data":{}}',
    "capital letters": '{"type":"Join","data":{"subscriptionId":"x","streamName":"s","groupId":"g"}}',
    "no data": '{"type":"join"}',
    "no subscription": '{"type":"join","data":{"streamName":"s","groupId":"g"}}',
    "no stream": '{"type":"join","data":{"subscriptionId":"x","groupId":"g"}}',
    "no group": '{"type":"join","data":{"subscriptionId":"x","streamName":"s"}}',
    "a number for the stream": '{"type":"join","data":{"subscriptionId":"x","streamName":5,"groupId":"g"}}',
    "a number for the item": '{"type":"join","data":{"subscriptionId":"x","streamName":"s","groupId":"g","id":5}}',
    "snake case": '{"type":"join","data":{"subscription_id":"x","stream_name":"s","group_id":"g"}}',
    "a name that is too long": json.dumps(
        {"type": "join", "data": {"subscriptionId": "x", "streamName": "s" * 257, "groupId": "g"}}
    ),
}


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("row", STREAM_JUNK)
def test_junk_of_a_subscriber_is_ignored(node, row, binary):
    with Subscriber(node.stream_url()) as subscriber:
        junk = STREAM_JUNK[row]
        subscriber.socket.send(junk.encode() if binary else junk)
        join = {"subscriptionId": "x", "streamName": "s", "groupId": "g", "id": None, "more": 1}
        text = json.dumps({"type": "join", "data": join, "more": []})
        subscriber.socket.send(text.encode() if binary else text)
        frame_ = subscriber.receive()
        assert (frame_["event"], frame_["id"]) == ({"type": "sync", "data": []}, None)
