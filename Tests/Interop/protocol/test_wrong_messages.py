"""What is wrong with a client is said in the log, and counted."""

import json

import pytest

from clients import Subscriber, Worker, status_of
from executor import Executor
from raw import HANDSHAKE, Raw

NAMES = {"subscriptionId": "s", "streamName": "chat", "groupId": "room"}


def message(kind="join", **fields):
    return json.dumps({"type": kind, "data": {**NAMES, **fields}})


def without(name, kind="join"):
    return json.dumps({"type": kind, "data": {key: value for key, value in NAMES.items() if key != name}})


WRONG = {
    "hello": "not JSON",
    "[" * 200: "the message is nested too deep",
    "[1]": "the message is no object",
    "{}": "`type` is missing",
    '{"type":7}': "`type` is no string",
    '{"type":"Join"}': "`type` is neither join nor leave",
    '{"type":"join"}': "`data` is missing",
    '{"type":"join","data":null}': "`data` is no object",
    without("subscriptionId"): "`data.subscriptionId` is missing",
    without("subscriptionId", "leave"): "`data.subscriptionId` is missing",
    without("streamName"): "`data.streamName` is missing",
    without("groupId"): "`data.groupId` is missing",
    message(groupId=None): "`data.groupId` is missing",
    message(subscriptionId=1): "`data.subscriptionId` is no string",
    message(streamName=[]): "`data.streamName` is no string",
    message("leave", groupId=False): "`data.groupId` is no string",
    message(id=7): "`data.id` is no string",
    message(id="x" * 257): "`data.id` is longer than 256 bytes",
    message(streamName="\x01" * 257): "`data.streamName` is longer than 256 bytes",
}


def test_wrong_message_is_named_counted_and_forgiven(node):
    with Subscriber(node.stream_url()) as client:
        for text in WRONG:
            client.socket.send(text)
        client.join("chat", "room")
        assert client.event() == {"type": "sync", "data": []}
    node.wait_for("stream_message_invalid")
    assert node.counters()["messages_invalid"] == len(WRONG)
    told = [record["detail"] for record in node.records if record["event"] == "stream_message_invalid"]
    assert told == list(WRONG.values())


@pytest.mark.parametrize("name", ["subscriptionId", "streamName", "groupId", "id"])
@pytest.mark.parametrize("text", ["x" * 256, "\x01" * 256], ids=["plain", "escaped"])
def test_names_of_256_bytes_are_names(node, name, text):
    with Subscriber(node.stream_url()) as client:
        client.socket.send(message(**{name: text}))
        assert client.event()["type"] == "sync"
    assert node.counters()["messages_invalid"] == 0


def test_refused_client_is_logged_with_function_and_address(start_node):
    node = start_node({"auth_function": "app::auth"})
    assert status_of(node.stream_url()) == 503
    record = node.wait_for("client_refused")
    assert (record["reason"], record["function_id"]) == ("function_not_found", "app::auth")
    seen = []
    with Executor(node.worker_url()) as worker:
        worker.serve("app::auth", lambda data: seen.append(data["addr"]))
        after = len(node.records)
        assert status_of(node.stream_url()) == 401
    record = node.wait_for("client_refused", after)
    assert (record["reason"], record["address"]) == ("no_object", seen[0])
    assert record["address"].startswith("127.0.0.1:")


def test_wrong_message_of_a_worker_is_named_and_counted(node):
    wrong = {
        "hello": "the message is not JSON",
        "[1]": "the message is no object",
        "{}": "missing or of the wrong type: type",
        '{"type":7}': "missing or of the wrong type: type",
        '{"type":"Ping"}': "unknown message type",
        '{"type":"registerfunction"}': "missing or of the wrong type: id",
        '{"type":"registertrigger","id":"t","trigger_type":"log"}': "missing or of the wrong type: function_id",
    }
    with Worker(node.worker_url()) as worker:
        for text in wrong:
            worker.socket.send(text)
        worker.result("stream::list_all")
    assert node.counters()["messages_invalid"] == len(wrong)
    told = [record["detail"] for record in node.records if record["event"] == "worker_message_invalid"]
    assert told == list(wrong.values())


# ---- A page that was refused may read why, where it may connect at all

PAGE, OTHER = "https://app.example", "https://other.example"
PLAIN = "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def answer_to(node, head, path, origin):
    """Status and header lines of the answer."""
    raw = Raw(node.stream_port)
    lines = head.format(path=path)[:-2] + (f"Origin: {origin}\r\n" if origin else "")
    raw.send((lines + "\r\n").encode())
    status, *headers = raw.head().rstrip().split("\r\n")
    raw.close()
    return int(status.split()[1]), headers


@pytest.mark.parametrize("origins", [[PAGE], None], ids=["listed", "all"])
@pytest.mark.parametrize(
    ("head", "path", "status"),
    [(HANDSHAKE, "/", 503), (PLAIN, "/", 400), (HANDSHAKE, "/nope", 404), (PLAIN.replace("GET", "PUT"), "/", 405)],
    ids=["nobody to ask", "fetch", "path", "method"],
)
def test_refusal_may_be_read_by_pages_that_may_connect(start_node, origins, head, path, status):
    node = start_node({"auth_function": "auth", "origins": origins})
    readable = ["Access-Control-Allow-Origin: *", "Vary: Origin"]
    for origin, reads in ((PAGE, True), (OTHER, origins is None), (None, False)):
        seen, headers = answer_to(node, head, path, origin)
        assert seen == (403 if status == 503 and origin == OTHER and origins else status)
        assert [line for line in headers if line in readable] == (readable if reads else [])


def test_refusal_of_a_token_may_be_read(start_node):
    node = start_node({"auth_function": "auth", "origins": [PAGE]})
    with Executor(node.worker_url()) as worker:
        worker.serve("auth", {"unauthorized": True})
        status, headers = answer_to(node, HANDSHAKE, "/", PAGE)
    assert status == 401
    assert "Access-Control-Allow-Origin: *" in headers
