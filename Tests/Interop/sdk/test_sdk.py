"""Workers on the published Python SDK, in two versions, against a real node."""

import itertools
import json
import os
import pathlib
import queue
import subprocess
import threading
import time

import pytest

from clients import Subscriber, Worker
from conftest import SDK_VERSIONS, environment
from node import PROGRAMS

PROGRAM = PROGRAMS / "sdk_worker.py"
WAIT_SECONDS = 40  # Longer than the SDK's own timeout of 30 s: that one should be seen.


class SdkError(Exception):
    """What the SDK raised: `type`, `code`, `message` and `text` as its user sees them."""

    def __init__(self, fields):
        super().__init__(fields["text"])
        self.type, self.code = fields["type"], fields["code"]
        self.message, self.text = fields["message"], fields["text"]


class SdkWorker:
    """A process that runs `sdk_worker.py`."""

    def __init__(self, version, node, otel=False):
        self.version = version
        self.numbers = itertools.count()
        self.answers = {}
        self.events = queue.Queue()
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [environment(f"sdk-{version}"), PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "III_URL": node.worker_url(), "PYTHONWARNINGS": "ignore"},
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.ask("connect", url=node.worker_url(), otel=otel, name=f"sdk-{version}")
        self.barrier()  # The answer comes after the worker id.

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "event" in message:
                self.events.put(message)
                continue
            with self.changed:
                self.answers[message["number"]] = message
                self.changed.notify_all()

    def start(self, command, **fields):
        """Sends a command and returns its number."""
        number = next(self.numbers)
        self.process.stdin.write(json.dumps({"number": number, "command": command, **fields}) + "\n")
        self.process.stdin.flush()
        return number

    def finish(self, number):
        """The result of the command `number`, or what the SDK raised."""
        with self.changed:
            if not self.changed.wait_for(lambda: number in self.answers, WAIT_SECONDS):
                raise TimeoutError(f"the SDK {self.version} never answered")
            message = self.answers.pop(number)
        if "error" in message:
            raise SdkError(message["error"])
        return message["result"]

    def ask(self, command, **fields):
        return self.finish(self.start(command, **fields))

    def call(self, function_id, payload=None, **fields):
        return self.ask("call", function_id=function_id, payload=payload, **fields)

    def register(self, function_id, kind, value=None):
        self.ask("register", function_id=function_id, kind=kind, value=value)
        self.barrier()

    def barrier(self):
        """Returns when the node has taken all earlier messages of this worker."""
        self.call("stream::list_groups", {"stream_name": "none"})

    def called(self, function_id, seconds=10):
        """The data of the next call to a recording handler, which must be `function_id`."""
        event = self.events.get(timeout=seconds)
        assert event["function_id"] == function_id
        return event["data"]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start_worker():
    workers = []

    def start(*arguments, **options):
        workers.append(SdkWorker(*arguments, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


@pytest.fixture(params=SDK_VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def worker(version, node, start_worker):
    return start_worker(version, node)


@pytest.fixture
def pair(version, node, start_worker):
    """Two workers of one version: 0.25 does not send calls to its own functions over the wire."""
    return start_worker(version, node), start_worker(version, node)


def eventually(attempt, seconds=30):
    """Repeats `attempt` until it raises no SdkError: for what the SDK does in its own time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except SdkError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


# ---- Calls between workers

PAYLOADS = [
    {},
    {"text": "żółć 🦊 \u0000 \" \\ \u2028"},
    {"numbers": [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, 1e300, 1.0]},
    {"nested": {"a": [{"b": [None, True, False, {}]}]}},
    {"data": "x" * 500_000},
]


def test_call_reaches_another_worker_and_returns_its_answer(pair):
    executor, caller = pair
    executor.register("echo", "echo")
    caller_id = caller.ask("state")["worker_id"]
    for payload in PAYLOADS:
        assert caller.call("echo", payload) == {**payload, "_caller_worker_id": caller_id}
    for payload in ("text", 5, 1.0, True, [1, {"a": None}]):
        got = caller.call("echo", payload)
        assert got == payload and type(got) is type(payload)


def test_worker_calls_its_own_function(worker):
    worker.register("own", "threaded")
    assert worker.call("own", {"numbers": [1, 2, 3]}) == {"sum": 6}


def test_versions_call_each_other(node, start_worker):
    old, new = (start_worker(version, node) for version in SDK_VERSIONS)
    old.register("old::echo", "echo")
    new.register("new::echo", "echo")
    assert new.call("old::echo", {"n": 1})["n"] == 1
    assert old.call("new::echo", {"n": 2})["n"] == 2


def test_many_calls_at_once_all_get_their_own_answer(pair):
    executor, caller = pair
    executor.register("echo", "echo")
    numbers = [
        caller.start("call", function_id="echo", payload={"n": n}) for n in range(200)
    ]
    assert [caller.finish(number)["n"] for number in numbers] == list(range(200))


def test_void_call_runs_and_returns_nothing(pair):
    executor, caller = pair
    executor.register("hear", "record", value={"ignored": 1})
    assert caller.call("hear", {"n": 1}, void=True) is None
    assert executor.called("hear")["n"] == 1
    assert caller.call("no::such", {}, void=True) is None


def test_last_registration_wins_and_the_earlier_one_comes_back(pair):
    first, second = pair
    first.register("shared", "record", value="first")
    second.register("shared", "record", value="second")
    assert first.call("shared", {}, dispatch="remote") == "second"
    second.ask("unregister", name="shared")
    second.barrier()
    assert second.call("shared", {}) == "first"


# ---- Errors


def error_type(version):
    return "IIIInvocationError" if version == "0.11.6" else "InvocationError"


def failing(worker, *arguments, **fields):
    with pytest.raises(SdkError) as raised:
        worker.call(*arguments, **fields)
    return raised.value


def test_errors_arrive_as_the_exceptions_of_the_sdk(pair, version):
    executor, caller = pair
    executor.register("fails", "fail")
    error = failing(caller, "fails", {})
    assert (error.type, error.code, error.message) == (error_type(version), "invocation_failed", "boom")
    error = failing(caller, "no::such", {})
    assert (error.type, error.code) == (error_type(version), "function_not_found")
    assert error.text == "function_not_found: Function no::such not found"
    error = failing(caller, "stream::get", {"stream_name": "s"})
    assert error.code == "deserialization_error"
    assert error.message == "Failed to deserialize input for stream::get: missing field `group_id`"
    error = failing(caller, "fails", {}, action={"type": "enqueue", "queue": "q"})
    assert error.code == "enqueue_error"


def test_call_ends_when_its_executor_goes(pair):
    executor, caller = pair
    executor.register("last::words", "record")
    executor.close()
    error = failing(caller, "last::words", {})
    assert error.code in ("invocation_stopped", "function_not_found")


def test_calls_that_wait_end_when_the_executor_is_killed(pair):
    """The executor is stopped first, so that the calls are surely waiting when it dies."""
    executor, caller = pair
    executor.register("never", "echo")
    executor.process.send_signal(19)  # SIGSTOP
    numbers = [caller.start("call", function_id="never", payload={}) for _ in range(20)]
    caller.barrier()
    executor.process.kill()
    for number in numbers:
        with pytest.raises(SdkError) as raised:
            caller.finish(number)
        assert raised.value.code == "invocation_stopped"
    assert failing(caller, "never", {}).code == "function_not_found"


def test_answer_too_large_for_the_old_sdk_costs_the_call_not_the_connection(pair, version):
    """0.11.6 closes its connection on a message over 1 MiB, and loses every call that it waits for."""
    executor, caller = pair
    executor.register("blob", "blob")
    connected = caller.ask("state")["worker_id"]
    assert caller.call("blob", {"size": 1_000_000}) == "x" * 1_000_000
    if version == "0.11.6":
        assert failing(caller, "blob", {"size": 1_048_577}).code == "result_too_large"
    else:
        assert len(caller.call("blob", {"size": 4_000_000})) == 4_000_000
    assert caller.ask("state") == {"state": "connected", "worker_id": connected}


@pytest.mark.parametrize("old", ["0.11.6", "0.23.0"])
def test_published_sdks_that_take_no_large_message_keep_their_connection(node, start_worker, old):
    """Those before 0.24.5 close it on more than 1 MiB, and lose every call that they wait for."""
    sdk = start_worker(old, node)
    sdk.register("echo", "echo")
    sdk.register("changed", "record")
    sdk.ask("trigger", name="watch", type="stream", function_id="changed", config={"stream_name": "large"})
    sdk.barrier()
    connected = sdk.ask("state")["worker_id"]
    group = {"stream_name": "large", "group_id": "g"}
    with Worker(node.worker_url()) as other:
        for number in range(12):
            other.set("large", "g", f"{number}", "x" * 100_000)
            assert sdk.called("changed")["id"] == f"{number}"
        assert failing(sdk, "stream::list", group).code == "result_too_large"
        answer = other.call("echo", {"text": "x" * 1_048_577})
        assert answer["error"]["code"] == "payload_too_large"
        undelivered = node.counters()["calls_undeliverable"]
        other.set("large", "g", "big", "x" * 1_048_577)
        other.set("large", "g", "small", 1)
        assert sdk.called("changed")["id"] == "small", "the event before it was dropped"
        assert node.counters()["calls_undeliverable"] == undelivered + 1
        assert other.call("echo", {"text": "x" * 1_000_000})["result"]["text"] == "x" * 1_000_000
    assert sdk.ask("state") == {"state": "connected", "worker_id": connected}


# ---- Streams


def test_all_stream_functions(worker):
    at = {"stream_name": "chat", "group_id": "room/1:a", "item_id": "m"}
    group = {"stream_name": "chat", "group_id": "room/1:a"}
    assert worker.call("stream::get", at) is None
    assert worker.call("stream::list", group) == []
    assert worker.call("stream::set", {**at, "data": {"n": 1}}) == {
        "old_value": None,
        "new_value": {"n": 1},
    }
    assert worker.call("stream::get", at) == {"n": 1}
    ops = [
        {"type": "increment", "path": "n", "by": 4},
        {"type": "append", "path": "tags", "value": "x"},
        {"type": "increment", "path": "tags", "by": 1},
    ]
    updated = worker.call("stream::update", {**at, "ops": ops})
    assert updated["old_value"] == {"n": 1}
    assert updated["new_value"]["n"] == 5
    assert [error["code"] for error in updated["errors"]] == ["increment.not_number"]
    assert worker.call("stream::set", {**at, "item_id": "second", "data": [2]})["old_value"] is None
    assert worker.call("stream::list", group) == [updated["new_value"], [2]]
    assert worker.call("stream::list_groups", {"stream_name": "chat"}) == ["room/1:a"]
    everything = {"stream": [{"id": "chat", "groups": ["room/1:a"]}], "count": 1}
    assert worker.call("stream::list_all", {}) == everything
    assert worker.call("stream::send", {**group, "type": "typing", "data": {"who": "a"}}) is None
    assert worker.call("stream::delete", at) == {"old_value": updated["new_value"]}
    assert worker.call("stream::delete", at) == {"old_value": None}
    assert worker.call("stream::list", group) == [[2]]


def test_call_without_a_payload(worker):
    """The SDK leaves the key out of the message: that means null, and null means no arguments."""
    assert worker.ask("call", function_id="stream::list_all") == {"stream": [], "count": 0}


def test_subscriber_sees_what_a_worker_writes(worker, node):
    with Subscriber(node.stream_url("/stream/chat/g/")) as subscriber:
        assert subscriber.event() == {"type": "sync", "data": []}
        at = {"stream_name": "chat", "group_id": "g", "item_id": "i"}
        worker.call("stream::set", {**at, "data": 1})
        worker.call("stream::update", {**at, "ops": [{"type": "increment", "path": "", "by": 1}]})
        worker.call("stream::send", {**at, "id": "i", "type": "t", "data": None})
        worker.call("stream::delete", at)
        assert [subscriber.event() for _ in range(4)] == [
            {"type": "create", "data": 1},
            {"type": "update", "data": 2},
            {"type": "event", "event": {"type": "t", "data": None}},
            {"type": "delete", "data": 2},
        ]


def test_stream_trigger_calls_its_handler_for_each_change_in_order(pair):
    executor, writer = pair
    executor.register("changed", "record")
    config = {"stream_name": "watched", "group_id": "g"}
    executor.ask("trigger", name="watch", type="stream", function_id="changed", config=config)
    executor.barrier()
    at = {"stream_name": "watched", "group_id": "g", "item_id": "i"}
    for n in range(5):
        writer.call("stream::set", {**at, "data": n})
    writer.call("stream::set", {**at, "group_id": "other", "data": "no"})
    writer.call("stream::delete", at)
    seen = [executor.called("changed") for _ in range(6)]
    assert [(s["event"]["type"], s["event"]["data"]) for s in seen] == [
        ("create", 0),
        *(("update", n) for n in range(1, 5)),
        ("delete", 4),
    ]
    assert seen[0]["streamName"] == seen[0]["stream_name"] == "watched"
    assert seen[0]["groupId"] == seen[0]["group_id"] == "g"
    assert seen[0]["type"] == "stream" and seen[0]["event_type"] == "create"
    executor.ask("unregister", name="watch")
    executor.barrier()
    writer.call("stream::set", {**at, "data": "unseen"})
    executor.register("last", "record")
    writer.call("last", {})
    executor.called("last")


def test_join_handler_refuses_and_leave_handler_hears(pair, node):
    executor, writer = pair
    executor.register("gate", "record", value={"unauthorized": True})
    executor.register("left", "record")
    config = {"stream_name": "closed"}
    executor.ask("trigger", name="join", type="stream:join", function_id="gate", config=config)
    executor.ask("trigger", name="leave", type="stream:leave", function_id="left", config={})
    executor.barrier()
    with Subscriber(node.stream_url()) as subscriber:
        subscriber.join("closed", "g", subscription="one")
        assert subscriber.event() == {"type": "unauthorized"}
        assert executor.called("gate")["subscription_id"] == "one"
        subscriber.join("open", "g", item="i", subscription="two")
        assert subscriber.event() == {"type": "sync", "data": None}
    left = executor.called("left")
    assert (left["subscription_id"], left["stream_name"], left["id"]) == ("two", "open", "i")


def test_trigger_without_a_stream_name_is_refused_and_harms_nobody(worker):
    worker.register("changed", "record")
    worker.ask("trigger", name="bad", type="stream", function_id="changed", config={})
    worker.ask("trigger", name="worse", type="stream", function_id="changed")
    worker.barrier()


def test_custom_stream_takes_the_place_of_the_store(pair, node):
    owner, writer = pair
    owner.ask("create_stream", name="own")
    owner.barrier()
    at = {"stream_name": "own", "group_id": "g", "item_id": "i"}
    with Subscriber(node.stream_url("/stream/own/g")) as subscriber:
        assert subscriber.event() == {"type": "sync", "data": []}
        assert writer.call("stream::set", {**at, "data": 1}) == {"old_value": None, "new_value": 1}
        assert writer.call("stream::get", at) == 1
        assert writer.call("stream::list", {"stream_name": "own", "group_id": "g"}) == [1]
        assert writer.call("stream::list_groups", {"stream_name": "own"}) == ["g"]
        assert writer.call("stream::delete", at) == {"old_value": 1}
        assert subscriber.event() == {"type": "create", "data": 1}
        assert subscriber.event() == {"type": "delete", "data": 1}
    assert writer.call("stream::list_all", {}) == {"stream": [], "count": 0}


# ---- A node that goes away


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_workers_come_back_by_themselves(pair, node, end):
    """Killed: the connection breaks. Stopped: it is closed, with a code that 0.11.6 comes back from."""
    executor, caller = pair
    executor.register("echo", "echo")
    executor.register("changed", "record")
    config = {"stream_name": "s"}
    executor.ask("trigger", name="watch", type="stream", function_id="changed", config=config)
    assert caller.call("echo", {"n": 1})["n"] == 1
    before = executor.ask("state")["worker_id"]
    if end == "killed":
        node.kill()
    else:
        node.stop()
    node.restart()
    # A call during the outage is kept by the SDK, and answered or timed out; either way it ends.
    assert eventually(lambda: caller.call("echo", {"n": 2}, timeout_ms=1000))["n"] == 2
    assert executor.ask("state")["worker_id"] != before
    at = {"stream_name": "s", "group_id": "g", "item_id": "i"}
    assert caller.call("stream::set", {**at, "data": 1})["old_value"] is None
    assert executor.called("changed")["event"] == {"type": "create", "data": 1}
    assert executor.events.empty(), "one trigger, one call"


def test_new_worker_takes_over_before_the_dead_one_is_noticed(version, node, start_worker):
    dead = start_worker(version, node)
    caller = start_worker(version, node)
    dead.register("job", "echo")
    dead.process.send_signal(19)  # SIGSTOP: its connection stays, and is silent.
    fresh = start_worker(version, node)
    fresh.register("job", "record", value="fresh")
    assert caller.call("job", {}) == "fresh"
    dead.close()
    caller.barrier()
    assert caller.call("job", {}) == "fresh"


# ---- Telemetry


def connections_to(process, port):
    """How many TCP connections `process` has to `port` of the loopback."""
    sockets = set()
    for descriptor in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    count = 0
    for line in pathlib.Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        remote_port, state, inode = int(fields[2].rpartition(":")[2], 16), fields[3], fields[9]
        count += remote_port == port and state == "01" and inode in sockets
    return count


def test_telemetry_is_taken_without_harm(version, node, start_worker):
    """The SDK sends spans, metrics and logs on a connection of its own, and retries for ever when refused."""
    executor = start_worker(version, node, otel=True)
    caller = start_worker(version, node, otel=True)
    executor.register("echo", "echo")
    deadline = time.monotonic() + 20
    while connections_to(caller.process, node.worker_port) < 2:
        assert time.monotonic() < deadline, "no connection for telemetry"
        time.sleep(0.05)
    for n in range(50):
        assert caller.call("echo", {"n": n})["n"] == n
    assert connections_to(caller.process, node.worker_port) == 2
