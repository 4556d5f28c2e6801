"""Fixtures of the interop tests: real nodes, and the interpreters of the real SDKs."""

import functools
import itertools
import os
import subprocess

import pytest

from calls import store
from node import BINARY, IO, ROOT, Node, configuration

SDK_VERSIONS = ("0.11.6", "0.25.0")  # The one this protocol was made for, and the newest.


def pytest_configure(config):
    if not BINARY.exists():
        raise pytest.UsageError(f"{BINARY} is missing: swift build -c release --product iii-stream")


def pytest_report_header(config):
    return f"node: {BINARY}, io: {IO or 'auto'}"


@pytest.fixture
def start_node(tmp_path):
    """Starts nodes; each is stopped at the end, and must then end well, unless it was killed."""
    nodes = []

    def start(stream=None, worker=None, entries=(), text=None, **options):
        folder = tmp_path / f"node-{len(nodes)}"
        folder.mkdir()
        node = Node(folder, text or configuration(stream, worker, entries), **options)
        nodes.append(node)
        return node.start()

    yield start
    try:
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()
            print(f"--- log of the node in {node.folder}\n{node.tail()}")


@pytest.fixture
def node(start_node):
    """One node with default settings."""
    return start_node()


@pytest.fixture
def start_on(tmp_path):
    """Starts nodes on directories of the test's; each is killed at the end."""
    nodes, count = [], itertools.count()

    def start(folder, *arguments, refuses=False, **more):
        home = tmp_path / f"home-{next(count)}"
        home.mkdir()
        node = Node(home, configuration(store(folder, **more)), arguments)
        nodes.append(node)
        return node.launch() if refuses else node.start()

    yield start
    for node in nodes:
        node.kill()


@pytest.fixture
def disk(tmp_path):
    """The mount point of an empty file system of 100 MiB, which can be frozen. Needs root and a loop device."""
    image, point = tmp_path / "disk.img", tmp_path / "disk"
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")
    point.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 100 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True)
    if made.returncode != 0 or subprocess.run(["mount", "-o", "loop", image, point], capture_output=True).returncode != 0:
        pytest.skip("needs a loop device")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


@functools.cache
def environment(name):
    """The interpreter with the packages of requirements-<name>.txt."""
    done = subprocess.run([ROOT / ".ci/venv", name], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
