"""Plays recorded scenarios against a node, and compares each step with its record.

A scenario is a list of steps, each of which says `why` it is there. After each one everything that any
connection received since the last is compared, with what differs from run to run replaced by
placeholders. `original` in a step is what the first implementation of the protocol answered; `expect`, where present, is what this project
decided on instead, and `because` says why. Patterns in `expect`:

    {"$any": 1}            anything
    {"$has": {..}}         an object with at least these keys
    {"$oneof": [..]}       one of these
    {"$contains": [..]}    a list with at least these, in any order
    {"$unordered": [..]}   a list of exactly these, in any order
"""

import asyncio
import contextlib
import json
import re
import time

import websockets

import certificates

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ADDRESS = re.compile(r"(127\.0\.0\.1|localhost|0\.0\.0\.0):\d{2,5}")
SCENARIO_UUID = "00000000-0000-4000-8000-"  # Ids with this head are the scenario's own: kept.

NANOSECOND_KEYS = {"timestamp_unix_nano", "observed_timestamp_unix_nano"}
MILLISECOND_KEYS = {"timestamp", "connected_at_ms"}
PLACEHOLDERS = {"sec-websocket-key": "<key>", "user-agent": "<agent>"}

PATIENCE_SECONDS = 5.0  # What is missing after so long does not come.
QUIET_SECONDS = 0.12  # A step has ended when no connection received anything for so long,
STEP_SECONDS_MAX = 6.0  # or after this.


# ---- Comparison


def normalise(value, key=None):
    """`value` with everything that differs from run to run replaced by a placeholder."""
    if isinstance(value, dict):
        return {name: normalise(child, name) for name, child in value.items()}
    if isinstance(value, list):
        return [normalise(child) for child in value]
    if isinstance(value, bool):
        return value
    if key in NANOSECOND_KEYS and isinstance(value, (int, str)):
        return "<ns>"
    if key in MILLISECOND_KEYS and isinstance(value, int) and value > 10**12:
        return "<ms>"
    if key in PLACEHOLDERS:
        return PLACEHOLDERS[key]
    if isinstance(value, str):
        value = UUID.sub(_keep_scenario_ids, value)
        return ADDRESS.sub(r"\1:<port>", value)
    return value


def _keep_scenario_ids(match):
    return match[0] if match[0].startswith(SCENARIO_UUID) else "<uuid>"


def matches(want, got):
    """Whether `got` is what `want`, a value with patterns in it, asks for."""
    if isinstance(want, dict):
        for name, pattern in PATTERNS.items():
            if name in want:
                return pattern(want[name], got)
        return (
            isinstance(got, dict)
            and want.keys() == got.keys()
            and all(matches(want[key], got[key]) for key in want)
        )
    if isinstance(want, list):
        return isinstance(got, list) and len(want) == len(got) and all(map(matches, want, got))
    if isinstance(want, bool) or isinstance(got, bool):
        return want is got
    return want == got


def _has(want, got):
    return isinstance(got, dict) and all(
        key in got and matches(child, got[key]) for key, child in want.items()
    )


def _contains(want, got):
    return isinstance(got, list) and all(any(matches(x, y) for y in got) for x in want)


def _unordered(want, got):
    if not isinstance(got, list) or len(want) != len(got):
        return False
    left = list(got)
    for child in want:
        index = next((i for i, other in enumerate(left) if matches(child, other)), None)
        if index is None:
            return False
        del left[index]
    return True


PATTERNS = {
    "$any": lambda _, __: True,
    "$has": _has,
    "$oneof": lambda want, got: any(matches(child, got) for child in want),
    "$contains": _contains,
    "$unordered": _unordered,
}


def wanted(step):
    """What this project promises to answer in `step`."""
    return step.get("expect", step["original"])


def describe(step):
    """What `step` does, in one line."""
    hidden = {"original", "expect", "because", "why"}
    return json.dumps({k: v for k, v in step.items() if k not in hidden}, ensure_ascii=False)


# ---- Playing


class Connection:
    """One connection of a scenario: what it saw since the last step, and what it serves."""

    def __init__(self):
        self.saw = []
        self.served = {}  # Function id to the recorded behaviour of its handler.
        self.socket = None
        self.last_change = 0.0
        self.tasks = set()

    def note(self, value):
        self.saw.append(value)
        self.last_change = time.monotonic()

    def start(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self, url, headers, subprotocols):
        try:
            self.socket = await websockets.connect(
                url,
                max_size=None,
                compression=None,
                ping_interval=None,
                proxy=None,
                open_timeout=8,
                additional_headers=headers,
                subprotocols=subprotocols,
            )
        except websockets.exceptions.InvalidStatus as refusal:
            self.note({"http": refusal.response.status_code})
            return
        except (OSError, TimeoutError, websockets.exceptions.WebSocketException) as failure:
            self.note({"failed": type(failure).__name__})
            return
        if subprotocols:
            self.note({"subprotocol": self.socket.subprotocol})
        self.start(self._read())

    async def _read(self):
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            async for raw in self.socket:
                self._take(raw)
        self.note({"closed": int(self.socket.close_code or 1006)})

    def _take(self, raw):
        try:
            message = json.loads(raw)
        except ValueError:
            message = {"raw": raw if isinstance(raw, str) else raw.hex()}
        self.note(message if isinstance(raw, str) else {"binary": message})
        if isinstance(message, dict) and message.get("type") == "invokefunction":
            self.start(self._serve(message))

    async def _serve(self, message):
        behaviour = self.served.get(message["function_id"])
        if behaviour is None or behaviour.get("hang"):
            return
        await asyncio.sleep(behaviour.get("after", 0))
        for path, value, special in behaviour.get("when", []):
            if _at(message.get("data"), path) == value:
                behaviour = special
                break
        answer = {
            "type": "invocationresult",
            "invocation_id": message["invocation_id"],
            "function_id": message["function_id"],
        }
        for key in ("result", "error", "traceparent", "baggage"):
            if key in behaviour:
                answer[key] = behaviour[key]
        await self.socket.send(json.dumps(answer))

    async def close(self):
        if self.socket is not None:
            await self.socket.close()
        for task in list(self.tasks):
            task.cancel()


def _at(value, path):
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


async def play(steps, ports):
    """Runs `steps` against the node at `ports`; returns what was seen in each."""
    connections = {}
    seen = []
    try:
        for step in steps:
            got = await _perform(step, connections, ports)
            await _settle(connections, step, got)
            seen.append(_seen(connections, got))
            for connection in connections.values():
                connection.saw = []
    finally:
        for connection in connections.values():
            await connection.close()
    return seen


async def _perform(step, connections, ports):
    action = step["do"]
    connection = connections.get(step.get("conn"))
    match action:
        case "open":
            connection = connections[step["conn"]] = Connection()
            port = ports[step["port"]]
            scheme = "wss" if port in certificates.secure_ports else "ws"
            url = f"{scheme}://127.0.0.1:{port}{step.get('path', '/')}"
            await connection.open(url, step.get("headers"), step.get("subprotocols"))
        case "wait":
            await asyncio.sleep(step["seconds"])
        case "raw":
            return await _raw_exchange(ports[step["port"]], step["text"])
        case "serve":
            connection.served[step["function_id"]] = step["with"]
        case _:
            # A connection that the node refused or closed shows in what it saw.
            with contextlib.suppress(websockets.exceptions.ConnectionClosed, AttributeError, TimeoutError):
                return await _send(action, step, connection.socket)
    return None


async def _send(action, step, socket):
    match action:
        case "send":
            await socket.send(json.dumps(step["message"], ensure_ascii=False))
        case "text":
            await socket.send(step["text"])
        case "binary":
            await socket.send(bytes.fromhex(step["hex"]))
        case "ping":
            await asyncio.wait_for(await socket.ping(b"x"), 3)
            return "pong"
        case "close":
            await socket.close(step.get("code", 1000))
        case "abort":
            socket.transport.abort()
        case _:
            raise ValueError(f"unknown step: {action}")
    return None


def _seen(connections, got):
    saw = {name: normalise(each.saw) for name, each in connections.items() if each.saw}
    return {"saw": saw} if got is None else {"saw": saw, "got": normalise(got)}


async def _settle(connections, step, got):
    """Waits until it is quiet; and longer, up to a bound, while something expected is missing."""
    start = time.monotonic()
    quiet = step.get("quiet", QUIET_SECONDS)
    most = step.get("most", STEP_SECONDS_MAX)
    while True:
        await asyncio.sleep(0.01)
        now = time.monotonic()
        if now - start > max(most, PATIENCE_SECONDS):
            return
        last = max([start, *(connection.last_change for connection in connections.values())])
        is_quiet = now - last >= quiet or now - start > most
        if is_quiet and matches(wanted(step), _seen(connections, got)):
            return


async def _raw_exchange(port, text):
    """Sends bytes and returns the response head, and how the connection ended."""
    tls = certificates.any_client() if port in certificates.secure_ports else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(text.replace("\n", "\r\n").encode("latin-1"))
    await writer.drain()
    data, end = b"", "open"
    try:
        while end == "open":
            piece = await asyncio.wait_for(reader.read(65536), 0.6)
            data += piece
            if not piece:
                end = "eof"
    except TimeoutError:
        pass
    except ConnectionError:
        end = "reset"
    writer.close()
    status, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    varying = ("date:", "sec-websocket-accept")
    headers = sorted(line.lower() for line in lines if not line.lower().startswith(varying))
    return {"status": status, "headers": headers, "end": end}
