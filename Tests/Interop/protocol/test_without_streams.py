"""A node with `iii-stream: {config: {enabled: false}}`: workers and their functions, and no streams."""

import socket

import pytest

from clients import Subscriber
from executor import Executor
import certificates
from node import Node, configuration

STREAM = {"enabled": False, "auth_function": "auth", "guarded_streams": ["*"],
          "adapter": {"name": "kv", "config": {"store_method": "file_based", "file_path": "store"}}}
FUNCTIONS = ["set", "get", "update", "delete", "list", "list_groups", "list_all", "send"]
TYPES = ["stream", "stream:join", "stream:leave"]


def taken_port():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def bare(tmp_path, request):
    """Its stream port is somebody else's, which does not matter."""
    listener, port = taken_port()
    node = Node(tmp_path, configuration({**STREAM, "port": port, "shards": request.param}))
    node.launch()
    listening = node.wait_for("listening")
    assert listening["stream"] == listening["store"] == "none"
    node.worker_port = int(listening["workers"][0].rpartition(":")[2])
    if certificates.TLS:
        node.secure_ports = {node.worker_port}
        certificates.secure_ports.update(node.secure_ports)
    yield node
    node.stop()
    listener.close()
    assert not (tmp_path / "store").exists()


def test_there_are_no_stream_functions_types_nor_the_row_of_the_node(bare):
    with Executor(bare.worker_url()) as worker:
        for name in FUNCTIONS:
            assert worker.error(f"stream::{name}", {})["code"] == "function_not_found"
        worker.result("engine::workers::register", runtime="python", pid=7)
        functions = worker.result("engine::functions::list", include_internal=True)["functions"]
        assert functions and not any(function["function_id"].startswith("stream") for function in functions)
        types = worker.result("engine::trigger-types::list", include_internal=True)["trigger_types"]
        assert types and not {kind["id"] for kind in types} & set(TYPES)
        assert [row["pid"] for row in worker.result("engine::workers::list")["workers"]] == [7]
        assert worker.result("engine::workers::list", worker_id="iii-stream")["workers"] == []


def test_their_ids_are_those_of_workers(bare):
    """A node that is attached to this one registers them."""
    with Executor(bare.worker_url()) as streams, Executor(bare.worker_url()) as caller:
        for name in FUNCTIONS:
            streams.serve(f"stream::{name}", name)
        streams.serve("auth", "auth")
        streams.serve("stream::get(chat)", "an override that is none")
        for kind in TYPES:
            streams.send({"type": "registertriggertype", "id": kind, "description": "d"})
        streams.nothing_said()
        for name in FUNCTIONS:
            assert caller.result(f"stream::{name}", stream_name="chat", group_id="g", item_id="i") == name
        for kind in TYPES:
            # No configuration of the node's own types: it is passed on as it is.
            caller.send({"type": "registertrigger", "id": kind, "trigger_type": kind, "function_id": "f", "config": {"odd": 1}})
            asked = streams.said("registertrigger")
            assert (asked["id"], asked["trigger_type"], asked["config"]) == (kind, kind, {"odd": 1})
        caller.nothing_said()


def test_with_streams_they_are_reserved(node):
    with Executor(node.worker_url()) as worker:
        worker.serve("stream::get", 1)
        assert worker.said("functionregistrationresult")["error"]["code"] == "reserved"
        worker.send({"type": "registertriggertype", "id": "stream:join", "description": "d"})
        assert worker.said("triggertyperegistrationresult")["error"]["code"] == "reserved"
        rows = worker.result("engine::workers::list", worker_id="iii-stream")["workers"]
        assert len(rows) == 1
    with Subscriber(node.stream_url()) as subscriber:
        subscriber.join("s", "g")
        assert subscriber.event()["type"] == "sync"
