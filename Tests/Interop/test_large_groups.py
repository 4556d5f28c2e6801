"""Groups that are read in steps, and syncs that many share: what a list shows, and what who joins gets."""

import random
import threading
import time

import pytest

from clients import Subscriber, Worker

STREAM = "large"
ITEMS, PAD = 6000, "x" * 80  # Over half a megabyte: some steps.


def value(item, version):
    return {"i": item, "v": version, "p": PAD}


def send_set(worker, group, item, version):
    data = {"stream_name": STREAM, "group_id": group, "item_id": f"i{item}", "data": value(item, version)}
    return worker.invoke("stream::set", data=data)


def send_list(worker, group, **fields):
    return worker.invoke("stream::list", data={"stream_name": STREAM, "group_id": group}, **fields)


def results(worker, count):
    """The next `count` answers, in the order in which they came."""
    return [worker.receive() for _ in range(count)]


def fill(worker, group, items=ITEMS):
    for first in range(0, items, 500):
        last = min(first + 500, items)
        for item in range(first, last):
            send_set(worker, group, item, 0)
        assert all("error" not in each for each in results(worker, last - first))


def versions(values):
    return {each["i"]: each["v"] for each in values}


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def node(start_node, request):
    """Groups fall on any shard: some are the caller's, some are not."""
    return start_node({"shards": request.param})


GROUPS = ["a", "b", "c", "d"]


def test_a_list_shows_the_calls_before_it_and_none_after(node):
    with Worker(node.worker_url()) as worker:
        for group in GROUPS:
            fill(worker, group)
            wanted = []
            for version in range(1, 6):
                for item in (0, ITEMS // 2, ITEMS - 1):
                    wanted.append((send_set(worker, group, item, version), None))
                wanted.append((send_list(worker, group), version))
                gone = {"stream_name": STREAM, "group_id": group, "item_id": f"i{version}"}
                wanted.append((worker.invoke("stream::delete", data=gone), None))
            for (invocation, version), answer in zip(wanted, results(worker, len(wanted)), strict=True):
                assert answer["invocation_id"] == invocation and "error" not in answer
                if version is None:
                    continue
                left = [item for item in range(ITEMS) if not 1 <= item < version]
                assert [each["i"] for each in answer["result"]] == left
                expected = {item: version if item in (0, ITEMS // 2, ITEMS - 1) else 0 for item in left}
                assert versions(answer["result"]) == expected


def test_a_list_is_one_state_while_another_worker_writes(node):
    """The writer writes the items in turn, version after version: a state has at most two versions, and
    the newer one from the front."""
    group = GROUPS[0]
    with Worker(node.worker_url()) as writer, Worker(node.worker_url()) as reader:
        fill(writer, group)
        stop = threading.Event()

        def write():
            version = 0
            while not stop.is_set():
                version += 1
                for first in range(0, ITEMS, 200):
                    for item in range(first, first + 200):
                        send_set(writer, group, item, version)
                    results(writer, 200)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            split = 0
            for _ in range(25):
                state = [each["v"] for each in reader.list(STREAM, group)]
                assert len(state) == ITEMS
                assert state == sorted(state, reverse=True) and state[0] - state[-1] <= 1
                split += state[0] != state[-1]
        finally:
            stop.set()
            thread.join()
        assert split > 0


def test_lists_of_callers_that_go_and_calls_without_an_answer(node):
    group = GROUPS[1]
    with Worker(node.worker_url()) as worker:
        fill(worker, group)
        for _ in range(5):
            with Worker(node.worker_url()) as other:
                for _ in range(10):
                    send_list(other, group)
                other.socket.socket.shutdown(2)
        send_list(worker, group, action={"type": "void"})
        assert len(worker.list(STREAM, group)) == ITEMS


def test_the_node_stops_in_the_middle_of_lists(node):
    with Worker(node.worker_url()) as worker:
        fill(worker, GROUPS[0])
        for _ in range(200):
            send_list(worker, GROUPS[0])
        worker.receive()
        stopping = threading.Thread(target=node.stop)
        stopping.start()
        assert worker.close_code() == 1012
        stopping.join()
    node.assert_no_errors()


def apply(state, event):
    """What a client makes of an event."""
    data = event["data"]
    if event["type"] == "sync":
        return {each["i"]: each["v"] for each in data}
    assert state is not None, "the first frame is no sync"
    if event["type"] == "delete":
        assert state.pop(data["i"]) == data["v"]
    else:
        assert (data["i"] in state) == (event["type"] == "update")
        assert data["v"] > state.get(data["i"], -1), "a repeat"
        state[data["i"]] = data["v"]
    return state


@pytest.mark.parametrize("items", [800, ITEMS], ids=["kept", "in steps"])
def test_who_joins_a_busy_group_gets_a_state_and_all_that_follows(node, items):
    """Clients come and go while items are created, changed and deleted; events without a change reach only who is
    there."""
    group, seed = GROUPS[2], random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    clients, joined = [], 0
    with Worker(node.worker_url()) as worker:
        fill(worker, group, items)
        state = {item: 0 for item in range(items)}
        before = node.counters()["syncs_serialised"]
        version = 0
        for _ in range(150):
            for _ in range(rng.randrange(1, 4)):
                version += 1
                item = rng.randrange(items)
                if item in state and rng.random() < 0.2:
                    gone = {"stream_name": STREAM, "group_id": group, "item_id": f"i{item}"}
                    worker.invoke("stream::delete", data=gone)
                    del state[item]
                else:
                    send_set(worker, group, item, version)
                    state[item] = version
            client = Subscriber(node.stream_url(), max_queue=None)
            client.join(STREAM, group)
            clients.append(client)
            joined += 1
            if len(clients) > 12:
                clients.pop(rng.randrange(len(clients))).close()
        last = send_set(worker, group, 0, 1000)
        state[0] = 1000
        worker.answer(last)
        for client in clients:
            own, stamps = None, {}
            while own is None or own.get(0) != 1000:
                frame = client.receive()
                own = apply(own, frame["event"])
                assert frame["timestamp"] > stamps.get(frame["id"], 0)
                stamps[frame["id"]] = frame["timestamp"]
            assert own == state
            client.close()
        assert versions(worker.list(STREAM, group)) == state
        # One serves all who come within two seconds.
        assert node.counters()["syncs_serialised"] - before < joined / 2


def test_a_second_subscription_gets_a_newer_sync_and_repeats_nothing(node):
    group = GROUPS[3]
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as client:
        fill(worker, group)
        client.join(STREAM, group, subscription="one")
        last = client.receive()
        assert last["event"]["type"] == "sync"
        for version in range(1, 20):
            worker.set(STREAM, group, "i1", value(1, version))
            update = client.receive()
            assert update["event"]["type"] == "update" and update["event"]["data"]["v"] == version
            assert update["timestamp"] > last["timestamp"]
            client.join(STREAM, group, subscription=f"more-{version}")
            last = client.receive()
            assert last["event"]["type"] == "sync" and last["timestamp"] > update["timestamp"]
            assert versions(last["event"]["data"])[1] == version


def test_custom_events_from_before_a_join_do_not_come_after_it(node):
    group = GROUPS[0]
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as early:
        fill(worker, group, 800)
        early.join(STREAM, group)
        assert early.event()["type"] == "sync"
        worker.result("stream::send", stream_name=STREAM, group_id=group, type="hello", data=1)
        worker.set(STREAM, group, "i0", value(0, 1))
        with Subscriber(node.stream_url()) as late:
            late.join(STREAM, group)
            own = None
            while own is None or own[0] != 1:
                own = apply(own, late.event())
        assert early.event() == {"type": "event", "event": {"type": "hello", "data": 1}}


def test_a_kept_sync_goes_when_nobody_asks_for_it(start_node):
    node = start_node({"shards": 1})
    large = {"i": 0, "v": 0, "p": "x" * (1 << 20)}
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as client:
        for item in range(24):
            worker.set(STREAM, "g", f"i{item}", large)
        client.join(STREAM, "g")
        assert client.event()["type"] == "sync"
        worker.set(STREAM, "g", "i0", large)
        client.event()
        with_it = node.resident_bytes()
        deadline = time.monotonic() + 20
        while node.resident_bytes() > with_it - (16 << 20):
            assert time.monotonic() < deadline, "24 MiB of a sync are still there"
            time.sleep(0.05)
