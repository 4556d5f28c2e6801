"""A real disk that stalls and one that runs full: a file system of its own, frozen and filled. Needs root and a loop
device, and is skipped without."""

import json
import os
import subprocess
import threading
import time

import pytest

from calls import answer, call, invoke, store
from node import INSTRUMENTED, Node, configuration
from raw import PING, PONG, Raw, frame

MIB = 1 << 20


@pytest.fixture
def node(tmp_path, disk):
    home = tmp_path / "home"
    home.mkdir()
    node = Node(home, configuration({**store(disk / "store", segment_bytes=4 * MIB), "shards": 2})).start()
    yield node
    node.kill()


class Frozen:
    """Nothing reaches the file system for so long. What ends it is started first: it must end."""

    def __init__(self, point, seconds):
        self.end = subprocess.Popen(["sh", "-c", f"sleep {seconds}; fsfreeze -u {point}"])
        subprocess.run(["fsfreeze", "-f", point], check=True)

    def wait(self):
        assert self.end.wait(30) == 0


def test_a_disk_that_stalls_holds_up_only_its_own_changes(node, disk):
    quiet = Raw(node.worker_port).upgrade()
    groups = [f"g{i}" for i in range(16)]
    for group in groups:
        call(quiet, "stream::set", stream_name="s", group_id=group, item_id="i", data=1)
    writer = Raw(node.worker_port).upgrade()
    resident = node.resident_bytes()
    frozen = Frozen(disk, 1.2)
    began = time.monotonic()
    writer.send(invoke(1, "stream::set", {"stream_name": "s", "group_id": "g0", "item_id": "i", "data": 2}))
    readers = {}
    for group in groups:
        readers[group] = Raw(node.worker_port).upgrade()
        readers[group].send(invoke(1, "stream::list", {"stream_name": "s", "group_id": group}))
    # Far more than may wait: its caller is paused, and the node does not grow by it.
    flood = Raw(node.worker_port).upgrade()
    flood.socket.setblocking(False)
    message = invoke(2, "stream::set", {"stream_name": "s", "group_id": "g0", "item_id": "j", "data": "x" * 60000})
    sent, whole = 0, message * 1000
    deadline = began + 0.8
    while time.monotonic() < deadline:
        try:
            sent += flood.socket.send(whole[sent : sent + MIB])
        except BlockingIOError:
            time.sleep(0.01)
    assert sent < 40 * MIB, "its caller was never paused"
    assert node.resident_bytes() - resident < (192 if INSTRUMENTED else 48) * MIB
    quiet.send(frame(b"alive?", PING))
    assert quiet.frame() == (PONG, b"alive?")
    served = []
    for group, reader in readers.items():
        reader.socket.settimeout(0.01)
        try:
            assert answer(reader)["result"] == [1]
            served.append(group)
        except TimeoutError:
            pass
        reader.socket.settimeout(10)
    assert time.monotonic() - began < 1.2, "too slow to say anything"
    assert "g0" not in served, "a read saw past a change that the disk does not have"
    assert served, "the other shard's reads go on"
    frozen.wait()
    assert "result" in answer(writer)
    for group, reader in readers.items():
        if group not in served:
            assert "result" in answer(reader)
    flood.socket.setblocking(True)
    flood.socket.settimeout(10)
    flood.send(message[sent % len(message) :] if sent % len(message) else b"")
    for _ in range(-(-sent // len(message))):
        assert "result" in answer(flood)


def test_a_full_disk_refuses_changes_and_takes_them_again(node, disk):
    node.expected_errors = ["store_refuses"]
    connection = Raw(node.worker_port).upgrade()

    def put(i):
        return call(connection, "stream::set", stream_name="s", group_id=f"g{i % 8}", item_id="i", data="x" * 50000)

    with open(disk / "filler", "wb") as filler:
        try:
            while True:
                filler.write(bytes(MIB))
                filler.flush()
        except OSError:
            pass
    for i in range(1000):
        message = put(i)
        if "error" in message:
            break
    assert message["error"]["code"] == "STREAM_SET_ERROR"
    assert "No space left on device" in message["error"]["message"]
    assert node.counters()["store_unhealthy"] > 0
    assert "result" in call(connection, "stream::get", stream_name="s", group_id="g0", item_id="i")
    os.unlink(disk / "filler")
    deadline = time.monotonic() + 10
    while any("error" in put(group) for group in range(8)):  # Of both shards.
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not any("error" in put(i) for i in range(200))
    assert node.counters()["store_unhealthy"] == 0
    before = {g: len(json.dumps(call(connection, "stream::list", stream_name="s", group_id=f"g{g}")["result"])) for g in range(8)}
    node.kill()
    node.start()
    connection = Raw(node.worker_port).upgrade()
    assert before == {g: len(json.dumps(call(connection, "stream::list", stream_name="s", group_id=f"g{g}")["result"])) for g in range(8)}


@pytest.fixture
def failing_disk(tmp_path):
    """The mount point of a file system, and a function after which nothing can be written to its disk."""
    under, point = tmp_path / "under", tmp_path / "failing"
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")
    under.mkdir()
    point.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", under], capture_output=True).returncode != 0:
        pytest.skip("cannot mount")
    image = under / "disk.img"
    image.write_bytes(b"")
    os.truncate(image, 40 * MIB)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True)
    if made.returncode != 0 or subprocess.run(["mount", "-o", "loop", image, point], capture_output=True).returncode != 0:
        subprocess.run(["umount", "-l", under], check=True)
        pytest.skip("needs a loop device")

    def fail():
        os.truncate(image, 0)
        with open(under / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(MIB))
            except OSError:
                pass

    yield point, fail
    subprocess.run(["umount", "-l", point], check=True)
    subprocess.run(["umount", "-l", under], check=True)


@pytest.fixture
def start_on_failing_disk(tmp_path, failing_disk):
    """Starts a node with so many shards. Returns it and what makes its disk fail."""
    point, fail = failing_disk
    home = tmp_path / "home"
    home.mkdir()
    nodes = []

    def start(shards):
        nodes.append(Node(home, configuration({**store(point / "store", segment_bytes=MIB), "shards": shards})).start())
        return nodes[0], point, fail

    yield start
    for node in nodes:
        node.kill()


def test_a_disk_that_fails_poisons_the_store_and_reads_go_on(start_on_failing_disk):
    node, _, fail = start_on_failing_disk(2)
    connection = Raw(node.worker_port).upgrade()
    groups = [f"g{i}" for i in range(8)]
    for group in groups:
        for item in ("a", "b"):
            call(connection, "stream::set", stream_name="s", group_id=group, item_id=item, data=1)
    client = Raw(node.stream_port).upgrade("/stream/s/g0")
    assert json.loads(client.message())["event"] == {"type": "sync", "data": [1, 1]}
    fail()
    # One message: all of them are evaluated before any of them is answered.
    calls = []
    for group in groups:
        calls.append(("stream::set", {"item_id": "a", "data": 2}, group))
        calls.append(("stream::delete", {"item_id": "b"}, group))
        calls.append(("stream::update", {"item_id": "c", "ops": [{"type": "set", "path": "", "value": 3}]}, group))
        calls.append(("stream::get", {"item_id": "a"}, group))
        calls.append(("stream::list", {}, group))
    connection.send(b"".join(
        invoke(i, function, {"stream_name": "s", "group_id": group, **data})
        for i, (function, data, group) in enumerate(calls)))
    codes = {"stream::set": "STREAM_SET_ERROR", "stream::delete": "STREAM_DELETE_ERROR",
             "stream::update": "STREAM_UPDATE_ERROR", "stream::get": "STREAM_GET_ERROR",
             "stream::list": "STREAM_GET_GROUP_ERROR"}
    unknown = 0
    for i, (function, _, _) in enumerate(calls):
        message = answer(connection)
        assert message["invocation_id"] == str(i) and message["function_id"] == function
        if function in ("stream::get", "stream::list") and "result" in message:
            assert message["result"] in (1, [1, 1]), "a read saw what was taken back"
            continue
        assert message["error"]["code"] == codes[function], message
        unknown += "outcome is unknown" in message["error"]["message"]
    assert unknown > 0
    for group in groups:
        assert call(connection, "stream::list", stream_name="s", group_id=group)["result"] == [1, 1]
        refused = call(connection, "stream::set", stream_name="s", group_id=group, item_id="a", data=9)
        assert "until the node is started again" in refused["error"]["message"]
    late = Raw(node.stream_port).upgrade("/stream/s/g0")
    assert json.loads(late.message())["event"] == {"type": "sync", "data": [1, 1]}
    client.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.message()  # No event of what was taken back.
    counters = node.counters()
    assert counters["store_unhealthy"] > 0 and counters["answers_taken_back"] > 0


def join(name, item=None):
    data = {"subscriptionId": name, "streamName": "s", "groupId": "big", **({} if item is None else {"id": item})}
    return frame(json.dumps({"type": "join", "data": data}).encode())


def test_a_disk_that_fails_while_further_subscriptions_wait(start_on_failing_disk):
    """The group is large: it is read in steps, and what changes meanwhile is held back."""
    node, point, fail = start_on_failing_disk(1)
    writer = Raw(node.worker_port).upgrade()
    old = [str(i) + "x" * 100_000 for i in range(20)]
    for i, data in enumerate(old):
        call(writer, "stream::set", stream_name="s", group_id="big", item_id=f"i{i}", data=data)
    clients = [Raw(node.stream_port).upgrade() for _ in range(3)]
    for client, item in zip(clients, [None, None, "i3"], strict=True):
        client.send(join("one", item))
        assert json.loads(client.message())["event"] == {"type": "sync", "data": old if item is None else old[3]}
    subprocess.run(["fsfreeze", "-f", point], check=True)
    try:
        writer.send(b"".join(
            invoke(i, "stream::set", {"stream_name": "s", "group_id": "big", "item_id": f"i{i}", "data": "new"})
            for i in (3, 4)) + frame(b"set", PING))
        assert writer.frame() == (PONG, b"set")
        for client in clients:
            client.send(join("two") + frame(b"joined", PING))
            assert client.frame() == (PONG, b"joined")
        fail()
    finally:
        subprocess.run(["fsfreeze", "-u", point], check=True)
    for _ in range(2):
        assert "outcome is unknown" in answer(writer)["error"]["message"]
    for client in clients:
        assert json.loads(client.message())["event"] == {"type": "sync", "data": old}
        client.send(join("three"))
        assert json.loads(client.message())["event"] == {"type": "sync", "data": old}
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.message()  # No event of what was taken back.
    assert call(writer, "stream::list", stream_name="s", group_id="big")["result"] == old


@pytest.mark.parametrize("what", ["events", "answers"])
def test_what_waits_for_a_disk_that_stalls_is_charged_to_its_caller(tmp_path, disk, what):
    """Void events, and large answers of reads, wait behind a change that the disk does not have."""
    home, budget = tmp_path / "bounded", 2 * MIB
    home.mkdir()
    node = Node(
        home,
        configuration(
            {**store(disk / "store", segment_bytes=4 * MIB), "shards": 1},
            {"limits": {"worker_budget_bytes": budget}},
        ),
    ).start()
    try:
        reader = Raw(node.stream_port).upgrade("/stream/s/g")
        assert json.loads(reader.message())["event"]["type"] == "sync"
        writer, caller = Raw(node.worker_port).upgrade(), Raw(node.worker_port).upgrade()
        call(writer, "stream::set", stream_name="s", group_id="g", item_id="i", data="x" * 60000)
        assert json.loads(reader.message())["event"]["type"] == "create"
        caller.message()
        send = {"stream_name": "s", "group_id": "g", "type": "t", "data": "x" * 60000}
        message = {
            "events": frame(json.dumps({"type": "invokefunction", "function_id": "stream::send", "data": send})),
            "answers": invoke(1, "stream::get", {"stream_name": "s", "group_id": "g", "item_id": "i"}),
        }[what]
        frozen = Frozen(disk, 1.5)
        began = time.monotonic()
        writer.send(invoke(2, "stream::set", {"stream_name": "s", "group_id": "g", "item_id": "j", "data": "x"}))
        while node.counters()["waiting_outcomes_bytes"] == 0:
            assert time.monotonic() - began < 1
        count = 200
        sending = threading.Thread(target=lambda: caller.send(message * count))
        sending.start()
        while (counters := node.counters())["waiting_outcomes_bytes"] < budget or counters["calls_parked"] == 0:
            assert time.monotonic() - began < 1.4, json.dumps(counters)[:900]
        assert counters["waiting_outcomes_bytes"] < budget + 256 * 1024
        frozen.wait()
        if what == "answers":
            for _ in range(count):
                answer(caller)
        else:
            assert json.loads(reader.message())["event"]["type"] == "create"
            for _ in range(count):
                assert json.loads(reader.message())["event"]["type"] == "event"
        sending.join()
        while node.counters()["waiting_outcomes_bytes"] > 0:
            assert time.monotonic() - began < 20
    finally:
        node.kill()


def test_deletes_that_are_taken_back_are_where_they_were(start_on_failing_disk):
    """Each was once carried from the end of its group to its place: the time grew with the square."""
    node, point, fail = start_on_failing_disk(1)
    connection = Raw(node.worker_port).upgrade()
    connection.socket.settimeout(60)
    count = 60_000

    def calls(function, order, **more):
        return b"".join(
            invoke(i, function, {"stream_name": "s", "group_id": "g", "item_id": f"i{i}", **more}) for i in order)

    connection.send(calls("stream::set", range(count), data=1))
    for _ in range(count):
        assert "result" in answer(connection)
    listed = call(connection, "stream::list", stream_name="s", group_id="g")["result"]
    assert len(listed) == count
    for i in (0, 7, count - 1):
        call(connection, "stream::set", stream_name="s", group_id="g", item_id=f"i{i}", data=i)
    expected = call(connection, "stream::list", stream_name="s", group_id="g")["result"]
    assert [expected[i] for i in (0, 7, count - 1)] == [0, 7, count - 1]
    # In this order the last one taken back is the first of the group: the longest way for each.
    order = list(range(count))
    deleters = [Raw(node.worker_port).upgrade() for _ in range(count // 500)]
    subprocess.run(["fsfreeze", "-f", point], check=True)
    try:
        for i, deleter in enumerate(deleters):
            deleter.send(calls("stream::delete", order[500 * i : 500 * (i + 1)]) + frame(b"deleted", PING))
        for deleter in deleters:
            while deleter.frame() != (PONG, b"deleted"):
                pass  # A greeting.
        fail()
    finally:
        subprocess.run(["fsfreeze", "-u", point], check=True)
    before = node.cpu_seconds()
    for deleter in deleters:
        for _ in range(500):
            assert "error" in answer(deleter)
    assert node.cpu_seconds() - before < (20 if INSTRUMENTED else 4)
    assert call(connection, "stream::list", stream_name="s", group_id="g")["result"] == expected


def test_a_restart_on_a_full_disk_serves_what_there_is(node, disk):
    connection = Raw(node.worker_port).upgrade()
    for i in range(8):
        call(connection, "stream::set", stream_name="s", group_id=f"g{i}", item_id="i", data=i)
    connection.close()
    node.stop()
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    node.expected_errors = ["store_read_only", "store_refuses"]
    node.start()
    assert "No space left on device" in node.wait_for("store_read_only")["detail"]
    connection = Raw(node.worker_port).upgrade()
    for i in range(8):
        assert call(connection, "stream::get", stream_name="s", group_id=f"g{i}", item_id="i")["result"] == i
        refused = call(connection, "stream::set", stream_name="s", group_id=f"g{i}", item_id="i", data=9)
        assert refused["error"]["code"] == "STREAM_SET_ERROR"
    assert node.counters()["store_unhealthy"] == 2
    connection.close()
    node.stop()
    os.unlink(disk / "filler")
    node.expected_errors = []
    node.start()
    connection = Raw(node.worker_port).upgrade()
    for i in range(8):
        assert call(connection, "stream::get", stream_name="s", group_id=f"g{i}", item_id="i")["result"] == i
    assert "result" in call(connection, "stream::set", stream_name="s", group_id="g0", item_id="i", data=9)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts an empty file system of so many MiB."""
    points = []

    def mount(size):
        point = tmp_path / "small"
        point.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}m", "none"]
        if os.geteuid() != 0 or subprocess.run(["mount", *options, point], capture_output=True).returncode != 0:
            pytest.skip("needs root, to mount a file system")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", "-l", point], check=True)


@pytest.mark.parametrize(("size", "starts"), [(20, True), (4, True), (1, False)])
def test_sixteen_shards_start_where_little_room_is(tmp_path, small_disk, size, starts):
    """For 16 files of the least size and what comes first, and not for the files alone."""
    home = tmp_path / "home"
    home.mkdir()
    settings = {**store(small_disk(size) / "store", segment_bytes=32 * MIB), "shards": 16}
    node = Node(home, configuration(settings))
    node.expected_errors = ["store_refuses"]
    try:
        if not starts:
            assert node.launch().wait_exit() == 73
            assert "no room for the logs of 16 shards, of at least 64 KiB each" in node.tail()
            return
        node.start()
        connection = Raw(node.worker_port).upgrade()
        for i in range(64):
            assert "result" in call(connection, "stream::set", stream_name="s", group_id=f"g{i}", item_id="i", data=i)
        connection.close()
        node.stop()
    finally:
        node.kill()
