#!/usr/bin/env python3
"""How long the sets of others take while one client asks for much, on one shard.

    isolation.py [--rounds 5] [--seconds 4] [--only nothing,list,fan,join] [--small] [--json FILE]

100 setters, 2,000 sets a second in an open loop, while

    nothing   nothing else happens;
    list      one client lists a group of a million items twice a second;
    fan       another group fans out to 10,000 subscribers ten times a second;
    join      ten clients a second join the group of a million items, read its `sync` and go.

One node for all, the cases in turn, round after round: medians and ranges of p50 and p99. The node has
--server-core, all else --load-core, where the setters come before the disturbers, so that what they wait
for is the node. A line of a round tells what the disturber got done. --small: a hundredth. --nice -15, for root:
before whatever else the machine does.
"""

import argparse
import contextlib
import json
import pathlib
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "Peers"), str(HERE.parent / "Tests/Interop")]
from pairs import BENCH, Ours, go_before_others, spread  # noqa: E402
from raw import HANDSHAKE, Raw, frame  # noqa: E402

STREAM, GROUP = "isolation", "big"
SETTERS = ["functions", "--callers", 100, "--mix", "set=1", "--rate", 2000]
IN_PROGRESS_MAX = 32
PATIENCE_SECONDS = 120


def call(function, item="", extra=""):
    return (
        f'{{"type":"invokefunction","invocation_id":"00000000-0000-4000-8000-000000000001","function_id":"stream::{function}",'
        f'"data":{{"stream_name":"{STREAM}","group_id":"{GROUP}"{item}{extra}}}}}'
    )


class Reader:
    """Counts the messages of a non-blocking socket, and looks at nothing of them but their sizes."""

    scratch = bytearray(4 << 20)

    def __init__(self, socket):
        self.socket, self.head, self.left, self.last = socket, b"", 0, False
        socket.setblocking(False)

    def messages(self):
        """How many ended in what is there now. Pings are skipped: nobody stays long enough to owe an answer."""
        view, ended = memoryview(self.scratch), 0
        while True:
            try:
                size = self.socket.recv_into(view)
            except BlockingIOError:
                return ended
            assert size, "the node closed the connection"
            at = 0
            while at < size:
                if self.left == 0:
                    self.head += bytes(view[at : at + 1])
                    at += 1
                    self.begin()
                taken = min(self.left, size - at)
                at += taken
                self.left -= taken
                ended += taken > 0 and self.left == 0 and self.last

    def begin(self):
        """Takes the size from the head, once that is whole."""
        if len(self.head) < 2:
            return
        short = self.head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(short, 0)
        if len(self.head) == 2 + extended:
            self.left = int.from_bytes(self.head[2:], "big") if extended else short
            # A long message comes as several frames.
            self.last = self.head[0] & 0x88 == 0x80
            self.head = b""


class Worker:
    def __init__(self, port):
        connection = Raw(port).upgrade()
        connection.message()
        self.socket = connection.socket
        self.reader = Reader(self.socket)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.socket, selectors.EVENT_READ)

    def run(self, frames, count):
        """Sends `frames`, and waits for `count` answers."""
        self.socket.setblocking(True)
        self.socket.sendall(frames)
        self.socket.setblocking(False)
        while count > 0:
            self.selector.select(PATIENCE_SECONDS)
            count -= self.reader.messages()


def fill(port, count):
    worker = Worker(port)
    for start in range(0, count, 256):
        items = range(start, min(start + 256, count))
        sets = [frame(call("set", f',"item_id":"{i:08}"', f',"data":{{"n":{i},"text":"abcdefghijklm"}}')) for i in items]
        worker.run(b"".join(sets), len(sets))
    worker.socket.close()


# ---- The disturbers, each a process: one line when it is at work, one line of JSON at its end


class Disturber:
    def __init__(self, command, options):
        behind = ["taskset", "-c", options.load_core, "nice", "-n", 10]
        self.process = subprocess.Popen([str(part) for part in [*behind, *command]], stdout=subprocess.PIPE, text=True)

    def wait(self, node):
        self.process.stdout.readline()

    def stop(self, node):
        self.process.send_signal(signal.SIGTERM)
        last = self.process.communicate(timeout=PATIENCE_SECONDS)[0]
        return last.strip()


class Fan(Disturber):
    """The load generator, which checks every byte of what it gets, as always."""

    def __init__(self, server, options):
        self.server, self.subscribers = server, options.subscribers
        stream, worker = server.node.target("fanout")
        work = ["fanout", "--subscribers", self.subscribers, "--size", 40, "--rate", 10, "--duration", 600, "--warm-up", 0, "--quiet"]
        super().__init__([BENCH, *work, "--target", stream, "--workers", worker], options)

    def wait(self, node):
        self.before = self.server.settled(lambda now: now["subscriptions"] >= self.subscribers)

    def stop(self, node):
        after = self.server.counters()
        self.process.kill()
        self.process.communicate()
        self.server.settled(lambda now: now["subscriptions"] == 0)
        return f"{after['deliveries'] - self.before['deliveries']} deliveries"


def paced(interval, start, progress):
    """Calls `start` every `interval` seconds and `progress` as sockets have something; ends with a SIGTERM."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    print("ready", flush=True)
    due = time.monotonic()
    while not ended:
        if time.monotonic() >= due:
            start()
            due += interval
        progress(max(0, due - time.monotonic()))


def told(what, times, left_out):
    print(f"{len(times)} {what} of {statistics.median(times or [0]) * 1000:.0f} ms, {left_out} left out")


def listing(port):
    worker, asked, times, left_out = Worker(port), [], [], []

    def start():
        if asked:
            left_out.append(True)
            return
        asked.append(time.monotonic())
        worker.socket.setblocking(True)
        worker.socket.sendall(frame(call("list")))
        worker.socket.setblocking(False)

    def progress(seconds):
        if worker.selector.select(seconds) and worker.reader.messages():
            times.append(time.monotonic() - asked.pop())

    paced(0.5, start, progress)
    told("lists", times, len(left_out))


class Joiner:
    def __init__(self, port):
        self.began, self.head, self.reader = time.monotonic(), b"", None
        connection = Raw(port)
        connection.send(HANDSHAKE.format(path=f"/stream/{STREAM}/{GROUP}").encode())
        self.socket = connection.socket
        self.socket.setblocking(False)

    def finished(self):
        """Reads what is there; the head byte by byte, as what follows it is the reader's."""
        if self.reader is None:
            with contextlib.suppress(BlockingIOError):
                while not self.head.endswith(b"\r\n\r\n"):
                    byte = self.socket.recv(1)
                    assert byte, "the node refused a join"
                    self.head += byte
                assert self.head.startswith(b"HTTP/1.1 101"), self.head
                self.reader = Reader(self.socket)
        return self.reader is not None and self.reader.messages() > 0


def joining(port):
    selector, times, left_out = selectors.DefaultSelector(), [], []

    def start():
        if len(selector.get_map()) >= IN_PROGRESS_MAX:
            left_out.append(True)
            return
        joiner = Joiner(port)
        selector.register(joiner.socket, selectors.EVENT_READ, joiner)

    def progress(seconds):
        for key, _ in selector.select(seconds):
            if key.data.finished():
                times.append(time.monotonic() - key.data.began)
                selector.unregister(key.fileobj)
                key.fileobj.close()

    paced(0.1, start, progress)
    told("joins", times, len(left_out))


# ---- The measurement


class Measured:
    """The node, and what it counts."""

    def __init__(self, options, folder):
        self.node, self.folder = Ours(1), pathlib.Path(folder)
        self.server = self.node.start(options.server_core, folder)
        self.log = self.folder / "server.log"

    def counters(self):
        size = self.log.stat().st_size
        time.sleep(0.03)  # It writes at most 50 such lines a second.
        self.server.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with open(self.log) as log:
                log.seek(size)
                for line in log:
                    if '"event":"counters"' in line and line.endswith("\n"):
                        return json.loads(line)
            time.sleep(0.01)
        sys.exit("the node does not tell its counters")

    def settled(self, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            now = self.counters()
            if condition(now):
                return now
        sys.exit("the disturber did not get to work")


def disturber(name, server, options):
    if name == "fan":
        return Fan(server, options)
    port = {"list": server.node.worker, "join": server.node.stream}.get(name)
    return port and Disturber([sys.executable, __file__, "--disturb", name, "--port", port], options)


def measure(name, server, options):
    """p50, p99 and the longest in ms, and what the disturber did."""
    other = disturber(name, server, options)
    try:
        if other:
            other.wait(server)
        latencies = setters(server, options)
        meanwhile = other.stop(server) if other else ""
    finally:
        if other:
            other.process.kill()
            other.process.wait()
    return latencies["p50"] / 1000, latencies["p99"] / 1000, latencies["max"] / 1000, meanwhile


def setters(server, options):
    stream, worker = server.node.target("functions")
    result = server.folder / "result.json"
    done = subprocess.run(
        [
            *["taskset", "-c", str(options.load_core), str(BENCH), *map(str, SETTERS), "--duration", str(options.seconds)],
            *["--target", stream, "--workers", worker, "--quiet", "--json", str(result)],
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(done.stdout)
    return json.loads(result.read_text())["works"][0]["latencies"]["set"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", default="nothing,list,fan,join")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--disturb", choices=["list", "join"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.disturb:
        return {"list": listing, "join": joining}[options.disturb](options.port)
    if options.small:
        options.items, options.subscribers, options.rounds, options.seconds = options.items // 100, options.subscribers // 100, 1, 1
    go_before_others(options.nice)
    names = options.only.split(",")
    results = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        server = Measured(options, folder)
        try:
            fill(server.node.worker, options.items)
            for number in range(options.rounds):
                # Who comes first changes, so that a drift of the machine favours none.
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    results[name].append(measure(name, server, options))
                    p50, p99, most, meanwhile = results[name][-1]
                    print(f"round {number + 1}, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {most:.2f} ms {meanwhile}", flush=True)
        finally:
            server.server.stop()
    print("| meanwhile | p50, ms | p99, ms |\n|---|---|---|")
    for name, values in results.items():
        print(f"| {name} | {spread([each[0] for each in values], 2)} | {spread([each[1] for each in values], 2)} |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
