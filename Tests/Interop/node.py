"""One running node: a temporary configuration, its ports, its log, and its end."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import certificates

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "Tests/Interop/programs"  # Peers that are processes of their own.
BINARY = pathlib.Path(os.environ.get("III_NODE", ROOT / ".build/release/iii-stream")).resolve()

# A node that needs longer than this to start or to stop has hung. An instrumented build is slow.
PATIENCE_SECONDS = 20

# A build under a sanitizer keeps shadows of its memory, and what it has freed.
INSTRUMENTED = any(part in ("address", "thread") for part in BINARY.parts)

# By what nodes talk to the kernel, unless a test says it: the setting `io`. Empty: as they do without it.
IO = os.environ.get("III_IO", "")

# Asks for the sizes that take minutes.
FULL = os.environ.get("III_FULL", "") not in ("", "0")


def yaml(value, indent=0):
    """`value` as YAML: dictionaries and lists as blocks, scalars as JSON, which is YAML too."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        return "".join(
            f"{pad}{key}:{_after_key(child, indent + 2)}" for key, child in value.items()
        )
    if isinstance(value, list) and value:
        # The dash takes the place of the first two blanks of its child.
        return "".join(f"{pad}- {yaml(child, indent + 2)[indent + 2 :]}" for child in value)
    return f"{pad}{json.dumps(value, ensure_ascii=False)}\n"


def _after_key(child, indent):
    if isinstance(child, (dict, list)) and child:
        return "\n" + yaml(child, indent)
    return " " + yaml(child)


def configuration(stream=None, worker=None, entries=()):
    """The text of a configuration file: both ports on loopback, picked by the kernel, with TLS if the run is over it."""
    port = {"host": "127.0.0.1", "port": 0}
    if certificates.TLS:
        port["tls"] = certificates.settings()
    stream = {**port, **(stream or {})}
    if IO:
        stream.setdefault("io", IO)  # Last: tests know the lines of what they write.
    workers = [
        {"name": "iii-stream", "config": stream},
        {"name": "iii-worker-manager", "config": {**port, **(worker or {})}},
        *entries,
    ]
    return yaml({"workers": workers})


def port_of(address):
    return int(address.rpartition(":")[2])


class NodeFailed(Exception):
    """The node ended, or stayed silent, where it should have spoken."""


class Node:
    """A node that was started from a configuration text and told where it listens."""

    def __init__(self, folder, text, arguments=(), environment=None, preexec=None, binary=BINARY):
        self.folder = pathlib.Path(folder)
        self.text = text
        self.arguments = list(arguments)
        self.environment = environment or {}
        self.preexec = preexec
        self.binary = binary
        self.expected_errors = []  # Parts of error lines that the test provokes.
        self.process = None
        self.secure_ports = set()
        self.asked = 0.0  # When the counters were asked for last.
        self.lines = []
        self.records = []
        self._changed = threading.Condition()

    # ---- Start and end

    def start(self):
        """Starts the node and waits until it listens."""
        self.launch()
        listening = self.wait_for("listening")
        self.stream_port = port_of(listening["stream"])
        self.worker_ports = [port_of(address) for address in listening["workers"]]
        self.worker_port = self.worker_ports[0]
        # Which of its ports speak TLS, in the order of the file.
        secure = ["cert_file" in entry for entry in self.text.split("- name")[1:] if "port" in entry]
        ports = [self.stream_port, *self.worker_ports]
        self.secure_ports = {port for port, is_secure in zip(ports, secure) if is_secure}
        certificates.secure_ports.update(self.secure_ports)
        return self

    def launch(self):
        """Starts the process only: for nodes that are expected to refuse."""
        path = self.folder / "config.yaml"
        path.write_text(self.text)
        self.lines, self.records = [], []
        self.process = subprocess.Popen(
            [self.binary, "--config", path, *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.environment},
            cwd=self.folder,
            preexec_fn=self.preexec,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        return self

    def _read(self, process):
        for raw in process.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            with self._changed:
                self.lines.append(line)
                if isinstance(record, dict):
                    self.records.append(record)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def restart(self):
        """Starts the node again on the ports that it had."""
        self.text = self.text.replace("port: 0", f"port: {self.stream_port}", 1)
        self.text = self.text.replace("port: 0", f"port: {self.worker_port}", 1)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.start()
            except NodeFailed:
                # Longer than the node itself waits for its address: the kernel may have lent the port meanwhile, to a
                # client that tries to come back among others, which then has reached itself.
                if "is already in use" not in self.tail() or time.monotonic() > deadline:
                    raise
                self._wait()
                time.sleep(0.1)

    def stop(self):
        """Ends the node as an operator would. It must go in peace, and must not have complained."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self._wait()
        assert code == 0, f"the node ended with {code}:\n{self.tail()}"
        self.assert_no_errors()

    def kill(self):
        """Ends the node without a warning."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self._wait()
        self.process = None

    def wait_exit(self):
        """Waits for a node that ends by itself; returns its exit code."""
        return self._wait()

    def _wait(self):
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise NodeFailed(f"the node did not end:\n{self.tail()}") from None
        self._reader.join()
        self.process.stderr.close()
        certificates.secure_ports.difference_update(self.secure_ports)  # They may be somebody else's next.
        self.process = None
        return code

    # ---- Log

    def assert_no_errors(self):
        """Nobody needs to act on anything: no error line but the expected ones, no stray output."""
        for line in self.lines:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"level": "error"}
            if str(record.get("level")).lower() == "error":
                assert any(part in line for part in self.expected_errors), f"logged: {line}"

    def wait_for(self, event, after=0, seconds=PATIENCE_SECONDS):
        """The first record of `event` at or after position `after` of the log."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for record in self.records[after:]:
                    if record.get("event") == event:
                        return record
                ended = self.process is not None and self.process.poll() is not None
                left = deadline - time.monotonic()
                if left <= 0 or (ended and not self._reader.is_alive()):
                    raise NodeFailed(f"no '{event}' in the log:\n{self.tail()}")
                self._changed.wait(min(left, 0.2))

    def counters(self):
        """What the node has counted so far, asked for by SIGUSR1."""
        # It writes at most 50 lines of a kind in a second, and leaves the others out.
        time.sleep(max(0, self.asked + 0.03 - time.monotonic()))
        self.asked = time.monotonic()
        with self._changed:
            after = len(self.records)
        self.process.send_signal(signal.SIGUSR1)
        return self.wait_for("counters", after)

    def tail(self, count=60):
        return "\n".join(self.lines[-count:])

    # ---- Addresses and the process

    def worker_url(self, path="/"):
        return self.url(self.worker_port, path)

    def stream_url(self, path="/"):
        return self.url(self.stream_port, path)

    def url(self, port, path="/", host="127.0.0.1"):
        """Of one of its ports, by the scheme that it speaks."""
        return f"{'wss' if port in certificates.secure_ports else 'ws'}://{host}:{port}{path}"

    def resident_bytes(self):
        """Memory of the process that is in RAM."""
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        """User and system time of all threads since the start."""
        text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
