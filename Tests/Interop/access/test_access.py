"""Several worker ports, one of them with rules: who may connect, call and register."""

import json
import time

import pytest

from clients import Closed, Connection, Subscriber
from executor import HELD, Executor, Failure
from node import Node, configuration, yaml
from raw import HANDSHAKE, PING, PONG, Raw, frame

AUTH_MS, HANDLER_MS = 300, 300


def text_of(rbac=None, **settings):
    """A configuration with a plain worker port and one with rules."""
    own = {"host": "127.0.0.1", "port": 0}
    timeouts = {"auth_ms": AUTH_MS, "handler_ms": HANDLER_MS}
    guarded = {**own, **settings} | ({} if rbac is None else {"rbac": rbac})
    return yaml(
        {
            "workers": [
                {"name": "iii-stream", "config": {**own, "timeouts": timeouts}},
                {"name": "iii-worker-manager", "config": own},
                {"name": "iii-worker-manager", "config": guarded},
            ]
        }
    )


@pytest.fixture
def start_guarded(start_node):
    def start(rbac=None, **settings):
        node = start_node(text=text_of(rbac, **settings))
        node.guarded_url = node.url(node.worker_ports[1], "")
        return node

    return start


class World:
    """A node with rules, and a worker on its plain port, which is who the rules ask."""

    def __init__(self, node):
        self.node = node
        self.plain = Executor(node.worker_url())

    def connect(self, path="/", **options):
        return Executor(self.node.guarded_url + path, **options)

    def close(self):
        self.plain.close()


NO_AUTH = object()


@pytest.fixture
def world(start_guarded):
    worlds = []

    def make(rbac=None, auth=NO_AUTH, **settings):
        if auth is not NO_AUTH:
            rbac = {**(rbac or {}), "auth_function_id": "auth"}
        worlds.append(World(start_guarded(rbac, **settings)))
        if auth is not NO_AUTH:
            worlds[-1].plain.serve("auth", auth)
        return worlds[-1]

    yield make
    for each in worlds:
        each.close()


def fails(data):
    raise Failure("denied", "not you")


def refused(worker, kind, registration_id):
    message = worker.said(kind)
    assert message["id"] == registration_id
    return message["error"]["code"]


# ---- Who may connect

DENIED = {
    "an error": (fails, "not you"),
    "nothing": (None, "auth function returned no result"),
    "a string": ("yes", None),
    "a list": ([], None),
    "a field of a wrong type": ({"allowed_functions": "all"}, None),
    "a flag of a wrong type": ({"allow_function_registration": 1}, None),
    "no answer in time": (HELD, None),
    "no function": ("unregistered", "Function auth not found"),
}


@pytest.mark.parametrize("path", ["/", "/otel"])
@pytest.mark.parametrize("row", DENIED)
def test_denied_connection_gets_one_error_and_1008(world, row, path):
    answer, text = DENIED[row]
    here = world(auth=answer)
    if answer == "unregistered":
        here.plain.withdraw("auth")
    with Connection(here.node.guarded_url + path) as connection:
        message = connection.receive()
        assert message["type"] == "error" and message["error"]["code"] == "AUTH_ERROR"
        assert text is None or message["error"]["message"] == text
        with pytest.raises(Closed) as end:
            connection.receive()
        assert end.value.code == 1008


def test_input_of_the_auth_function(world):
    here = world(auth={})
    headers = [("X-Token", "a"), ("X-Token", "b"), ("X-Bad", "caf\xe9")]
    with here.connect("/?t=%41&t=2&c", additional_headers=headers):
        data = here.plain.called("auth").data
    assert data.keys() == {"headers", "query_params", "ip_address"}
    assert data["ip_address"] == "127.0.0.1"
    assert data["query_params"] == {"t": ["%41", "2"], "c": [""]}
    assert data["headers"]["x-token"] == "b"


def test_what_is_sent_before_the_answer_waits_for_it(world):
    here = world({"expose_functions": ['match("*")']}, auth=HELD)
    with Connection(here.node.guarded_url) as early:
        call = {"type": "invokefunction", "invocation_id": "1", "function_id": "stream::list_all"}
        early.send({**call, "data": {}})
        early.send({"type": "registerfunction", "id": "early"})
        here.plain.called("auth").answer({})
        assert early.receive()["type"] == "workerregistered"
        assert early.receive()["result"] == {"stream": [], "count": 0}
        early.send({"type": "ping"})
        assert early.receive() == {"type": "pong"}
        invocation = here.plain.invoke("early", {})
        forwarded = early.receive()
        assert forwarded["function_id"] == "early"
        result = {"type": "invocationresult", "invocation_id": forwarded["invocation_id"]}
        early.send({**result, "function_id": "early", "result": 1})
        assert here.plain.answer(invocation)["result"] == 1


def test_telemetry_connection_is_admitted_silently(world):
    here = world(auth={})
    with Connection(here.node.guarded_url + "/otel") as telemetry:
        here.plain.called("auth")
        telemetry.socket.send(b"OTLP{}")
        assert telemetry.socket.ping().wait(5)


def test_other_listener_knows_no_rules(world):
    here = world({"auth_function_id": "auth"})
    here.plain.serve("anything", 1)
    with Executor(here.node.worker_url()) as other:
        assert other.result("anything") == 1


# ---- Which pages may connect

def upgrade(port, origin=None, host="127.0.0.1", path="/"):
    """The status and the body of an upgrade request."""
    origins = [origin] if isinstance(origin, str) else origin or []
    lines = HANDSHAKE.format(path=path).replace("Host: 127.0.0.1", f"Host: {host}")
    with Raw(port) as raw:
        raw.send((lines[:-2] + "".join(f"Origin: {each}\r\n" for each in origins) + "\r\n").encode())
        head = raw.head()
        size = int(head.lower().partition("content-length: ")[2].split("\r\n")[0] or 0) if "content-length" in head.lower() else 0
        return int(head.split(" ")[1]), raw._take(size).decode()


# The origin, the Host header, and whether a page may connect to a port that says nothing about origins.
LOCAL = {
    "no browser": (None, "127.0.0.1", True),
    "localhost": ("http://localhost", "127.0.0.1", True),
    "localhost with a port": ("https://LocalHost:8080", "127.0.0.1", True),
    "a name under localhost": ("http://app.localhost:3000", "127.0.0.1", True),
    "127.0.0.0/8": ("http://127.1.2.3:80", "127.0.0.1", True),
    "::1": ("http://[::1]:80", "127.0.0.1", True),
    "0.0.0.0": ("http://0.0.0.0:5173", "127.0.0.1", True),
    "the address it has connected to": ("http://192.0.2.7:8080", "192.0.2.7:49134", True),
    "the address of IPv6 it has connected to": ("http://[2001:db8::7]", "[2001:db8:0::7]:49134", True),
    "another address": ("http://192.0.2.8", "192.0.2.7:49134", False),
    "the name it has connected to": ("http://app.example", "app.example", False),
    "any other page": ("https://evil.example", "127.0.0.1", False),
    "a name that begins like one of ours": ("http://localhost.evil.example", "127.0.0.1", False),
    "a name that ends like one of ours": ("http://evillocalhost", "127.0.0.1", False),
    "a name that begins like an address": ("http://127.0.0.1.evil.example", "127.0.0.1", False),
    "user and password": ("http://localhost:80@evil.example", "127.0.0.1", False),
    "an empty host": ("http://", "127.0.0.1", False),
    "an empty port": ("http://localhost:", "127.0.0.1", False),
    "a path": ("http://localhost/x", "127.0.0.1", False),
    "null": ("null", "127.0.0.1", False),
    "a file": ("file://", "127.0.0.1", False),
    "an extension": ("chrome-extension://localhost", "127.0.0.1", False),
    "two, of which one may": (["http://localhost", "https://evil.example"], "127.0.0.1", False),
}


@pytest.fixture(scope="module")
def open_port(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("origins"), configuration())
    yield node.start()
    node.stop()


@pytest.mark.parametrize("path", ["/", "/otel"])
@pytest.mark.parametrize("row", LOCAL)
def test_pages_that_a_worker_port_lets_in_by_itself(open_port, row, path):
    origin, host, allowed = LOCAL[row]
    after = len(open_port.records)
    status, body = upgrade(open_port.worker_port, origin, host, path)
    assert status == (101 if allowed else 403)
    if not allowed:
        assert "`origins` of iii-worker-manager" in body
        shown = origin[-1] if isinstance(origin, list) else origin
        assert f"the origin {shown} " in body
        assert f"the origin {shown} " in open_port.wait_for("origin_refused", after)["detail"]


LISTED = ["https://app.example", "null", "chrome-extension://AbC"]
ORIGINS = {
    "a page of the list": ({"origins": LISTED}, "https://app.example", 101),
    "in other letters": ({"origins": LISTED}, "HTTPS://App.Example", 101),
    "null, which is in the list": ({"origins": LISTED}, "null", 101),
    "an extension of the list": ({"origins": LISTED}, "chrome-extension://abc", 101),
    "a page that is not in it": ({"origins": LISTED}, "https://evil.example", 403),
    "part of one": ({"origins": LISTED}, "https://app.exampl", 403),
    "more than one": ({"origins": LISTED}, "https://app.example\thttps://evil.example", 403),
    "a page of this machine, with a list": ({"origins": LISTED}, "http://localhost", 403),
    "none, with a list": ({"origins": LISTED}, None, 101),
    "a page of anywhere": ({"origins": ["*"]}, "https://evil.example", 101),
    "no page": ({"origins": []}, "http://localhost", 403),
    "where an auth function decides": ({"rbac": {"auth_function_id": "auth"}}, "https://evil.example", 101),
    "with an auth function and a list": (
        {"rbac": {"auth_function_id": "auth"}, "origins": LISTED},
        "https://evil.example",
        403,
    ),
    "with rules alone": ({"rbac": {"expose_functions": []}}, "https://evil.example", 403),
    "with a middleware alone": ({"middleware_function_id": "middle"}, "https://evil.example", 403),
}


@pytest.mark.parametrize("row", ORIGINS)
def test_pages_that_the_configuration_lets_in(start_guarded, row):
    settings, origin, status = ORIGINS[row]
    node = start_guarded(**settings)
    assert {upgrade(node.worker_ports[1], origin, path=path)[0] for path in ("/", "/otel")} == {status}
    assert upgrade(node.worker_ports[0], "https://evil.example")[0] == 403, "the other port has its own rule"
    assert any("`*` in `origins`" in line for line in node.lines) == (settings.get("origins") == ["*"])
    assert node.counters()["origins_refused"] == (1 if status == 101 else 3)


@pytest.mark.parametrize("origin", ["http://a/b", "app.example", "", "https://", "://x", "a b://c", 5], ids=str)
def test_origin_that_no_browser_sends_ends_the_start(tmp_path, origin):
    node = Node(tmp_path, configuration(worker={"origins": [origin]}))
    try:
        node.launch()
        assert node.wait_exit() != 0
        assert "`origins`" in node.tail()
    finally:
        node.kill()


# ---- What may be called

INFRASTRUCTURE = ["engine::workers::register", *(f"engine::log::{x}" for x in ("info", "warn", "error", "debug", "trace"))]
FORBIDDEN_ADD = "function '{}' not allowed (add to rbac.expose_functions)"
FORBIDDEN_REMOVE = "function '{}' not allowed (remove from rbac.forbidden_functions)"

# The rules, the auth function's answer, what is called, and why not (None: it may).
CALLS = {
    "nothing exposed": ({}, None, "open::f", FORBIDDEN_ADD),
    "nothing exposed, a built-in": ({}, None, "stream::list_all", FORBIDDEN_ADD),
    "exposed by its name": ({"expose_functions": ['match("open::f")']}, None, "open::f", None),
    "exposed in single quotes": ({"expose_functions": ["match('open::f')"]}, None, "open::f", None),
    "exposed by a pattern": ({"expose_functions": ['match("open::*")']}, None, "open::f", None),
    "a pattern in the middle": ({"expose_functions": [' match("o*n::*f") ']}, None, "open::f", None),
    "a pattern that does not fit": ({"expose_functions": ['match("pen::*")']}, None, "open::f", FORBIDDEN_ADD),
    "no other wildcard": ({"expose_functions": ['match("open::?")']}, None, "open::f", FORBIDDEN_ADD),
    "exposed by metadata": ({"expose_functions": [{"metadata": {"public": True}}]}, None, "open::f", None),
    "exposed by a metadata pattern": (
        {"expose_functions": [{"metadata": {"team": 'match("a*")', "public": True}}]},
        None,
        "open::f",
        None,
    ),
    "metadata that differs": (
        {"expose_functions": [{"metadata": {"public": True, "team": "core"}}]},
        None,
        "open::f",
        FORBIDDEN_ADD,
    ),
    "one of several": ({"expose_functions": ['match("x")', 'match("open::f")']}, None, "open::f", None),
    "allowed by the auth function": ({}, {"allowed_functions": ["open::f"]}, "open::f", None),
    "not the allowed one": ({}, {"allowed_functions": ["open::g"]}, "open::f", FORBIDDEN_ADD),
    "forbidden": (
        {"expose_functions": ['match("*")']},
        {"forbidden_functions": ["open::f"]},
        "open::f",
        FORBIDDEN_REMOVE,
    ),
    "forbidden and allowed": (
        {"expose_functions": ['match("*")']},
        {"forbidden_functions": ["open::f"], "allowed_functions": ["open::f"]},
        "open::f",
        FORBIDDEN_REMOVE,
    ),
    "infrastructure that is forbidden": (
        {},
        {"forbidden_functions": ["engine::log::info"]},
        "engine::log::info",
        FORBIDDEN_REMOVE,
    ),
    "other engine functions": ({}, None, "engine::functions::list", FORBIDDEN_ADD),
    "an unknown function": ({}, None, "nowhere", FORBIDDEN_ADD),
}


@pytest.mark.parametrize("row", CALLS)
def test_call_check(world, row):
    rbac, auth, function_id, reason = CALLS[row]
    here = world({"expose_functions": [], **rbac}, auth=NO_AUTH if auth is None else auth)
    here.plain.serve("open::f", "reached", metadata={"public": True, "team": "apps"})
    with here.connect() as worker:
        answer = worker.call(function_id, {"message": "m"})
        if reason:
            assert answer["error"] == {"code": "FORBIDDEN", "message": reason.format(function_id)}
            assert here.plain.all_called("open::f") == []
        else:
            assert answer["result"] == "reached"


def test_infrastructure_may_be_called_always(world):
    here = world({"expose_functions": []})
    with here.connect() as worker:
        for function_id in INFRASTRUCTURE:
            assert "error" not in worker.call(function_id, {"message": "m"})


def test_forbidden_void_call_is_answered_too(world):
    here = world({"expose_functions": []})
    with Connection(here.node.guarded_url) as worker:
        assert worker.receive()["type"] == "workerregistered"
        worker.send(
            {
                "type": "invokefunction",
                "function_id": "stream::list_all",
                "data": {},
                "action": {"type": "void"},
            }
        )
        message = worker.receive()
        assert message["error"]["code"] == "FORBIDDEN"
        assert len(message["invocation_id"]) == 36


def test_built_in_functions_that_are_exposed_work_as_ever(world):
    here = world({"expose_functions": ['match("stream::*")']})
    with here.connect() as worker, Subscriber(here.node.stream_url("/stream/s/g")) as subscriber:
        assert subscriber.event()["type"] == "sync"
        assert worker.set("s", "g", "i", 1) == {"old_value": None, "new_value": 1}
        assert subscriber.event() == {"type": "create", "data": 1}
        error = worker.error("stream::get", {"stream_name": "s"})
        assert error["code"] == "deserialization_error"
        calls = [
            worker.invoke("stream::set", {"stream_name": "s", "group_id": "g", "item_id": "i", "data": n})
            for n in range(100)
        ]
        assert [worker.answer(call)["result"]["new_value"] for call in calls] == list(range(100))
        assert [subscriber.event()["data"] for _ in range(100)] == list(range(100))


def test_lists_show_only_what_may_be_called(world):
    here = world({"expose_functions": ['match("engine::functions::list")', 'match("open::*")']})
    here.plain.serve("open::f", 1)
    here.plain.serve("closed::f", 1)
    with here.connect() as worker:
        listed = worker.result("engine::functions::list")["functions"]
        assert [entry["function_id"] for entry in listed] == ["open::f"]


def test_rules_bind_the_worker_and_not_its_functions(world):
    """A function that a restricted worker serves is called by others as any."""
    here = world({"expose_functions": []})
    with here.connect() as worker:
        worker.serve("restricted::f", "served")
        assert here.plain.result("restricted::f") == "served"


# ---- What may be registered

READS = {"expose_functions": ['match("stream::get")']}  # What a trigger of the type `stream` needs.

GATES = {
    "functions by default": ({}, "function", True),
    "functions forbidden": ({"allow_function_registration": False}, "function", False),
    "trigger types by default": ({}, "type", False),
    "trigger types allowed": ({"allow_trigger_type_registration": True}, "type", True),
    "triggers by default": ({}, "trigger", True),
    "triggers of any type": ({"allowed_trigger_types": None}, "trigger", True),
    "triggers of this type": ({"allowed_trigger_types": ["stream"]}, "trigger", True),
    "triggers of another type": ({"allowed_trigger_types": ["log"]}, "trigger", False),
    "triggers of no type": ({"allowed_trigger_types": []}, "trigger", False),
}


REGISTRATIONS = {
    "function": {"type": "registerfunction", "id": "x"},
    "type": {"type": "registertriggertype", "id": "x", "description": "d"},
    "trigger": {
        "type": "registertrigger",
        "id": "x",
        "trigger_type": "stream",
        "function_id": "f",
        "config": {"stream_name": "s"},
        "metadata": {"m": 1},
    },
}


def register(worker, what):
    """Registers one of the kind, and returns the refusal, or None."""
    worker.send(REGISTRATIONS[what])
    worker.barrier()
    return None if worker.said_messages.empty() else worker.said_messages.get()["error"]["code"]


def registered(here, what):
    """Whether one of the kind is registered."""
    if what == "function":
        listed = here.plain.result("engine::functions::list")["functions"]
        return "x" in {entry["function_id"] for entry in listed}
    if what == "type":
        return "x" in {e["id"] for e in here.plain.result("engine::trigger-types::list")["trigger_types"]}
    return "x" in {e["id"] for e in here.plain.result("engine::triggers::list")["triggers"]}


@pytest.mark.parametrize("row", GATES)
def test_registration_gate(world, row):
    answer, what, allowed = GATES[row]
    here = world(READS, auth=answer)
    with here.connect() as worker:
        assert register(worker, what) == (None if allowed else "FORBIDDEN")
        assert registered(here, what) == allowed


@pytest.mark.parametrize("what", ["function", "type", "trigger"])
def test_without_an_auth_function_everything_may_be_registered(world, what):
    here = world(READS)
    with here.connect() as worker:
        assert register(worker, what) is None
        assert registered(here, what)


HOOKS = {
    "function": "on_function_registration_function_id",
    "type": "on_trigger_type_registration_function_id",
    "trigger": "on_trigger_registration_function_id",
}
HOOK_INPUTS = {
    "function": {"function_id": "x", "description": None, "metadata": None},
    "type": {"trigger_type_id": "x", "description": "d"},
    "trigger": {
        "trigger_id": "x",
        "trigger_type": "stream",
        "function_id": "f",
        "config": {"stream_name": "s"},
        "metadata": {"m": 1},
    },
}
ALL_ALLOWED = {"allow_trigger_type_registration": True, "context": {"team": "a"}}

HOOK_ANSWERS = {
    "an empty object": ({}, None),
    "an object of nulls": (dict.fromkeys(["function_id", "config", "metadata", "description"]), None),
    "nothing": (None, "registration_refused"),
    "a string": ("x", "registration_refused"),
    "an error": (fails, "denied"),
    "no answer in time": (HELD, "invocation_timeout"),
}


def crashes(data):
    raise Failure("crashed", "no", stacktrace="at /srv/secret/path.py:1")


@pytest.mark.parametrize("what", HOOKS)
def test_refused_client_is_not_told_the_stack_trace_of_a_hook(world, what):
    here = world({HOOKS[what]: "hook", **READS}, auth=ALL_ALLOWED)
    here.plain.serve("hook", crashes)
    with here.connect() as worker:
        worker.send(REGISTRATIONS[what])
        worker.barrier()
        assert worker.said_messages.get()["error"] == {"code": "crashed", "message": "no"}


@pytest.mark.parametrize("row", HOOK_ANSWERS)
@pytest.mark.parametrize("what", HOOKS)
def test_hook_decides_on_a_registration(world, what, row):
    answer, code = HOOK_ANSWERS[row]
    here = world({HOOKS[what]: "hook", **READS}, auth=ALL_ALLOWED)
    here.plain.serve("hook", answer)
    with here.connect() as worker:
        assert register(worker, what) == code
        assert registered(here, what) == (code is None)
        assert here.plain.called("hook").data == {**HOOK_INPUTS[what], "context": {"team": "a"}}


def test_hook_replaces_what_it_names(world):
    changed = {
        "trigger_id": "renamed",
        "function_id": "g",
        "config": {"stream_name": "t"},
        "metadata": {"m": 2},
    }
    here = world({HOOKS["trigger"]: "hook", "expose_functions": ['match("stream::get")', 'match("g")']}, auth=ALL_ALLOWED)
    here.plain.serve("hook", changed)
    here.plain.serve("g", None)
    with here.connect() as worker:
        assert register(worker, "trigger") is None
        assert here.plain.result("engine::triggers::list")["triggers"] == [
            {
                "id": "renamed",
                "trigger_type": "stream",
                "function_id": "g",
                "config": {"stream_name": "t"},
                "metadata": {"m": 2},
            }
        ]
        here.plain.set("t", "g", "i", 1)
        assert here.plain.called("g").data["event_type"] == "create"


def test_hook_of_a_function_renames_it(world):
    here = world({HOOKS["function"]: "hook"}, auth=ALL_ALLOWED)
    here.plain.serve("hook", {"function_id": "renamed", "description": "d", "metadata": {"a": 1}})
    with here.connect() as worker:
        register(worker, "function")
        worker.handlers["renamed"] = "served"
        entry = here.plain.result("engine::functions::list")["functions"]
        entry = next(each for each in entry if each["function_id"] == "renamed")
        assert (entry["description"], entry["metadata"]) == ("d", {"a": 1})
        assert here.plain.result("renamed") == "served"


def test_pings_and_results_pass_while_a_hook_runs(world):
    """A registration is a barrier for calls, and for nothing that others wait for."""
    here = world({HOOKS["trigger"]: "hook", "expose_functions": ['match("*")']}, auth=ALL_ALLOWED)
    here.plain.serve("hook")
    with here.connect() as worker:
        worker.serve("busy")
        pending = here.plain.invoke("busy")
        call = worker.called("busy")
        trigger = {"type": "registertrigger", "id": "x", "trigger_type": "stream", "function_id": "f"}
        worker.send({**trigger, "config": {"stream_name": "s"}})
        behind = worker.invoke("stream::list_all", {})
        hook = here.plain.called("hook")
        worker.send({"type": "ping"})
        worker.said("pong")
        call.answer("done")
        assert here.plain.answer(pending)["result"] == "done"
        assert behind not in worker.results
        hook.answer({})
        assert "result" in worker.answer(behind)


# ---- What triggers call

def stream_trigger(worker, function_id, condition=None, trigger_id="t"):
    """Registers a trigger on the changes of the stream `s`, and returns the refusal, or None."""
    config = {"stream_name": "s", **({} if condition is None else {"condition_function_id": condition})}
    worker.trigger("stream", function_id, config, trigger_id=trigger_id)
    return None if worker.said_messages.empty() else worker.said_messages.get()["error"]["code"]


def test_trigger_calls_nothing_that_its_worker_may_not(world):
    """As target and as condition, with and without a prefix, whether it is served already or registered later."""
    here = world(READS, auth=lambda data: {"function_registration_prefix": data["query_params"].get("p", [None])[0]})
    here.plain.serve("admin::wipe", True)
    with here.connect() as worker, here.connect("/?p=tenant") as tenant:
        for each in (worker, tenant):
            each.serve("own", None)
        assert stream_trigger(worker, "admin::wipe") == "FORBIDDEN"
        assert stream_trigger(worker, "own", condition="admin::wipe") == "FORBIDDEN"
        assert stream_trigger(tenant, "own", condition="admin::wipe") == "FORBIDDEN"
        assert stream_trigger(worker, "later", trigger_id="a") is None
        assert stream_trigger(worker, "own", condition="later", trigger_id="b") is None
        assert stream_trigger(tenant, "own", condition="later", trigger_id="c") is None
        here.plain.serve("later", True)
        here.plain.set("s", "g", "i", 1)
        here.plain.set("s", "g", "i", 2)
        # One trigger handles the changes of an item in order: all have been dealt with when this one has.
        here.plain.serve("seen", None)
        here.plain.trigger("stream", "seen", {"stream_name": "s"})
        here.plain.set("s", "g", "i", 3)
        here.plain.called("seen")
        for each in (worker, tenant):
            each.barrier()
            assert each.all_called("own") == []
        assert here.plain.all_called("later") == here.plain.all_called("admin::wipe") == []
        assert here.node.counters()["trigger_calls_forbidden"] >= 6
        here.node.wait_for("trigger_forbidden")


def test_trigger_calls_own_functions_and_conditions_and_what_is_exposed(world):
    here = world({"expose_functions": ['match("stream::list")', 'match("open::*")']}, auth={"function_registration_prefix": "p"})
    here.plain.serve("open::f", True)
    here.plain.serve("c", False)  # Not what the tenant means by `c`.
    with here.connect() as worker:
        worker.serve("own", None)
        worker.serve("c", True)
        assert stream_trigger(worker, "own", condition="c", trigger_id="a") is None
        here.plain.set("s", "g", "i", 1)
        assert worker.called("c").data["event_type"] == "create"
        assert worker.called("own").data["event_type"] == "create"
        worker.untrigger("a")
        assert stream_trigger(worker, "own", condition="open::f", trigger_id="b") is None
        here.plain.set("s", "g", "i", 2)
        here.plain.called("open::f")
        assert worker.called("own").data["event_type"] == "update"
        # Somebody without rules takes the function over: it is not the worker's own any more.
        here.plain.serve("p::own", None)
        here.plain.set("s", "g", "i", 3)
        here.plain.called("open::f")
        here.node.wait_for("trigger_forbidden")
        assert here.plain.all_called("p::own") == []
        here.plain.withdraw("p::own")
        here.plain.set("s", "g", "i", 4)
        assert worker.called("own").data["event"]["data"] == 4


@pytest.mark.parametrize("kind", ["stream:join", "stream:leave", "log", "engine::workers-available"])
@pytest.mark.parametrize("types", [None, "named"])
def test_type_that_shows_more_than_may_be_called_has_to_be_allowed_by_name(world, kind, types):
    here = world({"expose_functions": ['match("*")']}, auth={"allowed_trigger_types": types and [kind]})
    with here.connect() as worker:
        worker.serve("own", None)
        worker.trigger(kind, "own", {})
        assert worker.said_messages.empty() == (types is not None)
        assert types or worker.said("triggerregistrationresult")["error"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize("exposed, allowed", [("stream::get", True), ("stream::list", True), ("stream::set", False)])
def test_trigger_of_a_stream_needs_the_right_to_read(world, exposed, allowed):
    here = world({"expose_functions": [f'match("{exposed}")']})
    with here.connect() as worker:
        worker.serve("own", None)
        assert stream_trigger(worker, "own") == (None if allowed else "FORBIDDEN")


OVERRIDES = {
    "by default": ({}, {}, False),
    "by the listener": ({"allow_stream_overrides": True}, {}, True),
    "by the auth function": ({}, {"allow_stream_overrides": True}, True),
    "by its context": ({}, {"context": {"iii_stream": {"allow_stream_overrides": True}}}, True),
    "refused by all": ({"allow_stream_overrides": False}, {"context": {"iii_stream": {"allow_stream_overrides": False}}}, False),
}


@pytest.mark.parametrize("row", OVERRIDES)
def test_taking_over_the_writes_of_others_has_to_be_allowed(world, row):
    rbac, auth, allowed = OVERRIDES[row]
    here = world(rbac, auth=auth)
    with here.connect() as worker:
        worker.serve("stream::set(pay)", lambda data: {"new_value": data["data"]})
        if not allowed:
            error = worker.said("functionregistrationresult")["error"]
            assert error["code"] == "FORBIDDEN" and "allow_stream_overrides" in error["message"]
        here.plain.set("pay", "g", "i", 1)
        assert len(worker.all_called("stream::set(pay)")) == (1 if allowed else 0)


def test_functions_that_the_configuration_names_are_reserved(start_node):
    """The auth function of the stream port, and all that rules name: whoever serves them decides about others."""
    own = {"host": "127.0.0.1", "port": 0}
    hooks = {key: f"hook::{what}" for what, key in HOOKS.items()}
    rbac = {"auth_function_id": "auth", "expose_functions": ['match("*")'], **hooks}
    managers = [own, {**own, "rbac": rbac}, {**own, "middleware_function_id": "middle"}]
    entries = [{"name": "iii-worker-manager", "config": config} for config in managers]
    node = start_node(text=yaml({"workers": [{"name": "iii-stream", "config": {**own, "auth_function": "client"}}, *entries]}))
    names = ["client", "auth", "middle", *hooks.values()]
    plain, middle = (Executor(node.url(node.worker_ports[index])) for index in (0, 2))
    with plain, middle:
        plain.serve("auth", lambda data: {"function_registration_prefix": data["query_params"].get("p", [None])[0]})
        for what in HOOKS:
            plain.serve(f"hook::{what}", lambda data: {"function_id": "auth"} if data.get("function_id") == "disguised" else {})
        for path, ids in (("/", [*names, "disguised"]), ("/?p=hook", ["function", "type", "trigger"])):
            with Executor(node.url(node.worker_ports[1], path)) as worker:
                for name in ids:
                    worker.serve(name, {"allowed_functions": ["*"]})
                    refusal = worker.said("functionregistrationresult")
                    shown = "auth" if name == "disguised" else name  # What the hook made of it.
                    assert (refusal["id"], refusal["error"]["code"]) == (shown, "reserved")
                worker.serve("engine::mine")
                if path == "/":
                    assert worker.said("functionregistrationresult")["error"]["code"] == "reserved"
                worker.nothing_said()
        middle.serve("middle", "the middleware's own port may")
        assert plain.result("middle") == "the middleware's own port may"


def test_id_of_another_identity_is_not_taken_over(world):
    """Neither a function nor a trigger; both take effect when the holder goes."""
    rbac = {"expose_functions": ['match("stream::get")']}
    here = world(rbac, auth=lambda data: {
        "allowed_trigger_types": ["stream:join"],
        "context": {"iii_stream": {"identity": data["query_params"]["who"][0]}},
    })
    here.plain.serve("guard", {"unauthorized": True})
    with Executor(here.node.worker_url()) as holder:
        holder.serve("f", "holder")
        holder.trigger("stream:join", "guard", {"stream_name": "secret"}, trigger_id="t")
        with here.connect("/?who=a") as thief:
            thief.serve("f", "thief")
            assert thief.said("functionregistrationresult")["error"]["code"] == "id_held"
            thief.serve("open", None)
            thief.trigger("stream:join", "open", {"stream_name": "secret"}, trigger_id="t")
            assert thief.said("triggerregistrationresult")["error"]["code"] == "id_held"
            assert here.plain.result("f") == "holder"
            with Subscriber(here.node.stream_url("/stream/secret/g")) as subscriber:
                assert subscriber.event() == {"type": "unauthorized"}
            with here.connect("/?who=a") as same:
                same.serve("own", 1)
                thief.serve("own", 2)
                thief.nothing_said()
                assert here.plain.result("own") == 2, "of one identity the last serves"
            holder.untrigger("t")
            holder.withdraw("f")
            assert here.plain.result("f") == "thief"
            with Subscriber(here.node.stream_url("/stream/secret/g")) as subscriber:
                assert subscriber.event()["type"] == "sync"
            assert thief.called("open").data["stream_name"] == "secret"
            # From anyone: a worker without rules.
            holder.serve("f", "back")
            assert here.plain.result("f") == "back"


@pytest.mark.parametrize("silent", [True, False], ids=["a holder that is silent", "a holder that answers"])
def test_holder_of_an_id_is_pinged_and_counts_as_gone_after_two_seconds(world, silent):
    here = world({"expose_functions": []}, auth={
        "allow_trigger_type_registration": True, "context": {"iii_stream": {"identity": "a"}}})
    with Raw(here.node.worker_port).upgrade("/") as holder, here.connect() as other:
        holder.message()
        holder.send(frame(json.dumps({"type": "registerfunction", "id": "f"})))
        holder.send(frame(json.dumps({"type": "registertriggertype", "id": "cron", "description": "d"})))
        ask = {"type": "invokefunction", "invocation_id": "1", "function_id": "engine::workers::register", "data": {}}
        holder.send(frame(json.dumps(ask)))
        holder.message()
        started = time.monotonic()
        other.serve("f", "other")
        assert other.said("functionregistrationresult")["error"]["code"] == "id_held"
        other.send({"type": "registertriggertype", "id": "cron", "description": "d"})
        assert other.said("triggertyperegistrationresult")["error"]["code"] == "id_held"
        opcode, _ = holder.frame()  # At once: pings come every 20 s otherwise.
        assert opcode == PING and time.monotonic() - started < 1
        if silent:
            here.node.wait_for("holder_silent", seconds=4)
            assert 1.9 < time.monotonic() - started
            assert here.plain.result("f") == "other"
            here.plain.trigger("cron", "f", None, trigger_id="mine")
            assert other.said("registertrigger")["id"] == "mine"
            assert here.node.counters()["contests_won"] == 1
        else:
            holder.send(frame(b"", PONG))
            here.plain.nothing_said()
            time.sleep(max(0, started + 2.3 - time.monotonic()))  # The test is that nothing happens until then.
            invocation = here.plain.invoke("f", {})
            assert json.loads(holder.message())["function_id"] == "f"
            assert here.node.counters()["contests_won"] == 0
            holder.close()
            assert here.plain.answer(invocation)["error"]["code"] == "invocation_stopped"
            assert here.plain.result("f") == "other"


def test_trigger_of_a_provided_type_no_longer_fires_what_its_registrant_may_not_call(world):
    here = world({"expose_functions": []}, auth={"context": {"iii_stream": {"identity": "a"}}})
    here.plain.send({"type": "registertriggertype", "id": "cron", "description": "d"})
    with here.connect() as tenant:
        tenant.serve("job", "tenant")
        tenant.trigger("cron", "job", None, trigger_id="t")
        assert here.plain.said("registertrigger")["id"] == "t"
        tenant.withdraw("job")
        tenant.nothing_said()
        here.plain.serve("job", "somebody else's")
        assert here.plain.said("unregistertrigger")["id"] == "t"


def test_functions_available_shows_what_may_be_called(world):
    here = world({"expose_functions": ['match("open::*")', 'match("engine::functions::list")']})
    here.plain.serve("noticed", None)
    here.plain.trigger("engine::functions-available", "noticed")
    with here.connect() as worker:
        worker.serve("open::noticed", None)
        worker.trigger("engine::functions-available", "open::noticed")
        here.plain.serve("closed::f", None)
        here.plain.serve("open::last", None)
        while True:
            told = {f["function_id"] for f in worker.called("open::noticed").data["functions"]}
            assert "closed::f" not in told and "stream::set" not in told
            if "open::last" in told:
                break
        assert told - {f"engine::log::{level}" for level in ("info", "warn", "error", "debug", "trace")} == {
            "open::noticed", "open::last", "engine::functions::list", "engine::workers::register"}
        while True:
            told = {f["function_id"] for f in here.plain.called("noticed").data["functions"]}
            if "open::last" in told:
                break
        assert {"closed::f", "stream::set", "open::noticed"} <= told


# ---- Middleware

def test_middleware_is_called_in_place_of_the_function(world):
    here = world({"expose_functions": ['match("*")']}, auth={"context": {"team": "a"}}, middleware_function_id="middle")
    here.plain.serve("middle", lambda data: {"instead": data})
    here.plain.serve("target", "never")
    with here.connect() as worker:
        assert worker.result("target", n=1) == {
            "instead": {
                "function_id": "target",
                "payload": {"n": 1},
                "action": None,
                "context": {"team": "a"},
            }
        }
        assert worker.result("stream::list_all")["instead"]["function_id"] == "stream::list_all"
        assert here.plain.all_called("target") == []
        # Not for functions of the engine, and not for what is forbidden.
        assert "functions" in worker.result("engine::functions::list")
    assert here.plain.result("target") == "never", "the other port has none"


def test_middleware_gets_void_calls_and_answers_them(world):
    here = world(middleware_function_id="middle")
    here.plain.serve("middle", lambda data: data["action"])
    with here.connect() as worker:
        for action in ({"type": "void"}, {"type": "enqueue", "queue": "q"}):
            answer = worker.call("target", {"n": 1}, action=action)
            assert answer["result"] == action


@pytest.mark.parametrize(
    "middle, code", [(fails, "denied"), ("unregistered", "function_not_found"), (HELD, "invocation_timeout")], ids=str
)
def test_failing_middleware_fails_the_call(world, middle, code):
    here = world(middleware_function_id="middle")
    if middle != "unregistered":
        here.plain.serve("middle", middle)
    with here.connect() as worker:
        assert worker.error("stream::list_all", {})["code"] == code


def test_middleware_that_calls_the_target_over_its_own_port_is_not_called_again(world):
    """As middleware is meant to, here on the only port there is; another middleware that waits in the stack, too."""
    here = world(middleware_function_id="middle")
    here.plain.serve("target", lambda data: {"target": data["n"]})
    with here.connect() as middleware, here.connect() as newer, here.connect() as caller:
        middleware.serve("middle")
        pending = caller.invoke("target", {"n": 1})
        call = middleware.called("middle")
        newer.serve("middle", "newer")
        call.answer(middleware.result(call.data["function_id"], n=2))
        assert caller.answer(pending)["result"] == {"target": 2}
        assert middleware.set("s", "g", "i", 1)["new_value"] == 1
        assert middleware.all_called("middle") == newer.all_called("middle") == []
        assert caller.result("target", n=3) == "newer", "calls of others go through the one that serves"


@pytest.mark.parametrize("kind", ["call", "enqueue", "malformed"])
def test_answer_repeats_at_most_256_bytes_of_a_function_id(world, kind):
    """What a caller writes does not come back larger than it was, on either port."""
    here = world({"expose_functions": []})
    name = "x" * 255 + "\u00e9" + "y" * 1_000_000
    fields = {"call": {}, "enqueue": {"action": {"type": "enqueue", "queue": "q"}}, "malformed": {"baggage": 5}}
    for url in (here.node.guarded_url, here.node.worker_url()):
        with Executor(url) as worker:
            answer = worker.call(name, {}, **fields[kind])
            assert answer["function_id"] == "x" * 255
            assert "error" in answer and len(str(answer)) < 2000


def test_middleware_does_not_see_what_is_forbidden(world):
    here = world({"expose_functions": ['match("open::*")']}, middleware_function_id="middle")
    here.plain.serve("middle", "passed")
    with here.connect() as worker:
        assert worker.error("closed::f")["code"] == "FORBIDDEN"
        assert worker.result("open::f") == "passed"
    assert len(here.plain.all_called("middle")) == 1


# ---- Prefixes

def test_prefix_of_functions(world):
    here = world({"expose_functions": ['match("*")']}, auth={"function_registration_prefix": "tenant"})
    with here.connect() as worker:
        worker.serve("f", "served")
        listed = here.plain.result("engine::functions::list")["functions"]
        assert "tenant::f" in {entry["function_id"] for entry in listed}
        assert here.plain.error("f")["code"] == "function_not_found"
        assert here.plain.result("tenant::f") == "served"
        assert worker.called("f").function_id == "f", "its own name for it"
        # Calls of the worker are not prefixed.
        assert worker.error("f")["code"] == "function_not_found"
        assert worker.result("tenant::f") == "served"
        worker.trigger("stream", "f", {"stream_name": "s"}, trigger_id="t")
        shown = here.plain.result("engine::triggers::list")["triggers"]
        assert [(entry["id"], entry["function_id"]) for entry in shown] == [("t", "tenant::f")]
        worker.all_called("f")
        here.plain.set("s", "g", "i", 1)
        assert worker.called("f").data["event_type"] == "create"
        worker.withdraw("f")
        assert here.plain.error("tenant::f")["code"] == "function_not_found"


def test_reattach_on_a_restricted_listener(world):
    here = world({"expose_functions": []}, auth={})
    with here.connect() as old:
        old.serve("f")
        pending = here.plain.invoke("f")
        old.called("f")
        token = {"previous_worker_id": old.id, "reattach_token": old.registered["reattach_token"]}
        with here.connect(reattach=token) as new:
            assert old.closed() == 1012
            assert here.plain.answer(pending)["error"]["code"] == "invocation_stopped"
            new.serve("f", "new")
            assert here.plain.result("f") == "new"


# ---- Configuration

def test_file_with_rules_only_has_no_plain_port(tmp_path):
    own = {"host": "127.0.0.1", "port": 0}
    text = yaml(
        {
            "workers": [
                {"name": "iii-stream", "config": own},
                {"name": "iii-worker-manager", "config": {**own, "rbac": {"expose_functions": []}}},
            ]
        }
    )
    node = Node(tmp_path, text)
    try:
        node.start()
        assert len(node.worker_ports) == 1
        with Executor(node.worker_url()) as worker:
            assert worker.error("stream::list_all", {})["code"] == "FORBIDDEN"
        node.stop()
    finally:
        node.kill()


@pytest.mark.parametrize("names", ["auth_function", "auth_function_id", "middleware_function_id"])
@pytest.mark.parametrize("plain", [False, True])
def test_named_functions_need_a_port_without_rules(tmp_path, names, plain):
    own = {"host": "127.0.0.1", "port": 0}
    rbac = {"expose_functions": [], **({names: "guard"} if names == "auth_function_id" else {})}
    manager = {**own, "rbac": rbac, **({names: "guard"} if names == "middleware_function_id" else {})}
    stream = {**own, **({names: "guard"} if names == "auth_function" else {})}
    entries = [{"name": "iii-stream", "config": stream}, {"name": "iii-worker-manager", "config": manager}]
    if plain:
        entries.append({"name": "iii-worker-manager", "config": own})
    node = Node(tmp_path, yaml({"workers": entries}))
    try:
        if plain:
            node.start().stop()
        else:
            node.launch()
            assert node.wait_exit() != 0
            assert "`guard`" in node.tail() and "host: 127.0.0.1" in node.tail()
    finally:
        node.kill()


@pytest.mark.parametrize("entry", ["open::*", "match(open)", {"metadata": {}}, {"meta": {"a": 1}}, 5], ids=str)
def test_entry_of_expose_functions_that_is_wrong_ends_the_start(tmp_path, entry):
    node = Node(tmp_path, text_of({"expose_functions": [entry]}))
    try:
        node.launch()
        assert node.wait_exit() == 78
        assert "expose_functions" in node.tail() or "match(" in node.tail()
    finally:
        node.kill()
