#!/usr/bin/env python3
"""Measures our node and its peers in turn, and prints medians, ranges and ratios.

    pairs.py [--pairs N] [--seconds S] [--only NAME[,NAME...]] [--peers NAME[,NAME...]] [--json FILE] [--io epoll]

One core for the server (--server-core), one for the load (--load-core). Each pair is one run of ours and one
of the peer, right after each other; the ratio is that of the pair. Peers that are not there are said so and
left out: binaries are looked for by name in $III_PEERS, then on the path. METHOD.md says what each of them is.
With --io our node runs on that, and itself on io_uring is the one peer more, in each case.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = pathlib.Path(os.environ.get("III_BENCH", ROOT / ".build/release/iii-stream-bench")).resolve()
NODE = pathlib.Path(os.environ.get("III_NODE", ROOT / ".build/release/iii-stream")).resolve()
# The smallest frame that our `set` of a value of this size makes of the group "a0" and a stream of 9 letters.
STREAM = "benchmark"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def find(name):
    folder = os.environ.get("III_PEERS")
    if folder and os.access(pathlib.Path(folder) / name, os.X_OK):
        return str(pathlib.Path(folder) / name)
    return shutil.which(name)


class Server:
    """A server on a core of its own."""

    def __init__(self, command, ports, core, folder):
        self.log = open(pathlib.Path(folder) / "server.log", "ab")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            cwd=folder,
        )
        deadline = time.monotonic() + 15
        for port in ports:
            while True:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise SystemExit(f"{command[0]} does not listen on {port}")
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class Ours:
    def __init__(self, shards=1, io="auto", name="iii-stream"):
        self.shards, self.io, self.name = shards, io, name

    def start(self, core, folder):
        self.stream, self.worker = free_port(), free_port()
        config = pathlib.Path(folder) / "node.yaml"
        config.write_text(
            f"""workers:
  - name: iii-stream
    config: {{ host: 127.0.0.1, port: {self.stream}, shards: {self.shards}, io: {self.io} }}
  - name: iii-worker-manager
    config: {{ host: 127.0.0.1, port: {self.worker} }}
"""
        )
        return Server([NODE, "--config", config], [self.stream, self.worker], core, folder)

    def target(self, work):
        return f"ws://127.0.0.1:{self.stream}", f"ws://127.0.0.1:{self.worker}"


class WebSocketPeer:
    """A server that takes /sub, /pub and /echo, and the port as its argument."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def start(self, core, folder):
        self.port = free_port()
        return Server([*self.command, self.port], [self.port], core, folder)

    def target(self, work):
        base = f"raw://127.0.0.1:{self.port}"
        return f"{base}/sub", base + ("/echo" if work == "functions" else "/pub")


class LimitFan(WebSocketPeer):
    """The floor: a broadcast without store, parsing and back-pressure."""

    def start(self, core, folder):
        self.port = free_port()
        return Server([*self.command, "--k", self.port], [self.port], core, folder)


class Redis:
    name = "Redis"

    def __init__(self, binary):
        self.binary = binary

    def start(self, core, folder):
        self.port = free_port()
        command = [self.binary, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        limits = ["--maxclients", "20000", "--client-output-buffer-limit", "pubsub 0 0 0"]
        return Server([*command, *limits], [self.port], core, folder)

    def target(self, work):
        return (f"redis://127.0.0.1:{self.port}",) * 2


class Nats(Redis):
    name = "NATS"

    def start(self, core, folder):
        self.port = free_port()
        return Server([self.binary, "-a", "127.0.0.1", "-p", self.port], [self.port], core, folder)

    def target(self, work):
        return (f"nats://127.0.0.1:{self.port}",) * 2


class Nchan:
    """nginx with the module Nchan, one process, in memory. Its files are in the folder of the measurement."""

    name = "Nchan"
    MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

    def __init__(self, binary):
        self.binary = binary

    @classmethod
    def found(cls):
        """Debian's nginx is not on the path of every user."""
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        return cls(binary) if binary and cls.MODULE.exists() else None

    def start(self, core, folder):
        self.port = free_port()
        folder = pathlib.Path(folder)
        places = "".join(f"  {name}_temp_path {folder};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = folder / "nginx.conf"
        config.write_text(
            f"""load_module {self.MODULE};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 30000;
events {{ worker_connections 25000; use epoll; }}
http {{
  access_log off;
{places}  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location = /sub {{ nchan_subscriber websocket; nchan_channel_id all; nchan_subscriber_first_message newest; }}
    location = /pub {{ nchan_publisher websocket; nchan_channel_id all; nchan_message_buffer_length 1000; }}
  }}
}}
"""
        )
        return Server([self.binary, "-p", folder, "-e", "stderr", "-c", config], [self.port], core, folder)

    def target(self, work):
        base = f"raw://127.0.0.1:{self.port}"
        return f"{base}/sub", f"{base}/pub"


def peers():
    """All peers by name; None where there is none."""
    found = {}
    found["uws"] = (uws := find("uws")) and WebSocketPeer("uWebSockets", [uws])
    found["limit"] = (limit := find("limit")) and LimitFan("limit fan", [limit, "fan"])
    found["nio"] = (nio := find("nio-broadcast")) and WebSocketPeer("SwiftNIO", [nio])
    found["socketify"] = (python := socketify()) and WebSocketPeer(
        "uWebSockets through Python", [python, pathlib.Path(__file__).parent / "socketify_server.py"]
    )
    found["redis"] = (redis := find("redis-server")) and Redis(redis)
    found["nchan"] = Nchan.found()
    found["nats"] = (nats := find("nats-server")) and Nats(nats)
    return found


def socketify():
    """A Python that has `socketify`, made on first use; None where PyPI has none that runs on this machine."""
    made = subprocess.run([ROOT / ".ci/venv", "peers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    python = made.stdout.strip() if made.returncode == 0 else None
    if python and subprocess.run([python, "-c", "import socketify"], stderr=subprocess.DEVNULL).returncode == 0:
        return python
    return None


# ---- What is measured

# name: (arguments, peers, metric, target). The metric is server CPU-µs a delivery or an answer, or a latency.
FAN = ["fanout", "--size", "40"]
FUNCTIONS = ["functions", "--callers", "100", "--size", "64", "--items", "1"]
CASES = {
    "fan-1": ([*FAN, "--in-flight", "1"], {"uws": 0.90, "limit": None, "nio": None, "nchan": None}, "perDelivery"),
    "fan-16": ([*FAN, "--in-flight", "16"], {"uws": 0.85, "limit": None, "nio": None, "nchan": None}, "perDelivery"),
    "fan-32": ([*FAN, "--in-flight", "32"], {"uws": 0.75, "limit": None}, "perDelivery"),
    "fan-64": ([*FAN, "--in-flight", "64"], {"redis": 0.60, "limit": 1.3, "uws": None, "nats": None, "nio": None, "nchan": None}, "perDelivery"),
    "fan-1k-1": (["fanout", "--size", "1024", "--in-flight", "1"], {"uws": 0.90}, "perDelivery"),
    "fan-1k-16": (["fanout", "--size", "1024", "--in-flight", "16"], {"uws": 0.85}, "perDelivery"),
    "fan-10000-1": ([*FAN, "--subscribers", "10000", "--in-flight", "1"], {"uws": 0.90}, "perDelivery"),
    "fan-10000-16": ([*FAN, "--subscribers", "10000", "--in-flight", "16"], {"uws": 1.1}, "perDelivery"),
    "latency-p50": ([*FAN, "--rate", "100"], {"uws": 0.95}, "p50"),
    "latency-p99": ([*FAN, "--rate", "100"], {"uws": 1.0}, "p99"),
    "set-1": ([*FUNCTIONS, "--mix", "set=1"], {"uws": 1.10}, "perAnswer"),
    "get-1": ([*FUNCTIONS, "--mix", "get=1"], {"uws": 1.10}, "perAnswer"),
    "set-16": ([*FUNCTIONS, "--mix", "set=1", "--in-flight", "16"], {"uws": 1.7}, "perAnswer"),
    "get-16": ([*FUNCTIONS, "--mix", "get=1", "--in-flight", "16"], {"uws": 1.7}, "perAnswer"),
    "handshake": (["connect", "--subscribers", "2000", "--rounds", "4", "--items", "1"], {"uws": 0.95}, "perHandshake"),
    "idle": (["idle", "--subscribers", "10000"], {"uws": 1.0}, "perConnection"),
}


def metric(result, name):
    if name in ("perDelivery", "perAnswer"):
        return result["server"][name]
    if name in ("p50", "p99"):
        return result["works"][0]["latencies"]["delivery"][name]
    if name == "perConnection":
        return result["server"]["perConnectionBytes"]
    # The first round warms memory up.
    rounds = result["rounds"][1:]
    return sum(each["serverCPU"] for each in rounds) * 1e6 / sum(each["connections"] for each in rounds)


class Measurement:
    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="iii-peers-")

    def once(self, peer, arguments, name):
        options = self.options
        server = peer.start(options.server_core, self.folder)
        try:
            stream, worker = peer.target(arguments[0])
            result = pathlib.Path(self.folder) / "result.json"
            command = [
                *["taskset", "-c", str(options.load_core), BENCH, *arguments, "--quiet", "--json", result],
                *["--target", stream, "--workers", worker, "--server-pid", str(server.process.pid)],
                *["--stream", STREAM, "--duration", str(options.seconds), "--warm-up", "0.5"],
            ]
            # taskset replaces itself: its process is the server's.
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{peer.name}: {' '.join(map(str, command))}\n{done.stdout}")
            data = json.loads(result.read_text())
            return metric(data, name), data["own"]["share"]
        finally:
            server.stop()

    def pairs(self, arguments, peer, name):
        """Medians and ranges of both, of their ratio, and the generator's greatest share of its core."""
        ours, theirs, ratios, shares = [], [], [], []
        for number in range(self.options.pairs):
            # Who comes first changes, so that a drift of the machine favours neither.
            own = Ours(io=self.options.io)
            order = [own, peer] if number % 2 == 0 else [peer, own]
            values = {}
            for each in order:
                values[each.name], share = self.once(each, arguments, name)
                shares.append(share)
            ours.append(values["iii-stream"])
            theirs.append(values[peer.name])
            ratios.append(ours[-1] / theirs[-1])
        return ours, theirs, ratios, max(shares)


def go_before_others(nice):
    """The scheduler shares a core among sessions first: a session of our own gets a share as large as `nice` says."""
    if nice == 0:
        return
    child = os.fork()
    if child > 0:  # The leader of a group cannot leave its session.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os.kill(child, signal.SIGINT))
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    pathlib.Path("/proc/self/autogroup").write_text(str(nice))


def spread(values, digits=3):
    def show(value):
        return f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"

    return f"{show(statistics.median(values))} ({show(min(values))}–{show(max(values))})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--peers", default="")
    parser.add_argument("--json")
    parser.add_argument("--io", default="auto", choices=["auto", "io_uring", "epoll"])
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    options = parser.parse_args()
    go_before_others(options.nice)
    chosen = options.peers.split(",")
    found = {name: peer for name, peer in peers().items() if not options.peers or name in chosen}
    if options.io != "auto" and (not options.peers or "io_uring" in chosen):
        found["io_uring"] = Ours(io="io_uring", name="iii-stream on io_uring")
    for name, peer in found.items():
        if not peer:
            print(f"peer {name} is not here: left out", file=sys.stderr)
    measurement = Measurement(options)
    results = []
    print("| work | ours | peer | ratio | target | generator |")
    print("|---|---|---|---|---|---|")
    for case, (arguments, wanted, name) in CASES.items():
        if options.only and case not in options.only.split(","):
            continue
        if not any(found.get(key) for key in [*wanted, "socketify", "io_uring"]):
            print(f"{case}: there is no peer for it here", file=sys.stderr)
        for key, limit in {**wanted, "io_uring": 1.15 if case.startswith("fan") else None}.items():
            # Through Python it costs more, so the target says nothing there.
            if key == "uws" and not found.get(key):
                key, limit = "socketify", None
            if not found.get(key):
                continue
            ours, theirs, ratios, share = measurement.pairs(arguments, found[key], name)
            met = "" if limit is None else f"≤ {limit:.2f} {'✓' if statistics.median(ratios) <= limit else '✗'}"
            busy = f"{share * 100:.0f} %" + (" (!)" if share > 0.85 else "")
            print(
                f"| {case} vs {found[key].name} | {spread(ours)} | {spread(theirs)} | {spread(ratios, 2)} | {met} | {busy} |",
                flush=True,
            )
            results.append(
                {"case": case, "peer": key, "metric": name, "ours": ours, "theirs": theirs, "ratios": ratios, "limit": limit}
            )
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    shutil.rmtree(measurement.folder)


if __name__ == "__main__":
    main()
