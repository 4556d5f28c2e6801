"""The store's directory as an operator meets it: moving over from the original, damage and repair, the lock, the
commands that look into it."""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

from calls import call, store
from directories import VECTORS, log_with_batches, run
from node import INSTRUMENTED, Node, configuration
from raw import Raw


def put(node, count, group="g", pad=""):
    connection = Raw(node.worker_port).upgrade()
    for i in range(count):
        message = call(connection, "stream::set", stream_name="s", group_id=group, item_id=f"i{i}", data=[i, pad])
        assert "error" not in message
    connection.close()


def listed(node, group="g", stream="s"):
    connection = Raw(node.worker_port).upgrade()
    values = call(connection, "stream::list", stream_name=stream, group_id=group)["result"]
    connection.close()
    return values


# ---- Restarts


def test_items_their_order_and_time_survive_a_restart(tmp_path, start_on):
    folder = tmp_path / "store"
    names = ["plain", "with:colon", "", "x" * 256, "/../..", "\u0000\n\"", "ключ"]
    node = start_on(folder)
    connection = Raw(node.worker_port).upgrade()
    for name in names:
        for item in ("b", "a", "c", "a"):
            call(connection, "stream::set", stream_name=name, group_id=name, item_id=item, data=item)
        call(connection, "stream::delete", stream_name=name, group_id=name, item_id="b")
    client = Raw(node.stream_port).upgrade("/stream/plain/plain/a")
    before = json.loads(client.message())["timestamp"]
    client.close()
    connection.close()
    node.stop()
    node = start_on(folder)
    assert node.wait_for("recovered")["detail"].startswith("epoch 1 of ")
    for name in names:
        assert listed(node, name, name) == ["a", "c"]
    client = Raw(node.stream_port).upgrade("/stream/plain/plain/a")
    assert json.loads(client.message())["timestamp"] > before
    client.close()
    node.stop()


def test_an_update_of_one_item_of_a_large_group_costs_one_record(tmp_path, start_on):
    node = start_on(tmp_path / "store", segment_bytes=32 << 20)
    put(node, 3000, pad="x" * 100)
    before = node.counters()["log_bytes_written"]
    put(node, 10)
    assert node.counters()["log_bytes_written"] - before < 10 * 250


# ---- Moving over from the original


def expected(split_last):
    groups = {}
    for entry in json.loads((VECTORS / "kv-store.json").read_text()):
        stream, group = entry["stream_name"], entry["group_id"]
        if not split_last:
            stream, _, rest = f"{stream}:{group}".partition(":")
            group = rest
        groups.setdefault((stream, group), []).append((entry["item_id"], entry["value"]))
    return groups


def check_groups(node, groups):
    connection = Raw(node.worker_port).upgrade()
    for (stream, group), items in groups.items():
        assert call(connection, "stream::list", stream_name=stream, group_id=group)["result"] == [v for _, v in items]
        for item, value in items:
            found = call(connection, "stream::get", stream_name=stream, group_id=group, item_id=item)
            assert found["result"] == value
    names = call(connection, "stream::list_all")["result"]["stream"]
    assert {(s["id"], g) for s in names for g in s["groups"]} == set(groups)
    connection.close()


def originals(folder):
    shutil.copytree(VECTORS / "kv-store", folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_directory_of_the_original_is_taken_in_once(tmp_path, start_on):
    folder = tmp_path / "store"
    files = originals(folder)
    node = start_on(folder)
    assert "a%3Ab%3Ac" in node.wait_for("import_ambiguous")["detail"]
    assert "imported" in [record["event"] for record in node.records]
    groups = expected(split_last=False)
    check_groups(node, groups)
    connection = Raw(node.worker_port).upgrade()
    call(connection, "stream::delete", stream_name="t", group_id="g", item_id="i")
    connection.close()
    node.kill()
    node = start_on(folder)
    del groups["t", "g"]
    check_groups(node, groups)
    assert "imported" not in [record["event"] for record in node.records]
    assert {name: (folder / name).read_bytes() for name in files} == files


def test_import_splits_at_the_last_colon_when_told_to(tmp_path, start_on):
    folder = tmp_path / "store"
    originals(folder)
    done = run("import", folder, "--split", "last")
    assert done.returncode == 0, done.stderr
    node = start_on(folder)
    check_groups(node, expected(split_last=True))
    node.kill()
    again = run("import", folder)
    assert again.returncode == 73 and "a log of its own" in again.stderr


def test_import_of_what_is_not_there_says_so_and_makes_nothing(tmp_path):
    done = run("import", tmp_path / "none")
    assert done.returncode == 73 and "cannot open the directory" in done.stderr
    assert not (tmp_path / "none").exists()
    done = run("import", tmp_path)
    assert done.returncode == 73 and "no files of the original" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b'{"a":1}' + b"\0" * 5 + b"\x87\0\0\0\0\0\0\0", b"[1]\xff\xff\xff\xff\xff"])
def test_a_damaged_file_of_the_original_is_named_and_stops_the_start(tmp_path, start_on, content):
    folder = tmp_path / "store"
    originals(folder)
    (folder / "stream%3At%3Ag.bin").write_bytes(content)
    node = start_on(folder, refuses=True)
    assert node.wait_exit() == 74
    assert "stream%3At%3Ag.bin" in node.tail() and "--import-skip-damaged" in node.tail()
    node = start_on(folder, "--import-skip-damaged")
    groups = expected(split_last=False)
    del groups["t", "g"]
    check_groups(node, groups)
    assert (folder / "stream%3At%3Ag.bin").read_bytes() == content


# ---- Damage


def files(folder, ending):
    return sorted(path for path in pathlib.Path(folder).iterdir() if path.name.endswith(ending))


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x55
    path.write_bytes(data)


def test_damage_stops_the_start_and_a_repair_keeps_a_copy(tmp_path, start_on):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 20)
    node.kill()
    path, offsets = log_with_batches(folder)
    flip(path, offsets[5] + 60)
    damaged = path.read_bytes()
    node = start_on(folder, refuses=True)
    assert node.wait_exit() == 74
    assert f"{path.name} is damaged at byte {offsets[5]}" in node.tail()
    assert "--repair would keep a copy and drop batches" in node.tail()
    assert run("verify", folder).returncode == 74
    node = start_on(folder, "--repair")
    assert [value[0] for value in listed(node)] == [i for i in range(20) if i != 5]
    assert pathlib.Path(f"{path}.damaged").read_bytes() == damaged
    node.kill()
    assert [value[0] for value in listed(start_on(folder))] == [i for i in range(20) if i != 5]


def test_a_torn_tail_is_cut_and_said(tmp_path, start_on):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 20)
    node.kill()
    path, offsets = log_with_batches(folder)
    flip(path, offsets[-1] + 60)
    node = start_on(folder)
    assert f"at byte {offsets[-1]}" in node.wait_for("store_cut")["detail"]
    assert [value[0] for value in listed(node)] == list(range(19))


@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_a_manifest_that_is_not_whole_stops_the_start(tmp_path, start_on, harm):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 3)
    node.kill()
    if harm == "flipped":
        flip(folder / "MANIFEST", 40)
    else:
        (folder / "MANIFEST").unlink()
    node = start_on(folder, refuses=True)
    assert node.wait_exit() == 74 and "MANIFEST" in node.tail()


# ---- The directory and its lock


def test_a_directory_has_one_owner(tmp_path, start_on):
    folder = tmp_path / "store"
    start_on(folder)
    second = start_on(folder, refuses=True)
    assert second.wait_exit() == 73 and "in use by another process" in second.tail()
    done = run("verify", folder)
    assert done.returncode == 73 and "in use by another process" in done.stderr


def test_a_directory_that_cannot_be_made_is_a_start_up_error(tmp_path, start_on):
    (tmp_path / "file").write_text("")
    node = start_on(tmp_path / "file" / "store", refuses=True)
    assert node.wait_exit() == 73 and "Not a directory" in node.tail()


def test_verify_and_inspect_say_what_is_there(tmp_path, start_on):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 5)
    node.kill()
    done = run("verify", folder)
    assert done.returncode == 0 and "is in order" in done.stdout
    sets = [json.loads(line) for line in run("inspect", folder).stdout.splitlines()]
    sets = [line for line in sets if line.get("kind") == "set"]
    assert [(line["item"], line["value"]) for line in sets] == [(f"i{i}", [i, ""]) for i in range(5)]
    assert run("inspect", tmp_path / "nowhere").returncode == 73


# ---- Modes


@pytest.mark.parametrize("settings", [{"durability": "interval", "save_interval_ms": 50}, {"save_interval_ms": 50}, {"durability": "none"}])
def test_modes_that_answer_at_once_say_so_and_lose_nothing_at_a_clean_end(tmp_path, start_on, settings):
    folder = tmp_path / "store"
    node = start_on(folder, **settings)
    assert node.wait_for("loss_window")["level"] == "warn"
    put(node, 200)
    node.stop()
    assert len(listed(start_on(folder, **settings))) == 200


# ---- Past the kernel's cache


def takes_pages(path):
    """Whether the file system says that a file is written past the cache by pages: STATX_DIOALIGN of statx(2)."""
    status = (ctypes.c_uint32 * 64)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.statx(-100, str(path).encode(), 0, 0x2000, status) == 0
    memory, offset = status[38], status[39]
    return status[0] & 0x2000 != 0 and all(align != 0 and 4096 % align == 0 for align in (memory, offset))


def opened_logs(node):
    """The path and flags of each segment of the log that the node has open."""
    process = pathlib.Path(f"/proc/{node.process.pid}")
    for link in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # Closed meanwhile.
            path = link.readlink()
            if path.suffix == ".log":
                lines = dict(line.split(":\t", 1) for line in (process / "fdinfo" / link.name).read_text().splitlines())
                yield path, int(lines["flags"], 8)


@pytest.mark.parametrize("durability", ["commit", "interval"])
@pytest.mark.parametrize("medium", ["disk", "memory"])
def test_the_log_is_written_past_the_cache_where_the_file_system_says_how(tmp_path, start_on, durability, medium):
    with tempfile.TemporaryDirectory(dir=tmp_path if medium == "disk" else "/dev/shm") as folder:
        store = pathlib.Path(folder) / "store"
        node = start_on(store, durability=durability)
        put(node, 300, pad="x" * 1000)
        logs = list(opened_logs(node))
        assert logs
        direct = [flags & 0o40000 != 0 for _, flags in logs]
        # The current one at least: another may be in preparation.
        assert any(direct) == (durability == "commit" and takes_pages(logs[0][0]))
        if medium == "memory":
            assert not takes_pages(logs[0][0])
        node.kill() if durability == "commit" else node.stop()
        again = start_on(store, durability=durability)
        assert len(listed(again)) == 300
        again.stop()


# ---- What is no file, or no clock, or not there any more


def logs_of(folder):
    return sorted(folder.glob("*.log"))


@pytest.mark.parametrize("what", ["MANIFEST", "LOCK", "log", "snapshot"])
@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, start_on, what, kind):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 3)
    node.stop()
    path = folder / what if what.isupper() else sorted(folder.glob(f"*.{what}"))[0]
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    node = start_on(folder, refuses=True)
    assert node.wait_exit() in (73, 74)
    assert path.name in node.tail()
    assert kind == "directory" or "is no regular file" in node.tail()
    found = run("verify", folder)
    assert found.returncode != 0 and path.name in found.stderr + found.stdout


def test_names_that_a_start_writes_may_be_pipes(tmp_path, start_on):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 3)
    node.stop()
    os.mkfifo(folder / "MANIFEST.part")
    os.mkfifo(folder / "00000002-00-00000001.log")
    os.mkfifo(folder / "00000002-00-00000001.snapshot.part")
    node = start_on(folder)
    assert listed(node) == [[i, ""] for i in range(3)]
    node.stop()


def test_a_log_that_looks_large_costs_what_it_has(tmp_path, start_on):
    folder = tmp_path / "store"
    node = start_on(folder)
    put(node, 3)
    node.kill()
    for path in logs_of(folder):
        os.truncate(path, 1 << 40)
    began = time.monotonic()
    node = start_on(folder)
    assert listed(node) == [[i, ""] for i in range(3)]
    assert time.monotonic() - began < 10
    node.stop()


@pytest.mark.parametrize("what", ["directory", "log"])
@pytest.mark.parametrize("durability", ["commit", "interval", "none"])
def test_a_store_that_was_removed_takes_no_more_changes(tmp_path, start_on, what, durability):
    folder = tmp_path / "store"
    node = start_on(folder, durability=durability, segment_bytes=1 << 20)
    node.expected_errors = ["store_removed", "store_refuses"]
    put(node, 3)
    if what == "directory":
        shutil.rmtree(folder)
    else:
        for path in logs_of(folder):
            path.unlink()
    connection = Raw(node.worker_port).upgrade()
    deadline = time.monotonic() + 10
    while "result" in call(connection, "stream::set", stream_name="s", group_id="g", item_id="i0", data=[0, ""]):
        assert time.monotonic() < deadline
    node.wait_for("store_removed")
    refused = call(connection, "stream::delete", stream_name="s", group_id="g", item_id="i0")
    assert refused["error"]["code"] == "STREAM_DELETE_ERROR"
    assert listed(node) == [[i, ""] for i in range(3)]
    assert node.counters()["store_unhealthy"] > 0
    connection.close()
    node.stop()


CLOCK = """
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == 0)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(clock, time);
    if (clock == CLOCK_REALTIME && access(getenv("CLOCK_FILE"), F_OK) == 0)
        time->tv_sec = atol(getenv("CLOCK_SECONDS"));
    return rc;
}
"""


@pytest.fixture
def wrong_clock(tmp_path):
    """Environment under which the clock says `seconds` as long as the file `wrong` is there."""
    compiler = shutil.which("clang") or shutil.which("cc")
    if compiler is None or INSTRUMENTED:
        pytest.skip("needs a C compiler, and a node that is not instrumented")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text("#define _GNU_SOURCE\n" + CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return lambda seconds: {
        "LD_PRELOAD": str(library), "CLOCK_SECONDS": str(seconds), "CLOCK_FILE": str(tmp_path / "wrong")}


@pytest.mark.parametrize("seconds", [-1, 0, 946684799, 7258118400])
def test_a_start_is_refused_while_no_clock_is_set(tmp_path, wrong_clock, seconds):
    (tmp_path / "wrong").touch()
    home = tmp_path / "home"
    home.mkdir()
    node = Node(home, configuration(), environment=wrong_clock(seconds)).launch()
    try:
        assert node.wait_exit() == 69
        assert "listening" not in node.tail()
        # What waits for the end of the log has the kernel's own clock, for which the others are long past.
        assert seconds < 7258118400 or "the clock is not set" in node.tail()
    finally:
        node.kill()


@pytest.mark.parametrize("seconds", [946684800, 7258118399])
def test_a_clock_at_its_limits_is_one(tmp_path, wrong_clock, seconds):
    (tmp_path / "wrong").touch()
    home = tmp_path / "home"
    home.mkdir()
    node = Node(home, configuration(), environment=wrong_clock(seconds)).start()
    node.stop()


def test_time_stamps_count_on_while_the_clock_is_lost(tmp_path, wrong_clock):
    home = tmp_path / "home"
    home.mkdir()
    node = Node(home, configuration(), environment=wrong_clock(-1000)).start()
    try:
        connection = Raw(node.worker_port).upgrade()
        call(connection, "stream::set", stream_name="s", group_id="g", item_id="i", data=0)
        client = Raw(node.stream_port).upgrade("/stream/s/g/i")
        before = json.loads(client.message())["timestamp"]
        (tmp_path / "wrong").touch()
        for i in range(3):
            call(connection, "stream::set", stream_name="s", group_id="g", item_id="i", data=i)
            stamp = json.loads(client.message())["timestamp"]
            assert before < stamp < before + 1000
            before = stamp
        (tmp_path / "wrong").unlink()
        call(connection, "stream::set", stream_name="s", group_id="g", item_id="i", data=9)
        assert before < json.loads(client.message())["timestamp"]
        client.close()
        connection.close()
        node.stop()
    finally:
        node.kill()
