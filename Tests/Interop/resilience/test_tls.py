"""TLS on both ports: with real peers, with peers that do what they must not, and with certificates that change."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

from certificates import Authority, any_client, authority, client, openssl, pair, settings
from clients import Subscriber, Worker
from node import BINARY, Node, configuration
from probe import Probe
from raw import HANDSHAKE, Raw, frame
from secure import SecureSocket

def secured(**more):
    return {"tls": settings(**more)}


@pytest.fixture
def node(start_node):
    return start_node(secured(), secured())


def plain(port):
    """A socket without TLS to a port that speaks it."""
    connected = socket.create_connection(("127.0.0.1", port), 10)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def everything(connected):
    """All bytes until the end."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connected.recv(65536):
            found += piece
    return found


def wait_until(node, **values):
    """Until the counters have at least these values; returns all."""
    deadline = time.monotonic() + 10
    while True:
        counters = node.counters()
        if all(counters[name] >= value for name, value in values.items()):
            return counters
        assert time.monotonic() < deadline, {name: counters[name] for name in values}


def connect(node, context=None, session=None, port=None, host="127.0.0.1"):
    return SecureSocket(plain(port or node.stream_port), context or any_client(), host, session)


def upgrade(tls, path="/"):
    tls.sendall(HANDSHAKE.format(path=path).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = tls.recv(4096)
        assert piece, head
        head += piece
    assert head.startswith(b"HTTP/1.1 101 "), head
    return head.partition(b"\r\n\r\n")[2]


# ---- What works


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shards", [1, 2])
def test_both_ports_speak_both_versions(start_node, version, shards):
    node = start_node({**secured(), "shards": shards}, secured())
    context = client(maximum_version=version)
    large = "x" * 300_000
    tls = {"ssl": context}
    with Worker(node.worker_url(), **tls) as worker, Subscriber(node.stream_url("/stream/s/g"), **tls) as subscriber:
        assert subscriber.event()["type"] == "sync"
        for value in [1, "é" * 9000, large]:
            worker.set("s", "g", "i", value)
            assert subscriber.event()["data"] == value
        assert worker.get("s", "g", "i") == large
    counters = wait_until(node, tls_handshakes=2)
    assert counters["tls_failures"] == counters["tls_handshakes_failed"] == 0


def test_one_port_may_speak_tls_and_the_other_not(start_node):
    node = start_node(secured(), {"tls": None})
    assert node.stream_url().startswith("wss:") and node.worker_url().startswith("ws:")
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url("/stream/s/g")) as subscriber:
        subscriber.event()
        worker.set("s", "g", "i", 1)
        assert subscriber.event()["data"] == 1


def test_frames_of_one_turn_leave_in_one_record(node):
    """Sixteen changes in one message of the worker's socket come as few records, not as sixteen."""
    with Worker(node.worker_url()) as worker:
        tls = connect(node)
        found = upgrade(tls, "/stream/s/g")
        while b'"sync"' not in found:
            found += tls.recv(65536)
        # All in one write of the socket, so that the node has them in one turn.
        calls = [{"type": "invokefunction", "invocation_id": f"00000000-0000-4000-8000-{number:012}",
                  "function_id": "stream::set",
                  "data": {"stream_name": "s", "group_id": "g", "item_id": f"i{number}", "data": number}}
                 for number in range(64)]
        raw = Raw(node.worker_port).upgrade()
        raw.message()
        raw.send(b"".join(frame(json.dumps(call)) for call in calls))
        found, wire = b"", bytearray()
        while found.count(b'"create"') < 64:
            data = tls.socket.recv(65536)
            wire += data
            tls.incoming.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := tls.tls.read(65536):
                    found += piece
        sizes, at = [], 0
        while at < len(wire):
            sizes.append(int.from_bytes(wire[at + 3 : at + 5], "big"))
            at += 5 + sizes[-1]
        assert len(sizes) <= 8, sizes
        assert worker.get("s", "g", "i63") == 63


def test_alpn_is_http(node):
    tls = connect(node, client_with_protocols("h2", "http/1.1"))
    assert tls.tls.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLError, match="(?i)application.protocol"):
        connect(node, client_with_protocols("h2"))
    wait_until(node, tls_handshakes_failed=1)


def client_with_protocols(*names):
    context = client()
    context.set_alpn_protocols(list(names))
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_on_every_shard(start_node, version):
    node = start_node({**secured(), "shards": 4}, secured())
    context = client(maximum_version=version)
    first = connect(node, context)
    upgrade(first, "/stream/s/g")
    session = first.tls.session
    assert session.has_ticket
    for _ in range(16):
        tls = connect(node, context, session)
        upgrade(tls)
        assert tls.tls.session_reused
        tls.close()
    assert wait_until(node, tls_handshakes=17)["tls_resumed"] == 16
    # The other port has keys of its own: who may connect there is decided there.
    tls = connect(node, context, session, node.worker_port)
    upgrade(tls)
    assert not tls.tls.session_reused


def test_openssl_speaks_with_it(node):
    """An independent client, with its own check of certificate and host."""
    ca = authority().cert
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.stream_port}", "-CAfile", str(ca), "-verify_ip", "127.0.0.1",
               "-verify_return_error", "-alpn", "http/1.1", "-quiet"]
    done = subprocess.run(command, input=b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n", capture_output=True, timeout=20)
    assert b"HTTP/1.1 404 Not Found" in done.stdout, done.stderr


@pytest.mark.parametrize("end", ["node", "client"])
def test_ends_are_said_on_both_sides(node, end):
    """close_notify, so that nobody can take a connection that was cut off for one that has ended."""
    tls = connect(node)
    upgrade(tls)
    if end == "client":
        tls.sendall(frame(struct.pack(">H", 1000), opcode=8))
        assert b"\x88\x02\x03\xe8" in tls.recv(4096)
    else:
        tls.sendall(frame(b"x" * 70_000))
        assert b"\x88" in tls.recv(4096)
        tls.sendall(frame(struct.pack(">H", 1009), opcode=8))
    # Read by hand: SecureSocket takes every end for an end. An empty read is one that TLS has said.
    while True:
        try:
            if not tls.tls.read(4096):
                return
        except ssl.SSLWantReadError:
            data = tls.socket.recv(4096)
            assert data, "the end came without a goodbye"
            tls.incoming.write(data)


def test_a_goodbye_of_the_peer_ends_the_connection(node):
    tls = connect(node)
    upgrade(tls, "/stream/s/g")
    tls.goodbye()
    everything(tls.socket)
    wait_until(node, tls_handshakes=1)
    deadline = time.monotonic() + 5
    while node.counters()["stream_connections"] > 0:
        assert time.monotonic() < deadline


# ---- What does not


@pytest.mark.parametrize("port", ["stream", "worker"])
def test_plain_http_gets_an_answer_that_can_be_read(node, port):
    connected = plain(node.stream_port if port == "stream" else node.worker_port)
    connected.sendall(HANDSHAKE.format(path="/").encode())
    head, _, body = everything(connected).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"wss://" in body and f"Content-Length: {len(body)}".encode() in head
    assert wait_until(node, tls_plain_refused=1)["tls_handshakes_failed"] == 0


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\xff\xff" + bytes(64), b"\x16\x03\x01\x00\x40\x01\x02\x00\x00" + bytes(60), b"\x16\x03\x01\x00\x02\x01\x00",
     b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", b"\x16\x03\x03\x00\x01\x00" * 3, b"\x17\x03\x03\x00\x01\x00", b"\x00"],
    ids=["long record", "long hello", "short", "hello of nothing", "no hello", "data first", "zero"],
)
def test_garbage_ends_the_connection_alone(node, garbage):
    with Worker(node.worker_url()) as worker:
        connected = plain(node.stream_port)
        connected.sendall(garbage)
        everything(connected)
        counters = node.counters()
        assert counters["tls_handshakes_failed"] + counters["tls_plain_refused"] == 1
        worker.set("s", "g", "i", 1)
    assert wait_until(node, tls_handshakes=1)["waiting_records_bytes"] == 0


@pytest.mark.parametrize("cut", ["hello", "record"])
def test_truncated_records_keep_what_has_come_and_no_more(node, cut):
    """A record is waited for; its bytes are charged; they are gone with the connection."""
    with contextlib.ExitStack() as stack:
        if cut == "hello":
            connected = stack.enter_context(plain(node.stream_port))
            connected.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(100))
        else:
            tls = connect(node)
            upgrade(tls)
            tls.tls.write(frame(b"x" * 5000))
            connected = stack.enter_context(tls.socket)
            connected.sendall(tls.outgoing.read()[:-1])
        waiting = wait_until(node, waiting_records_bytes=100)["waiting_records_bytes"]
        assert waiting <= 16384
    deadline = time.monotonic() + 5
    while node.counters()["waiting_records_bytes"] > 0:
        assert time.monotonic() < deadline


def test_bytes_one_by_one_are_a_connection_too(node):
    connected = plain(node.stream_port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = any_client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    asked = False
    while True:
        try:
            tls.do_handshake()
            if not asked:
                tls.write(HANDSHAKE.format(path="/").encode())
                asked = True
            for byte in outgoing.read():
                connected.sendall(bytes([byte]))
            assert tls.read(12) == b"HTTP/1.1 101"
            return
        except ssl.SSLWantReadError:
            for byte in outgoing.read():
                connected.sendall(bytes([byte]))
            incoming.write(connected.recv(65536))


def test_a_changed_bit_ends_the_connection(node):
    tls = connect(node)
    upgrade(tls)
    tls.tls.write(frame(b"{}"))
    wire = bytearray(tls.outgoing.read())
    wire[-1] ^= 1
    tls.socket.sendall(wire)
    everything(tls.socket)
    assert wait_until(node, tls_failures=1)["protocol_errors"] == 0


def test_new_keys_of_a_client_change_nothing_else(node):
    """A message of the handshake in the middle of a session; records of all sizes follow it."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.stream_port}", "-tls1_3", "-CAfile", str(authority().cert)]
    with Worker(node.worker_url()) as worker:
        worker.set("s", "g", "i", "small")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            process.stdin.write(HANDSHAKE.format(path="/stream/s/g").encode())
            process.stdin.flush()
            found = b""
            while b'"sync"' not in found:
                found += process.stdout.read1(65536)
            process.stdin.write(b"K\n")  # The tool's word for: new keys, and ask for new ones of the peer.
            process.stdin.flush()
            while b"KEYUPDATE" not in found:
                found += process.stdout.read1(65536)
            worker.set("s", "g", "i", "x" * 50_000)
            while b"x" * 50_000 not in found:
                piece = process.stdout.read1(65536)
                assert piece, node.tail()
                found += piece
        finally:
            process.kill()
            process.communicate()
    assert node.counters()["tls_failures"] == 0


def test_renegotiation_is_refused(node):
    """Each costs as much as a new connection, and none is needed."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.stream_port}", "-tls1_2", "-CAfile", str(authority().cert)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(node, tls_handshakes=1)
        process.stdin.write(b"R\n")
        process.stdin.flush()
        assert wait_until(node, tls_failures=1)["tls_handshakes"] == 1
    finally:
        process.kill()
        process.communicate()
    assert any(record.get("detail") == "renegotiation is refused" for record in node.records)


def test_a_handshake_has_its_time(start_node):
    limits = {"timeouts": {"handshake_ms": 300}}
    node = start_node({**secured(), **limits}, secured())
    silent, slow = plain(node.stream_port), plain(node.stream_port)
    slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
    assert everything(silent) == everything(slow) == b""
    counters = wait_until(node, handshakes_timed_out=2, tls_handshakes_timed_out=2)
    # Behind the handshake the head has what is left of it.
    tls = connect(node)
    assert everything(tls.socket) is not None
    counters = wait_until(node, handshakes_timed_out=3)
    assert counters["tls_handshakes_timed_out"] == 2


def test_a_storm_of_handshakes_holds_nobody_up(start_node):
    """Two hundred connect at once, and each costs a thousand times what a change does."""
    node = start_node({**secured(), "shards": 1}, secured())
    hello = ssl.MemoryBIO()
    tls = any_client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    flight = hello.read()
    with Probe(node) as probe, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(plain(node.stream_port)) for _ in range(200)]
        for each in sockets:
            each.sendall(flight)
        for each in sockets:
            assert each.recv(1)
    assert probe.p99() < 0.1
    node.counters()


# ---- Certificates of clients


def test_clients_show_certificates_where_they_must(start_node, tmp_path):
    clients = Authority(tmp_path, "authority of clients")
    own = clients.sign("somebody")
    required = secured(ca_file=str(clients.cert), client_auth="required")
    optional = secured(ca_file=str(clients.cert), client_auth="optional")
    node = start_node(required, optional)
    upgrade(connect(node, client(cert=own)))
    upgrade(connect(node, client(cert=own), port=node.worker_port))
    upgrade(connect(node, port=node.worker_port))  # None at all.
    foreign = client(cert=pair())  # Of another authority.
    for context, port in [(any_client(), node.stream_port), (foreign, node.stream_port), (foreign, node.worker_port)]:
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            upgrade(connect(node, context, port=port))
    wait_until(node, tls_handshakes=3, tls_handshakes_failed=3)


def test_the_oldest_version_is_a_setting(start_node):
    node = start_node(secured(min_version="1.3"), secured())
    with pytest.raises(ssl.SSLError, match="(?i)version"):
        connect(node, client(maximum_version=ssl.TLSVersion.TLSv1_2))
    upgrade(connect(node, client(maximum_version=ssl.TLSVersion.TLSv1_2), port=node.worker_port))


# ---- Files


def copied(folder, files=None):
    """The files of a pair in a folder of their own, where they may be changed."""
    for source, name in zip(files or pair(), ("cert.pem", "key.pem")):
        shutil.copy(source, folder / f"{name}.new")
        os.replace(folder / f"{name}.new", folder / name)
    return {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "key.pem")}


def shown(node, port=None):
    """The name in the certificate that a port shows."""
    tls = connect(node, port=port)
    return dict(field[0] for field in tls.tls.getpeercert()["subject"])["commonName"]


@pytest.mark.parametrize("asked", [True, False], ids=["by SIGHUP", "by itself"])
def test_a_new_certificate_is_taken_without_dropping_anybody(start_node, tmp_path, asked):
    node = start_node({"tls": copied(tmp_path), "shards": 2}, secured())
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url("/stream/s/g")) as subscriber:
        subscriber.event()
        assert shown(node) == "node"
        copied(tmp_path, authority().sign("renewed"))
        if asked:
            node.process.send_signal(signal.SIGHUP)
        record = node.wait_for("certificate_reloaded")
        assert record["port"] == "stream port" and "CN=renewed" in record["detail"]
        assert {shown(node) for _ in range(8)} == {"renewed"}
        assert shown(node, node.worker_port) == "node"
        worker.set("s", "g", "i", 1)
        assert subscriber.event()["data"] == 1


def test_a_broken_pair_changes_nothing_and_is_told(start_node, tmp_path):
    node = start_node({"tls": copied(tmp_path)}, secured())
    node.expected_errors = ["certificate_not_reloaded"]
    (tmp_path / "key.pem").write_text(pair()[1].read_text())
    other = authority().sign("other")
    shutil.copy(other[0], tmp_path / "cert.pem")  # Its key has not come yet.
    record = node.wait_for("certificate_not_reloaded")
    assert record["level"] == "error" and str(tmp_path / "key.pem") in record["detail"]
    assert "does not belong to the certificate" in record["detail"]
    assert shown(node) == "node"
    shutil.copy(other[1], tmp_path / "key.pem")
    node.wait_for("certificate_reloaded")
    assert shown(node) == "other"


@pytest.mark.parametrize("way", ["start", "--check-config"])
def test_broken_files_are_named(tmp_path, way):
    missing = str(tmp_path / "none.pem")
    cases = [
        ({"cert_file": missing}, missing, "No such file"),
        ({"key_file": missing}, missing, "No such file"),
        ({"key_file": str(authority().sign("stranger")[1])}, "stranger.key", "does not belong to the certificate"),
        ({"cert_file": str(pair()[1])}, "node.key", "there is none in it"),
    ]
    for number, (wrong, file, why) in enumerate(cases):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        text = configuration(None, {"tls": {**settings(), **wrong}})
        if way == "start":
            started = Node(folder, text).launch()
            code, words = started.wait_exit(), "\n".join(started.lines)
        else:
            (folder / "config.yaml").write_text(text)
            done = subprocess.run([BINARY, "--check-config", "--config", folder / "config.yaml"], capture_output=True, text=True)
            code, words = done.returncode, done.stderr
        assert code == 78, words
        assert file in words and why in words, words


def test_a_valid_pair_passes_the_check(tmp_path):
    (tmp_path / "config.yaml").write_text(configuration(secured(), secured()))
    done = subprocess.run([BINARY, "--check-config", "--config", tmp_path / "config.yaml"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_a_certificate_that_has_expired_is_taken_with_a_warning(start_node):
    expired = authority().sign("expired", days=0)
    node = start_node({"tls": {"cert_file": str(expired[0]), "key_file": str(expired[1])}}, {"tls": None})
    assert "CN=expired" in node.wait_for("certificate_invalid")["detail"]
