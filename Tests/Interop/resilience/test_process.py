"""The process around a node: where its log goes, its signals, its descriptors, its arguments."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest

from clients import Subscriber, Worker
from node import BINARY, PATIENCE_SECONDS, Node, configuration
from raw import Raw


def launch(tmp_path, stderr, text=None, preexec=None, environment=None):
    """A node whose standard error goes where the test wants it."""
    path = tmp_path / "config.yaml"
    path.write_text(text or configuration())
    return subprocess.Popen(
        [BINARY, "--config", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        cwd=tmp_path, preexec_fn=preexec, env={**os.environ, **(environment or {})})


def free_ports():
    with socket.socket() as one, socket.socket() as two:
        for taken in (one, two):
            taken.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def wait_until_it_listens(port, process):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return Raw(port).upgrade()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)


def ended(process):
    try:
        return process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


# ---- The log


def nowhere(kind, tmp_path):
    """A descriptor to which nothing can be written, and what keeps it that way."""
    if kind == "a device that is full":
        return os.open("/dev/full", os.O_WRONLY), None
    read, write = os.pipe()
    if kind == "a reader that has gone":
        os.close(read)
        return write, None
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(4096))
    except BlockingIOError:
        os.set_blocking(write, True)
    return write, read


@pytest.mark.parametrize("kind", ["a device that is full", "a reader that has gone", "a reader that has stopped"])
def test_a_log_that_cannot_be_written_neither_ends_nor_holds_the_node(tmp_path, kind):
    stream, worker = free_ports()
    target, other = nowhere(kind, tmp_path)
    node = launch(tmp_path, target, configuration({"port": stream}, {"port": worker}))
    try:
        os.close(target)
        client = wait_until_it_listens(stream, node)
        for _ in range(100):
            client.send(b"\x81\x82\x00\x00\x00\x00{}")  # Each is a line of the log.
        client.socket.close()
        with Worker(f"ws://127.0.0.1:{worker}") as caller:
            assert caller.set("s", "g", "i", 1) == {"old_value": None, "new_value": 1}
        node.send_signal(signal.SIGTERM)
        assert ended(node) == 0
    finally:
        node.kill()
        if other is not None:
            os.close(other)


def test_lines_that_were_lost_are_counted_in_the_next_one(tmp_path):
    """A file system that was full has room again."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")
    point = tmp_path / "small"
    point.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", point], capture_output=True).returncode != 0:
        pytest.skip("cannot mount")
    try:
        stream, worker = free_ports()
        (point / "filler").write_bytes(bytes(60 * 1024))
        with open(point / "log", "ab") as log:
            node = launch(tmp_path, log, configuration({"port": stream}, {"port": worker}))
        try:
            wait_until_it_listens(stream, node).socket.close()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (point / "log").stat().st_size < 4096 and time.monotonic() < deadline:
                node.send_signal(signal.SIGUSR1)
                time.sleep(0.05)
            node.send_signal(signal.SIGUSR1)
            time.sleep(0.1)
            (point / "filler").unlink()
            while b"log_lines_dropped" not in (point / "log").read_bytes() and time.monotonic() < deadline:
                node.send_signal(signal.SIGUSR1)
                time.sleep(0.05)
            lines = (point / "log").read_text().splitlines()
            dropped = [json.loads(line) for line in lines if "log_lines_dropped" in line]
            assert dropped and dropped[0]["count"] >= 1
            node.send_signal(signal.SIGTERM)
            assert ended(node) == 0
        finally:
            node.kill()
    finally:
        subprocess.run(["umount", "-l", point], check=True)


def test_names_of_others_cannot_steer_a_terminal(tmp_path):
    """On a terminal the log is text: what a client calls things is escaped there."""
    main, other = os.openpty()
    stream, worker = free_ports()
    node = launch(tmp_path, other, configuration({"port": stream}, {"port": worker}))
    os.close(other)
    try:
        wait_until_it_listens(stream, node).socket.close()
        with Worker(f"ws://127.0.0.1:{worker}") as caller:
            caller.send({"type": "registerfunction", "id": "a\x1b[2J\nfake\u202e\u009b31m"})
            caller.send({"type": "registertrigger", "id": "t\x1b]0;x\x07", "trigger_type": "nothing\x1b[1m", "function_id": "f", "config": {}})
            caller.result("stream::list_all")
        node.send_signal(signal.SIGTERM)
        seen = b""
        try:
            while piece := os.read(main, 65536):
                seen += piece
        except OSError:
            pass
        assert ended(node) == 0
        for active in ("\x1b", "\u202e", "\u009b"):
            assert active.encode() not in seen
    finally:
        node.kill()
        os.close(main)


def test_the_journal_gets_priorities(tmp_path):
    with open(tmp_path / "journal", "wb") as file:
        status = os.fstat(file.fileno())
        node = launch(tmp_path, file, configuration(entries=[{"name": "iii-http"}]),
                      environment={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "listening" not in (tmp_path / "journal").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        node.send_signal(signal.SIGTERM)
        assert ended(node) == 0
    finally:
        node.kill()
    lines = (tmp_path / "journal").read_text().splitlines()
    priorities = {json.loads(line[3:])["event"]: line[:3] for line in lines}
    assert priorities["listening"] == "<6>" and priorities["configuration"] == "<4>"


# ---- Signals


def test_a_hangup_is_answered_with_a_line_and_the_node_goes_on(node):
    node.process.send_signal(signal.SIGHUP)
    line = node.wait_for("configuration_not_reloaded")
    assert "nothing would change" in line["detail"] and line["changed"] == []
    (node.folder / "config.yaml").write_text("nonsense: 1\n")
    node.expected_errors = ["configuration_not_reloaded"]
    after = len(node.records)
    node.process.send_signal(signal.SIGHUP)
    assert "nonsense" in node.wait_for("configuration_not_reloaded", after)["detail"]
    with Worker(node.worker_url()) as worker:
        worker.set("s", "g", "i", 1)


def test_a_hangup_says_by_name_what_a_restart_would_change(node):
    changed = {"limits": {"connections": 1234}, "ping": {"deadline_ms": 7000}, "enabled": False}
    port = {"host": "127.0.0.1", "port": 0}
    second = {"name": "iii-worker-manager", "config": {**port, "middleware_function_id": "m"}}
    (node.folder / "config.yaml").write_text(configuration(changed, port, [second]))
    node.process.send_signal(signal.SIGHUP)
    line = node.wait_for("configuration_not_reloaded")
    stream = ["`enabled`", "`limits.connections`", "`ping.deadline_ms`"]
    assert [name for name in line["changed"] if "iii-stream" in name] == [f"{key} of `iii-stream`" for key in stream]
    assert "`middleware_function_id` of `iii-worker-manager` (2)" in line["changed"]
    assert all(name in line["detail"] for name in line["changed"]) and "started again" in line["detail"]


def test_a_second_signal_ends_the_node_at_once(node):
    with Worker(node.worker_url()) as executor, Worker(node.worker_url()) as caller:
        executor.send({"type": "registerfunction", "id": "never"})
        executor.result("stream::list_all")
        caller.invoke("never", data={})
        executor.receive()
        node.process.send_signal(signal.SIGTERM)
        node.wait_for("stopping")
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.wait_exit() == 143
        assert time.monotonic() - began < 3


# ---- Descriptors


def limited(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_of_descriptors_is_raised(tmp_path):
    node = Node(tmp_path, configuration({"shards": 1}), preexec=limited(64, 1000)).start()
    try:
        assert "1000 descriptors" in node.wait_for("descriptors_limited")["detail"]
        clients = [Raw(node.stream_port).upgrade() for _ in range(200)]
        for client in clients:
            client.socket.close()
        node.stop()
    finally:
        node.kill()


def test_clients_leave_the_store_its_descriptors(tmp_path):
    """More clients come than may: the store goes on to new files, and what is refused is said once a second."""
    files = {"store_method": "file_based", "file_path": str(tmp_path / "store"), "segment_bytes": 65536}
    settings = {"shards": 2, "adapter": {"name": "kv", "config": files}}
    node = Node(tmp_path, configuration(settings), preexec=limited(200, 200)).start()
    try:
        with Worker(node.worker_url()) as worker:
            peers = []
            for _ in range(300):
                peer = socket.create_connection(("127.0.0.1", node.stream_port), PATIENCE_SECONDS)
                peers.append(peer)
            for i in range(60):
                worker.set("s", f"g{i % 8}", "i", "x" * 20000)
            assert worker.get("s", "g0", "i") == "x" * 20000
            refused = node.wait_for("connections_refused")
            assert "over the limit of" in refused["detail"]
            counters = node.counters()
            assert counters["connections_refused"] > 0
            assert counters["log_segments"] > 4
            for peer in peers:
                peer.close()
        node.stop()
    finally:
        node.kill()


@pytest.mark.parametrize("shards, fewest", [(1, 61), (4, 97)])
def test_few_descriptors_suffice_and_too_few_are_refused_by_name(tmp_path, shards, fewest):
    """With the fewest a worker calls and clients subscribe; with one less the start says how many there have to be."""
    text = configuration({"shards": shards})
    node = Node(tmp_path, text, preexec=limited(fewest, fewest)).start()
    try:
        with Worker(node.worker_url()) as worker, Raw(node.stream_port).upgrade("/stream/s/g") as client:
            assert json.loads(client.message())["event"]["type"] == "sync"
            worker.set("s", "g", "i", 1)
            assert json.loads(client.message())["event"]["type"] == "create"
        node.stop()
    finally:
        node.kill()
    path = tmp_path / "few.yaml"
    path.write_text(text)
    started = subprocess.run([BINARY, "--config", path], preexec_fn=limited(fewest - 1, fewest - 1), timeout=20,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.returncode == 69
    assert f"{fewest} are the least with {shards} shards" in started.stderr


# ---- Addresses


@pytest.fixture
def node_with_hosts(tmp_path):
    """Makes a node whose host `both` has an address of each family."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("needs root, to mount, and IPv6")
    hosts, script = tmp_path / "hosts", tmp_path / "node"
    hosts.write_text("127.0.0.1 both\n::1 both\n")
    script.write_text(f'#!/bin/sh\nexec unshare -m sh -c \'mount --bind {hosts} /etc/hosts && exec {BINARY} "$@"\' sh "$@"\n')
    script.chmod(0o755)
    return lambda text: Node(tmp_path, text, binary=script)


def test_a_host_of_two_addresses_is_listened_at_on_both(node_with_hosts):
    node = node_with_hosts(configuration({"host": "both"}, {"host": "both"})).start()
    try:
        listening = node.wait_for("listening")
        assert sorted(listening["stream"].split(", ")) == [f"127.0.0.1:{node.stream_port}", f"[::1]:{node.stream_port}"]
        for host in ("127.0.0.1", "[::1]"):
            with Subscriber(node.url(node.stream_port, "/stream/s/g", host)) as client:
                assert client.event() == {"type": "sync", "data": []}
            with Worker(node.url(node.worker_port, host=host)) as worker:
                worker.result("stream::list_all")
        node.stop()
    finally:
        node.kill()


def test_a_port_that_the_kernel_has_lent_is_named_as_such(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        port = client.getsockname()[1]
        node = Node(tmp_path, configuration({"port": port})).launch()
        node.expected_errors = ["start_failed"]
        assert node.wait_exit() == 69
        assert f"ip_local_reserved_ports={port}" in node.tail()


# ---- Arguments


def test_arguments_do_not_come_from_proc():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, to run without /proc")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$0" --version', BINARY],
        capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if "umount" in done.stderr:
        pytest.skip("cannot unmount /proc")
    assert done.returncode == 0 and done.stdout.startswith("iii-stream ")


def test_a_check_without_a_file_says_what_it_checked(tmp_path):
    done = subprocess.run([BINARY, "--check-config"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0 and "no 'config.yaml' in the working directory" in done.stdout


def test_nothing_is_printed_for_people_when_nobody_watches(tmp_path):
    node = subprocess.Popen(
        [BINARY, "--config", write(tmp_path, configuration())], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        for line in node.stderr:
            if json.loads(line)["event"] == "listening":
                break
        node.send_signal(signal.SIGTERM)
        assert node.communicate(timeout=PATIENCE_SECONDS)[0] == b""
    finally:
        node.kill()


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path
