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


# ---- Further subscriptions of a large group that changes all the time

HEAVY_ITEMS, HEAVY_ITEM = 5000, 4096  # 20 MB: 80 steps.
BUSY_ITEMS = [f"b{i}" for i in range(40)]


class BusyWriter(threading.Thread):
    """Gives small items of a group versions one after the other, with events that change nothing between them; keeps what
    it wrote, in order: the item (None: of the whole group), and whether it was a change."""

    def __init__(self, node, group, at_once, seed):
        super().__init__()
        self.worker = Worker(node.worker_url())
        self.group, self.at_once, self.random = group, at_once, random.Random(seed)
        self.log = []  # That of version v at v - 1.
        self.stop = threading.Event()
        self.failure = None

    def write(self):
        version, item = len(self.log) + 1, self.random.choice(BUSY_ITEMS)
        data = {"stream_name": STREAM, "group_id": self.group}
        change = self.random.random() > 0.1
        if change:
            data |= {"item_id": item, "data": {"i": item, "v": version}}
        else:
            item = self.random.choice([None, item])
            data |= {"type": "note", "data": {"v": version}} | ({} if item is None else {"id": item})
        self.log.append((item, change))
        self.worker.invoke("stream::set" if change else "stream::send", data=data)

    def run(self):
        try:
            while not self.stop.is_set():
                for _ in range(self.at_once):
                    self.write()
                assert all("error" not in each for each in results(self.worker, self.at_once))
        except Exception as failure:
            self.failure = failure

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()
        self.worker.close()
        assert self.failure is None, self.failure


class Seen:
    """What one connection gets of the group, held against what it must be."""

    def __init__(self, client, writer, item):
        self.client, self.writer, self.item = client, writer, item  # `item`: covered alone so far.
        self.state = None  # Of the busy items, by the frames since the first `sync` of the group.
        self.version = 0  # Of the last frame, or of what a first `sync` had.
        self.stamps, self.newest = {}, 0
        self.first = False  # Behind that nothing has come; in a first subscription, no event without a change.

    def is_covered(self, version):
        item, _ = self.writer.log[version - 1]
        return self.state is not None or item is not None and item == self.item

    def missing(self, before):
        """Versions that should have come before that one. Events without a change that came before a first `sync` had been
        made were not for it."""
        covered = [each for each in range(self.version + 1, before) if self.is_covered(each)]
        return [each for each in covered if self.writer.log[each - 1][1]] if self.first else covered

    def sync(self, frame):
        data = frame["event"]["data"]
        assert frame["timestamp"] > self.newest, "a sync that is older than a frame before it"
        self.newest = frame["timestamp"]
        if frame["id"] is not None:
            self.version, self.first = 0 if data is None else data["v"], True
            return
        state = {each["i"]: each["v"] for each in data if each["i"] in BUSY_ITEMS}
        assert len(data) - len(state) == HEAVY_ITEMS
        if self.state is None:
            newest = max(state.values(), default=0)
            assert self.missing(newest) == [], f"{self.version}, then a sync of {newest}"
            self.version, self.first = newest, True
        else:
            assert state == self.state, "a sync that is not the state of the frames before it"
        self.state = state

    def frame(self):
        """Takes the next frame; returns whether it is a `sync` of the group."""
        frame = self.client.receive(30)
        event = frame["event"]
        if event["type"] == "sync":
            self.sync(frame)
            return frame["id"] is None
        note = event["type"] == "event"
        version = event["event"]["data"]["v"] if note else event["data"]["v"]
        item, change = self.writer.log[version - 1]
        assert frame["id"] == item and change != note and self.is_covered(version)
        assert version > self.version and self.missing(version) == [], f"{self.version}, then {version}"
        self.version = version
        self.first = self.first and self.item is None and not note
        if self.state is not None and change:
            self.state[item] = version
        if item is not None:
            assert frame["timestamp"] > self.stamps.get(item, 0)
            self.stamps[item] = frame["timestamp"]
            self.newest = max(self.newest, frame["timestamp"])
        return False

    def wait_for_sync(self):
        while not self.frame():
            pass


@pytest.mark.parametrize("budget", [8 << 20, 1 << 20], ids=["slow", "faster than is read"])
@pytest.mark.parametrize("shards", [1, 3], ids=["one shard", "three shards"])
def test_further_subscriptions_of_a_busy_group_lose_and_repeat_nothing(start_node, shards, budget):
    """Groups, then items and groups in turn; some replace what the connection has under the same name. With a small budget
    and many writes at once more changes than may wait before a group is read: it is read faster."""
    node = start_node({"shards": shards, "limits": {"stream_client_budget_bytes": budget}})
    group, seed = "heavy", random.randrange(1 << 30)
    print(f"seed {seed}")
    with Worker(node.worker_url()) as worker:
        for first in range(0, HEAVY_ITEMS, 250):
            for item in range(first, first + 250):
                data = {"stream_name": STREAM, "group_id": group, "item_id": f"s{item}", "data": {"i": item, "p": "x" * HEAVY_ITEM}}
                worker.invoke("stream::set", data=data)
            assert all("error" not in each for each in results(worker, 250))
    made = node.counters()["syncs_serialised"]
    with BusyWriter(node, group, 256 if budget < 8 << 20 else 16, seed) as writer:
        clients = [Subscriber(node.stream_url(), max_queue=None) for _ in range(3)]
        seen = []
        for client, item in zip(clients, [None, *BUSY_ITEMS[:2]], strict=True):
            seen.append(Seen(client, writer, item))
            client.join(STREAM, group, item, "one")
            seen[-1].frame()
        # All at once, so that some wait for the same sync, and again while the first are answered.
        for name in ("two", "one", "two"):
            for client in clients:
                client.join(STREAM, group, subscription=name)
            for each in seen:
                each.wait_for_sync()
                for _ in range(20):
                    each.frame()
        for client in clients:
            client.leave(STREAM, group, "one")
        for each in seen:
            for _ in range(200):
                each.frame()
            each.client.close()
    assert node.counters()["slow_readers_closed"] == 0
    assert node.counters()["syncs_serialised"] > made
