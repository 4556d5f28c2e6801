"""Trigger types that workers provide, and those of the node's own events."""

import pytest

from clients import Connection, Worker
from executor import Executor


@pytest.fixture
def provider(node):
    with Executor(node.worker_url()) as executor:
        yield executor


@pytest.fixture
def worker(node):
    with Executor(node.worker_url()) as executor:
        yield executor


def types(worker, **data):
    listed = worker.result("engine::trigger-types::list", **data)["trigger_types"]
    return {entry["id"]: entry for entry in listed}


def triggers(worker, **data):
    return worker.result("engine::triggers::list", **data)["triggers"]


# ---- Provided types


def test_provider_is_told_of_each_trigger_and_of_its_end(provider, worker):
    provider.provide("cron", trigger_request_format={"type": "object"})
    for trigger_id in ("one", "two"):
        worker.trigger("cron", "f", {"every": 5}, trigger_id=trigger_id, metadata={"m": 1})
        assert provider.said("registertrigger") == {
            "type": "registertrigger",
            "id": trigger_id,
            "trigger_type": "cron",
            "function_id": "f",
            "config": {"every": 5},
            "metadata": {"m": 1},
        }
    worker.untrigger("one")
    assert provider.said("unregistertrigger") == {
        "type": "unregistertrigger",
        "id": "one",
        "trigger_type": "cron",
    }
    worker.close()
    assert provider.said("unregistertrigger")["id"] == "two"
    provider.nothing_said()


def test_absent_config_reaches_the_provider_as_null(provider, worker):
    provider.provide("cron")
    worker.send({"type": "registertrigger", "id": "t", "trigger_type": "cron", "function_id": "f"})
    message = provider.said("registertrigger")
    assert message["config"] is None and "metadata" not in message


def test_triggers_that_came_before_the_type_are_told_when_it_appears(provider, worker):
    """In their order; and success is not answered."""
    for number in range(3):
        worker.trigger("cron", "f", number, trigger_id=f"t{number}")
    worker.nothing_said()
    assert [entry["id"] for entry in triggers(worker)] == ["t0", "t1", "t2"]
    provider.provide("cron")
    seen = [provider.said("registertrigger") for _ in range(3)]
    assert [(message["id"], message["config"]) for message in seen] == [("t0", 0), ("t1", 1), ("t2", 2)]
    provider.nothing_said()


def test_triggers_outlive_their_provider_and_are_told_to_the_next(node, provider, worker):
    provider.provide("cron")
    worker.trigger("cron", "f", trigger_id="t")
    assert provider.said("registertrigger")["id"] == "t"
    provider.close()
    while "cron" in types(worker):
        worker.barrier()
    assert [entry["id"] for entry in triggers(worker)] == ["t"]
    with Executor(node.worker_url()) as next_provider:
        next_provider.provide("cron")
        assert next_provider.said("registertrigger")["id"] == "t"
        worker.untrigger("t")
        assert next_provider.said("unregistertrigger")["id"] == "t"
        next_provider.nothing_said()


def test_type_that_is_unregistered_keeps_its_triggers(provider, worker):
    provider.provide("cron")
    worker.trigger("cron", "f", trigger_id="t")
    provider.said("registertrigger")
    worker.send({"type": "unregistertriggertype", "id": "cron"})  # Not its own.
    worker.barrier()
    assert "cron" in types(worker)
    provider.send({"type": "unregistertriggertype", "id": "cron"})
    provider.barrier()
    assert "cron" not in types(worker)
    worker.trigger("cron", "f", trigger_id="u")
    provider.nothing_said()
    provider.provide("cron")
    assert [provider.said("registertrigger")["id"] for _ in range(2)] == ["t", "u"]


def test_another_provider_replaces_the_first_which_is_not_told_and_not_restored(
    node, provider, worker
):
    provider.provide("cron", description="first")
    worker.trigger("cron", "f", trigger_id="t")
    provider.said("registertrigger")
    with Executor(node.worker_url()) as second:
        second.provide("cron", description="second")
        assert second.said("registertrigger")["id"] == "t"
        assert types(worker)["cron"]["description"] == "second"
        worker.trigger("cron", "f", trigger_id="u")
        assert second.said("registertrigger")["id"] == "u"
        provider.nothing_said()
    while "cron" in types(worker):
        worker.barrier()
    worker.trigger("cron", "f", trigger_id="v")
    provider.nothing_said()


def test_replaced_trigger_is_unregistered_and_registered_at_the_provider(provider, worker):
    provider.provide("cron")
    worker.trigger("cron", "f", 1, trigger_id="t")
    assert provider.said("registertrigger")["config"] == 1
    worker.trigger("cron", "g", 2, trigger_id="t")
    kinds = []
    while not kinds or kinds[-1][1] != "g":
        message = provider.said_messages.get(timeout=10)
        kinds.append((message["type"], message.get("function_id")))
    assert kinds[-1] == ("registertrigger", "g")
    assert len(triggers(worker)) == 1


def test_result_of_the_provider_is_passed_on_when_it_is_an_error(node, provider, worker):
    provider.provide("cron")
    worker.trigger("cron", "f", trigger_id="t")
    told = provider.said("registertrigger")
    result = {"type": "triggerregistrationresult", "id": "t", "trigger_type": "cron", "function_id": "f"}
    provider.send(result)  # Success.
    provider.barrier()
    worker.nothing_said()
    error = {"code": "trigger_registration_failed", "message": "no such hour", "stacktrace": "s"}
    provider.send({**result, "error": error})
    assert worker.said("triggerregistrationresult") == {**result, "error": error}
    assert told["id"] == "t"
    with Executor(node.worker_url()) as stranger:  # Not the provider: nobody hears of it.
        stranger.send({**result, "error": error})
        stranger.barrier()
    worker.nothing_said()


def test_provider_fires_by_calling_the_function(provider, worker):
    provider.provide("cron")
    worker.serve("f", "done")
    worker.trigger("cron", "f", trigger_id="t")
    told = provider.said("registertrigger")
    assert provider.result(told["function_id"], tick=1) == "done"
    assert worker.called("f").data == {"tick": 1, "_caller_worker_id": provider.id}


def test_provider_may_have_triggers_of_its_own_type(provider):
    provider.provide("cron")
    provider.trigger("cron", "f", trigger_id="t")
    assert provider.said("registertrigger")["id"] == "t"
    provider.untrigger("t")
    assert provider.said("unregistertrigger")["id"] == "t"


BUILT_IN = ["stream", "stream:join", "stream:leave", "log"]


@pytest.mark.parametrize(
    "reserved", [*BUILT_IN, "engine::functions-available", "engine::workers-available"]
)
def test_built_in_types_are_reserved(node, provider, worker, reserved):
    provider.provide(reserved)
    refusal = provider.said("triggertyperegistrationresult")
    assert (refusal["id"], refusal["error"]["code"]) == (reserved, "reserved")
    provider.send({"type": "unregistertriggertype", "id": reserved})
    provider.barrier()
    assert reserved in types(worker, include_internal=True)
    worker.serve("f", None)
    worker.trigger("stream", "f", {"stream_name": "s"})
    worker.set("s", "g", "i", 1)
    worker.called("f")


def test_reserved_functions_are_refused_visibly(worker):
    for function_id in ("stream::set", "stream::list_all", "engine::functions::list", "engine::log::info"):
        worker.send({"type": "registerfunction", "id": function_id})
        refusal = worker.said("functionregistrationresult")
        assert (refusal["id"], refusal["error"]["code"]) == (function_id, "reserved")
    assert worker.set("s", "g", "i", 1) == {"old_value": None, "new_value": 1}


def test_other_ids_under_engine_are_free(worker, provider):
    """Consoles register such."""
    provider.serve("engine::console::status", {"up": True})
    assert worker.result("engine::console::status") == {"up": True}
    listed = lambda **data: {f["function_id"] for f in worker.result("engine::functions::list", **data)["functions"]}
    assert "engine::console::status" in listed(include_internal=True) - listed()
    worker.trigger("stream", "engine::console::status", {"stream_name": "s"})
    worker.set("s", "g", "i", 1)
    assert provider.called("engine::console::status") and provider.called("engine::console::status")
    provider.withdraw("engine::console::status")
    assert worker.error("engine::console::status")["code"] == "function_not_found"


def test_lists_of_types_and_triggers(provider, worker):
    provider.provide(
        "cron", trigger_request_format={"type": "object"}, call_request_format={"type": "null"}
    )
    listed = types(worker)
    assert listed["cron"] == {
        "id": "cron",
        "description": "of a test",
        "trigger_request_format": {"type": "object"},
        "call_request_format": {"type": "null"},
    }
    assert set(listed) == {"cron", *BUILT_IN}
    assert set(types(worker, include_internal=True)) - set(listed) == {
        "engine::functions-available",
        "engine::workers-available",
    }
    worker.trigger("cron", "f", {"a": 1}, trigger_id="t", metadata={"b": 2})
    worker.trigger("stream", "engine::log::info", {"stream_name": "s"}, trigger_id="internal")
    shown = {
        "id": "t",
        "trigger_type": "cron",
        "function_id": "f",
        "config": {"a": 1},
        "metadata": {"b": 2},
    }
    assert triggers(worker) == [shown]
    assert [entry["id"] for entry in triggers(worker, include_internal=True)] == ["t", "internal"]


# ---- The node's own events


def test_functions_available_fires_after_changes_and_not_at_registration(node, worker):
    worker.serve("noticed", None)
    # The change that `serve` was is told to nobody: this trigger comes, as a rule, before it is due, so a
    # first notice is waited for, and then there is none without a change.
    worker.trigger("engine::functions-available", "noticed")
    first = worker.called("noticed").data
    assert first["event"] == "functions_changed"
    with Executor(node.worker_url()) as other:
        for number in range(20):
            other.serve(f"many::{number}", None)
        data = worker.called("noticed").data
        while "many::19" not in {entry["function_id"] for entry in data["functions"]}:
            data = worker.called("noticed").data
        entry = next(each for each in data["functions"] if each["function_id"] == "many::7")
        assert entry.keys() == {
            "function_id",
            "description",
            "request_format",
            "response_format",
            "metadata",
        }
        assert any(each["function_id"].startswith("engine::") for each in data["functions"])
        other.serve("many::7", "again")  # The same set of ids.
    data = worker.called("noticed").data
    assert not any(each["function_id"].startswith("many::") for each in data["functions"])


def test_many_changes_are_few_notices(node, worker):
    worker.serve("noticed", None)
    worker.trigger("engine::functions-available", "noticed", {"config": "is ignored"})
    with Executor(node.worker_url()) as other:
        for number in range(300):
            other.serve(f"many::{number}", None)
    data = worker.called("noticed").data
    seen = 1
    while worker.calls.get("noticed") or any(
        each["function_id"].startswith("many::") for each in data["functions"]
    ):
        data = worker.called("noticed").data
        seen += 1
    assert seen <= 5


def test_workers_available_tells_of_connections_and_metadata(node, worker):
    worker.serve("noticed", None)
    worker.trigger("engine::workers-available", "noticed")
    worker.all_called("noticed")
    with Worker(node.worker_url()) as other:
        worker_id = other.registered["worker_id"]
        connected = {"event": "worker_connected", "worker_id": worker_id}
        seen = [worker.called("noticed").data]
        while seen[-1] != connected:
            seen.append(worker.called("noticed").data)
        other.result("engine::workers::register", runtime="python", name="w", pid=7)
        updated = {"event": "worker_metadata_updated", "worker_id": worker_id}
        assert worker.called("noticed").data == updated
    gone = {"event": "worker_disconnected", "worker_id": worker_id}
    assert worker.called("noticed").data == gone


def test_telemetry_connections_are_no_workers(node, worker):
    worker.serve("noticed", None)
    worker.trigger("engine::workers-available", "noticed")
    with Connection(node.worker_url("/otel")):
        pass
    worker.barrier()
    own = {"event": "worker_metadata_updated", "worker_id": worker.id}
    assert all(data == own for data in worker.all_called("noticed"))
