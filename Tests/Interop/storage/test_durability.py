"""What was answered or seen survives a kill: writers on several connections, subscribers and readers, a process
that is killed at any moment, and a comparison with what its end left.

`III_KILL_ROUNDS` (20) is the number of kills, `III_KILL_SEED` the seed of all chance, which a failure names."""

import itertools
import json
import os
import random
import threading
import time

from calls import answer, call, invoke, store
from generator import bench
from node import Node, configuration
from raw import CLOSE, TEXT, Ended, Raw

ROUNDS = int(os.environ.get("III_KILL_ROUNDS", "20"))
SEED = int(os.environ.get("III_KILL_SEED", "0")) or random.SystemRandom().getrandbits(32)

WRITERS = 4
GROUPS = 3  # Of each writer: the order of a group's changes is that of its one writer.
ITEMS = 12
WINDOW = 24


class Group:
    """The changes of one group in their order, and how many of them somebody knows of."""

    def __init__(self, name):
        self.name = name
        self.base = {}  # Item to value, in the order of the group.
        self.changes = []
        self.known = 0
        self.stamps = {}  # The last time stamp of each item that was seen; of `None`, of a sync.
        self.lock = threading.Lock()

    @staticmethod
    def apply(state, change):
        item, value = change
        if value is None:
            state.pop(item, None)
        else:
            state[item] = value

    def states(self):
        state = dict(self.base)
        yield 0, list(state.values())
        for count, change in enumerate(self.changes, 1):
            self.apply(state, change)
            yield count, list(state.values())

    def know(self, count):
        with self.lock:
            self.known = max(self.known, count)

    def saw_state(self, values):
        """A list or sync came: at least the shortest prefix that makes it is known."""
        with self.lock:
            for count, state in self.states():
                if state == values:
                    self.known = max(self.known, count)
                    return
        raise AssertionError(f"{self.name}: {values} was never the state")

    def saw_value(self, item, value):
        with self.lock:
            for count, change in enumerate(self.changes, 1):
                if change == (item, value):
                    self.known = max(self.known, count)
                    return
            if self.base.get(item) != value:
                raise AssertionError(f"{self.name}: {item} was never {value}")

    def saw_stamp(self, item, stamp):
        """Frames of an item grow, over every restart; a sync is not older than anything it covers."""
        with self.lock:
            if item is None:
                assert stamp >= max(self.stamps.values(), default=0), f"{self.name}: a sync of {stamp} {self.stamps}"
            else:
                last = max(self.stamps.get(item, 0), self.stamps.get(None, 0))
                assert stamp > last, f"{self.name}: {item} at {stamp}, after {last}"
            self.stamps[item] = stamp

    def check(self, values):
        """What came back is a prefix, with all that is known. It is what the next round begins with."""
        for count, state in self.states():
            if count >= self.known and state == values:
                for change in self.changes[:count]:
                    self.apply(self.base, change)
                self.changes, self.known = [], 0
                return
        raise AssertionError(
            f"{self.name}: came back as {values}; {self.known} of {len(self.changes)} changes were known, "
            f"which make {[s for c, s in self.states() if c == self.known][0]}")


class Round(threading.Thread):
    """One connection at work until the node is gone."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.error = work, arguments, None
        self.start()

    def run(self):
        try:
            self.work(*self.arguments)
        except (Ended, OSError):
            pass  # The node was killed.
        except Exception as error:
            self.error = error

    def finish(self):
        self.join(20)
        assert not self.is_alive()
        if self.error:
            raise self.error


def write(node, groups, numbers, chance):
    connection = Raw(node.worker_port).upgrade()
    waiting = []
    while True:
        while len(waiting) < WINDOW:
            group = chance.choice(groups)
            item = f"i{chance.randrange(ITEMS)}"
            data = {"stream_name": "s", "group_id": group.name, "item_id": item}
            number = next(numbers)
            with group.lock:
                if chance.random() < 0.2:
                    function, change = "stream::delete", (item, None)
                elif chance.random() < 0.2:
                    function, change = "stream::update", (item, number)
                    data["ops"] = [{"type": "set", "path": "", "value": number}]
                else:
                    pad = "x" * chance.choice((0, 50, 400, 3000))
                    value = [number, pad] if pad else number
                    function, change = "stream::set", (item, value)
                    data["data"] = value
                group.changes.append(change)
                waiting.append((group, len(group.changes)))
            connection.send(invoke(number, function, data))
        for _ in range(chance.randrange(1, WINDOW)):
            message = answer(connection)
            assert "error" not in message, message
            group, count = waiting.pop(0)
            group.know(count)


def read(node, groups, chance):
    connection = Raw(node.worker_port).upgrade()
    while True:
        group = chance.choice(groups)
        group.saw_state(call(connection, "stream::list", stream_name="s", group_id=group.name)["result"])
        group = chance.choice(groups)
        item = f"i{chance.randrange(ITEMS)}"
        message = call(connection, "stream::get", stream_name="s", group_id=group.name, item_id=item)
        if "result" in message:
            group.saw_value(item, message["result"])


def subscribe(node, group):
    connection = Raw(node.stream_port).upgrade(f"/stream/s/{group.name}")
    while True:
        opcode, payload = connection.frame()
        if opcode == CLOSE:
            return
        if opcode != TEXT:
            continue
        message = json.loads(payload)
        event = message["event"]
        group.saw_stamp(message["id"], message["timestamp"])
        if event["type"] == "sync":
            group.saw_state(event["data"])
        elif event["type"] in ("create", "update"):
            group.saw_value(message["id"], event["data"])


def launch(node, folder, chance):
    """Starts the node, sometimes killing it while it recovers."""
    while True:
        node.text = configuration({**store(folder), "shards": chance.randrange(1, 5)})
        if chance.random() < 0.3:
            node.launch()
            time.sleep(chance.random() * 0.08)  # The moment of the kill: any will do.
            node.kill()
            continue
        return node.start()


def test_nothing_answered_or_seen_is_lost_when_the_process_is_killed(tmp_path):
    print(f"III_KILL_SEED={SEED}")
    chance = random.Random(SEED)
    folder = tmp_path / "store"
    node = Node(tmp_path, "")
    groups = [[Group(f"g{w}-{g}") for g in range(GROUPS)] for w in range(WRITERS)]
    everything = [group for own in groups for group in own]
    numbers = itertools.count(1)
    known = changes = 0
    try:
        for _ in range(ROUNDS):
            launch(node, folder, chance)
            connection = Raw(node.worker_port).upgrade()
            for group in everything:
                group.check(call(connection, "stream::list", stream_name="s", group_id=group.name)["result"])
            names = call(connection, "stream::list_groups", stream_name="s")["result"]
            assert names == sorted(group.name for group in everything if group.base)
            rounds = [Round(write, node, own, numbers, random.Random(chance.random())) for own in groups]
            rounds += [Round(read, node, everything, random.Random(chance.random())) for _ in range(2)]
            rounds += [Round(subscribe, node, group) for group in chance.sample(everything, 4)]
            time.sleep(0.02 + chance.random() * 0.4)  # The moment of the kill: any will do.
            node.kill()
            for each in rounds:
                each.finish()
            known += sum(group.known for group in everything)
            changes += sum(len(group.changes) for group in everything)
        assert known > 50 * ROUNDS, "too little was answered for this to say anything"
        print(f"{ROUNDS} kills, {changes} changes, {known} of them answered or seen")
    finally:
        node.kill()


def test_a_batch_waits_for_callers_who_change_and_not_for_those_who_read(start_node, tmp_path):
    """Reads wait for the changes before them, so that readers, too, come back as soon as a batch is durable."""
    node = start_node(store(tmp_path / "store") | {"shards": 1})
    writer = Raw(node.worker_port).upgrade()
    reading = threading.Thread(target=bench, args=(
        node, tmp_path, "functions", "--callers", "20", "--in-flight", "1", "--mix", "get=1", "--items", "10",
        "--duration", "1.5", "--warm-up", "0"))
    reading.start()
    while reading.is_alive():
        assert "result" in call(writer, "stream::set", stream_name="s", group_id="g", item_id="i", data=1)
    counters = node.counters()
    # A few when the generator made the items, all at once.
    assert counters["log_batches"] > 50 and counters["log_batches_delayed"] < counters["log_batches"] / 20
    # Writers in a closed loop are waited for: always in the first epochs, and from then on unless a trial has said that it
    # answers fewer of them.
    bench(node, tmp_path, "functions", "--callers", "20", "--in-flight", "1", "--mix", "set=1", "--items", "10",
          "--duration", "1", "--warm-up", "0")
    after = node.counters()
    held, batches, switches = (
        after[name] - counters[name] for name in ("log_batches_delayed", "log_batches", "log_delay_switches"))
    assert held > batches / 200
    assert held > batches / 4 or switches > 0


def test_a_node_that_polls_finds_its_work_and_still_sleeps_when_there_is_none(start_node, tmp_path):
    node = start_node(store(tmp_path / "store") | {"shards": 2, "poll_us": 1000})
    before = node.counters()  # Its line comes after all those of the start.
    with_cores_left = len(os.sched_getaffinity(0)) > 2
    assert any(record["event"] == "no_core_left" for record in node.records) != with_cores_left
    bench(node, tmp_path, "functions", "--callers", "8", "--in-flight", "1", "--mix", "set=1,get=1", "--items", "10",
          "--poll", "1000", "--duration", "0.5", "--warm-up", "0")
    after = node.counters()
    polls, in_vain = (after[name] - before[name] for name in ("polls", "polls_in_vain"))
    assert polls > in_vain
    used = node.cpu_seconds()
    time.sleep(2)
    assert node.cpu_seconds() - used < 0.5
