"""A list of todos that everybody sees at once, and who is looking at it.

    python3 app.py [--workers URL] [--streams URL] [--port PORT]

One process is two things. For the node it is a worker: it says who may connect (`todo::auth`) and keeps the
stream `presence` (`todo::joined`, `todo::left`). For pages it is a web server: it serves the page, and takes
what they write. Pages read from the node only, over their own WebSocket.
"""

import argparse
import http.server
import json
import pathlib
import threading
import uuid
from urllib.parse import unquote

from iii import InitOptions, register_worker

PAGE = pathlib.Path(__file__).with_name("index.html")
TODOS = {"stream_name": "todos", "group_id": "home"}
PRESENCE = {"stream_name": "presence", "group_id": "home"}
BODY_SIZE_MAX = 4096

# Your application has sessions or signed tokens instead.
USERS = {"ann-secret": "Ann", "bob-secret": "Bob"}

client = None


# ---- The worker


async def call(function_id, **payload):
    return await client.trigger_async({"function_id": function_id, "payload": payload})


async def auth(request):
    """Lets a page in: it sends its token as the sub-protocol `Authorization, <token>`."""
    offered = request["headers"].get("sec-websocket-protocol", "")
    user = USERS.get(offered.removeprefix("Authorization, "))
    return {"context": {"user": user}} if user else {"unauthorized": True}


def seat(event):
    """Two tabs of a user have two connections, and a tab that joins again has another subscription."""
    return f"{event['connection_id']} {event['subscription_id']}"


async def joined(event):
    value = {"id": seat(event), "user": event["context"]["user"]}
    await call("stream::set", **PRESENCE, item_id=seat(event), data=value)
    return {}  # Lets it in. {"unauthorized": True} would refuse.


async def left(event):
    await call("stream::delete", **PRESENCE, item_id=seat(event))


async def workers_changed(event):
    # The node, or the connection to it, has come back. Who left meanwhile was told to nobody.
    if event["event"] == "worker_metadata_updated" and event["worker_id"] == client.worker_id:
        await count_again()


async def count_again(_=None):
    """Forgets who is there, and asks pages to join again."""
    for value in await call("stream::list", **PRESENCE):
        await call("stream::delete", **PRESENCE, item_id=value["id"])
    await call("stream::send", **PRESENCE, type="join again", data=None)


def start_worker(url):
    global client
    client = register_worker(url, InitOptions(worker_name="todo", otel={"enabled": False}))
    functions = {
        "todo::auth": auth,
        "todo::joined": joined,
        "todo::left": left,
        "todo::workers_changed": workers_changed,
        "todo::count_again": count_again,
    }
    for function_id, function in functions.items():
        client.register_function(function_id, function)
    for kind, function_id, config in [
        ("stream:join", "todo::joined", {"stream_name": TODOS["stream_name"]}),
        ("stream:leave", "todo::left", {"stream_name": TODOS["stream_name"]}),
        ("engine::workers-available", "todo::workers_changed", {}),
    ]:
        client.register_trigger({"type": kind, "function_id": function_id, "config": config})
    client.trigger({"function_id": "todo::count_again", "payload": {}})


# ---- The web server


one_writer = threading.Lock()


def write(function_id, item_id, **payload):
    """Returns whether the item was there, or is new."""

    def on_item(function_id, **payload):
        payload = {**TODOS, "item_id": item_id, **payload}
        return client.trigger({"function_id": function_id, "payload": payload, "timeout_ms": 5000})

    # An update of an item that is not there would make one. Nobody else writes, so a lock is enough.
    with one_writer:
        if function_id != "stream::set" and on_item("stream::get") is None:
            return False
        on_item(function_id, **payload)
        return True


class Handler(http.server.BaseHTTPRequestHandler):
    streams = ""  # Where pages find the node.

    def do_GET(self):
        if self.path == "/":
            self.answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/me" and (user := self.user()):
            self.answer(200, json.dumps({"user": user, "streams": self.streams}).encode())
        elif self.path != "/me":
            self.answer(404)

    def do_POST(self):
        if self.path == "/todos" and (user := self.user()) and (body := self.body()):
            if not isinstance(text := body.get("text"), str) or not text.strip():
                return self.answer(400)
            item_id = str(uuid.uuid4())
            value = {"id": item_id, "text": text.strip(), "done": False, "by": user}
            self.written("stream::set", item_id, data=value)

    def do_PATCH(self):
        if (item_id := self.item_id()) and self.user() and (body := self.body()):
            if not isinstance(done := body.get("done"), bool):
                return self.answer(400)
            self.written("stream::update", item_id, ops=[{"type": "set", "path": "done", "value": done}])

    def do_DELETE(self):
        if (item_id := self.item_id()) and self.user():
            self.written("stream::delete", item_id)

    # Each of these answers when it has nothing to give.

    def user(self):
        user = USERS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if user is None:
            self.answer(401)
        return user

    def item_id(self):
        if self.path.startswith("/todos/"):
            return unquote(self.path.removeprefix("/todos/"))
        self.answer(404)

    def body(self):
        try:
            size = int(self.headers.get("Content-Length", "0"))
            value = json.loads(self.rfile.read(size)) if size <= BODY_SIZE_MAX else None
        except ValueError:
            value = None
        if isinstance(value, dict) and value:
            return value
        self.answer(400)

    def written(self, function_id, item_id, **payload):
        try:
            self.answer(204 if write(function_id, item_id, **payload) else 404)
        except Exception as error:  # Those of the SDK differ by version.
            self.log_error("%s: %s", function_id, error)
            self.answer(503)

    def answer(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        pass


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--workers", default="ws://localhost:49134", help="the node's worker port")
    options.add_argument("--streams", default="ws://localhost:3112", help="its stream port, for pages")
    options.add_argument("--port", type=int, default=8000, help="of the web server")
    options = options.parse_args()
    start_worker(options.workers)
    Handler.streams = options.streams
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    print(f"http://localhost:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        client.shutdown()


if __name__ == "__main__":
    main()
