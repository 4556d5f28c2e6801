"""The limits of the front door, on both sides of each: connections of an address, upgrades, messages and joins in a second,
descriptors. (Connections in all, and peers that wait to be let in: test_limits.py, test_waiting.py.)"""

import json
import pathlib
import resource
import socket
import time

import pytest
from clients import Subscriber, Worker
from raw import HANDSHAKE, Ended, Raw, frame

PATIENCE_SECONDS = 10


def raw_from(address, port):
    """A connection from another address of this host: all of 127.0.0.0/8 are."""
    peer = Raw.__new__(Raw)
    peer.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS, source_address=(address, 0))
    peer.buffer = bytearray()
    return peer


def answer(peer):
    """The response head to an upgrade; empty when the node hung up without one."""
    peer.send(HANDSHAKE.format(path="/").encode())
    try:
        return peer.head()
    except Ended:
        return ""


def status(peer):
    head = answer(peer)
    return int(head.split(" ")[1]) if head else 0


def until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline


def let_in(address, port):
    """A connection from `address` that is upgraded, or None."""
    peer = raw_from(address, port)
    if status(peer) == 101:
        return peer
    peer.close()
    return None


# ---- Connections of an address


@pytest.mark.parametrize("shards", [1, 4])
def test_an_address_has_as_many_connections_as_it_may_and_others_have_theirs(start_node, shards):
    node = start_node({"limits": {"connections_per_address": 2}, "shards": shards})
    first = [raw_from("127.0.0.2", node.stream_port) for _ in range(2)]
    assert [status(peer) for peer in first] == [101, 101]
    assert node.counters()["addresses_refused"] == 0
    with raw_from("127.0.0.2", node.stream_port) as over:
        head = answer(over)
        assert head.startswith("HTTP/1.1 503 ") and "\r\nRetry-After: 2\r\n" in head
    with raw_from("127.0.0.2", node.worker_port) as over:  # The ports together.
        assert status(over) == 101
        assert over.close_code() == 1012
    counters = node.counters()
    assert counters["addresses_refused"] == counters["connections_refused"] == 2
    assert "of 2 for an address" in node.wait_for("connections_refused")["detail"]
    with raw_from("127.0.0.3", node.stream_port) as other, Worker(node.worker_url()) as worker:
        assert status(other) == 101
        assert worker.set("s", "g", "i", 1)["new_value"] == 1
        first.pop().close()
        until(lambda: (peer := let_in("127.0.0.2", node.stream_port)) and first.append(peer) is None)
    for peer in first:
        peer.close()


def test_connections_that_have_gone_count_no_more(start_node):
    """Of many addresses, ended in different ways and states. Afterwards each may have its full number again, and no more."""
    node = start_node({"limits": {"connections_per_address": 2, "turned_away": 64}, "shards": 2})
    addresses = [f"127.0.1.{number}" for number in range(1, 31)]
    for way in range(4):
        peers = [raw_from(address, node.stream_port) for address in addresses for _ in range(3)]
        for number, peer in enumerate(peers):
            if way > 1:
                status(peer)  # 101, or 503 of the third.
            peer.reset() if (way + number) % 2 else peer.close()
    until(lambda: node.counters()["stream_connections"] == 0)
    for address in addresses:
        peers = []
        until(lambda: (peer := let_in(address, node.stream_port)) and peers.append(peer) is None and len(peers) == 2)
        with raw_from(address, node.stream_port) as over:
            assert status(over) == 503
        for peer in peers:
            peer.close()


def test_an_address_over_its_limit_does_not_keep_workers_of_others_out(start_node):
    """The door has places for a few that are to be answered. One address gets no more than half of them."""
    node = start_node({"limits": {"connections_per_address": 1, "turned_away": 4}, "shards": 2})
    flood = [raw_from("127.0.0.2", node.worker_port) for _ in range(12)]
    until(lambda: node.counters()["addresses_refused"] == 11)
    with Worker(node.worker_url()) as worker:
        assert worker.set("s", "g", "i", 1)["new_value"] == 1
    counters = node.counters()
    assert (counters["accepts_paused"], counters["connections_accepted"]) == (0, 13)
    for peer in flood:
        peer.close()


# ---- Upgrades in a second


def test_upgrades_at_their_rate_are_let_in_and_further_ones_turned_away(start_node):
    node = start_node({"limits": {"handshakes_per_second": 10}, "shards": 2})
    began = time.monotonic()
    peers = [Raw(node.stream_port) for _ in range(30)]
    heads = [answer(peer) for peer in peers]
    seconds = time.monotonic() - began
    entered = sum(head.startswith("HTTP/1.1 101 ") for head in heads)
    assert 10 <= entered <= 11 + 10 * seconds
    refused = [head for head in heads if not head.startswith("HTTP/1.1 101 ")]
    assert all(head.startswith("HTTP/1.1 503 ") and "\r\nRetry-After: 2\r\n" in head for head in refused)
    assert node.counters()["handshakes_over_rate"] == len(refused)
    for peer in peers:
        peer.close()
    until(lambda: let_in("127.0.0.1", node.stream_port))


def test_workers_over_the_rate_of_upgrades_are_closed_with_1012(start_node):
    node = start_node({"limits": {"handshakes_per_second": 1}})
    peers = [Raw(node.worker_port).upgrade() for _ in range(3)]
    codes = []
    for peer in peers[1:]:
        codes.append(peer.close_code())
    assert codes == [1012, 1012]
    counters = node.counters()
    assert (counters["handshakes_over_rate"], counters["workers_turned_away"]) == (2, 2)
    peers[0].close()

    def registered():
        with Raw(node.worker_port).upgrade() as peer:
            opcode, payload = peer.frame()
            return opcode == 1 and json.loads(payload)["type"] == "workerregistered"

    until(registered)


def test_upgrades_within_their_rate_are_not_counted(start_node):
    node = start_node({"limits": {"handshakes_per_second": 20}})
    peers = [Raw(node.stream_port).upgrade() for _ in range(20)]
    assert node.counters()["handshakes_over_rate"] == 0
    for peer in peers:
        peer.close()


# ---- Messages and joins in a second

RATE = 40


def joins(first, count):
    return b"".join(
        frame(json.dumps({"type": "join", "data": {"subscriptionId": f"s{i}", "streamName": "s", "groupId": f"g{i}"}}))
        for i in range(first, first + count)
    )


def syncs(peer, count):
    """The groups of the next `count` messages, each a `sync`."""
    seen = [json.loads(peer.message()) for _ in range(count)]
    assert {message["event"]["type"] for message in seen} == {"sync"}
    return [message["groupId"] for message in seen]


@pytest.mark.parametrize("setting, counter", [("joins_per_second", "joins_paced"), ("messages_per_second", "messages_paced")])
def test_a_client_over_its_rate_is_read_no_faster_and_loses_nothing(start_node, setting, counter):
    """One more than a second's worth passes at once, and the rest at an even pace, in order; nobody else waits for that."""
    node = start_node({"limits": {setting: RATE}})
    with Raw(node.stream_port).upgrade() as fast, Subscriber(node.stream_url()) as other:
        began = time.monotonic()
        fast.send(joins(0, RATE + 1))
        first = syncs(fast, 1)
        fast.send(joins(RATE + 1, RATE))
        other.join("s", "g0")
        assert other.event()["type"] == "sync"
        assert first + syncs(fast, 2 * RATE) == [f"g{i}" for i in range(2 * RATE + 1)]
        assert time.monotonic() - began >= 0.9
        counters = node.counters()
        assert counters[counter] >= 1 and counters["stream_connections"] == 2
        fast.send(frame(b"still there", opcode=9))
        assert fast.frame() == (10, b"still there")


@pytest.mark.parametrize("setting, counter", [("joins_per_second", "joins_paced"), ("messages_per_second", "messages_paced")])
def test_a_client_within_its_rate_is_not_slowed(start_node, setting, counter):
    node = start_node({"limits": {setting: RATE}})
    with Raw(node.stream_port).upgrade() as client:
        client.send(joins(0, RATE))
        assert syncs(client, RATE) == [f"g{i}" for i in range(RATE)]
        assert node.counters()[counter] == 0


def test_messages_that_say_nothing_count_too(start_node):
    """Text that is no join costs a look at it, and a line of the log."""
    node = start_node({"limits": {"messages_per_second": RATE}})
    with Raw(node.stream_port).upgrade() as client:
        client.send(b"".join(frame(b"nonsense") for _ in range(2 * RATE + 1)) + joins(0, 1))
        assert syncs(client, 1) == ["g0"]
        counters = node.counters()
        assert counters["messages_paced"] >= 1 and counters["messages_invalid"] == 2 * RATE + 1


def test_a_client_that_waits_for_its_pace_may_go(start_node):
    """Its end is seen though it is not read: nothing is left of it, and the slot is another's at once, with a pace of its own."""
    node = start_node({"limits": {"messages_per_second": 1, "joins_per_second": 1}, "shards": 1})
    for _ in range(3):
        with Raw(node.stream_port).upgrade() as fast:
            fast.send(joins(0, 50))
            assert syncs(fast, 1) == ["g0"]
    until(lambda: node.counters()["stream_connections"] == 0)
    assert node.counters()["waiting_unfinished_bytes"] == node.counters()["waiting_parked_bytes"] == 0


# ---- Descriptors


def open_descriptors(node):
    return len(list(pathlib.Path(f"/proc/{node.process.pid}/fd").iterdir()))


def test_without_descriptors_the_node_waits_at_rest_and_accepts_when_they_are_back(start_node):
    """The system takes descriptors away that the node has counted on: a lower limit, or others that use up the host's.
    On epoll, since a ring's accept that is under way keeps to the limit with which it began; ListenerTests has both."""
    node = start_node({"shards": 2, "io": "epoll"})
    soft, hard = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url("/stream/s/g")) as client:
        assert client.event()["type"] == "sync"
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (open_descriptors(node), hard))
        waiting = [Raw(node.stream_port) for _ in range(8)]
        for peer in waiting:
            peer.send(HANDSHAKE.format(path="/").encode())
        before = node.counters()["accepts_failed"]
        until(lambda: node.counters()["accepts_failed"] >= before + 4)
        # At most one try of each listener in 50 ms: a node that asks again at once makes thousands.
        began, busy, failed = time.monotonic(), node.cpu_seconds(), node.counters()["accepts_failed"]
        until(lambda: time.monotonic() - began > 0.6)
        seconds = time.monotonic() - began
        assert node.counters()["accepts_failed"] - failed <= 3 * (seconds / 0.05 + 2)
        assert node.cpu_seconds() - busy < 0.5 * seconds
        worker.set("s", "g", "i", 1)  # Those that are in are served.
        assert client.event()["type"] == "create"
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert [peer.status() for peer in waiting] == [101] * 8
        for peer in waiting:
            peer.close()
