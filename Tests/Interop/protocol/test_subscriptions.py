"""Connections with many subscriptions: what they are sent, and what their coming and going costs others."""

import json
import random
import time

import pytest

from clients import Subscriber, Worker
from executor import Executor
from probe import Probe
from raw import Raw, frame

SEED = random.randrange(1 << 32)
SUBSCRIPTIONS = 1000


def join(subscription, group, item=None):
    data = {"subscriptionId": subscription, "streamName": "s", "groupId": group}
    return frame(json.dumps({"type": "join", "data": data if item is None else {**data, "id": item}}))


def wait_until(node, **values):
    """Until the counters have these values."""
    deadline = time.monotonic() + 10
    while (seen := {name: node.counters()[name] for name in values}) != values:
        assert time.monotonic() < deadline, seen


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("kind", ["one item", "one group", "many groups"])
def test_subscriptions_cost_the_same_however_many_there_are(start_node, kind, shards):
    """Sixty clients with a thousand each took five seconds of work before, one of them in one piece."""
    node = start_node({"shards": shards})
    places = {"one item": lambda n: ("g", "i"), "one group": lambda n: ("g", f"i{n}"), "many groups": lambda n: (f"g{n}", None)}
    # Clients wait for the answers of a part of their joins before they send more.
    joins = [join(f"{number}", *places[kind](number)) for number in range(SUBSCRIPTIONS)]
    clients = []
    with Worker(node.worker_url()) as worker, Probe(node) as probe:
        before = node.cpu_seconds()
        for _ in range(60):
            client = Raw(node.stream_port).upgrade()
            clients.append(client)
            client.send(b"".join(joins))
            for _ in range(SUBSCRIPTIONS):
                assert b'"sync"' in client.message()
        group, item = places[kind](7)
        worker.set("s", group, item or "i", 1)
        worker.set("s", group, item or "i", 2)
        for client in clients:  # Once each, whatever it has.
            assert [json.loads(client.message())["event"]["data"] for _ in range(2)] == [1, 2]
        for client in clients:
            client.close()
        wait_until(node, subscriptions=0, topics=0)
        assert node.cpu_seconds() - before < 2.5
    assert probe.p99() < 0.25


def test_leaves_of_who_has_gone_fire_once_each(start_node):
    node = start_node({"shards": 2})
    with Executor(node.worker_url()) as worker:
        worker.serve("left", None)
        worker.trigger("stream:leave", "left")
        with Subscriber(node.stream_url()) as client:
            for number in range(SUBSCRIPTIONS):
                client.join("s", f"g{number % 3}", item=f"i{number % 7}", subscription=f"{number}")
            for _ in range(SUBSCRIPTIONS):
                assert client.event()["type"] == "sync"
        left = [worker.called("left").data["subscription_id"] for _ in range(SUBSCRIPTIONS)]
        assert sorted(left, key=int) == [f"{number}" for number in range(SUBSCRIPTIONS)]
        wait_until(node, subscriptions=0, topics=0)


@pytest.mark.parametrize("shards", [1, 3])
def test_joins_and_leaves_in_any_order(start_node, shards):
    """One client joins and leaves groups and items under ids that it uses again; a change reaches it once, or not at all."""
    print(f"seed {SEED}")
    draw = random.Random(SEED)
    node = start_node({"shards": shards})
    groups, items = ["a", "b", "c"], [f"i{number}" for number in range(9)]
    held = {}  # Subscription id: group and item.
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as client:
        for version in range(1500):
            subscription = f"{draw.randrange(12 if version < 500 else 60)}"
            if draw.random() < (0.65 if version < 1100 else 0.2):
                held[subscription] = draw.choice(groups), draw.choice([*items, *items, None])
                client.join("s", *held[subscription], subscription=subscription)
                assert client.event()["type"] == "sync"
            elif subscription in held:
                client.leave("s", held.pop(subscription)[0], subscription=subscription)
            if version % 4:
                continue
            group, item = draw.choice(groups), draw.choice(items)
            # A join of the group is answered behind what has left before, and before what comes after.
            client.join("s", group, item="nobody's", subscription="mark")
            assert client.event() == {"type": "sync", "data": None}
            worker.set("s", group, item, version)
            client.join("s", group, item="nobody's", subscription="mark")
            if (group, item) in held.values() or (group, None) in held.values():
                event = client.event()
                assert (event["type"] in ("create", "update"), event["data"]) == (True, version)
            assert client.event() == {"type": "sync", "data": None}
    wait_until(node, subscriptions=0, topics=0)
