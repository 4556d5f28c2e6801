"""What waits because of a connection is charged to it and bounded, and a peer that reads gets all of it in the end."""

import contextlib
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


def wait_until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline


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


@pytest.mark.parametrize("count, deferred", [(256, 0), (257, 1), (600, 344)])
@pytest.mark.parametrize("shards", [1, 2])
def test_joins_that_one_sync_lets_go_on_take_turns(start_node, shards, count, deferred):
    """They wait for room, which a client has that does not read another version of the group. 256 go on in one turn."""
    size = 1 << 20
    node = start_node({"shards": shards, "limits": {"snapshot_bytes": size * shards}})
    path = "/stream/s/g"
    with Worker(node.worker_url()) as writer, contextlib.ExitStack() as stack:
        writer.set("s", "g", "i", "0" + "x" * (3 * size))
        unread = stack.enter_context(Raw(node.stream_port, receive_buffer=4096).upgrade(path))
        wait_until(lambda: waiting(node, "snapshots") > 0)
        for end in (3 * size, 3 * size, size // 3):  # Too many bytes follow the version of before: it is kept no longer.
            writer.set("s", "g", "i", "1" + "x" * end)
        clients = [stack.enter_context(Raw(node.stream_port).upgrade(path)) for _ in range(count)]
        stack.enter_context(Raw(node.stream_port).upgrade("/stream/s/other")).message()  # It came behind them.
        assert node.counters()["syncs"] == 2
        unread.reset()
        for client in clients:
            event = json.loads(client.message())["event"]
            assert event["type"] == "sync" and len(event["data"]) == 1
        assert node.counters()["joins_deferred"] == deferred
        writer.set("s", "g", "i", 2)
        for client in clients:
            assert json.loads(client.message())["event"]["data"] == 2
        counters = node.counters()
        assert counters["joins_waited"] == 1 and counters["syncs_serialised"] == 2
    nothing_waits(node)


# ---- What waits for the control plane, and behind that


def overridden(number, size=1):
    data = {"stream_name": "o", "group_id": "g", "item_id": "i", "data": "x" * size}
    return invoke(number, "stream::set", data)


@pytest.mark.parametrize("count, size, fits", [
    (1025, 1, True), (1026, 1, False),  # The one that goes over the limit is the last.
    (9, 130_000, True), (10, 130_000, False),
], ids=["the last message", "one message more", "the last bytes", "bytes more"])
def test_messages_in_the_control_planes_hands_are_bounded_and_further_ones_are_parked(start_node, count, size, fits):
    """Calls that a worker's function is asked about, which does not answer: 1,024 of them, or the budget of 1 MiB."""
    node = start_node(worker={"limits": {"worker_budget_bytes": BUDGET}})
    with Executor(node.worker_url()) as executor, Raw(node.worker_port).upgrade() as caller:
        executor.serve("stream::set(o)")
        executor.barrier()
        caller.message()
        caller.send(b"".join(overridden(number, size) for number in range(count)))
        calls = [executor.called("stream::set(o)") for _ in range(count - (not fits))]
        if not fits:
            deadline = time.monotonic() + 5
            while waiting(node, "parked") == 0 and time.monotonic() < deadline:
                pass
            assert executor.all_called("stream::set(o)") == []
        assert (waiting(node, "parked") > 0) == (not fits)
        assert waiting(node, "messages") > (count - 2) * size
        executor.handlers["stream::set(o)"] = {"old_value": None, "new_value": 1}
        for call in calls:
            call.answer({"old_value": None, "new_value": 1})
        for _ in range(count):
            assert "error" not in json.loads(caller.message())
    nothing_waits(node)


def test_connection_is_read_no_further_than_a_mebibyte_of_parked_messages(start_node):
    node = start_node({"shards": 1})
    count, size = 1400, 32_000
    with Executor(node.worker_url()) as executor, Raw(node.worker_port).upgrade() as caller:
        executor.serve("stream::set(o)")
        executor.barrier()
        caller.message()
        caller.send(b"".join(overridden(number) for number in range(1025)))
        first = [executor.called("stream::set(o)") for _ in range(1025)]
        sending = threading.Thread(target=lambda: caller.send(b"".join(overridden(n, size) for n in range(1025, count))))
        sending.start()
        kept = -1
        while (now := waiting(node, "parked")) != kept or now == 0:
            kept = now
            time.sleep(0.1)  # Until it does not grow any more.
        assert (1 << 20) - size < kept < (1 << 20) + 10 * size, "what is read at once may go over"
        assert sending.is_alive(), "the rest is with the sender"
        executor.handlers["stream::set(o)"] = {"old_value": None, "new_value": 1}
        for call in first:
            call.answer({"old_value": None, "new_value": 1})
        for _ in range(count):
            assert "error" not in json.loads(caller.message())
        sending.join()
    nothing_waits(node)


@pytest.mark.parametrize("reads", [True, False], ids=["a caller that reads", "a caller that does not read"])
def test_results_beyond_twice_the_budget_of_their_caller_are_errors(start_node, reads):
    """All calls are answered, in any case; what the caller does not take beyond that it gets as result_too_large."""
    node = start_node(worker={"limits": {"worker_budget_bytes": BUDGET}})
    count, size = 100, 250_000
    with Executor(node.worker_url()) as executor, Raw(node.worker_port, receive_buffer=4096).upgrade() as caller:
        executor.serve("large", "x" * size)
        executor.barrier()
        caller.message()
        caller.socket.settimeout(30)
        answers = []
        for number in range(count):
            caller.send(invoke(number, "large", {}))
            if reads:
                answers.append(json.loads(caller.message()))
        if not reads:
            deadline = time.monotonic() + 20
            while node.counters()["calls_answered"] < count and time.monotonic() < deadline:
                pass
            assert waiting(node, "deliveries") < 3 * BUDGET + count * 4096
            answers = [json.loads(caller.message()) for _ in range(count)]
        assert {answer["invocation_id"] for answer in answers} == {f"{number}" for number in range(count)}
        refused = [answer["error"]["code"] for answer in answers if "error" in answer]
        assert set(refused) == (set() if reads else {"result_too_large"})
        assert node.counters()["results_too_large"] == len(refused)
    nothing_waits(node)


def test_a_call_of_all_that_a_message_may_hold_arrives(node):
    """64 MiB between two workers, and not a byte more: limits.message_bytes."""
    limit = 64 << 20
    with Executor(node.worker_url()) as executor:
        executor.serve("large", lambda data: len(data))
        executor.barrier()
        executor.call("engine::workers::register", {"runtime": "node", "version": "0.25.0"})
        for over, expected in ((0, True), (1, False)):
            with Raw(node.worker_port).upgrade() as caller:
                caller.message()
                caller.socket.settimeout(30)
                head, tail = b'{"type":"invokefunction","invocation_id":"i","function_id":"large","data":"', b'"}'
                # What the node adds of its own, a longer id, must fit too.
                room = limit - len(head) - len(tail) - 64
                size = room if expected else limit - len(head) - len(tail) + over
                text = head + b"x" * size + tail
                pieces = [text[at : at + (8 << 20)] for at in range(0, len(text), 8 << 20)]
                for index, piece in enumerate(pieces):
                    caller.send(frame(piece, 1 if index == 0 else 0, final=index == len(pieces) - 1))
                if expected:
                    answer = json.loads(caller.message())
                    assert answer.get("result") == size, answer
                else:
                    assert caller.close_code() == 1009
    nothing_waits(node)
