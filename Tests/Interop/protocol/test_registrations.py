"""What registrations may take, and lists of many of them."""

from clients import Worker

MIB = 1 << 20


def register(worker, id, size):
    worker.send({"type": "registerfunction", "id": id, "metadata": {"text": "x" * size}})


def refusals(worker):
    """The registrations that were refused until a call is answered that came behind them."""
    call = worker.invoke("stream::get", data={"stream_name": "s", "group_id": "g", "item_id": "i"})
    refused = []
    while True:
        message = worker.receive()
        if message["type"] == "functionregistrationresult":
            refused.append((message["id"], message["error"]["code"]))
        elif message.get("invocation_id") == call:
            return refused


def test_registrations_of_a_worker_have_a_size(start_node):
    node = start_node(worker={"limits": {"registration_bytes_per_worker": 100_000}})
    with Worker(node.worker_url()) as worker:
        register(worker, "f1", 60_000)
        register(worker, "f2", 60_000)
        register(worker, "f3", 20_000)
        assert refusals(worker) == [("f2", "limit_reached")]


def test_lists_of_more_than_may_be_sent_are_an_error_and_no_burden(start_node):
    """Six workers with 14 MiB of functions each: the list would be 84 MiB."""
    node = start_node()
    workers = [Worker(node.worker_url()) for _ in range(6)]
    try:
        for n, worker in enumerate(workers):
            for m in range(14):
                register(worker, f"w{n}::f{m}", MIB)
            assert refusals(worker) == []
        before = node.resident_bytes()
        asking = workers[0]
        for _ in range(20):
            answer = asking.call("engine::functions::list", {})
            assert answer["error"]["code"] == "result_too_large"
        assert node.resident_bytes() - before < 96 * MIB
        asking.send({"type": "registerfunction", "id": "told"})
        asking.send({"type": "registertrigger", "id": "t", "trigger_type": "engine::functions-available",
                     "function_id": "told", "config": {}})
        assert refusals(asking) == []
        register(workers[1], "one-more", 10)
        assert "not sent" in node.wait_for("functions_notice_too_large")["detail"]
        assert asking.result("stream::list_groups", stream_name="s") == []
    finally:
        for worker in workers:
            worker.close()
