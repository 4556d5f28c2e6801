"""A node in a container with the default seccomp profile, which refuses io_uring: the rest of the machine's container
engine is as its users have it."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from calls import store
from clients import Subscriber, Worker
from node import BINARY, INSTRUMENTED, IO

PROFILE = pathlib.Path("/usr/share/containers/seccomp.json")
# What podman itself, or the runtime, ends with: not the program's.
NO_CONTAINER = (125, 126, 127)


def libraries(binary):
    """The shared libraries of a program and its loader, where it looks for them."""
    text = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    return [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", text)]


@pytest.fixture
def containers(tmp_path):
    """A program that stands for the node: it runs it in a container, which sees nothing else but the test's folder."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a container with the network of the host")
    for tool in ("podman", "runc"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} (apt-get install podman runc)")
    if not PROFILE.exists() or "io_uring_setup" in PROFILE.read_text():
        pytest.skip(f"the default profile ({PROFILE}) is not there, or allows io_uring")
    root = tmp_path / "root"
    for path in [BINARY, *libraries(BINARY)]:
        place = root / "node" if path == BINARY else root / path.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    program = tmp_path / "contained"
    program.write_text(f"""#!/bin/sh
exec podman --cgroup-manager cgroupfs --runtime runc run --rm --ulimit nofile=20000:20000 --ulimit nproc=1000:1000 \\
    --network host --volume {tmp_path}:{tmp_path} --rootfs {root} /node "$@"
""")
    program.chmod(0o755)
    tried = subprocess.run([program, "--version"], capture_output=True, text=True)
    if tried.returncode in NO_CONTAINER:
        pytest.skip(f"podman runs no container here: {tried.stderr.strip()}")
    assert tried.returncode == 0, tried.stderr
    yield program
    shutil.rmtree(root)


@pytest.mark.skipif(IO == "io_uring", reason="io_uring is refused there")
@pytest.mark.skipif(INSTRUMENTED, reason="a sanitizer asks for more of the kernel")
def test_default_profile_of_a_container_is_served_by_epoll(start_node, containers, tmp_path):
    node = start_node(store(tmp_path / "store"), binary=containers)
    listening = node.wait_for("listening")
    assert listening["io"].startswith("epoll ("), listening
    if not IO:
        for part in ("io_uring", "a seccomp filter", "seccomp="):  # What is refused, by what, and the remedy.
            assert part in listening["io_because"], listening
    with Subscriber(node.stream_url()) as subscriber, Worker(node.worker_url()) as worker:
        subscriber.join("s", "g")
        assert subscriber.event() == {"type": "sync", "data": []}
        worker.set("s", "g", "a", {"n": 1})
        assert subscriber.event() == {"type": "create", "data": {"n": 1}}
        assert worker.get("s", "g", "a") == {"n": 1}
    node.stop()
    node = start_node(store(tmp_path / "store"), binary=containers)
    with Worker(node.worker_url()) as worker:
        assert worker.get("s", "g", "a") == {"n": 1}
