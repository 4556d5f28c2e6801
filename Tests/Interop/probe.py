"""A probe: changes at a steady pace beside any load, and how long each took."""

import contextlib
import json
import math
import statistics
import threading
import time

from raw import Raw, TEXT, frame

CHANGES_PER_SECOND = 100


class Probe:
    """A worker that sets an item 100 times a second; the time of each counts from when it was due.

        with Probe(node) as probe:
            ...  # The load.
        assert probe.p99() < 0.050

    A set that has not been answered at the end counts with the time until then.
    """

    def __init__(self, node, stream="probe", group="probe", value=1, port=None):
        self.port = port or node.worker_port
        self.input = {"stream_name": stream, "group_id": group, "item_id": "i", "data": value}
        self.seconds = []
        self._due = {}  # By invocation id: when the set should have been sent.
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self):
        self.connection = Raw(self.port).upgrade()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._read)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.threads[0].join()
        deadline = time.monotonic() + 1
        while self._due and time.monotonic() < deadline:
            time.sleep(0.01)  # The last ones are on their way.
        with self._lock:
            self.seconds += [time.monotonic() - due for due in self._due.values()]
        self.connection.close()

    def _send(self):
        began = time.monotonic()
        for number in range(1 << 30):
            due = began + number / CHANGES_PER_SECOND
            if self._ended.wait(max(0, due - time.monotonic())):
                return
            invocation_id = f"00000000-0000-4000-8000-{number:012x}"
            with self._lock:
                self._due[invocation_id] = due
            call = {"type": "invokefunction", "invocation_id": invocation_id, "function_id": "stream::set"}
            self.connection.send(frame(json.dumps({**call, "data": self.input})))

    def _read(self):
        with contextlib.suppress(Exception):  # It is closed at the end.
            self.connection.socket.settimeout(None)
            while True:
                opcode, payload = self.connection.frame()
                message = json.loads(payload) if opcode == TEXT else {}
                if message.get("type") != "invocationresult":
                    continue
                assert "error" not in message, message
                with self._lock:
                    self.seconds.append(time.monotonic() - self._due.pop(message["invocation_id"]))

    def p99(self):
        """Seconds that 99 of 100 changes took at most."""
        assert self.seconds, "no change was made"
        ordered = sorted(self.seconds)
        return ordered[math.ceil(len(ordered) * 0.99) - 1]

    def median(self):
        return statistics.median(self.seconds)


def p99_beside(node, load, **options):
    """Runs `load()` beside a probe; the p99 in seconds."""
    with Probe(node, **options) as probe:
        load()
    return probe.p99()
