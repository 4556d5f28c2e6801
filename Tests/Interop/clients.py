"""Plain clients of both ports, over an independent WebSocket implementation."""

import json
import uuid

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from secure import secured

# Nothing on loopback takes this long: a client that waits longer has found a bug.
TIMEOUT_SECONDS = 10


class Closed(Exception):
    """The node closed the connection, with `code`."""

    def __init__(self, code):
        super().__init__(f"closed with {code}")
        self.code = code


def status_of(url, **options):
    """The HTTP status that an upgrade of `url` is answered with."""
    try:
        url, options = secured(url, options)
        with connect(url, compression=None, proxy=None, **options):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


class Connection:
    """A WebSocket that sends and receives JSON objects. Silent: it sends no pings of its own."""

    def __init__(self, url, **options):
        # Without a user agent: clients of Python are sent no message over 1 MiB.
        defaults = {"compression": None, "max_size": None, "ping_interval": None, "user_agent_header": None}
        url, options = secured(url, {**defaults, **options})
        opening = connect(url, proxy=None, open_timeout=TIMEOUT_SECONDS, **options)
        self.socket = opening.__enter__()

    def send(self, message):
        self.socket.send(json.dumps(message, ensure_ascii=False))

    def receive_text(self, seconds=TIMEOUT_SECONDS):
        try:
            return self.socket.recv(seconds)
        except ConnectionClosed as end:
            raise Closed(end.rcvd.code if end.rcvd else 1006) from None

    def receive(self, seconds=TIMEOUT_SECONDS):
        return json.loads(self.receive_text(seconds))

    def close_code(self, seconds=TIMEOUT_SECONDS):
        """Reads until the node closes and returns its code: 1005 without one, 1006 without a close."""
        try:
            while True:
                self.receive_text(seconds)
        except Closed as end:
            return end.code

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Worker(Connection):
    """A worker that speaks the protocol by hand."""

    def __init__(self, url, **options):
        super().__init__(url, **options)
        self.registered = self.receive()
        assert self.registered["type"] == "workerregistered"

    def invoke(self, function_id, **fields):
        """Sends a call and returns its id; `fields` are those of the message, `data` among them."""
        invocation_id = str(uuid.uuid4())
        message = {"type": "invokefunction", "invocation_id": invocation_id, "function_id": function_id}
        self.send({**message, **fields})
        return invocation_id

    def answer(self, invocation_id):
        """The result message of a call. Other messages that come first are lost."""
        while True:
            message = self.receive()
            if message.get("invocation_id") == invocation_id and message["type"] == "invocationresult":
                return message

    def call(self, function_id, data):
        """Calls and returns the result message."""
        return self.answer(self.invoke(function_id, data=data))

    def result(self, function_id, **data):
        """Calls with the object `data` and returns the result, which must not be an error."""
        message = self.call(function_id, data)
        assert "error" not in message, message
        return message.get("result")

    def set(self, stream, group, item, value):
        return self.result(
            "stream::set", stream_name=stream, group_id=group, item_id=item, data=value
        )

    def get(self, stream, group, item):
        return self.result("stream::get", stream_name=stream, group_id=group, item_id=item)

    def list(self, stream, group):
        return self.result("stream::list", stream_name=stream, group_id=group)


class Subscriber(Connection):
    """A client of the stream port."""

    def join(self, stream, group, item=None, subscription="s"):
        data = {"subscriptionId": subscription, "streamName": stream, "groupId": group}
        self.send({"type": "join", "data": data if item is None else {**data, "id": item}})

    def leave(self, stream, group, subscription="s"):
        data = {"subscriptionId": subscription, "streamName": stream, "groupId": group}
        self.send({"type": "leave", "data": data})

    def event(self):
        """The event of the next frame."""
        return self.receive()["event"]
