"""A node with files, and Redis, for the benchmarks of the disk: started in a folder, killed at the end."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

BUILT = pathlib.Path(__file__).resolve().parents[2] / ".build"
NODE, LOAD = BUILT / "release/iii-stream", BUILT / "release/iii-stream-bench"
REDIS_PORT = "7899"


def empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def copy(home, to):
    """The store of one node for another."""
    shutil.copytree(home / "store", to / "store")


def on(core):
    return [] if core is None else ["taskset", "-c", core]


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(process):
    """Of its memory that was in RAM."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmHWM")


@contextlib.contextmanager
def killed(process):
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Node:
    def __init__(self, process, seconds, records):
        self.process, self.seconds = process, seconds  # Until it listened.
        self.records = records
        listening = next(record for record in records if record["event"] == "listening")
        self.stream, self.workers = f"ws://{listening['stream']}", f"ws://{listening['workers'][0]}"

    def counters(self):
        after = len(self.records)
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for record in self.records[after:]:
                if record["event"] == "counters":
                    return record
            time.sleep(0.01)
        raise TimeoutError("no counters")

    def load(self, result, *arguments, core=None, program=LOAD):
        """Runs the load generator, and returns what came out."""
        target = ["--target", self.stream, "--workers", self.workers, "--server-pid", self.process.pid]
        command = [*on(core), program, *target, "--quiet", "--json", result]
        command[command.index(program) + 1 : command.index(program) + 1] = arguments
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        return json.loads(result.read_text())


@contextlib.contextmanager
def node(home, shards=1, poll=0, core=None, program=NODE, io="auto", **store):
    """In `home`, where its items are already if it ran there before."""
    kv = {"store_method": "file_based", "file_path": str(home / "store"), **store}
    stream = {"host": "127.0.0.1", "port": 0, "shards": shards, "poll_us": poll, "io": io, "adapter": {"name": "kv", "config": kv}}
    config = {"workers": [{"name": "iii-stream", "config": stream},
                          {"name": "iii-worker-manager", "config": {"host": "127.0.0.1", "port": 0}}]}
    (home / "config.yaml").write_text(json.dumps(config))
    begin = time.monotonic()
    process = subprocess.Popen([*on(core), program, "--config", home / "config.yaml"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    with killed(process):
        records = []
        for line in process.stderr:
            records.append(json.loads(line))
            if records[-1]["event"] == "listening":
                break
        else:
            raise RuntimeError(f"the node did not start: {records}")
        seconds = time.monotonic() - begin
        rest = threading.Thread(target=lambda: records.extend(map(json.loads, process.stderr)), daemon=True)
        rest.start()
        yield Node(process, seconds, records)
    rest.join()
    process.stderr.close()


@contextlib.contextmanager
def redis(home, *arguments, core=None):
    begin = time.monotonic()
    process = subprocess.Popen([*on(core), "redis-server", "--port", REDIS_PORT, "--bind", "127.0.0.1", "--dir", home, "--save", "",
                                *arguments], stdout=subprocess.DEVNULL)
    with killed(process):
        while redis_cli("ping") != "PONG":
            if process.poll() is not None:
                raise RuntimeError(f"redis-server ended with {process.returncode}: is port {REDIS_PORT} taken?")
            time.sleep(0.01)
        process.seconds = time.monotonic() - begin  # Until it answered.
        yield process


def redis_cli(*words, input=None):
    return subprocess.run(["redis-cli", "-p", REDIS_PORT, *words], input=input, capture_output=True).stdout.decode().strip()
