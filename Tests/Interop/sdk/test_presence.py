"""The presence example, end to end, on the published SDK: nothing lost, nothing twice."""

import json
import queue
import subprocess
import sys
import threading

import pytest

from clients import Subscriber, Worker
from conftest import SDK_VERSIONS, environment
from node import FULL, PROGRAMS

ROUNDS = 100 if FULL else 5


class Presence:
    """A process that runs `presence_worker.py`."""

    def __init__(self, version, url):
        self.told = queue.Queue()
        self.process = subprocess.Popen(
            [environment(f"sdk-{version}"), PROGRAMS / "presence_worker.py", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        assert self.next()["event"] == "ready"
        self.count = 0

    def _read(self):
        for line in self.process.stdout:
            self.told.put(json.loads(line))

    def next(self):
        return self.told.get(timeout=40)

    def take(self, kinds):
        """The next events, which must be of these kinds, in any order; those of one kind in theirs."""
        events = {kind: [] for kind in kinds}
        for _ in kinds:
            event = self.next()
            assert event["event"] in kinds, event
            events[event["event"]].append(event["data"])
        assert {kind: len(data) for kind, data in events.items()} == {
            kind: kinds.count(kind) for kind in kinds
        }
        return events

    def nothing_more(self):
        self.count += 1
        self.process.stdin.write(f"{self.count}\n")
        self.process.stdin.flush()
        assert self.next() == {"event": "marked", "mark": str(self.count)}

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


@pytest.fixture(params=SDK_VERSIONS)
def presence(request, start_node):
    """A node, and the worker on it."""
    node = start_node({"auth_function": "onAuth"})
    worker = Presence(request.param, node.worker_url())
    yield node, worker
    worker.close()


def play(node, presence, watcher, room):
    """Alice comes, Mallory may not, Bob comes and is killed, Alice goes."""
    path = f"/stream/presence/{room}/?user="
    online = {name: {"name": name, "online": True} for name in ("alice", "bob")}
    watcher.join("arrivals", room, subscription=room)
    assert watcher.event() == {"type": "sync", "data": []}
    with Subscriber(node.stream_url(path + "alice")) as alice:
        assert alice.event() == {"type": "sync", "data": [online["alice"]]}
        told = presence.take(["auth", "join", "condition", "change"])
        assert told["auth"][0]["path"] == f"/stream/presence/{room}/"
        assert told["join"][0]["context"] == {"name": "alice"}
        assert told["condition"] == told["change"]
        assert told["change"][0]["event"] == {"type": "create", "data": online["alice"]}
        assert watcher.event() == {"type": "create", "data": {"seen": "alice"}}

        with Subscriber(node.stream_url(path + "mallory")) as mallory:
            assert mallory.event() == {"type": "unauthorized"}
            told = presence.take(["auth", "join"])
            assert told["join"][0]["context"] == {"name": "mallory"}

        bob = subprocess.Popen(
            [sys.executable, PROGRAMS / "presence_client.py", str(node.stream_port), path + "bob"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            frame = json.loads(bob.stdout.readline())
            assert frame["event"] == {"type": "sync", "data": [online["alice"], online["bob"]]}
            told = presence.take(["auth", "join", "condition", "change"])
            assert told["join"][0]["context"] == {"name": "bob"}
            bobs_id = told["join"][0]["subscription_id"]
            assert alice.event() == {"type": "create", "data": online["bob"]}
            assert watcher.event() == {"type": "create", "data": {"seen": "bob"}}
        finally:
            bob.kill()
            bob.wait()
            bob.stdout.close()
        told = presence.take(["leave", "condition"])
        assert told["leave"][0]["context"] == {"name": "bob"}
        assert told["leave"][0]["subscription_id"] == bobs_id
        assert told["condition"][0]["event"] == {"type": "delete", "data": online["bob"]}
        assert alice.event() == {"type": "delete", "data": online["bob"]}
    told = presence.take(["leave", "condition"])
    assert told["leave"][0]["context"] == {"name": "alice"}
    watcher.leave("arrivals", room, subscription=room)
    presence.nothing_more()


def test_presence_loses_nothing_and_doubles_nothing(presence):
    node, worker = presence
    with Subscriber(node.stream_url("/?user=watcher")) as watcher:
        worker.take(["auth"])
        for number in range(ROUNDS):
            play(node, worker, watcher, f"room-{number}")
    with Worker(node.worker_url()) as caller:
        assert caller.result("stream::list_groups", stream_name="presence") == []
        groups = caller.result("stream::list_groups", stream_name="arrivals")
        assert sorted(groups) == sorted(f"room-{number}" for number in range(ROUNDS))
        for group in groups:
            assert caller.list("arrivals", group) == [{"seen": "alice"}, {"seen": "bob"}]
