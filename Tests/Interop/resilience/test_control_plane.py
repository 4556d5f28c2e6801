"""The control plane under loads of one peer: what it makes the node hold is bounded, and nobody else waits."""

import json
import time

from clients import Worker
from executor import Executor
from probe import p99_beside
from raw import BINARY, Raw, frame

MIB = 1 << 20
# Beside any of these loads a change, or a call of the control plane, takes milliseconds: far under this on a busy machine.
PATIENCE_SECONDS = 1


def batch(messages):
    return b"".join(frame(json.dumps(message)) for message in messages)


def triggers(count, function="h", kind="stream", prefix="t", config=lambda number: {"stream_name": "s"}):
    return batch(
        {
            "type": "registertrigger",
            "id": f"{prefix}{number}",
            "trigger_type": kind,
            "function_id": function,
            "config": config(number),
        }
        for number in range(count)
    )


def listed(node):
    """Seconds that a call of the control plane takes."""
    with Worker(node.worker_url()) as worker:
        began = time.monotonic()
        worker.result("engine::workers::list", worker_id="none")
        return time.monotonic() - began


def test_records_of_one_frame_do_not_hold_up_the_control_plane(node):
    """A hundred thousand records for one trigger that is never answered: ten thousand wait, the sender with the rest."""
    with Executor(node.worker_url()) as worker, Raw(node.worker_port) as logger:
        worker.trigger("log", "logged")
        worker.serve("logged")
        logger.upgrade("/otel")
        before = node.resident_bytes()
        records = b",".join([b"{}"] * 100_000)
        text = b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + records + b"]}]}]}"
        longest = []
        p99 = p99_beside(
            node, lambda: (logger.send(frame(text, BINARY)), longest.append(listed(node)))
        )
        assert longest[0] < PATIENCE_SECONDS and p99 < PATIENCE_SECONDS
        assert node.resident_bytes() - before < 128 * MIB


def test_many_log_triggers_and_many_records_leave_room_for_others(node):
    with Raw(node.worker_port).upgrade() as worker, Raw(node.worker_port) as logger:
        worker.send(batch([{"type": "registerfunction", "id": "h"}]) + triggers(1000, kind="log"))
        with Worker(node.worker_url()) as other:
            while len(other.result("engine::triggers::list")["triggers"]) < 1000:
                pass
        logger.upgrade("/otel")
        text = b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b",".join([b"{}"] * 20_000) + b"]}]}]}"
        logger.send(frame(text, BINARY))
        assert listed(node) < PATIENCE_SECONDS


def test_calls_of_triggers_count_against_the_worker_that_executes_them(start_node):
    """10,000 triggers at a worker that never answers: it is given half of its calls, the other events wait."""
    node = start_node(worker={"limits": {"pending_calls_per_worker": 10_000}})
    with Raw(node.worker_port).upgrade() as worker, Worker(node.worker_url()) as writer:
        worker.send(batch([{"type": "registerfunction", "id": "h"}]) + triggers(10_000))
        while len(writer.result("engine::triggers::list")["triggers"]) < 10_000:
            pass
        before = node.resident_bytes()
        for number in range(20):
            writer.set("s", "g", f"i{number}", 1)
        assert listed(node) < PATIENCE_SECONDS
        deadline = time.monotonic() + 10
        while node.counters()["trigger_server_waits"] == 0:  # An event comes to its triggers in steps.
            assert time.monotonic() < deadline
        assert node.counters()["triggers_handled"] <= 5000
        assert node.resident_bytes() - before < 200 * MIB


def test_a_change_looks_at_no_trigger_of_another_room(node):
    with Raw(node.worker_port).upgrade() as worker, Worker(node.worker_url()) as writer:
        rooms = triggers(10_000, config=lambda number: {"stream_name": "s", "group_id": f"room {number}"})
        worker.send(rooms)
        while len(writer.result("engine::triggers::list")["triggers"]) < 10_000:
            pass
        before = node.cpu_seconds()
        for _ in range(100):
            writer.set("s", "lobby", "i", 1)
        # Each change looked at all triggers once: two seconds.
        assert node.cpu_seconds() - before < 0.5


def test_an_unrelated_line_of_a_handler_fires_other_log_triggers(node):
    """Only the trigger whose handler the worker runs skips what it logs meanwhile."""
    with Executor(node.worker_url()) as worker, Executor(node.worker_url()) as other:
        worker.serve("held")
        worker.trigger("log", "held")
        other.serve("audit", None)
        other.trigger("log", "audit")
        other.invoke("engine::log::info", {"message": "first"})
        call = worker.called("held")
        assert other.called("audit").data["body"] == "first"
        worker.invoke("engine::log::info", {"message": "unrelated"})
        assert other.called("audit").data["body"] == "unrelated"
        call.answer()
        other.invoke("engine::log::info", {"message": "last"})
        assert worker.called("held").data["body"] == "last"


def test_a_list_that_nobody_waits_for_is_not_made(node):
    with Worker(node.worker_url()) as worker:
        worker.send({"type": "registerfunction", "id": "f", "metadata": "x" * MIB})
        for _ in range(100):
            worker.invoke("engine::functions::list", data={}, action={"type": "void"})
        worker.result("engine::workers::list", worker_id="none")
        assert node.counters()["lists_dropped"] == 100


# ---- Results


RESULT = frame(json.dumps({"type": "invocationresult", "invocation_id": "nobody", "function_id": "f", "result": None}))


def test_results_of_a_worker_that_was_never_called_are_dropped(node):
    with Raw(node.worker_port).upgrade() as worker:
        worker.send(RESULT * 2000)
        worker.send(frame(json.dumps({"type": "ping"})))
        while json.loads(worker.message())["type"] != "pong":
            pass
        counters = node.counters()
        assert counters["results_unasked"] == 2000 and counters["results_unknown"] == 0


def test_results_that_nobody_asked_for_wait_at_the_socket(node):
    """Of a worker that has a call: 8 MiB of its results are with the control plane, and its own result comes through."""
    with Raw(node.worker_port).upgrade() as worker, Worker(node.worker_url()) as caller:
        worker.send(batch([{"type": "registerfunction", "id": "f"}]))
        while not caller.result("engine::functions::list")["functions"][-1]["function_id"] == "f":
            pass
        asked = caller.invoke("f", data=1)
        while (call := json.loads(worker.message()))["type"] != "invokefunction":
            pass
        large = json.dumps({"type": "invocationresult", "invocation_id": "nobody", "function_id": "f", "result": "x" * MIB})
        before = node.resident_bytes()
        for _ in range(64):
            worker.send(frame(large))
        answer = {"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "f", "result": 2}
        worker.send(RESULT * 50_000 + frame(json.dumps(answer)))
        assert caller.answer(asked)["result"] == 2
        assert node.counters()["results_unknown"] == 50_064
        assert node.resident_bytes() - before < 64 * MIB


# ---- Held writers


def test_a_held_writer_answers_reads_and_calls(start_node):
    """It serves what the handler of a trigger needs: held as a whole, nothing moved until the handler's time was over."""
    node = start_node({"timeouts": {"handler_ms": 20_000}})
    count = 11_000  # The limit is 10,000.
    with Executor(node.worker_url()) as writer, Executor(node.worker_url()) as handler:
        writer.serve("helper", lambda data: data)
        handler.serve("changed")
        handler.trigger("stream", "changed", {"stream_name": "s"})
        last = [
            writer.invoke("stream::set", {"stream_name": "s", "group_id": "g", "item_id": "i", "data": number})
            for number in range(count)
        ][-1]
        first = handler.called("changed")
        while node.counters()["trigger_writers_held"] == 0:
            pass
        # Held: what it writes elsewhere, what it reads and what it calls goes on, and so does what it answers.
        held = writer.invoke("stream::set", {"stream_name": "s", "group_id": "g", "item_id": "held", "data": 1})
        writer.set("elsewhere", "g", "i", 1)
        assert writer.result("stream::get", stream_name="s", group_id="g", item_id="held") is None
        assert handler.call("helper", 7)["result"] == 7
        handler.handlers["changed"] = lambda data: None
        began = time.monotonic()
        first.answer()
        assert "error" not in writer.answer(held) and "error" not in writer.answer(last)
        assert time.monotonic() - began < 15
        assert node.counters()["trigger_events_dropped"] == 0
