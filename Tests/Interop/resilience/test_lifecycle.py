"""How a node starts, refuses to start, and ends."""

import ctypes
import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from calls import store
from clients import Closed, Subscriber, Worker
from executor import Executor
from node import BINARY, IO, PATIENCE_SECONDS, Node, configuration


def run(*arguments, config=None, tmp_path=None, environment=None, preexec=None):
    """Runs the node to its end, with `config` as its file when given."""
    if config is not None:
        path = tmp_path / "config.yaml"
        path.write_text(config)
        arguments = ("--config", path, *arguments)
    return subprocess.run(
        [BINARY, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        cwd=tmp_path,
        preexec_fn=preexec,
    )


# ---- The end


def test_end_closes_stream_clients_with_1001_and_workers_with_1012(node):
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as subscriber:
        subscriber.join("s", "g")
        assert subscriber.event() == {"type": "sync", "data": []}
        node.process.send_signal(signal.SIGTERM)
        assert subscriber.close_code() == 1001
        assert worker.close_code() == 1012
        assert node.wait_exit() == 0


def test_end_delivers_what_was_answered_before_it_closes(node):
    with Worker(node.worker_url()) as worker, Subscriber(node.stream_url()) as subscriber:
        subscriber.join("s", "g")
        assert subscriber.event()["type"] == "sync"
        for number in range(200):
            worker.set("s", "g", "i", number)
        node.process.send_signal(signal.SIGTERM)
        seen = []
        with pytest.raises(Closed) as end:
            while True:
                seen.append(subscriber.event()["data"])
        assert seen == list(range(200))
        assert end.value.code == 1001
        assert node.wait_exit() == 0


def test_end_waits_for_a_call_in_flight(node):
    with Worker(node.worker_url()) as executor, Worker(node.worker_url()) as caller:
        executor.send({"type": "registerfunction", "id": "slow"})
        executor.result("stream::list_all")  # Answered after the registration.
        invocation = caller.invoke("slow", data={})
        call = executor.receive()
        node.process.send_signal(signal.SIGTERM)
        executor.send(
            {
                "type": "invocationresult",
                "invocation_id": call["invocation_id"],
                "function_id": "slow",
                "result": "done",
            }
        )
        assert caller.answer(invocation)["result"] == "done"
        assert caller.close_code() == 1012
        assert node.wait_exit() == 0


def test_end_does_not_wait_for_a_call_without_an_end(node):
    """The executor never answers: after at most five seconds the node goes, and goes well."""
    with Worker(node.worker_url()) as executor, Worker(node.worker_url()) as caller:
        executor.send({"type": "registerfunction", "id": "never"})
        executor.result("stream::list_all")
        caller.invoke("never", data={})
        executor.receive()
        node.process.send_signal(signal.SIGTERM)
        assert executor.close_code() == 1012
        assert node.wait_exit() == 0


def test_end_with_nobody_connected(node):
    node.stop()


def test_end_right_after_the_first_line_is_heard(tmp_path):
    """However soon the signal comes: from the first line on it ends the node, and ends it well."""
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        node = Node(folder, configuration()).launch()
        try:
            node.wait_for("starting")
            node.stop()
        finally:
            node.kill()


def test_join_in_progress_does_not_hold_up_the_end(tmp_path):
    node = Node(tmp_path, configuration({"timeouts": {"shutdown_ms": 200}}))
    try:
        node.start()
        with Executor(node.worker_url()) as worker, Subscriber(node.stream_url()) as subscriber:
            worker.serve("join")
            worker.trigger("stream:join", "join")
            subscriber.join("s", "g")
            worker.called("join")
            node.stop()
            assert subscriber.close_code() == 1001
            assert worker.closed() == 1012
    finally:
        node.kill()


# ---- Addresses


@pytest.mark.parametrize("port", ["stream", "worker"])
def test_taken_address_ends_the_start(node, tmp_path, port):
    """The first node listens with SO_REUSEPORT: a second one must not get half of its clients."""
    number = getattr(node, f"{port}_port")
    done = run(config=configuration(**{port: {"port": number}}), tmp_path=tmp_path)
    assert done.returncode == 69
    assert f"address 127.0.0.1:{number} is already in use" in done.stderr


@pytest.mark.parametrize("port", ["stream", "worker"])
def test_address_that_becomes_free_is_waited_for(start_node, port):
    """A killed node has its addresses for some milliseconds after its end."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        release = threading.Timer(0.2, taken.close)
        release.start()
        node = start_node(**{port: {"port": number}})
        release.join()
        assert getattr(node, f"{port}_port") == number


def test_restart_on_the_same_ports(node):
    ports = node.stream_port, node.worker_port
    with Worker(node.worker_url()) as worker:
        worker.set("s", "g", "i", 1)
        node.kill()
        assert worker.close_code() == 1006
    node.restart()
    assert (node.stream_port, node.worker_port) == ports
    with Worker(node.worker_url()) as worker:
        assert worker.get("s", "g", "i") is None


def test_port_comes_from_the_environment(start_node):
    """Any free port will do; `0` must arrive as a number through the expansion."""
    text = configuration().replace("port: 0", "port: ${STREAM_PORT:3112}", 1)
    node = start_node(text=text, environment={"STREAM_PORT": "0"})
    assert node.stream_port not in (0, 3112)


# ---- Configuration

MISTAKES = {
    "an unknown key of ours": (
        {"adaptr": {"name": "kv"}},
        ["adaptr", "adapter"],
        6,
    ),
    "an unknown key of the adapter": (
        {"adapter": {"name": "kv", "config": {"store_metod": "in_memory"}}},
        ["store_metod", "store_method"],
        9,
    ),
    "an unknown store method": (
        {"adapter": {"name": "kv", "config": {"store_method": "in_memry"}}},
        ["in_memry", "in_memory"],
        9,
    ),
    "an unknown adapter": ({"adapter": {"name": "kvv"}}, ["kvv", "kv"], None),
    "an adapter that is not built": ({"adapter": {"name": "redis"}}, ["redis"], None),
    "a port that is a string": ({"port": "3112"}, ["port"], 5),
    "a port out of range": ({"port": 65536}, ["port", "65536"], 5),
    "a port that is null": ({"port": None}, ["port"], 5),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("check", [False, True], ids=["start", "check"])
def test_mistaken_configuration_is_named(tmp_path, mistake, check):
    stream, parts, line = MISTAKES[mistake]
    arguments = ["--check-config"] if check else []
    done = run(*arguments, config=configuration(stream), tmp_path=tmp_path)
    assert done.returncode == 78
    explained(done.stderr, parts, line)


def explained(text, parts, line):
    """Every part, and the line of the file, stand in `text`, which is no crash report."""
    for part in parts:
        assert part in text
    assert line is None or re.search(rf"(line |:){line}\b", text), text
    assert text.strip() and "Fatal error" not in text


@pytest.mark.parametrize(
    "text, parts, line",
    [
        ("workers:\n  - name: iii-stream\n   config: {}\n", [], 3),
        ("workrs: []\n", ["workrs", "workers"], 1),
        ("- adapter:\n    name: kv\n  port: 3112\n", ["name: iii-stream"], None),
        ("workers:\n  - config: {}\n", ["name"], 2),
        ("workers: 5\n", ["workers"], 1),
        (
            "workers:\n  - name: iii-stream\n    config:\n      port: ${NO_SUCH_PORT}\n",
            ["Environment variable 'NO_SUCH_PORT' not set and no default provided"],
            4,
        ),
        ("workers:\n\t- name: iii-stream\n", [], 2),
        ("\x00\x01\x02", [], None),
    ],
    ids=["indent", "key", "list", "no name", "no list", "variable", "tab", "bytes"],
)
def test_file_of_the_wrong_shape_is_explained(tmp_path, text, parts, line):
    done = run(config=text, tmp_path=tmp_path)
    assert done.returncode == 78
    explained(done.stderr, parts, line)


def test_missing_file_is_named(tmp_path):
    done = run("--config", "nowhere.yaml", tmp_path=tmp_path)
    assert done.returncode == 78
    assert "Config file not found: 'nowhere.yaml'." in done.stderr


def test_entries_of_other_workers_are_ignored_with_a_warning(start_node):
    """An engine's own file starts here unchanged."""
    node = start_node(entries=[{"name": "iii-http", "config": {"port": 3111}}, {"name": "iii-state"}])
    warnings = [line for line in node.lines if '"warn' in line.lower()]
    assert sum("iii-http" in line for line in warnings) == 1
    assert sum("iii-state" in line for line in warnings) == 1


def test_check_config_says_yes_without_listening(node, tmp_path):
    """With the address of a running node: a check that bound it would fail."""
    text = configuration({"port": node.stream_port}, {"port": node.worker_port})
    assert run("--check-config", config=text, tmp_path=tmp_path).returncode == 0


def test_print_config_shows_every_setting_and_no_password(tmp_path):
    text = configuration({"port": 4711, "adapter": {"name": "kv", "config": {"store_method": "in_memory"}}})
    done = run("--print-config", config=text, tmp_path=tmp_path)
    assert done.returncode == 0
    for part in ("4711", "127.0.0.1", "kv", "in_memory", "shards", "limits", "timeouts"):
        assert part in done.stdout


def test_printed_configuration_reads_back_to_itself(tmp_path):
    text = configuration({"port": 4711, "shards": 3, "limits": {"value_bytes": 4096}}, {"port": 4712})
    printed = run("--print-config", config=text, tmp_path=tmp_path).stdout
    again = run("--print-config", config=printed, tmp_path=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, printed, "")
    assert run("--check-config", config=printed, tmp_path=tmp_path).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--use-default-config"]], ids=["no file", "defaults"])
def test_without_a_file_only_loopback_is_listened_on(tmp_path, arguments):
    done = run("--print-config", *arguments, tmp_path=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count('host: "127.0.0.1"') == 2
    assert "0.0.0.0" not in done.stdout
    assert "port: 3112" in done.stdout and "port: 49134" in done.stdout
    assert "store_method: in_memory" in done.stdout


def test_a_file_without_a_host_listens_on_all_addresses(tmp_path):
    assert run("--print-config", config="workers:\n", tmp_path=tmp_path).stdout.count("host: \"0.0.0.0\"") == 2


def test_the_standard_file_is_read_when_no_option_names_one(tmp_path):
    (tmp_path / "config.yaml").write_text(configuration({"port": 4711}))
    assert "port: 4711" in run("--print-config", tmp_path=tmp_path).stdout
    assert "port: 4711" not in run("--print-config", "--use-default-config", tmp_path=tmp_path).stdout
    (tmp_path / "config.yaml").write_text("nonsense: 1\n")
    done = run("--check-config", tmp_path=tmp_path)
    assert done.returncode == 78 and "config.yaml:1:1: error:" in done.stderr


# ---- Threads


def slice_of(thread):
    """What sched_getattr(2) says of a thread: its slice in ns. 0: the kernel does not say."""
    attributes = ctypes.create_string_buffer(48)
    system_call = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(system_call, thread, attributes, 48, 0) != 0:
        raise OSError(ctypes.get_errno(), "sched_getattr")
    return struct.unpack_from("=Q", attributes, 24)[0]


def slices_of(node):
    """Of each thread by its name."""
    slices = {}
    for thread in os.listdir(f"/proc/{node.process.pid}/task"):
        try:
            with open(f"/proc/{node.process.pid}/task/{thread}/comm") as file:
                name = file.read().strip()
                # A thread that has just been started still has the name of the one that started it.
                slices[name] = max(slices.get(name, 0), slice_of(int(thread)))
        except (FileNotFoundError, ProcessLookupError):
            pass  # It has just ended.
    return slices


def test_shards_give_way_to_threads_of_the_kernel(start_node, tmp_path):
    """Those have slices of at most 3 ms; a longer one lets them run when they are woken."""
    if slice_of(0) == 0:
        pytest.skip("the scheduler of this kernel has no slices to ask for (Linux 6.12)")
    files = {"store_method": "file_based", "file_path": str(tmp_path / "store")}
    node = start_node({"shards": 2, "adapter": {"name": "kv", "config": files}})
    # A ring's worker, or one of the threads for files that stand in for those.
    name_of_one = "stream-files" if IO == "epoll" else "iou-wrk-"
    slices, deadline = slices_of(node), time.monotonic() + PATIENCE_SECONDS
    while not any(name.startswith(name_of_one) for name in slices):
        assert time.monotonic() < deadline, "one of them prepares the log"
        slices = slices_of(node)
    assert slices["iii-shard-0"] == slices["iii-shard-1"] == 6_000_000
    others = {name: slices[name] for name in slices if not name.startswith("iii-shard-")}
    assert max(others.values()) < 6_000_000


# ---- Arguments


def test_version_is_one_line(tmp_path):
    done = run("--version", tmp_path=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.strip().splitlines()) == 1
    assert any(character.isdigit() for character in done.stdout)


def test_help_names_every_option(tmp_path):
    done = run("--help", tmp_path=tmp_path)
    assert done.returncode == 0
    for option in ("--config", "--use-default-config", "--check-config", "--print-config", "--version"):
        assert option in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["--config"], ["--use-default-config", "--config", "x.yaml"]],
    ids=" ".join,
)
def test_wrong_arguments_are_refused(tmp_path, arguments):
    done = run(*arguments, tmp_path=tmp_path)
    assert done.returncode == 64
    assert arguments[0] in done.stderr
    assert not done.stdout


# ---- A kernel that forbids io_uring

IO_URING_SETUP = 425
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, FAIL = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = errno.EPERM, errno.ENOSYS


def deny_io_uring(code=EPERM):
    """Makes io_uring_setup fail with `code`, as the default profiles of container engines do."""

    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    instructions = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in [
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, IO_URING_SETUP),  # not io_uring_setup: skip one
            (0x06, 0, 0, FAIL | code),
            (0x06, 0, 0, ALLOW),
        ]
    )
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = Program(len(instructions) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def test_forbidden_io_uring_is_said_in_one_clear_sentence(tmp_path):
    done = run(config=configuration({"io": "io_uring"}), tmp_path=tmp_path, preexec=deny_io_uring)
    assert done.returncode == 69
    complaints = [record for record in map(json.loads, done.stderr.splitlines()) if record["level"] == "error"]
    assert len(complaints) == 1
    for part in ("io_uring", "a seccomp filter", "seccomp="):  # What, why, and the remedy.
        assert part in complaints[0]["detail"]


def on_epoll(node, client):
    """The reason that the start gives; the node serves, files too."""
    listening = node.wait_for("listening")
    assert listening["io"].startswith("epoll ("), listening
    client.set("s", "g", "a", {"n": 1})
    assert client.get("s", "g", "a") == {"n": 1}
    return listening["io_because"]


@pytest.mark.parametrize("deny, words", [(EPERM, "a seccomp filter"), (ENOSYS, "a seccomp filter")], ids=["refused", "absent"])
def test_without_io_uring_it_runs_on_epoll_and_says_why(start_node, tmp_path, deny, words):
    stream = {"io": "auto", **store(tmp_path / "store")}
    node = start_node(stream, preexec=lambda: deny_io_uring(deny))
    with Worker(node.worker_url()) as worker:
        reason = on_epoll(node, worker)
    assert "io_uring" in reason and words in reason, reason


def test_epoll_may_be_asked_for(start_node):
    node = start_node({"io": "epoll"})
    with Worker(node.worker_url()) as worker:
        assert on_epoll(node, worker) == "it was asked for"


def test_log_is_json_when_nobody_watches(node):
    """`Node.stop` holds every line to it; here: the line that tells the addresses."""
    record = node.wait_for("listening")
    assert record["level"].lower() == "info"
    assert json.loads(node.lines[node.records.index(record)]) == record
    assert record["stream"].startswith("127.0.0.1:")
