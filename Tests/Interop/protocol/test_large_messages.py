"""What a client can take decides how large a message it is sent: by what its handshake and its registration tell."""

import json

import pytest

from clients import Worker
from raw import HANDSHAKE, PING, TEXT, Raw, frame

MIB = 1 << 20
PYTHON = "Python/3.11 websockets/13.1"
# What the handshake tells, what the registration tells, the largest message.
CLIENTS = {
    "python, not registered yet": (PYTHON, None, MIB),
    "python 0.11.6": (PYTHON, {"runtime": "python", "version": "0.11.6"}, MIB),
    "python 0.23.0": (PYTHON, {"runtime": "python", "version": "0.23.0"}, MIB),
    "python 0.24.4": (PYTHON, {"runtime": "python", "version": "0.24.4"}, MIB),
    "python 0.24.5": (PYTHON, {"runtime": "python", "version": "0.24.5"}, 64 * MIB),
    "python that declares it": (PYTHON, {"runtime": "python", "features": ["large-messages.v1"]}, 64 * MIB),
    "nothing is known": (None, None, 16 * MIB),
    "another client": ("Python/3.11 aiohttp/3.9", None, 16 * MIB),
    "browser": ("Mozilla/5.0", {"runtime": "browser", "version": "0.25.0"}, 16 * MIB),
    "node 0.25.0": (None, {"runtime": "node", "version": "0.25.0"}, 64 * MIB),
}


class Client:
    def __init__(self, node, agent, metadata):
        self.raw = Raw(node.worker_port)
        extra = f"User-Agent: {agent}\r\n\r\n" if agent else "\r\n"
        self.raw.send((HANDSHAKE.format(path="/")[:-2] + extra).encode())
        assert self.raw.status() == 101
        assert json.loads(self.message())["type"] == "workerregistered"
        if metadata:
            assert b"success" in self.call("engine::workers::register", metadata)

    def message(self):
        """The next message, of however many fragments."""
        whole = b""
        while True:
            final, opcode, payload = self.piece()
            if opcode == PING:
                continue
            whole += payload
            if final:
                return whole

    def piece(self):
        final = self.raw._take(1)[0]
        size = self.raw._take(1)[0]
        if size > 125:
            size = int.from_bytes(self.raw._take(2 if size == 126 else 8), "big")
        opcode = final & 15
        assert opcode in (0, TEXT, PING), f"opcode {opcode}: {self.raw._take(size)[:80]!r}"
        return bool(final & 0x80), opcode, self.raw._take(size)

    def call(self, function_id, data):
        message = {"type": "invokefunction", "invocation_id": "i", "function_id": function_id, "data": data}
        self.raw.send(frame(json.dumps(message)))
        return self.message()


@pytest.fixture(params=CLIENTS)
def client(request, node):
    agent, metadata, limit = CLIENTS[request.param]
    client = Client(node, agent, metadata)
    client.limit = limit
    yield client
    client.raw.close()


def fill(worker, size):
    """Makes a group whose list is `size` bytes of JSON; its items have at most 4 MiB."""
    count = max(1, -(-size // (4 * MIB)))
    rest = size - 2 - (count - 1)  # Brackets and commas.
    for number in range(count):
        own = rest // (count - number)
        worker.set("large", "g", str(number), "x" * (own - 2))
        rest -= own


def test_results_up_to_the_limit_arrive_and_larger_ones_are_errors(node, client):
    at = {"stream_name": "large", "group_id": "g"}
    with Worker(node.worker_url()) as worker:
        overhead = len(client.call("stream::list", at)) - len("[]")
        fill(worker, client.limit - overhead)
        answer = client.call("stream::list", at)
        assert len(answer) == client.limit, answer[:200]
        worker.set("large", "g", "0", "x" * (len(worker.get("large", "g", "0")) + 1))
        answer = client.call("stream::list", at)
        assert json.loads(answer)["error"]["code"] == "result_too_large"
        assert json.loads(client.call("stream::list", {**at, "group_id": "none"}))["result"] == []


def test_calls_up_to_the_limit_arrive_and_larger_ones_fail(node, client):
    client.raw.send(frame(json.dumps({"type": "registerfunction", "id": "large::f"})))
    client.call("stream::list", {"stream_name": "none", "group_id": "none"})  # It is registered.
    if client.limit == 64 * MIB:
        return  # Nobody's message to the node is larger.
    with Raw(node.worker_port).upgrade() as caller:
        caller.message()

        def call(data):
            head = '{"type":"invokefunction","invocation_id":"i","function_id":"large::f","data":"'
            caller.send(frame(head + data + '"}'))

        call("")
        overhead = len(client.message())
        received = json.loads(answer_later(client, overhead, call, client.limit))
        assert len(received["data"]) == client.limit - overhead
        call("x" * (client.limit - overhead + 1))
        assert json.loads(caller.message())["error"]["code"] == "payload_too_large"


def answer_later(client, overhead, call, size):
    call("x" * (size - overhead))
    message = client.message()
    assert len(message) == size
    return message
