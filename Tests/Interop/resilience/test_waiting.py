"""What waits because of a connection is charged to it and bounded, and a peer that reads gets all of it in the end."""

import json
import threading
import time

import pytest

from clients import Worker
from executor import HELD, Executor
from raw import HANDSHAKE, Raw, frame

BUDGET = 1 << 20


def invoke(number, function, data):
    message = {"type": "invokefunction", "function_id": function, "data": data}
    return frame(json.dumps(message if number is None else {**message, "invocation_id": str(number)}))


def waiting(node, what):
    return node.counters()[f"waiting_{what}_bytes"]


def nothing_waits(node):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        counters = node.counters()
        left = {key: value for key, value in counters.items() if key.startswith("waiting_") and value}
        if not left:
            return counters
    raise AssertionError(f"still charged: {left}")


@pytest.mark.parametrize("function", ["stream::list", "stream::get"])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_reads_that_bring_more_than_the_budget_start_as_there_is_room(start_node, shards, function):
    """Twelve times the budget is asked for at once, of groups on all shards, so answers are kept for those before
    them. The reader begins to read when no more is answered."""
    node = start_node({"shards": shards}, worker={"limits": {"worker_budget_bytes": BUDGET}})
    groups, item = 12, {"item_id": "1"} if function == "stream::get" else {}
    with Worker(node.worker_url()) as writer:
        for group in range(groups):
            for number in range(1 if item else 3):
                writer.set("s", f"g{group}", str(number + 1), "x" * (60_000 if item else 20_000))
    with Raw(node.worker_port, receive_buffer=64 << 10).upgrade() as reader:
        reader.message()
        calls = [
            invoke(n, function, {"stream_name": "s", "group_id": f"g{n % groups}", **item}) for n in range(200)
        ]
        sending = threading.Thread(target=lambda: reader.send(b"".join(calls)))
        sending.start()
        kept = -1
        while (now := waiting(node, "answers") + waiting(node, "outbox")) != kept:
            kept = now  # Until it does not grow any more.
        assert kept <= 2 * BUDGET + 16 * 64_000, "the answers of a turn go in one send of 16 pieces at most"
        numbers = [int(json.loads(reader.message())["invocation_id"]) for _ in range(200)]
        assert numbers == list(range(200))
        sending.join()
        assert nothing_waits(node)["slow_readers_closed"] == 0


@pytest.mark.parametrize("shards", [1, 2])
def test_reader_that_goes_while_answers_wait_leaves_nothing(start_node, shards):
    node = start_node({"shards": shards}, worker={"limits": {"worker_budget_bytes": BUDGET}})
    with Worker(node.worker_url()) as writer:
        for group in range(8):
            writer.set("s", f"g{group}", "i", "x" * 60_000)
    for reset in (False, True):
        with Raw(node.worker_port, receive_buffer=4096).upgrade() as reader:
            reader.message()
            for n in range(150):
                reader.send(invoke(n, "stream::get", {"stream_name": "s", "group_id": f"g{n % 8}", "item_id": "i"}))
            while waiting(node, "outbox") + waiting(node, "answers") < BUDGET // 4:
                pass
            if reset:
                reader.reset()
    nothing_waits(node)
    with Worker(node.worker_url()) as other:
        assert other.get("s", "g1", "i") == "x" * 60_000


def head_of(port, padding):
    """A connection whose upgrade has been asked for, with a head of about that size."""
    peer = Raw(port)
    peer.send(HANDSHAKE.format(path="/").replace("\r\n\r\n", f"\r\nX: {'x' * padding}\r\n\r\n").encode())
    return peer


def test_upgrades_that_wait_for_the_auth_function_are_bounded(start_node):
    """At the limit they wait, and get in when it answers; one more gets 503 at once, and may come again."""
    node = start_node({"auth_function": "auth", "limits": {"held_upgrades": 3}})
    with Executor(node.worker_url()) as guard:
        guard.serve("auth", HELD)
        peers = [head_of(node.stream_port, 14_000) for _ in range(3)]
        calls = [guard.called("auth") for _ in range(3)]
        assert waiting(node, "upgrades") > 0
        with head_of(node.stream_port, 14_000) as refused:
            head = refused.head()
            assert head.startswith("HTTP/1.1 503 ") and "\r\nRetry-After: 2\r\n" in head
        assert node.counters()["upgrades_refused"] == 1
        for call in calls:
            call.answer({"context": None})
        assert [peer.status() for peer in peers] == [101] * 3
        with head_of(node.stream_port, 10) as again:
            guard.called("auth").answer({"context": None})
            assert again.status() == 101
        for peer in peers:
            peer.close()
    assert nothing_waits(node)["upgrades_refused"] == 1


def test_workers_over_the_limit_of_those_that_wait_are_closed_with_1012(start_node):
    """SDKs come back from that: they do not try again after an answer in HTTP."""
    listener = {"name": "iii-worker-manager", "config": {"host": "127.0.0.1", "port": 0, "rbac": {"auth_function_id": "auth"}}}
    node = start_node({"limits": {"held_upgrades": 2}}, entries=[listener])
    with Executor(node.worker_url()) as guard:
        guard.serve("auth", HELD)
        port = node.worker_ports[1]
        peers = [Raw(port).upgrade() for _ in range(2)]
        calls = [guard.called("auth") for _ in range(2)]
        with Raw(port).upgrade() as refused:
            assert refused.close_code() == 1012
        for call in calls:
            call.answer({})
        for peer in peers:
            assert json.loads(peer.message())["type"] == "workerregistered"
            peer.close()
        assert node.counters()["upgrades_refused"] == 1


def test_memory_of_slow_readers_goes_back(start_node):
    """Their backlogs lie where pages go back to the kernel."""
    node = start_node({"shards": 1, "limits": {"slow_reader_grace_ms": 600_000}})
    with Worker(node.worker_url()) as writer:
        writer.set("s", "g", "i", 0)
        before = node.resident_bytes()
        readers = [Raw(node.stream_port, receive_buffer=4096).upgrade("/stream/s/g") for _ in range(60)]
        for reader in readers:
            reader.message()
        for number in range(700):  # One by one: each is copied to each backlog.
            writer.set("s", "g", "i", "x" * 4000)
        assert waiting(node, "outbox") > 60 * (1 << 20)
        assert node.resident_bytes() - before > 60 * (1 << 20)
        for reader in readers:
            reader.reset()
        nothing_waits(node)
        deadline = time.monotonic() + 5
        while node.resident_bytes() - before > 24 << 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert node.resident_bytes() - before < 24 << 20


def test_memory_of_upgrades_that_waited_goes_back(start_node):
    """Their heads lie where pages go back to the kernel. The worker of the auth function never reads, so they wait."""
    count, size = 800, 14_000
    node = start_node({"shards": 1, "auth_function": "auth"}, worker={"limits": {"worker_budget_bytes": BUDGET}})
    with Raw(node.worker_port, receive_buffer=4096).upgrade() as guard:
        guard.send(frame(json.dumps({"type": "registerfunction", "id": "auth"})))
        while b"workerregistered" not in guard.message():
            pass
        head_of(node.stream_port, 10).close()
        before = node.resident_bytes()
        peers = [head_of(node.stream_port, size) for _ in range(count)]
        deadline = time.monotonic() + 8
        while waiting(node, "messages") < (count - 3 * BUDGET // size) * size:
            assert time.monotonic() < deadline
        held = node.resident_bytes() - before
        assert held > count * size // 2
        for peer in peers:
            peer.reset()
    nothing_waits(node)
    deadline = time.monotonic() + 5
    while node.resident_bytes() - before > held // 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert node.resident_bytes() - before < held // 2


@pytest.mark.parametrize("shards", [1, 2])
def test_versions_of_a_large_group_that_clients_do_not_take_are_bounded(start_node, shards):
    """Each joins a group that has changed and reads nothing. When as many versions are kept as may be, joins wait, and go
    on when one who did not read has gone."""
    limit, size = 4 << 20, 1 << 20
    node = start_node({"shards": shards, "limits": {"snapshot_bytes": limit * shards}})
    with Worker(node.worker_url()) as writer:
        peers, number = [], 0
        while node.counters()["joins_waited"] == 0 and number < 20:
            writer.set("s", "g", "i", str(number) + "x" * size)
            writer.set("s", "g", "j", number)
            peers.append(Raw(node.stream_port, receive_buffer=4096).upgrade("/stream/s/g"))
            number += 1
            deadline = time.monotonic() + 5
            while (counters := node.counters())["syncs"] < number and counters["joins_waited"] == 0:
                assert time.monotonic() < deadline
        assert 4 <= number <= 6, "as many as there is room for, one more waits"
        assert size < counters["waiting_snapshots_bytes"] <= limit + size
        last = peers.pop()
        for peer in peers:
            peer.reset()
        sync = json.loads(last.message())["event"]
        assert sync["type"] == "sync" and len(sync["data"]) == 2
        last.close()
