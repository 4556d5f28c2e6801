"""Every subscriber sees a state that was, then every change after it: once, in order, as the writers
were answered. With two WebSocket clients that nobody here wrote, while subscribers come and go.

III_FULL=1 writes 50,000 times instead of 10,000.
"""

import asyncio
import collections
import json
import os
import random
import shutil
import subprocess

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from clients import Worker
from history import Answer, History, Unfaithful
from node import FULL, PROGRAMS, Node, configuration

WRITES = 50_000 if FULL else 10_000
WRITERS = 4
WINDOW = 64  # Calls of one writer under way.
STREAM = "exactly once"

Shape = collections.namedtuple("Shape", "groups items text_max sends")


def shape_of(groups, items, text_max, sends):
    names = ([f"{kind} {number}" for number in range(count)] for kind, count in [("group", groups), ("item", items)])
    return Shape(*names, text_max, sends)


SMALL = shape_of(10, 15, 20, sends=True)
# One whose `sync` is kept for a while, and read in steps. Events of before a join are not among the frames that follow
# such a `sync`, and would look like a gap.
LARGE = shape_of(1, 3000, 400, sends=False)

COMERS = 8  # Of each client: subscribers that come and go all the time.
PATIENCE_SECONDS = 120 if FULL else 60

Seen = collections.namedtuple("Seen", "mode stays texts code")
NODE_JS = shutil.which("node")


def node_js_command():
    """Node with a WebSocket of its own, or None."""
    for flags in ([], ["--experimental-websocket"]):
        command = [NODE_JS, *flags]
        test = "process.exit(typeof WebSocket === 'function' ? 0 : 1)"
        if NODE_JS and subprocess.run([*command, "-e", test], capture_output=True).returncode == 0:
            return command
    return None


def options():
    return {"compression": None, "max_size": None, "ping_interval": None, "proxy": None, "max_queue": None}


def path(*segments):
    quote = {ord(" "): "%20"}
    return "/".join(["/stream", *(segment.translate(quote) for segment in (STREAM, *segments))])


def subscription(kind, name, group, item=None):
    data = {"subscriptionId": name, "streamName": STREAM, "groupId": group}
    return json.dumps({"type": kind, "data": data if item is None else {**data, "id": item}})


# ---- Writers


class Writer:
    """Sends its share of the writes, many at a time, and keeps what it was answered."""

    def __init__(self, number, seed, shape):
        self.number = number
        self.shape = shape
        self.random = random.Random(f"{seed} {number}")
        self.answers = []

    def next_call(self, sequence):
        """The function, where to, and what else belongs into its input. Every value is written once."""
        pick = self.random
        value = {"writer": self.number, "sequence": sequence, "text": "é" * pick.randrange(self.shape.text_max)}
        kind = pick.random()
        group, item = pick.choice(self.shape.groups), pick.choice(self.shape.items)
        if kind < 0.7:
            return "stream::set", group, item, {"data": value}
        if kind < 0.82:
            steps = [{"type": "set", "path": key, "value": value[key]} for key in value]
            steps.append({"type": "increment", "path": "count", "by": 1})
            return "stream::update", group, item, {"ops": steps}
        if kind < 0.95 or not self.shape.sends:
            return "stream::delete", group, item, {}
        item = item if pick.random() < 0.5 else None
        return "stream::send", group, item, {"type": "note", "data": value}

    async def run(self, url, count):
        sent = collections.deque()
        room = asyncio.Semaphore(WINDOW)
        async with connect(url, **options()) as socket:
            await socket.recv()  # workerregistered
            reading = asyncio.create_task(self.read(socket, sent, count, room))
            for sequence in range(count):
                await room.acquire()
                function, group, item, rest = self.next_call(sequence)
                place = {"stream_name": STREAM, "group_id": group}
                place["id" if function == "stream::send" else "item_id"] = item
                call = {
                    "type": "invokefunction",
                    "invocation_id": f"{self.number:08d}-0000-4000-8000-{sequence:012d}",
                    "function_id": function,
                    "data": {**place, **rest},
                }
                sent.append((call["invocation_id"], function, group, item, rest))
                await socket.send(orjson.dumps(call).decode())
            await reading

    async def read(self, socket, sent, count, room):
        for _ in range(count):
            answer = orjson.loads(await socket.recv())
            room.release()
            invocation, function, group, item, payload = sent.popleft()
            assert answer["invocation_id"] == invocation, "answers of one connection keep its order"
            assert "error" not in answer, answer
            result = answer["result"] or {}
            assert "errors" not in result, result
            old, new = result.get("old_value"), result.get("new_value")
            self.answers.append(Answer(self.number, function, group, item, old, new, payload))


# ---- Subscribers of the `websockets` package


class Subscribers:
    """Those that stay, and those that come and go."""

    def __init__(self, url, seed, shape):
        self.url = url
        self.shape = shape
        self.random = random.Random(f"{seed} subscribers")
        self.seen = []
        self.open = set()
        self.finished = False

    async def connection(self, path, mode, stays, drive):
        """Opens a connection, lets `drive` use it, and keeps every frame that comes, to the end."""
        texts, code = [], None
        async with connect(self.url + path, **options()) as socket:
            self.open.add(socket)
            try:
                if not self.finished:  # It may have come to an end meanwhile: then nothing more is sent.
                    await drive(socket, texts)
            except ConnectionClosed as end:
                if end.rcvd_then_sent or end.sent is None:  # It was not we who began to close.
                    code = end.rcvd.code if end.rcvd else 1006
            self.open.discard(socket)
        self.seen.append(Seen(mode, stays, texts, code))

    async def member(self, path, groups, synced):
        async def drive(socket, texts):
            if path == "/":
                for group in groups:
                    await socket.send(subscription("join", f"of {group}", group))
            for _ in groups:
                texts.append(await socket.recv())
            synced.set_result(None)
            ends = 0
            while ends < len(groups):
                text = await socket.recv()
                texts.append(text)
                ends += '"event":{"type":"event","event":{"type":"end"' in text

        await self.connection(path, "group", True, drive)

    async def come_and_go(self):
        pick = self.random

        async def read(socket, texts):
            for _ in range(pick.randrange(1, 40)):
                texts.append(await socket.recv())

        while not self.finished:
            mode = pick.choice(["group", "item", "both"])
            if mode != "both" and pick.random() < 0.5:
                segments = (pick.choice(self.shape.groups), pick.choice(self.shape.items))[: 1 if mode == "group" else 2]
                await self.connection(path(*segments), mode, False, read)
                continue

            async def drive(socket, texts, mode=mode):
                for _ in range(pick.randrange(1, 5)):
                    group = pick.choice(self.shape.groups)
                    if mode != "item":
                        await socket.send(subscription("join", "group", group))
                    if mode != "group":
                        await socket.send(subscription("join", "item", group, pick.choice(self.shape.items)))
                    await read(socket, texts)
                    if mode == "both":
                        break  # What comes between the ends of two subscriptions would look like a gap.
                    await socket.send(subscription("leave", mode, group))

            await self.connection("/", mode, False, drive)

    async def finish(self):
        self.finished = True
        for socket in list(self.open):
            await socket.close()


# ---- One run


class NodeJS:
    """The subscribers of subscriber.mjs."""

    def __init__(self, process):
        self.process = process

    @classmethod
    async def start(cls, url, seed, shape):
        plan = {"url": url, "stream": STREAM, "comers": COMERS, "seed": seed}
        plan |= {"groups": shape.groups, "items": shape.items}
        script = PROGRAMS / "subscriber.mjs"
        process = await asyncio.create_subprocess_exec(
            *node_js_command(), script, json.dumps(plan), stdout=subprocess.PIPE, limit=1 << 30
        )
        assert await process.stdout.readline() == b"ready\n"
        return cls(process)

    async def seen(self):
        lines = (await self.process.stdout.read()).splitlines()
        assert await self.process.wait() == 0
        records = [orjson.loads(line) for line in lines]
        return [Seen(r["mode"], r["stays"], r["frames"], r["code"]) for r in records]


async def run(node, seed, shape):
    """Returns the answers of the writers, and what the subscribers of each client saw."""
    url = node.stream_url("")
    subscribers = Subscribers(url, seed, shape)
    joined = [asyncio.get_running_loop().create_future() for _ in range(len(shape.groups) + 1)]
    members = [asyncio.create_task(subscribers.member("/", shape.groups, joined[0]))]
    for group, synced in zip(shape.groups, joined[1:], strict=True):
        members.append(asyncio.create_task(subscribers.member(path(group), [group], synced)))
    await asyncio.gather(*joined)
    node_js = await NodeJS.start(url, seed, shape) if node_js_command() else None
    comers = [asyncio.create_task(subscribers.come_and_go()) for _ in range(COMERS)]
    writers = [Writer(number, seed, shape) for number in range(WRITERS)]
    await asyncio.gather(*(writer.run(node.worker_url(), WRITES // WRITERS) for writer in writers))
    answers = [answer for writer in writers for answer in writer.answers]
    with Worker(node.worker_url()) as worker:
        for group in shape.groups:
            end = {"type": "end", "data": None}
            worker.result("stream::send", stream_name=STREAM, group_id=group, **end)
            answers.append(Answer("end", "stream::send", group, None, None, None, end))
    await asyncio.gather(*members)
    await subscribers.finish()
    await asyncio.gather(*comers)
    return answers, {"websockets": subscribers.seen, "node": await node_js.seen() if node_js else None}


CASES = {
    "one-shard": (1, SMALL),
    "two-shards": (2, SMALL),
    "one-shard-large": (1, LARGE),
    "two-shards-large": (2, LARGE),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def played(request, tmp_path_factory):
    shards, shape = request.param
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    node = Node(tmp_path_factory.mktemp("node"), configuration({"shards": shards}))
    try:
        node.start()
        answers, seen = asyncio.run(asyncio.wait_for(run(node, seed, shape), PATIENCE_SECONDS))
        counters = node.counters()
        node.stop()
    finally:
        node.kill()
    witness = next(s for s in seen["websockets"] if s.stays and len(s.texts) > WRITES / 2)
    return History(witness.texts, answers), seen, counters, shape


@pytest.mark.parametrize("client", ["websockets", "node"])
def test_every_change_exactly_once_in_order(played, client):
    history, seen, _, shape = played
    if seen[client] is None:
        pytest.skip("there is no Node with a WebSocket of its own (20.10 or newer)")
    events = []
    for connection in seen[client]:
        events.append(history.follow(connection.texts, connection.mode == "item", connection.stays))
        assert connection.code in (None, 1000, 1005), "the node closed it"
    stayed = [count for count, connection in zip(events, seen[client], strict=True) if connection.stays]
    assert len(stayed) == len(shape.groups) + 1
    # One of them was in all groups, the others in one each.
    assert 2 * max(stayed) == sum(stayed) > (WRITES if shape.sends else 0.9 * WRITES)
    comers = len(events) - len(stayed)
    print(f"{client}: {sum(events)} events on {len(events)} connections, {comers} came and went")
    assert comers >= COMERS, f"only {comers} subscribers came and went"


def test_nobody_was_too_slow(played):
    _, _, counters, _ = played
    assert counters["slow_readers_closed"] == 0
    assert counters["protocol_errors"] == 0


# ---- The judge is judged


def told(timestamp, item, kind, data):
    event = {"type": kind, "event" if kind == "event" else "data": data}
    message = {"type": "stream", "timestamp": timestamp, "streamName": STREAM, "groupId": "g", "id": item}
    return json.dumps({**message, "event": event})


SYNC = told(1, None, "sync", [])
EVENTS = [
    told(2, "a", "create", 1),
    told(3, "a", "update", 2),
    told(5, "b", "create", 3),
    told(6, "a", "delete", 2),
]
ANSWERS = [
    Answer(0, "stream::set", "g", "a", None, 1, None),
    Answer(0, "stream::set", "g", "a", 1, 2, None),
    Answer(1, "stream::set", "g", "b", None, 3, None),
    Answer(0, "stream::delete", "g", "a", 2, None, None),
]
AFTER_TWO = told(4, None, "sync", [2])


@pytest.mark.parametrize(
    "witness, answers",
    [
        ([SYNC, *EVENTS[:-1]], ANSWERS),
        ([SYNC, *EVENTS, EVENTS[-1]], ANSWERS),
        ([SYNC, *EVENTS], ANSWERS[:-1]),
        ([SYNC, EVENTS[1], EVENTS[0], *EVENTS[2:]], ANSWERS),
        ([*EVENTS, SYNC], ANSWERS),
        ([SYNC, EVENTS[0], told(2, "a", "update", 2), *EVENTS[2:]], ANSWERS),
        ([SYNC, EVENTS[0], told(4, "b", "update", 2), *EVENTS[2:]], ANSWERS),
    ],
    ids=["loss", "repetition", "invention", "order", "late sync", "stamp", "item"],
)
def test_a_false_history_is_refused(witness, answers):
    with pytest.raises(Unfaithful):
        History(witness, answers)


@pytest.mark.parametrize(
    "texts, item_only",
    [
        ([SYNC, EVENTS[0], EVENTS[2]], False),
        ([SYNC, EVENTS[0], EVENTS[0]], False),
        ([SYNC, EVENTS[1], EVENTS[0]], False),
        ([AFTER_TWO, EVENTS[0]], False),
        ([told(2, None, "sync", [2])], False),
        ([told(9, None, "sync", [1]), EVENTS[1]], False),
        ([told(9, None, "sync", [3, 2])], False),
        ([SYNC, EVENTS[0], told(2, "a", "sync", 1), EVENTS[1]], False),
        ([told(1, "a", "sync", None), EVENTS[0], EVENTS[3]], True),
        ([told(2, "a", "sync", 1), EVENTS[1]], True),
        ([told(1, "a", "sync", None), EVENTS[0], EVENTS[2]], True),
    ],
    ids=range(11),
)
def test_an_unfaithful_connection_is_noticed(texts, item_only):
    history = History([SYNC, *EVENTS], ANSWERS)
    with pytest.raises(Unfaithful):
        history.follow(texts, item_only)


def test_faithful_connections_are_believed():
    history = History([SYNC, *EVENTS], ANSWERS)
    assert history.follow([SYNC, *EVENTS], to_end=True) == 4
    assert history.follow([AFTER_TWO, EVENTS[2]]) == 1
    assert history.follow([SYNC, EVENTS[0], AFTER_TWO, *EVENTS[2:]]) == 3
    assert history.follow([told(1, "a", "sync", None), EVENTS[0], EVENTS[1], EVENTS[3]], True) == 3
