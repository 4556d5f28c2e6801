"""Fixtures of the interop tests: real nodes, and the interpreters of the real SDKs."""

import functools
import subprocess

import pytest

from node import BINARY, ROOT, Node, configuration

SDK_VERSIONS = ("0.11.6", "0.25.0")  # The one this protocol was made for, and the newest.


def pytest_configure(config):
    if not BINARY.exists():
        raise pytest.UsageError(f"{BINARY} is missing: swift build -c release --product iii-stream")


def pytest_report_header(config):
    return f"node: {BINARY}"


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


@functools.cache
def environment(name):
    """The interpreter with the packages of requirements-<name>.txt."""
    done = subprocess.run([ROOT / ".ci/venv", name], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
