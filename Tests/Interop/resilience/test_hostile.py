"""Peers that break the rules, at both ports: the node stays up, and serves the others."""

import json
import os
import random
import socket
import time

import pytest

from clients import Subscriber, Worker
from raw import BINARY, CLOSE, HANDSHAKE, PING, PONG, TEXT, Ended, Raw, frame

HANDSHAKE_MS = 300
HEAD_SIZE_MAX = 16 << 10
HEADER_COUNT_MAX = 100
FRAME_SIZE_MAX = 16 << 20


@pytest.fixture
def hostile(start_node):
    """A node with a short patience for handshakes. At its end it still serves everyone else."""
    node = start_node({"timeouts": {"handshake_ms": HANDSHAKE_MS}})
    yield node
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as subscriber:
        subscriber.join("after", "g")
        assert subscriber.event()["type"] == "sync"
        worker.set("after", "g", "i", 1)
        assert subscriber.event() == {"type": "create", "data": 1}


@pytest.fixture(params=["stream", "worker"])
def port(request, hostile):
    return getattr(hostile, f"{request.param}_port")


def test_random_bytes(port):
    seed = int.from_bytes(os.urandom(8), "big")
    print(f"seed {seed}")
    source = random.Random(seed)
    peers = [Raw(port) for _ in range(200)]
    for peer in peers:
        peer.send(source.randbytes(source.randrange(1, 3000)))
    for peer in peers:
        peer.wait_end()
        peer.close()


def test_random_frames_after_a_good_handshake(port):
    """Whatever comes, the answer is a close frame with a code, or nothing until we hang up."""
    seed = int.from_bytes(os.urandom(8), "big")
    print(f"seed {seed}")
    source = random.Random(seed)
    for _ in range(200):
        with Raw(port).upgrade() as peer:
            peer.send(source.randbytes(source.randrange(1, 3000)))
            peer.socket.shutdown(socket.SHUT_WR)
            code = peer.close_code()
            assert code in (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009) or 3000 <= code < 5000


def test_mutated_messages(port):
    """Well-formed frames around damaged JSON never cost the connection."""
    seed = int.from_bytes(os.urandom(8), "big")
    print(f"seed {seed}")
    source = random.Random(seed)
    good = [
        b'{"type":"join","data":{"subscriptionId":"x","streamName":"s","groupId":"g","id":"i"}}',
        b'{"type":"leave","data":{"subscriptionId":"x","streamName":"s","groupId":"g"}}',
        b'{"type":"invokefunction","function_id":"stream::set","data":{"stream_name":"h","group_id":"g",'
        b'"item_id":"i","data":{"a":[1,2.5,"x\\u00e9",null]}}}',
        b'{"type":"registertrigger","id":"t","trigger_type":"stream","function_id":"f","config":{}}',
        b'{"type":"invocationresult","invocation_id":"00000000-0000-4000-8000-000000000001",'
        b'"function_id":"f","error":{"code":"c","message":"m"}}',
    ]
    with Raw(port).upgrade() as peer:
        for _ in range(2000):
            text = bytearray(source.choice(good))
            for _ in range(source.randrange(1, 4)):
                position = source.randrange(len(text))
                match source.randrange(3):
                    case 0:
                        text[position] = source.choice(b' {}[]",:0x\\n-e')
                    case 1:
                        del text[position]
                    case 2:
                        text[position:position] = source.choice([b"{", b"[", b'"', b",", b"null"])
            peer.send(frame(bytes(text)))
        peer.send(frame(b"still here", PING))
        while True:
            opcode, payload = peer.frame()
            assert opcode != CLOSE
            if opcode == PONG:
                assert payload == b"still here"
                return


# ---- Handshakes


def test_half_a_handshake_is_given_up(port):
    start = time.monotonic()
    with Raw(port) as peer:
        peer.send(HANDSHAKE.format(path="/").encode()[:60])
        peer.wait_end()
    assert time.monotonic() - start < 10


def test_silence_is_given_up(port):
    with Raw(port) as peer:
        peer.wait_end()


def test_slow_handshake_is_given_up_however_often_it_speaks(port):
    """One byte a time: each byte must not buy a new deadline."""
    with Raw(port) as peer:
        peer.socket.settimeout(0.02)
        deadline = time.monotonic() + 10
        for byte in HANDSHAKE.format(path="/").encode() + b"x" * 1000:
            peer.send(bytes([byte]))
            try:
                if peer.socket.recv(4096) == b"":
                    return
            except TimeoutError:
                assert time.monotonic() < deadline
            except ConnectionResetError:
                return
    pytest.fail("the node read to the end")


def test_many_half_handshakes_hold_up_nobody(hostile, port):
    peers = [Raw(port) for _ in range(300)]
    for peer in peers:
        peer.send(b"GET / HTTP/1.1\r\n")
    with Worker(hostile.worker_url()) as worker:
        worker.set("h", "g", "i", 1)
    for peer in peers:
        peer.wait_end()
        peer.close()


def head_of(size):
    """A good handshake of exactly `size` bytes."""
    text = HANDSHAKE.format(path="/")
    pad = size - len(text) - len("X: \r\n")
    return text[:-2].encode() + b"X: " + b"a" * pad + b"\r\n\r\n"


def test_head_at_the_limit_is_read_and_over_it_is_refused(port):
    with Raw(port) as peer:
        peer.send(head_of(HEAD_SIZE_MAX))
        assert peer.status() == 101
    with Raw(port) as peer:
        peer.send(head_of(HEAD_SIZE_MAX + 1))
        assert peer.status() == 431


def test_headers_at_the_limit_are_read_and_over_it_are_refused(port):
    own = HANDSHAKE.count("\r\n") - 2
    for count, status in ((HEADER_COUNT_MAX, 101), (HEADER_COUNT_MAX + 1, 431)):
        with Raw(port) as peer:
            more = "".join(f"X{n}: y\r\n" for n in range(count - own))
            peer.send((HANDSHAKE.format(path="/")[:-2] + more + "\r\n").encode())
            assert peer.status() == status


def test_endless_head_is_refused_while_it_comes(port):
    with Raw(port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nX: " + b"a" * (4 << 20))
        assert peer.status() in (431, 0)  # 0: reset before we could read what it said.


@pytest.mark.parametrize(
    "request_text, status",
    [
        ("GET /nope HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405),
        ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        ("GET / HTTP/1.1\nHost: h\n\n", 400),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        (HANDSHAKE.format(path="/").replace("Version: 13", "Version: 12"), 426),
        (HANDSHAKE.format(path="/").replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (HANDSHAKE.format(path="/").replace("Host: 127.0.0.1\r\n", ""), 400),
        (HANDSHAKE.format(path="/%zz"), 400),
        (HANDSHAKE.format(path="/%ff"), 400),
        (HANDSHAKE.format(path="/stream/%zz/g"), 400),
        (HANDSHAKE.format(path="/" + "a" * 2000 + "%f"), 400),
        (HANDSHAKE.format(path="/%41"), 404),
    ],
)
def test_wrong_requests_get_their_status(port, request_text, status):
    with Raw(port) as peer:
        peer.send(request_text.encode())
        assert peer.status() == status
        peer.wait_end()


# ---- Frames

BROKEN_FRAMES = {
    "unmasked": (frame("{}", masked=False), 1002),
    "reserved bit": (frame("{}", reserved=4), 1002),
    "reserved opcode": (frame("{}", opcode=3), 1002),
    "reserved control opcode": (frame("", opcode=11), 1002),
    "continuation of nothing": (frame("{}", opcode=0), 1002),
    "message inside a message": (frame("{", final=False) + frame("}"), 1002),
    "fragmented ping": (frame("", opcode=PING, final=False), 1002),
    "long ping": (frame("x" * 126, opcode=PING), 1002),
    "length with its top bit set": (b"\x81\xff\x80" + b"\x00" * 11, 1002),
    "length in too many bytes": (b"\x81\xfe\x00\x02" + b"\x00" * 6, 1002),
    "close of one byte": (frame(b"\x03", opcode=CLOSE), 1002),
    "close with a forbidden code": (frame(b"\x03\xed", opcode=CLOSE), 1002),
    "text that is not UTF-8": (frame(b"\xff\xfe"), 1007),
    "text that ends within a character": (frame(b"\xc3"), 1007),
    "text with a surrogate": (frame(b'"\xed\xa0\x80"'), 1007),
    "close reason that is not UTF-8": (frame(b"\x03\xe8\xff", opcode=CLOSE), 1007),
    "frame over the limit": (frame(b"", length=FRAME_SIZE_MAX + 1), 1009),
    "frame of 2^62 bytes": (frame(b"", length=1 << 62), 1009),
}


@pytest.mark.parametrize("kind", BROKEN_FRAMES)
def test_broken_frames_close_with_their_code(port, kind):
    data, code = BROKEN_FRAMES[kind]
    with Raw(port).upgrade() as peer:
        peer.send(data)
        assert peer.close_code() == code


def test_broken_utf8_in_binary_is_dropped(hostile):
    with Raw(hostile.worker_port).upgrade() as peer:
        peer.message()
        peer.send(frame(b'{"type":"ping","x":"\xff"}', BINARY) + frame('{"type":"ping"}'))
        assert peer.message() == b'{"type":"pong"}'


def test_message_of_many_fragments_over_the_limit_is_refused(hostile):
    """Each frame is small enough; the message, 64 MiB and one byte, is not."""
    piece = b" " * (8 << 20)
    with Raw(hostile.worker_port).upgrade() as peer:
        peer.message()
        peer.send(frame(piece, final=False))
        for _ in range(7):
            peer.send(frame(piece, opcode=0, final=False))
        peer.send(frame(b" ", opcode=0))
        assert peer.close_code() == 1009


def test_message_split_at_every_byte_is_understood(hostile):
    data = frame('{"type":"ping"}')
    with Raw(hostile.worker_port).upgrade() as peer:
        peer.message()
        for byte in data:
            peer.send(bytes([byte]))
        assert peer.message() == b'{"type":"pong"}'


def test_frames_behind_the_handshake_in_one_packet(hostile):
    with Raw(hostile.worker_port) as peer:
        peer.send(HANDSHAKE.format(path="/").encode() + frame('{"type":"ping"}'))
        assert peer.status() == 101
        assert b"workerregistered" in peer.message()
        assert peer.message() == b'{"type":"pong"}'


def test_flood_of_pings_is_answered_in_order(port):
    with Raw(port).upgrade() as peer:
        count = 5000
        for start in range(0, count, 500):
            peer.send(b"".join(frame(str(n), PING) for n in range(start, start + 500)))
        expected = 0
        while expected < count:
            opcode, payload = peer.frame()
            if opcode == TEXT:
                continue
            # Several pings may share one pong, the last one's (RFC 6455 5.5.3).
            assert opcode == PONG and int(payload) >= expected
            expected = int(payload) + 1


def test_peer_that_vanishes_within_a_frame(port):
    for _ in range(100):
        with Raw(port).upgrade() as peer:
            peer.send(frame("x" * 1000)[:500])


def test_deep_json_is_refused_by_depth_not_by_the_stack(hostile):
    deep = "[" * 100_000 + "]" * 100_000
    call = '{"type":"invokefunction","invocation_id":"00000000-0000-4000-8000-000000000001",'
    call += '"function_id":"stream::set","data":{"stream_name":"h","group_id":"g","item_id":"i","data":'
    with Raw(hostile.worker_port).upgrade() as peer:
        peer.message()
        peer.send(frame(call + deep + "}}"))
        assert b'"error"' in peer.message()
        peer.send(frame('{"type":"ping"}'))
        assert peer.message() == b'{"type":"pong"}'


def test_clean_close_is_answered_with_the_same_code(port):
    with Raw(port).upgrade() as peer:
        peer.send(frame(b"\x0f\xa0bye", opcode=CLOSE))  # 4000
        assert peer.close_code() == 4000
        with pytest.raises(Ended):
            peer.frame()


# ---- What reaches the control plane


def register(worker, *messages):
    """Sends registrations, and waits until they count."""
    for message in messages:
        worker.send(message)
    worker.get("none", "g", "i")


def take_call(worker):
    """The next call of a function of the worker."""
    while True:
        message = worker.receive()
        if message["type"] == "invokefunction":
            return message


def give(worker, call, result):
    ids = {key: call[key] for key in ("invocation_id", "function_id")}
    worker.send({"type": "invocationresult", **ids, "result": result})


def test_log_record_with_numbers_beyond_all_integers(hostile):
    with Worker(hostile.worker_url()) as worker:
        trigger = {"type": "registertrigger", "id": "t", "trigger_type": "log", "function_id": "f", "config": {}}
        register(worker, {"type": "registerfunction", "id": "f"}, trigger)
        records = [{"severityNumber": str((1 << 64) - 1)}, {"severityNumber": 9, "timeUnixNano": "1e400"}]
        text = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})
        worker.socket.send(b"LOGS" + text.encode())
        for _ in records:
            call = take_call(worker)
            assert call["data"]["severity_number"] in (255, 9)
            give(worker, call, None)


def test_trigger_that_calls_a_built_in_function_with_the_deepest_event(hostile):
    """The node's own call nests the event once more than a message may."""
    with Worker(hostile.worker_url()) as worker:
        trigger = {"type": "registertrigger", "id": "t", "trigger_type": "stream", "function_id": "stream::list"}
        register(worker, {**trigger, "config": {"stream_name": "s"}})
        for depth in (123, 124):
            data = "[" * depth + "]" * depth
            worker.socket.send(
                '{"type":"invokefunction","invocation_id":"1","function_id":"stream::send",'
                f'"data":{{"stream_name":"s","group_id":"g","type":"x","data":{data}}}}}'
            )
            assert "error" not in worker.answer("1")
        deadline = time.monotonic() + 10
        while (failed := hostile.counters()["triggers_failed"]) == 0 and time.monotonic() < deadline:
            pass
    assert failed == 1


@pytest.mark.parametrize("name", ["stream::list", "stream::list_groups"])
def test_function_id_written_in_escapes(hostile, name):
    with Worker(hostile.worker_url()) as worker:
        escaped = "".join(f"\\u{ord(character):04x}" for character in name)
        worker.socket.send(
            f'{{"type":"invokefunction","invocation_id":"1","function_id":"{escaped}",'
            '"data":{"stream_name":"s","group_id":"g"}}'
        )
        assert worker.answer("1")["result"] == []


def test_result_that_is_no_json_behind_its_fields(hostile):
    with Worker(hostile.worker_url()) as worker, Worker(hostile.worker_url()) as caller:
        register(worker, {"type": "registerfunction", "id": "f"})
        invocation = caller.invoke("f", data={})
        call = take_call(worker)
        worker.socket.send(
            f'{{"type":"invocationresult","invocation_id":"{call["invocation_id"]}",'
            '"function_id":"f","result":{"a":1},"x":'
        )
        answer = caller.answer(invocation)
        assert answer["error"]["code"] == "invalid_message"
        assert "result" not in answer


def test_hook_of_a_worker_that_writes_ahead(start_node):
    """The hook of a registration asks the very worker that registers, behind which more of its calls wait than the node
    keeps for a caller: it is read on, or it could never say what the registration waits for."""
    rules = {"on_function_registration_function_id": "hook", "expose_functions": ['match("*")']}
    plain = {"name": "iii-worker-manager", "config": {"host": "127.0.0.1", "port": 0}}
    node = start_node(worker={"rbac": rules}, entries=[plain])
    with Worker(node.url(node.worker_ports[1])) as first, Worker(node.worker_url()) as worker:
        register(first, {"type": "registerfunction", "id": "hook"})
        worker.send({"type": "registerfunction", "id": "help"})
        give(first, take_call(first), {})
        worker.get("s", "g", "i")
        worker.send({"type": "registerfunction", "id": "f"})
        value = "x" * 60_000
        written = {"stream_name": "s", "group_id": "g", "item_id": "i", "data": value}
        calls = [worker.invoke("stream::set", data=written) for _ in range(40)]
        hook = take_call(first)
        asked = first.invoke("help", data={})
        give(worker, take_call(worker), "helped")
        assert first.answer(asked)["result"] == "helped"
        give(first, hook, {})
        for call in calls:
            assert worker.answer(call)["result"]["new_value"] == value


def test_flood_of_pings_of_a_client_that_does_not_read_costs_one_pong(port, hostile):
    """Before it is let in, too. RFC 6455, 5.5.3: only the most recent ping needs an answer."""
    with Raw(port, receive_buffer=4096).upgrade() as peer:
        for _ in range(10):
            peer.send(frame(b"", PING, masked=True) * 40_000)
        peer.send(frame(b"last", PING))
        assert hostile.counters()["waiting_outbox_bytes"] < 64 << 10
        pongs = 0
        while True:
            opcode, payload = peer.frame()
            pongs += opcode == PONG
            if opcode == PONG and payload == b"last":
                break
        assert pongs < 400_001


def test_flood_of_ping_messages_of_a_worker_that_does_not_read_costs_one_pong(hostile):
    with Raw(hostile.worker_port, receive_buffer=4096).upgrade() as worker:
        worker.message()
        for _ in range(10):
            worker.send(frame('{"type":"ping"}') * 20_000)
        worker.send(frame("last", PING))
        assert hostile.counters()["waiting_outbox_bytes"] < 64 << 10
        answered = 0
        while (frame_read := worker.frame()) != (PONG, b"last"):
            answered += frame_read[0] == TEXT
        assert 0 < answered < 200_000
        worker.send(frame('{"type":"ping"}'))
        while json.loads(worker.message()) != {"type": "pong"}:
            pass


def test_pings_that_come_one_by_one_are_answered_each(port):
    with Raw(port).upgrade() as peer:
        for number in range(50):
            peer.send(frame(str(number), PING))
            while (answer := peer.frame())[0] != PONG:
                pass
            assert answer[1] == str(number).encode()


def test_ten_pings_at_once_are_answered_each(port):
    with Raw(port).upgrade() as peer:
        peer.send(b"".join(frame(str(number), PING) for number in range(10)))
        answers = []
        while len(answers) < 10:
            opcode, payload = peer.frame()
            if opcode == PONG:
                answers.append(int(payload))
        assert answers == list(range(10))


def test_a_message_of_numbers_at_the_edge_of_the_range_costs_no_more_than_others(hostile):
    """Each number is in the range of a double by its exponent only."""
    text = '{"type":"invokefunction","invocation_id":"i","function_id":"stream::get","data":{"x":[%s1]}}'
    with Raw(hostile.worker_port).upgrade() as peer:
        peer.message()

        def seconds(number):
            message = frame(text % (number * ((8 << 20) // len(number))))
            began = hostile.cpu_seconds()
            peer.send(message)
            assert b"deserialization_error" in peer.message()
            return hostile.cpu_seconds() - began

        seconds("123456,")
        assert seconds("1e308,") < 5 * seconds("123456,") + 0.05
        assert seconds("1.7976931348623158e308,") < 5 * seconds("123456,") + 0.05
