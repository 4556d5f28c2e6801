"""Peers that are gone while their sockets stay open: only the ping deadline, or their own return, tells."""

import json
import queue
import subprocess
import sys
import threading
import time

import pytest

from clients import Connection, Subscriber
from executor import HELD, Executor
from node import PROGRAMS
from proxy import Proxy

PROGRAM = PROGRAMS / "half_open_worker.py"
INTERVAL_MS, DEADLINE_MS = 300, 1000
# Until the first ping, then the deadline; the rest is for a busy machine.
BOUND_SECONDS = (INTERVAL_MS + DEADLINE_MS) / 1000 + 3


@pytest.fixture
def watchful(start_node):
    return start_node({"ping": {"interval_ms": INTERVAL_MS, "deadline_ms": DEADLINE_MS}})


@pytest.fixture
def caller(watchful):
    with Executor(watchful.worker_url()) as executor:
        yield executor


class Killable:
    """A process that runs `half_open_worker.py`."""

    def __init__(self, url, name):
        self.events = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.registered = self.told("ready")

    def _read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def told(self, kind):
        event = self.events.get(timeout=10)
        assert event["event"] == kind, event
        return event["data"]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


@pytest.fixture
def start_killable():
    workers = []

    def start(url, name):
        workers.append(Killable(url, name))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def functions(caller, function_id):
    listed = caller.result("engine::functions::list")["functions"]
    return [entry for entry in listed if entry["function_id"] == function_id]


def triggers(caller):
    return [entry["id"] for entry in caller.result("engine::triggers::list")["triggers"]]


def test_worker_that_comes_back_while_its_old_socket_is_half_open(
    watchful, caller, start_killable
):
    with Proxy(watchful.worker_port) as proxy:
        old = start_killable(proxy.url(), "old")
        assert caller.result("job") == "old"
        old.told("job")
        pending = [caller.invoke("never", {"n": n}) for n in range(10)]
        for _ in pending:
            old.told("never")
        proxy.freeze()
        old.kill()
        killed = time.monotonic()

        new = start_killable(watchful.worker_url(), "new")
        assert caller.result("job") == "new"
        new.told("job")
        caller.set("s", "g", "i", "while the old one is half open")
        assert new.told("changed")["event"]["data"] == "while the old one is half open"
        assert triggers(caller) == ["watch"]

        for invocation in pending:
            error = caller.answer(invocation)["error"]
            assert error == {"code": "invocation_stopped", "message": "Invocation stopped"}
        assert time.monotonic() - killed < BOUND_SECONDS

        assert caller.result("job") == "new"
        new.told("job")
        caller.set("s", "g", "i", "when the old one is gone")
        assert new.told("changed")["event"]["data"] == "when the old one is gone"
        assert triggers(caller) == ["watch"]
        assert len(functions(caller, "job")) == 1
        assert new.events.empty(), "each change once"

        # The old registration is no ghost: it does not come back when the new one goes.
        new.kill()
        while functions(caller, "job"):
            caller.barrier()
        assert caller.error("job")["code"] == "function_not_found"
        assert triggers(caller) == []


def test_calls_of_a_half_open_worker_end_at_the_deadline(watchful, caller, start_killable):
    """Those that it has, and those that are made before anybody can know."""
    with Proxy(watchful.worker_port) as proxy:
        old = start_killable(proxy.url(), "old")
        pending = [caller.invoke("never")]
        old.told("never")
        proxy.freeze()
        old.kill()
        killed = time.monotonic()
        pending += [caller.invoke("job") for _ in range(5)]
        for invocation in pending:
            assert caller.answer(invocation)["error"]["code"] == "invocation_stopped"
        assert time.monotonic() - killed < BOUND_SECONDS
        assert caller.error("job")["code"] == "function_not_found"
        assert triggers(caller) == []


def test_buried_registration_of_a_dead_worker_never_serves(watchful, caller, start_killable):
    """The new one goes while the old one is still half open: a call may fail, but it may not hang."""
    with Proxy(watchful.worker_port) as proxy:
        old = start_killable(proxy.url(), "old")
        proxy.freeze()
        old.kill()
        killed = time.monotonic()
        new = start_killable(watchful.worker_url(), "new")
        assert caller.result("job") == "new"
        new.kill()
        while time.monotonic() - killed < BOUND_SECONDS and functions(caller, "job"):
            caller.barrier()
        answer = caller.call("job")
        assert answer["error"]["code"] in ("invocation_stopped", "function_not_found")
        assert functions(caller, "job") == []


@pytest.mark.parametrize("token", ["right", "wrong", "none"])
def test_reattach_retires_the_old_connection_at_once(start_node, token):
    """With pings that never come, only the token can end it. A wrong one does nothing."""
    node = start_node()
    with (
        Proxy(node.worker_port) as proxy,
        Executor(node.worker_url()) as caller,
        Executor(proxy.url()) as old,
    ):
        old.serve("job", HELD)
        old.serve("changed", None)
        old.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="watch")
        pending = caller.invoke("job")
        old.called("job")
        proxy.freeze()
        secret = old.registered["reattach_token"]
        assert secret and secret != old.id
        reattach = {"previous_worker_id": old.id}
        if token != "none":
            reattach["reattach_token"] = secret if token == "right" else old.id
        with Executor(node.worker_url(), reattach=reattach) as new:
            assert new.id != old.id
            new.barrier()
            if token == "right":
                assert caller.answer(pending)["error"]["code"] == "invocation_stopped"
                assert triggers(caller) == []
                assert caller.error("job")["code"] == "function_not_found"
                proxy.thaw()
                assert old.closed() == 1012
            else:
                assert triggers(caller) == ["watch"]
                proxy.thaw()
                call = old.invoke("stream::list_all")
                assert "result" in old.answer(call), "it lives"


def test_reattach_to_oneself_or_nobody_does_nothing(node):
    with Executor(node.worker_url()) as worker:
        token = worker.registered["reattach_token"]
        for previous in (worker.id, "", "nobody"):
            worker.send(
                {"type": "reattach", "previous_worker_id": previous, "reattach_token": token}
            )
        worker.barrier()


# ---- Pings


@pytest.mark.parametrize("path", ["/", "/otel"])
def test_worker_that_does_not_answer_pings_is_dropped(watchful, caller, path):
    """On both paths; one that does answer stays."""
    with Proxy(watchful.worker_port) as proxy:
        silent = Connection(proxy.url(path))
        proxy.freeze()
        frozen = time.monotonic()
        watchful.wait_for("dead_peer_closed")
        assert DEADLINE_MS / 1000 * 0.9 < time.monotonic() - frozen < BOUND_SECONDS
    silent.close()
    caller.barrier()


def test_subscriber_that_does_not_answer_pings_leaves_and_a_live_one_stays(watchful, caller):
    caller.serve("left", None)
    caller.trigger("stream:leave", "left")
    with Proxy(watchful.stream_port) as proxy, Subscriber(watchful.stream_url()) as live:
        live.join("s", "g", subscription="live")
        assert live.event()["type"] == "sync"
        dead = Subscriber(proxy.url())
        dead.join("s", "g", subscription="dead")
        assert dead.event()["type"] == "sync"
        proxy.freeze()
        frozen = time.monotonic()
        left = caller.called("left").data
        assert left["subscription_id"] == "dead"
        assert DEADLINE_MS / 1000 * 0.9 < time.monotonic() - frozen < BOUND_SECONDS
        caller.set("s", "g", "i", 1)
        assert live.event() == {"type": "create", "data": 1}
        caller.barrier()
        assert caller.all_called("left") == []
    dead.close()
