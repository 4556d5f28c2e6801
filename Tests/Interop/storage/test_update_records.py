"""An update of a large value is logged as its operations: what that writes, what a start makes of it, and what a start
refuses. docs/wal-format.md, "Update"."""

import json
import pathlib
import shutil
import struct

import pytest

from calls import call, invoke
from directories import VECTORS, log_with_batches, run
from raw import TEXT, Raw, frame

KIB = 1024
MIB = 1024 * KIB
RECORD = struct.Struct("<IBBHHHIQQQ")
UPDATE = struct.Struct("<IIII")


class Patient(Raw):
    """Takes messages of several fragments, and its time."""

    def __init__(self, node):
        super().__init__(node.worker_port)
        self.socket.settimeout(60)
        self.upgrade()

    def message(self):
        whole = b""
        while True:
            first, second = self._take(2)
            size = second if second < 126 else int.from_bytes(self._take(2 if second == 126 else 8), "big")
            payload = self._take(size)
            if first & 0x0F in (0, TEXT):
                whole += payload
                if first & 0x80:
                    return whole


def increment(connection, item="i", by=1):
    return call(connection, "stream::update", stream_name="s", group_id="g", item_id=item,
                ops=[{"type": "increment", "path": "n", "by": by}])


def put(connection, pad, item="i"):
    assert "error" not in call(connection, "stream::set", stream_name="s", group_id="g", item_id=item,
                               data={"n": 0, "pad": pad})


def get(connection, item="i"):
    return call(connection, "stream::get", stream_name="s", group_id="g", item_id=item)["result"]


def text_of(connection):
    """The answer of a get as it is written."""
    connection.send(invoke(1, "stream::get", {"stream_name": "s", "group_id": "g", "item_id": "i"}))
    while True:
        text = connection.message()
        if json.loads(text)["type"] == "invocationresult":
            return text


def void_increments(connection, count):
    """Without answers, each of which would have the value before and behind it."""
    data = {"stream_name": "s", "group_id": "g", "item_id": "i", "ops": [{"type": "increment", "path": "n", "by": 1}]}
    message = json.dumps({"type": "invokefunction", "function_id": "stream::update", "data": data})
    for _ in range(count):
        connection.send(frame(message))


def test_increments_of_a_large_item_write_little_and_survive_a_kill(tmp_path, start_on):  # noqa: F811
    folder, pad = tmp_path / "store", "x" * 15_000_000
    more = {"segment_bytes": 32 * MIB}
    node = start_on(folder, **more)
    connection = Patient(node)
    put(connection, pad)
    void_increments(connection, 20)
    assert get(connection) == {"n": 20, "pad": pad}, "a read waits until what it shows is durable"
    void_increments(connection, 20)
    node.kill()
    connection.close()
    node = start_on(folder, **more)
    connection = Patient(node)
    value = get(connection)
    assert 20 <= value["n"] <= 40 and value["pad"] == pad
    before = node.counters()
    void_increments(connection, 100)
    assert get(connection)["n"] == value["n"] + 100
    after = node.counters()
    assert after["log_updates"] - before["log_updates"] == 100
    assert after["log_bytes_written"] - before["log_bytes_written"] < MIB
    connection.close()
    node.stop()
    node = start_on(folder, **more)
    connection = Patient(node)
    assert get(connection) == {"n": value["n"] + 100, "pad": pad}
    connection.close()


def test_every_operation_is_made_again_as_it_was(tmp_path, start_on):  # noqa: F811
    """Numbers to the last bit, members in their order, what failed as it failed."""
    folder = tmp_path / "store"
    node = start_on(folder, segment_bytes=MIB)
    connection = Raw(node.worker_port).upgrade()
    base = {"f": 0.1, "u": 2**64 - 1, "s": "ab", "l": [1.5], "o": {"a": 1}, "gone": 1, "pad": "é" * 8000}
    call(connection, "stream::set", stream_name="s", group_id="g", item_id="i", data=base)
    operations = [
        [{"type": "increment", "path": "f", "by": 1}], [{"type": "decrement", "path": "u", "by": 2}],
        [{"type": "increment", "path": "f", "by": 1}, {"type": "increment", "path": "s", "by": 1}],
        [{"type": "append", "path": "s", "value": "c\u00e9\u0001"}], [{"type": "append", "path": "l", "value": {"x": -0.0}}],
        [{"type": "merge", "path": "o", "value": {"b": 1e300, "a": None}}], [{"type": "remove", "path": "gone"}],
        [{"type": "set", "path": "new", "value": {"deep": [[1]]}}], [{"type": "increment", "path": "many", "by": 9}],
        [{"type": "merge", "path": ["x", "y"], "value": {"z": 3}}], [{"type": "increment", "path": "u", "by": 5}],
    ]
    before = node.counters()["log_updates"]
    for ops in operations:
        answer = call(connection, "stream::update", stream_name="s", group_id="g", item_id="i", ops=ops)
        assert "error" not in answer
    assert node.counters()["log_updates"] - before == len(operations)
    text = text_of(connection)
    connection.close()
    node.kill()
    inspected = [json.loads(line) for line in run("inspect", folder).stdout.splitlines()]
    assert [line["operations"] for line in inspected if line.get("kind") == "update"] == operations
    done = run("verify", folder)
    assert done.returncode == 0 and "is in order" in done.stdout
    node = start_on(folder)
    connection = Raw(node.worker_port).upgrade()
    assert text_of(connection) == text
    connection.close()


@pytest.mark.parametrize("size, ops, logged", [
    (KIB, 100, True), (KIB - 1, 100, False), (16 * KIB, 2000, True), (16 * KIB, 2049, False)])
def test_operations_are_logged_where_they_are_much_smaller(tmp_path, start_on, size, ops, logged):  # noqa: F811
    node = start_on(tmp_path / "store", segment_bytes=MIB)
    connection = Raw(node.worker_port).upgrade()
    empty = len(json.dumps({"n": 0, "pad": ""}, separators=(",", ":")))
    put(connection, "x" * (size - empty))
    update = json.dumps([{"type": "increment", "path": "n", "by": 1, "note": ""}])
    operations = json.loads(update)
    operations[0]["note"] = "x" * (ops - 16 - len(update))  # With the header of the record's value.
    call(connection, "stream::update", stream_name="s", group_id="g", item_id="i", ops=operations)
    assert node.counters()["log_updates"] == logged
    assert get(connection)["n"] == 1
    connection.close()


# ---- Damage that no checksum shows


def checksum(data, start=0):
    """CRC32C."""
    value = ~start & 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return ~value & 0xFFFFFFFF


def reseal(path, offset, change):
    """Changes the bytes of a batch by `change`, and makes its checksum right."""
    data = bytearray(path.read_bytes())
    header = data[:88]
    kind, number = header[12:16], header[48:56]
    epoch, shard = header[32:40], header[40:44]
    words = kind + b"\0" * 4 + epoch + shard + b"\0" * 4 + number + header[8:12] + b"\0" * 4
    size = struct.unpack_from("<I", data, offset + 8)[0]
    seed = checksum(words, checksum(header[16:32]))
    assert struct.unpack_from("<I", data, offset + 4)[0] == checksum(data[offset + 8:offset + size], seed)
    batch = data[offset:offset + size]
    change(batch)
    struct.pack_into("<I", batch, 4, checksum(batch[8:], seed))
    data[offset:offset + size] = batch
    path.write_bytes(data)


def edit(field, new):
    """Of the only record of a batch, an update."""
    def change(batch):
        size, kind, _, stream, group, item, _, position, place, stamp = RECORD.unpack_from(batch, 48)
        at = 48 + RECORD.size + stream + group + item
        assert kind == 6 and size == len(batch) - 48
        if field == "operations":
            where = batch.index(b'"by": 1', at)
            batch[where:where + 7] = new
        elif field == "place":
            struct.pack_into("<Q", batch, 48 + 24, new)
        elif field == "stamp":
            struct.pack_into("<Q", batch, 48 + 32, new)
        elif field == "item":
            batch[at - 1:at] = new
        else:
            struct.pack_into("<I", batch, at + 4 * field, new)
    return change


BASE = "an update of another value than the item has"
RESULT = "an update that does not make the value it made"
STRANGE = "an update of an item that is not there, or is newer"


@pytest.mark.parametrize("field, new, what", [
    (0, 1, BASE), (1, 1, BASE), (2, 1, RESULT), (3, 1, RESULT), ("operations", b'"by": 7', RESULT),
    ("operations", b'"by": x', RESULT), ("place", 0, BASE), ("stamp", 1, STRANGE), ("item", b"?", STRANGE)])
def test_an_update_that_does_not_fit_is_refused_and_left_out_by_a_repair(tmp_path, start_on, field, new, what):  # noqa: F811
    folder = tmp_path / "store"
    node = start_on(folder)
    connection = Raw(node.worker_port).upgrade()
    put(connection, "x" * 5000)
    put(connection, "y", item="j")
    for _ in range(3):
        increment(connection)
    connection.close()
    node.kill()
    path, offsets = log_with_batches(folder)
    reseal(path, offsets[3], edit(field, new))
    node = start_on(folder, refuses=True)
    assert node.wait_exit() == 74
    assert f"{path.name} is damaged at byte {offsets[3]}: {what}; --repair would leave the update out" in node.tail()
    assert run("verify", folder).returncode == 74
    node = start_on(folder, "--repair")
    assert what in node.wait_for("store_repaired")["detail"]
    connection = Raw(node.worker_port).upgrade()
    assert get(connection)["n"] == 1, "the second is left out, and the third, which follows from it"
    assert get(connection, "j") == {"n": 0, "pad": "y"}
    assert increment(connection)["result"]["new_value"]["n"] == 2
    connection.close()
    node.stop()
    connection = Raw(start_on(folder).worker_port).upgrade()
    assert get(connection)["n"] == 2
    connection.close()


# ---- Files of version 1


def test_a_directory_of_version_1_is_read_and_becomes_one_of_version_2(tmp_path, start_on):  # noqa: F811
    folder = tmp_path / "store"
    shutil.copytree(VECTORS / "store-version-1", folder)
    assert run("verify", folder).returncode == 0
    node = start_on(folder)
    connection = Raw(node.worker_port).upgrade()

    def listed(group):
        return call(connection, "stream::list", stream_name="s", group_id=group)["result"]

    pad = "x" * 40
    assert listed("g") == [{"n": {2: 42}.get(i, i), "pad": pad} for i in range(6) if i != 1]
    assert listed("h") == [{"n": i, "pad": pad} for i in range(6)] + ["of the log"]
    put(connection, "x" * 5000)
    increment(connection)
    connection.close()
    node.kill()
    files = [path for path in folder.iterdir() if path.name != "LOCK"]
    assert len(files) > 2 and {struct.unpack_from("<I", path.read_bytes(), 8)[0] for path in files} == {2}
    connection = Raw(start_on(folder).worker_port).upgrade()
    assert get(connection)["n"] == 1
    connection.close()


@pytest.mark.parametrize("version", [0, 3])
def test_another_version_is_refused(tmp_path, start_on, version):  # noqa: F811
    folder = tmp_path / "store"
    start_on(folder).stop()
    manifest = pathlib.Path(folder / "MANIFEST")
    data = bytearray(manifest.read_bytes())
    struct.pack_into("<I", data, 8, version)
    struct.pack_into("<I", data, 84, checksum(data[:84]))
    manifest.write_bytes(data)
    node = start_on(folder, refuses=True)
    assert node.wait_exit() == 74 and "its format version is not known to this program" in node.tail()
