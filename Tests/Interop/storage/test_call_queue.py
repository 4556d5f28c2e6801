"""Calls that wait at the owner of their group: for room in the log, behind a list, for their share of a shard's
time. Each list of waiters is filled in every durability mode, on one shard and on several."""

import json
import os
import socket
import subprocess
import threading
import time

import pytest

from calls import answer, call, invoke, store
from node import INSTRUMENTED, Node, configuration
from raw import Raw, frame

MIB = 1 << 20
MODES = ("commit", "interval", "none")
SHARDS = (1, 2, 4)


def end(node, *peers):
    """Ends the node in peace. Peers that do not answer its close would be waited for."""
    for peer in peers:
        peer.socket.close()
    node.stop()


def start(tmp_path, stream):
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return Node(home, configuration(stream)).start()


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("durability", MODES)
def test_more_than_may_wait_for_the_log_is_answered_in_every_mode(tmp_path, durability, shards):
    """Each group gets 8 MB at once, twice of what may wait, and others read and join meanwhile."""
    settings = {**store(tmp_path / "store", segment_bytes=4 * MIB, durability=durability), "shards": shards}
    node = start(tmp_path, settings)
    try:
        workers = [Raw(node.worker_port).upgrade() for _ in range(4)]
        data = {"stream_name": "s", "data": "x" * MIB}
        for n, worker in enumerate(workers):
            worker.send(b"".join(invoke(i, "stream::set", {**data, "group_id": f"g{n}", "item_id": str(i)}) for i in range(8)))
            worker.send(invoke(8, "stream::get", {"stream_name": "s", "group_id": f"g{n}", "item_id": "7"}))
        for n in range(8):
            client = Raw(node.stream_port).upgrade(f"/stream/other/g{n}")
            assert json.loads(client.message())["event"] == {"type": "sync", "data": []}
            client.socket.close()
        for worker in workers:
            for i in range(9):
                message = answer(worker)
                assert message["invocation_id"] == str(i) and "result" in message
        late = [Raw(node.worker_port).upgrade() for _ in range(4)]
        for n in range(4):
            read = call(late[n], "stream::get", stream_name="s", group_id=f"g{n}", item_id="7")
            assert len(read["result"]) == MIB
        end(node, *workers, *late)
    finally:
        node.kill()


@pytest.fixture
def small_disk(tmp_path):
    """The mount point of an empty file system of 48 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    made = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "none", point], capture_output=True).returncode == 0
    if not made:
        pytest.skip("needs root, to mount a file system")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("durability", MODES)
def test_a_full_disk_refuses_changes_and_reads_go_on_in_every_mode(tmp_path, small_disk, durability, shards):
    settings = {**store(small_disk / "store", segment_bytes=MIB, durability=durability), "shards": shards}
    node = start(tmp_path, settings)
    node.expected_errors = ["store_refuses", "snapshot_failed"]
    try:
        worker = Raw(node.worker_port).upgrade()
        for n in range(8):
            assert "result" in call(worker, "stream::set", stream_name="s", group_id=f"g{n}", item_id="small", data=n)
        data = {"stream_name": "s", "data": "x" * 500_000}
        for burst in range(6):
            worker.send(b"".join(
                invoke(i, "stream::set", {**data, "group_id": f"g{i % 8}", "item_id": f"{burst}-{i}"}) for i in range(24)))
            answers = [answer(worker) for _ in range(24)]
            assert all("result" in a or a["error"]["code"] == "STREAM_SET_ERROR" for a in answers)
            if burst > 3:
                assert any("error" in a for a in answers), "the disk is not full"
        for n in range(8):
            assert call(worker, "stream::get", stream_name="s", group_id=f"g{n}", item_id="small")["result"] == n
            client = Raw(node.stream_port).upgrade(f"/stream/s/g{n}/small")
            assert json.loads(client.message())["event"] == {"type": "sync", "data": n}
    finally:
        node.kill()


class Frozen:
    """A file system to which nothing gets until `end`."""

    def __init__(self, point):
        self.point = point
        subprocess.run(["fsfreeze", "-f", point], check=True)

    def end(self):
        subprocess.run(["fsfreeze", "-u", self.point], check=True)


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("durability", ["interval", "none"])
def test_reads_do_not_wait_for_a_disk_that_stalls(tmp_path, disk, durability, shards):
    """Where changes are answered at once, only a caller whose changes have no room left waits."""
    settings = {**store(disk / "store", segment_bytes=4 * MIB, durability=durability), "shards": shards}
    node = start(tmp_path, settings)
    try:
        reader = Raw(node.worker_port).upgrade()
        for n in range(8):
            call(reader, "stream::set", stream_name="s", group_id=f"g{n}", item_id="i", data=n)
        frozen = Frozen(disk)
        try:
            writers = [Raw(node.worker_port).upgrade() for _ in range(4)]
            for n, writer in enumerate(writers):
                data = {"stream_name": "s", "group_id": f"g{n}", "data": "x" * MIB}
                whole = b"".join(invoke(i, "stream::set", {**data, "item_id": str(i)}) for i in range(12))
                threading.Thread(target=writer.send, args=(whole,), daemon=True).start()  # They are read no further.
            for n in range(8):
                assert call(reader, "stream::get", stream_name="s", group_id=f"g{n}", item_id="i")["result"] == n
                client = Raw(node.stream_port).upgrade(f"/stream/s/g{n}/i")
                assert json.loads(client.message())["event"] == {"type": "sync", "data": n}
                client.socket.close()
        finally:
            frozen.end()
        for writer in writers:
            for i in range(12):
                message = answer(writer)
                assert message["invocation_id"] == str(i) and "result" in message
        end(node, reader, *writers)
    finally:
        node.kill()


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("durability", ["interval", "none"])
def test_what_is_answered_outlives_a_kill_while_the_disk_stalls(tmp_path, disk, durability, shards):
    """An answer means that the kernel has the change, which a file system that stands still does not take."""
    settings = {**store(disk / "store", segment_bytes=4 * MIB, durability=durability), "shards": shards}
    node = start(tmp_path, settings)
    try:
        writer = Raw(node.worker_port).upgrade()
        known = {f"i{n}": n for n in range(200)}
        for item, n in known.items():
            assert "result" in call(writer, "stream::set", stream_name="s", group_id=f"g{n % 8}", item_id=item, data=n)
        frozen = Frozen(disk)
        try:
            writer.socket.settimeout(0.3)
            for n in range(200, 400):
                call(writer, "stream::set", stream_name="s", group_id=f"g{n % 8}", item_id=f"i{n}", data=n)
                known[f"i{n}"] = n
        except TimeoutError:
            pass
        finally:
            node.process.kill()
            frozen.end()
        node.kill()
        node.start()
        reader = Raw(node.worker_port).upgrade()
        for item, n in known.items():
            assert call(reader, "stream::get", stream_name="s", group_id=f"g{n % 8}", item_id=item)["result"] == n
    finally:
        node.kill()


@pytest.mark.parametrize("durability", MODES)
def test_one_change_that_is_too_large_for_the_disk_leaves_the_others_theirs(tmp_path, small_disk, durability):
    settings = {**store(small_disk / "store", segment_bytes=4 * MIB, durability=durability), "shards": 1,
                "limits": {"value_bytes": 16 * MIB}}
    node = start(tmp_path, settings)
    node.expected_errors = ["store_refuses"]
    try:
        worker = Raw(node.worker_port).upgrade()
        free = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - 8 * MIB))
        large = {"stream_name": "s", "group_id": "g", "item_id": "large", "data": "x" * (9 * MIB)}
        assert call(worker, "stream::set", **large)["error"]["code"] == "STREAM_SET_ERROR"
        for n in range(600):  # More than the current file has room for.
            small = call(worker, "stream::set", stream_name="s", group_id="g", item_id=f"i{n % 10}", data="x" * 10000)
            assert "result" in small, f"{n}: {small}"
        assert call(worker, "stream::set", **large)["error"]["code"] == "STREAM_SET_ERROR"
        assert "result" in call(worker, "stream::set", stream_name="s", group_id="g", item_id="i", data=1)
    finally:
        node.kill()


def test_an_empty_store_is_small_and_its_files_grow_with_the_load(tmp_path):
    node = start(tmp_path, {"adapter": {"name": "kv", "config": {
        "store_method": "file_based", "file_path": str(tmp_path / "store")}}, "shards": 4})
    try:
        size = sum(path.stat().st_blocks * 512 for path in (tmp_path / "store").iterdir())
        assert size <= 4 * 2 * 65536, "a file of 64 KiB a shard"
        worker = Raw(node.worker_port).upgrade()
        for n in range(24):
            call(worker, "stream::set", stream_name="s", group_id="g", item_id=f"i{n % 4}", data="x" * MIB)
        largest = max(path.stat().st_size for path in (tmp_path / "store").glob("*.log"))
        assert largest >= 4 * MIB
    finally:
        node.kill()


def fill(worker, group, count, data):
    for begin in range(0, count, 1000):
        calls = range(begin, min(begin + 1000, count))
        worker.send(b"".join(
            invoke(i, "stream::set", {"stream_name": "s", "group_id": group, "item_id": f"i{i}", "data": data}) for i in calls))
        for _ in calls:
            assert "result" in answer(worker)


@pytest.mark.parametrize("shards", SHARDS)
def test_calls_behind_a_list_wait_in_their_order(tmp_path, shards):
    """Each worker asks for a list that is read in steps, and then for more than a ring of answers holds at first."""
    node = start(tmp_path, {"shards": shards})
    try:
        first = Raw(node.worker_port).upgrade()
        for n in range(4):
            fill(first, f"g{n}", 1000, "x" * 1000)
        workers = [Raw(node.worker_port).upgrade() for _ in range(8)]
        for n, worker in enumerate(workers):
            group = {"stream_name": "s", "group_id": f"g{n % 4}"}
            worker.send(invoke(0, "stream::list", group) + b"".join(
                invoke(i, "stream::update", {"stream_name": "n", "group_id": f"g{n % 4}", "item_id": f"w{n}",
                                             "ops": [{"type": "increment", "path": "n", "by": 1}]})
                for i in range(1, 400)))
        for worker in workers:
            assert len(answer(worker)["result"]) == 1000
            for i in range(1, 400):
                message = answer(worker)
                assert message["invocation_id"] == str(i) and message["result"]["new_value"]["n"] == i
        end(node, first, *workers)
    finally:
        node.kill()


def void(function, data):
    return frame(json.dumps({"type": "invokefunction", "function_id": function, "data": data, "action": {"type": "void"}}))


@pytest.mark.parametrize("shards", SHARDS)
def test_long_updates_of_one_worker_leave_the_others_their_time(tmp_path, shards):
    """While 100 updates of an item of 4 MB wait, of a sender that has gone, another worker is answered between them."""
    node = start(tmp_path, {"shards": shards})
    try:
        worker = Raw(node.worker_port).upgrade()
        item = {"stream_name": "s", "group_id": "g", "item_id": "large"}
        rows = [{"n": i, "text": "x" * 40} for i in range(70_000)]
        assert "result" in call(worker, "stream::set", **item, data={"n": 0, "rows": rows})
        sender = Raw(node.worker_port).upgrade()
        sender.send(b"".join(void("stream::update", {**item, "ops": [{"type": "increment", "path": "n", "by": 1}]}) for _ in range(100)))
        sender.socket.shutdown(socket.SHUT_WR)  # An end in order: what it has sent counts.
        longest = 0
        while True:
            began = time.monotonic()
            call(worker, "stream::set", stream_name="s", group_id="g", item_id="other", data=1)
            longest = max(longest, time.monotonic() - began)
            counters = node.counters()
            if counters["calls"] >= 102 and counters["calls_queued"] > 0 and counters["calls_waiting"] == 0:
                break
        assert call(worker, "stream::get", **item)["result"]["n"] == 100
        assert longest < (5 if INSTRUMENTED else 0.5)
        end(node, worker)
    finally:
        node.kill()


@pytest.mark.parametrize("shards", SHARDS)
def test_a_read_that_nobody_waits_for_is_not_computed(tmp_path, shards):
    node = start(tmp_path, {"shards": shards})
    try:
        worker = Raw(node.worker_port).upgrade()
        fill(worker, "g", 100, "x")
        reads = ("stream::list", "stream::list_all", "stream::list_groups", "stream::get")
        group = {"stream_name": "s", "group_id": "g", "item_id": "i1"}
        worker.send(b"".join(void(function, group) for function in reads for _ in range(50)))
        assert call(worker, "stream::get", **group)["result"] == "x"
        assert node.counters()["reads_dropped"] == 200
        end(node, worker)
    finally:
        node.kill()
