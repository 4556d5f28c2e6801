"""Triggers of the type `log`: records of `engine::log::*` and of telemetry frames."""

import json
import time

import pytest

from clients import Connection
from executor import Executor, Failure

LEVELS = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17}
KEYS = {
    "timestamp_unix_nano",
    "observed_timestamp_unix_nano",
    "severity_number",
    "severity_text",
    "body",
    "attributes",
    "trace_id",
    "span_id",
    "resource",
    "service_name",
    "instrumentation_scope_name",
    "instrumentation_scope_version",
}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def worker(node):
    with Executor(node.worker_url()) as executor:
        executor.serve("logged", None)
        yield executor


@pytest.fixture
def logger(node):
    with Executor(node.worker_url()) as executor:
        yield executor


def frame(*records, resource=None, scope=None):
    """A telemetry frame with these log records."""
    logs = {
        "resourceLogs": [
            {
                "resource": {"attributes": resource or []},
                "scopeLogs": [{"scope": scope or {}, "logRecords": list(records)}],
            }
        ]
    }
    return b"LOGS" + json.dumps(logs).encode()


def record(body, **fields):
    return {"timeUnixNano": "1700000000000000001", "body": {"stringValue": body}, **fields}


def bodies(worker, count):
    return [worker.called("logged").data["body"] for _ in range(count)]


# ---- Levels


@pytest.mark.parametrize("level", [*LEVELS, "all", None, 5, "absent"])
def test_level_is_a_minimum(worker, logger, level):
    worker.trigger("log", "logged", {} if level == "absent" else {"level": level})
    lowest = LEVELS.get(level, 0) if isinstance(level, str) else 0
    for name in LEVELS:
        assert logger.call(f"engine::log::{name}", {"message": name}).get("result", "absent") == "absent"
    expected = [name for name, number in LEVELS.items() if number >= lowest]
    seen = [worker.called("logged").data for _ in expected]
    assert [data["body"] for data in seen] == expected
    assert [data["severity_number"] for data in seen] == [LEVELS[name] for name in expected]
    assert [data["severity_text"] for data in seen] == [name.upper() for name in expected]
    worker.barrier()
    assert worker.all_called("logged") == []


@pytest.mark.parametrize("config", [None, [], "info", {"level": "all", "x": 1}], ids=str)
def test_configuration_without_a_level_means_all(worker, logger, config):
    worker.trigger("log", "logged", config)
    logger.call("engine::log::trace", {"message": "m"})
    assert bodies(worker, 1) == ["m"]


@pytest.mark.parametrize("level", ["Info", "fatal", ""])
def test_unknown_level_is_refused(worker, level):
    trigger_id = worker.trigger("log", "logged", {"level": level})
    refusal = worker.said("triggerregistrationresult")
    assert refusal["id"] == trigger_id
    assert refusal["error"]["code"] == "trigger_registration_failed"


SEVERITIES = {0: "all", 1: "trace", 4: "trace", 8: "debug", 12: "info", 16: "warn", 24: "error"}


def test_levels_of_telemetry_go_by_the_number(worker, logger):
    """Between two levels counts the lower one; without a number it is below all."""
    for level in ["all", *LEVELS]:
        worker.serve(level, None)
        worker.trigger("log", level, {"level": level})
    order = ["all", *LEVELS]
    for number, highest in SEVERITIES.items():
        fields = {"severityNumber": number} if number else {}
        logger.socket.send(frame(record("m", severityText="?", **fields)))
        for level in order[: order.index(highest) + 1]:
            assert worker.called(level).data["severity_number"] == number
        worker.barrier()
        assert not any(worker.calls.get(level) for level in order)


# ---- Payloads


def test_payload_of_a_log_function(worker, logger):
    worker.trigger("log", "logged")
    before = time.time_ns()
    data = {"user": "ann", "n": 1.0, "deep": {"a": [None]}}
    logger.result(
        "engine::log::warn",
        message="low",
        trace_id=TRACE,
        span_id=SPAN,
        service_name="shop",
        data=data,
    )
    call = worker.called("logged")
    seen = call.data
    assert seen.keys() == KEYS
    assert before - 10**9 < seen.pop("timestamp_unix_nano") < time.time_ns() + 10**9
    assert seen.pop("observed_timestamp_unix_nano") > before - 10**9
    assert seen.pop("instrumentation_scope_version")
    assert seen == {
        "severity_number": 13,
        "severity_text": "WARN",
        "body": "low",
        "attributes": data,
        "trace_id": TRACE,
        "span_id": SPAN,
        "resource": {"service.name": "iii"},
        "service_name": "shop",
        "instrumentation_scope_name": "iii",
    }


@pytest.mark.parametrize("data", [None, "text", [1], 5], ids=str)
def test_what_is_not_given_is_empty_and_never_null(worker, logger, data):
    worker.trigger("log", "logged")
    logger.result("engine::log::info", message="", data=data)
    seen = worker.called("logged").data
    assert seen.keys() == KEYS
    assert (seen["body"], seen["attributes"], seen["service_name"]) == ("", {}, "unknown")
    assert (seen["trace_id"], seen["span_id"]) == ("", "")


BAD_INPUT = {
    "no message": ({}, "missing field `message`"),
    "message a number": ({"message": 5}, "invalid type: integer `5`, expected a string"),
    "trace_id a number": ({"message": "m", "trace_id": 5}, "invalid type: integer `5`, expected a string"),
}


@pytest.mark.parametrize("row", BAD_INPUT)
def test_bad_input_of_a_log_function(worker, logger, row):
    data, reason = BAD_INPUT[row]
    worker.trigger("log", "logged")
    error = logger.error("engine::log::info", data)
    assert error["code"] == "deserialization_error"
    assert error["message"] == f"Failed to deserialize input for engine::log::info: {reason}"
    worker.barrier()
    assert worker.all_called("logged") == []


@pytest.mark.parametrize("path", ["/otel", "/"])
def test_payload_of_a_telemetry_frame(node, worker, path):
    worker.trigger("log", "logged")
    values = [
        {"key": "s", "value": {"stringValue": "x"}},
        {"key": "i", "value": {"intValue": "7"}},
        {"key": "j", "value": {"intValue": 8}},
        {"key": "d", "value": {"doubleValue": 1.5}},
        {"key": "b", "value": {"boolValue": True}},
        {"key": "l", "value": {"arrayValue": {"values": [{"intValue": 1}, {"stringValue": "y"}]}}},
        {"key": "o", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": False}}]}}},
        {"key": "n", "value": {"bytesValue": "AA=="}},
    ]
    sent = record(
        "hello",
        observedTimeUnixNano=1700000000000000002,
        severityNumber=9,
        severityText="INFO",
        attributes=values,
        traceId=TRACE.upper(),
        spanId=SPAN,
    )
    resource = [
        {"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "port", "value": {"intValue": "80"}},
    ]
    with Connection(node.worker_url(path)) as client:
        if path == "/":
            assert client.receive()["type"] == "workerregistered"
        client.socket.send(frame(sent, resource=resource, scope={"name": "lib", "version": "2"}))
        seen = worker.called("logged").data
    assert seen == {
        "timestamp_unix_nano": 1700000000000000001,
        "observed_timestamp_unix_nano": 1700000000000000002,
        "severity_number": 9,
        "severity_text": "INFO",
        "body": "hello",
        "attributes": {
            "s": "x",
            "i": 7,
            "j": 8,
            "d": 1.5,
            "b": True,
            "l": [1, "y"],
            "o": {"k": False},
            "n": None,
        },
        "trace_id": TRACE,
        "span_id": SPAN,
        "resource": {"service.name": "shop", "port": "80"},
        "service_name": "shop",
        "instrumentation_scope_name": "lib",
        "instrumentation_scope_version": "2",
    }


EMPTY = {
    "zeros": {"traceId": "0" * 32, "spanId": "0" * 16},
    "empty": {"traceId": "", "spanId": ""},
    "absent": {},
}


@pytest.mark.parametrize("row", EMPTY)
def test_empty_identifiers_and_scopes_are_empty_strings(worker, logger, row):
    worker.trigger("log", "logged")
    logger.socket.send(frame(record("m", **EMPTY[row]), scope={"name": "", "version": ""}))
    seen = worker.called("logged").data
    assert seen.keys() == KEYS
    for key in ("trace_id", "span_id", "instrumentation_scope_name", "instrumentation_scope_version"):
        assert seen[key] == ""
    assert (seen["service_name"], seen["severity_number"], seen["severity_text"]) == ("unknown", 0, "")


def test_frames_that_are_no_logs_fire_nothing_and_harm_nobody(node, worker):
    worker.trigger("log", "logged")
    for path in ("/otel", "/"):
        with Connection(node.worker_url(path)) as client:
            if path == "/":
                assert client.receive()["type"] == "workerregistered"
            for junk in (b"OTLP{}", b"MTRC{}", b"LOGS", b"LOGS{", b"LOGS[]", b"LOGS{}", b"LOGS\xff", b"XXXX"):
                client.socket.send(junk)
            client.socket.send("not for telemetry" if path == "/otel" else "{}")
            client.socket.send(frame(record(path)))
            assert bodies(worker, 1) == [path]


def test_one_trigger_gets_its_records_in_order(node, worker, logger):
    """One after the other, of all loggers together; a handler that fails stops nothing."""

    def fails(data):
        raise Failure("invocation_failed", "boom")

    worker.serve("logged", fails)
    worker.trigger("log", "logged")
    for number in range(0, 100, 2):
        logger.invoke("engine::log::info", {"message": str(number)})
        logger.socket.send(frame(record(str(number + 1))))
    assert bodies(worker, 100) == [str(number) for number in range(100)]


def test_frame_of_many_records_is_many_calls(worker, logger):
    worker.trigger("log", "logged")
    logger.socket.send(frame(*(record(str(number)) for number in range(50))))
    assert bodies(worker, 50) == [str(number) for number in range(50)]


# ---- A handler that logs


def trace_of(call):
    """The trace id that a call was given."""
    version, trace, span, flags = call.message["traceparent"].split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    return trace


OWN = {
    "by function, while it handles": "function",
    "by function, with its trace id": "function with trace",
    "by telemetry on its connection": "frame",
    "by telemetry on another connection": "frame elsewhere",
    "by telemetry after it has answered": "frame later",
}


@pytest.mark.parametrize("row", OWN)
def test_own_lines_of_a_handler_do_not_fire_it_again(node, worker, logger, row):
    how = OWN[row]
    worker.serve("held")
    worker.trigger("log", "held")
    logger.call("engine::log::info", {"message": "first"})
    call = worker.called("held")
    trace = trace_of(call)
    own = frame(record("own", traceId=trace, spanId=SPAN))
    if how == "function":
        worker.call("engine::log::info", {"message": "own"})
    elif how == "function with trace":
        worker.call("engine::log::info", {"message": "own", "trace_id": trace})
    elif how == "frame":
        worker.socket.send(own)
    elif how == "frame elsewhere":
        with Connection(node.worker_url("/otel")) as telemetry:
            telemetry.socket.send(own)
    call.answer(None)
    if how == "frame later":
        worker.barrier()
        worker.socket.send(own)
    worker.barrier()
    logger.call("engine::log::info", {"message": "last"})
    assert worker.called("held").data["body"] == "last"


def test_lines_of_others_fire_while_a_handler_is_busy(worker, logger):
    worker.serve("held")
    worker.trigger("log", "held")
    logger.call("engine::log::info", {"message": "first"})
    call = worker.called("held")
    logger.call("engine::log::info", {"message": "second"})
    call.answer(None)
    assert worker.called("held").data["body"] == "second"


# ---- Settings


def test_type_is_absent_without_observability(start_node):
    node = start_node(entries=[{"name": "iii-observability", "config": {"enabled": False}}])
    with Executor(node.worker_url()) as worker:
        listed = worker.result("engine::trigger-types::list")["trigger_types"]
        assert "log" not in {entry["id"] for entry in listed}
        worker.serve("logged", None)
        worker.trigger("log", "logged")
        worker.call("engine::log::error", {"message": "m"})
        worker.socket.send(frame(record("m")))
        worker.barrier()
        assert worker.all_called("logged") == []


@pytest.mark.parametrize("config, kept", [({"logs_enabled": False}, 0), ({"logs_sampling_ratio": 0.25}, 25)])
def test_share_of_records_that_is_kept(start_node, config, kept):
    node = start_node(entries=[{"name": "iii-observability", "config": config}])
    with Executor(node.worker_url()) as worker, Executor(node.worker_url()) as logger:
        worker.serve("logged", None)
        worker.trigger("log", "logged")
        for number in range(100):
            logger.call("engine::log::info", {"message": str(number)})
        bodies(worker, kept)
        worker.barrier()
        assert worker.all_called("logged") == []


def test_resource_names_the_service_and_its_environment(start_node):
    node = start_node(environment={"DEPLOYMENT_ENVIRONMENT": "staging"})
    with Executor(node.worker_url()) as worker, Executor(node.worker_url()) as logger:
        worker.serve("logged", None)
        worker.trigger("log", "logged")
        logger.call("engine::log::info", {"message": "m"})
        resource = worker.called("logged").data["resource"]
        assert resource == {"service.name": "iii", "deployment.environment": "staging"}
