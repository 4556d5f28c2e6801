"""What is wrong with a client of the stream port is said in the log, and counted."""

import json

import pytest

from clients import Subscriber, status_of
from executor import Executor

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
