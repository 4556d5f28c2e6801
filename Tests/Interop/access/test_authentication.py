"""Who may connect to the stream port: the auth function and the list of origins, over real upgrades."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from clients import Subscriber, status_of
from executor import HELD, Executor, Failure
from node import Node, configuration
from raw import HANDSHAKE, Raw, frame

AUTH_MS = 250


@pytest.fixture
def guarded(start_node):
    return start_node({"auth_function": "auth", "timeouts": {"auth_ms": AUTH_MS}})


@pytest.fixture
def guard(guarded):
    """A worker that serves `auth`, and hears of every join."""
    with Executor(guarded.worker_url()) as executor:
        executor.serve("auth", {"context": {"user": "ann"}})
        executor.serve("joined", None)
        executor.trigger("stream:join", "joined")
        yield executor


def answer_with(guard, answer):
    """Makes `auth` answer like this."""
    if answer == "unregistered":
        guard.withdraw("auth")
    else:
        guard.handlers["auth"] = answer


def fails(data):
    raise Failure("invocation_failed", "boom")


# What the function answers, the status, and the context that handlers get.
OUTCOMES = {
    "an object with a context": ({"context": {"user": "ann"}}, 101, {"user": "ann"}),
    "a context that is a string": ({"context": "ann"}, 101, "ann"),
    "a context that is false": ({"context": False}, 101, False),
    "a context that is a list": ({"context": [1, None]}, 101, [1, None]),
    "a context that is null": ({"context": None}, 101, None),
    "an object without a context": ({}, 101, None),
    "an object with other keys only": ({"user": "ann"}, 101, None),
    "unauthorized false": ({"unauthorized": False}, 101, None),
    "unauthorized true": ({"unauthorized": True}, 401, None),
    "unauthorized true and a context": ({"unauthorized": True, "context": {}}, 401, None),
    "allowed false": ({"allowed": False, "context": {}}, 401, None),
    "authorized true": ({"authorized": True, "context": 1}, 101, 1),
    "an error in an object": ({"error": "no"}, 401, None),
    "nothing": (None, 401, None),
    "a string": ("yes", 401, None),
    "a number": (1, 401, None),
    "true": (True, 401, None),
    "false": (False, 401, None),
    "a list": ([{"context": 1}], 401, None),
    "an error": (fails, 401, None),
    "no function": ("unregistered", 503, None),
    "no answer in time": (HELD, 503, None),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcome_of_the_auth_function(guarded, guard, outcome):
    answer, status, context = OUTCOMES[outcome]
    answer_with(guard, answer)
    assert status_of(guarded.stream_url()) == status
    if status != 101:
        return
    with Subscriber(guarded.stream_url()) as subscriber:
        subscriber.join("s", "g")
        assert subscriber.event()["type"] == "sync"
    assert guard.called("joined").data["context"] == context


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_fail_open_lets_everybody_in_and_says_so_at_the_start(start_node, outcome):
    answer, status, context = OUTCOMES[outcome]
    node = start_node(
        {
            "auth_function": "auth",
            "timeouts": {"auth_ms": AUTH_MS},
            "compat": {"fail_open": True},
        }
    )
    assert any("fail_open" in line and '"warn' in line.lower() for line in node.lines)
    with Executor(node.worker_url()) as guard:
        guard.serve("auth")
        guard.serve("joined", None)
        guard.trigger("stream:join", "joined")
        answer_with(guard, answer)
        with Subscriber(node.stream_url()) as subscriber:
            subscriber.join("s", "g")
            assert subscriber.event()["type"] == "sync"
        assert guard.called("joined").data["context"] == (context if status == 101 else None)


def test_odd_answer_of_the_auth_function_is_warned_about_once(guarded, guard):
    answer_with(guard, {"allowed": False})
    for _ in range(3):
        assert status_of(guarded.stream_url()) == 401
    warnings = [record for record in guarded.records if record["event"] == "auth_result_odd"]
    assert [(record["function_id"], record["found"]) for record in warnings] == [("auth", "allowed")]


def test_without_an_auth_function_everybody_may_in(node):
    with Executor(node.worker_url()) as worker:
        worker.serve("joined", None)
        worker.trigger("stream:join", "joined")
        with Subscriber(node.stream_url()) as subscriber:
            subscriber.join("s", "g")
            assert subscriber.event()["type"] == "sync"
        assert worker.called("joined").data["context"] is None


def test_upgrade_is_held_until_the_function_answers(guarded, guard):
    """Nothing is sent before; what the client sends meanwhile is taken afterwards."""
    guard.handlers["auth"] = HELD
    join = {"type": "join", "data": {"subscriptionId": "s", "streamName": "s", "groupId": "g"}}
    with Raw(guarded.stream_port) as raw:
        raw.send(HANDSHAKE.format(path="/").encode() + frame(json.dumps(join)))
        call = guard.called("auth")
        raw.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            raw.head()
        raw.socket.settimeout(10)
        call.answer({})
        assert raw.status() == 101
        assert json.loads(raw.message())["event"] == {"type": "sync", "data": []}


def test_client_that_gives_up_while_it_is_held_harms_nobody(guarded, guard):
    """Whether its end is seen before it is let in, or after: a join has its leave."""
    guard.serve("left", None)
    guard.trigger("stream:leave", "left")
    guard.handlers["auth"] = HELD
    raw = Raw(guarded.stream_port)
    raw.send(HANDSHAKE.format(path="/stream/s/g").encode())
    call = guard.called("auth")
    raw.close()
    call.answer({})
    guard.handlers["auth"] = {}
    assert status_of(guarded.stream_url()) == 101
    for join in guard.all_called("joined"):
        assert guard.called("left").data["subscription_id"] == join["subscription_id"]


def test_late_answer_is_ignored(guarded, guard):
    guard.handlers["auth"] = HELD
    assert status_of(guarded.stream_url()) == 503
    guard.called("auth").answer({"context": 1})
    guard.barrier()
    guard.handlers["auth"] = {}
    assert status_of(guarded.stream_url()) == 101


def test_many_clients_are_asked_about_at_once(guarded, guard):
    """All are held together: the answers come only after the last has been asked about."""
    guard.handlers["auth"] = HELD
    count = 40
    with ThreadPoolExecutor(count) as pool:
        clients = [
            pool.submit(status_of, guarded.stream_url(f"/?n={n}")) for n in range(count)
        ]
        calls = [guard.called("auth") for _ in range(count)]
        for call in calls:
            even = int(call.data["query_params"]["n"][0]) % 2 == 0
            call.answer({} if even else None)
        assert [client.result() for client in clients] == [101, 401] * (count // 2)


# ---- What the function gets


def asked(guarded, guard, path="/", headers=""):
    """The input of the auth function for a request of this path with these further header lines."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: h:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    )
    with Raw(guarded.stream_port) as raw:
        raw.send((request + headers + "\r\n").encode("latin-1"))
        assert raw.status() == 101
        host, port = raw.socket.getsockname()
        call = guard.called("auth")
        assert call.data.pop("addr") == f"{host}:{port}"
        return call.data


def test_input_has_the_four_keys_and_no_caller(guarded, guard):
    assert asked(guarded, guard) == {
        "headers": {
            "host": "h:1",
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version": "13",
        },
        "path": "/",
        "query_params": {},
    }


HEADERS = {
    "names are lower-cased": ("Authorization: Bearer t\r\n", {"authorization": "Bearer t"}),
    "the last of a repeated header": ("X-A: 1\r\nx-a: 2\r\n", {"x-a": "2"}),
    "the last plain one of a repeated header": ("X-A: 1\r\nX-A: \xe9\r\n", {"x-a": "1"}),
    "values that are not ASCII are left out": ("X-A: caf\xe9\r\nX-B: b\r\n", {"x-b": "b"}),
    "an empty value": ("X-A:\r\n", {"x-a": ""}),
    "quotes and backslashes": ('X-A: "\\"\r\n', {"x-a": '"\\"'}),
    "sub-protocols": (
        "Sec-WebSocket-Protocol: Authorization, tok\r\n",
        {"sec-websocket-protocol": "Authorization, tok"},
    ),
}


@pytest.mark.parametrize("row", HEADERS)
def test_headers_of_the_input(guarded, guard, row):
    lines, expected = HEADERS[row]
    headers = asked(guarded, guard, headers=lines)["headers"]
    usual = {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"}
    assert {name: value for name, value in headers.items() if name not in usual} == expected


QUERIES = {
    "nothing behind the mark": ("?", {}),
    "several values of a key": ("?a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
    "a key without a value": ("?c&a=", {"c": [""], "a": [""]}),
    "empty keys are skipped": ("?=x&&a=1", {"a": ["1"]}),
    "only the first equals sign splits": ("?a=b=c", {"a": ["b=c"]}),
    "nothing is decoded": ("?a%20b=%41+c", {"a%20b": ["%41+c"]}),
}


@pytest.mark.parametrize("row", QUERIES)
def test_query_of_the_input(guarded, guard, row):
    query, expected = QUERIES[row]
    data = asked(guarded, guard, path="/" + query)
    assert data["query_params"] == expected
    assert data["path"] == "/"


def test_path_of_the_input_is_raw(guarded, guard):
    path = "/stream/a%20b/g%2F1/"
    assert asked(guarded, guard, path=path + "?t=1")["path"] == path


def test_address_of_an_ipv6_client(start_node):
    node = start_node({"host": "::1", "auth_function": "auth"})
    with Executor(node.worker_url()) as guard:
        guard.serve("auth", {})
        with Subscriber(node.url(node.stream_port, host="[::1]")) as subscriber:
            port = subscriber.socket.socket.getsockname()[1]
            assert guard.called("auth").data["addr"] == f"[::1]:{port}"


@pytest.mark.parametrize("path, status", [("/nope", 404), ("/stream/s", 404), ("/stream/%zz/g", 400)])
def test_refused_paths_are_refused_before_anybody_is_asked(guarded, guard, path, status):
    assert status_of(guarded.stream_url(path)) == status
    assert guard.all_called("auth") == []


def test_context_reaches_join_and_leave_of_every_subscription(guarded, guard):
    """The one by the path too."""
    guard.serve("left", None)
    guard.trigger("stream:leave", "left")
    guard.handlers["auth"] = lambda data: {"context": {"path": data["path"]}}
    with Subscriber(guarded.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
        subscriber.join("s", "other", subscription="two")
        assert subscriber.event()["type"] == "sync"
    seen = [guard.called("joined").data, guard.called("joined").data]
    seen += [guard.called("left").data, guard.called("left").data]
    assert [data["context"] for data in seen] == [{"path": "/stream/s/g"}] * 4
    assert len({data["subscription_id"] for data in seen}) == 2


# ---- Sub-protocols

PROTOCOLS = {
    "Authorization and a token": (["Authorization", "tok"], "Authorization"),
    "Authorization is not the first": (["tok", "Authorization"], "Authorization"),
    "something else": (["chat", "tok"], None),
    "none": (None, None),
}


@pytest.mark.parametrize("row", PROTOCOLS)
def test_sub_protocol_that_is_selected(guarded, guard, row):
    """A browser fails the connection when it offered some and none is selected."""
    offered, selected = PROTOCOLS[row]
    with Subscriber(guarded.stream_url(), subprotocols=offered) as subscriber:
        assert subscriber.socket.subprotocol == selected
    headers = guard.called("auth").data["headers"]
    assert headers.get("sec-websocket-protocol") == (", ".join(offered) if offered else None)


def test_sub_protocol_is_selected_without_an_auth_function_too(node):
    with Subscriber(node.stream_url(), subprotocols=["Authorization", "t"]) as subscriber:
        assert subscriber.socket.subprotocol == "Authorization"


# ---- Origins

ALLOWED = ["https://app.example", "http://localhost:3000"]
ORIGINS = {
    "listed": ("https://app.example", 101),
    "the second of the list": ("http://localhost:3000", 101),
    "another": ("https://evil.example", 403),
    "another scheme": ("http://app.example", 403),
    "another port": ("https://app.example:444", 403),
    "a longer name": ("https://app.example.evil", 403),
    "the origin of a file": ("null", 403),
    "none": (None, 101),
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("origins"), configuration({"origins": ALLOWED}))
    try:
        yield node.start()
        node.stop()
    finally:
        node.kill()


@pytest.mark.parametrize("row", ORIGINS)
def test_origin(listed, row):
    origin, status = ORIGINS[row]
    assert status_of(listed.stream_url(), origin=origin) == status
    assert status_of(listed.stream_url("/stream/s/g"), origin=origin) == status


def test_without_a_list_every_origin_may(node):
    assert status_of(node.stream_url(), origin="https://evil.example") == 101


def test_origin_is_refused_before_anybody_is_asked(start_node):
    node = start_node({"auth_function": "auth", "origins": ALLOWED})
    with Executor(node.worker_url()) as guard:
        guard.serve("auth", {})
        assert status_of(node.stream_url(), origin="https://evil.example") == 403
        assert guard.all_called("auth") == []
