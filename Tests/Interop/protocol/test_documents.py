"""The examples of the protocol documents are played against a real node.

A fenced block whose first line is "```json client sends" (and so on) is an example. The words behind the language
say which connection does what:

    yaml node            the configuration; without one the node has its defaults. Ports become those of the test
    text NAME opens      a URL, and header lines; NAME begins with "client" or "worker"
    text NAME refused    the same, and the HTTP status that answers it as the first line
    text NAME refused    the status alone: what NAME was opening has been refused
    json NAME sends      messages, in this order
    json NAME receives   messages that come, in this order and with nothing between them
    text NAME closed     the close code that comes
    text log             a line that the node logs: event and detail

Each section (`##`) is played on a node of its own. Ids, time stamps and client ports in a document stand for those
of the run: the first use binds one, further uses have to be the same. The order of keys says nothing; a key "…"
stands for further keys, a value "…" for any. All else is compared exactly."""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

import certificates
from browser import CHROMIUM, Browser
from clients import TIMEOUT_SECONDS, Connection, status_of
from conftest import environment
from node import BINARY, ROOT, configuration

pytestmark = pytest.mark.skipif(certificates.TLS, reason="the documents show addresses without TLS")

DOCUMENTS = [ROOT / "docs" / name for name in ("stream-protocol.md", "worker-protocol.md")]
FENCE = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", re.M | re.S)
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
CONNECTION = re.compile(r"[0-9a-f]{9,16}")
ADDRESS = re.compile(r"127\.0\.0\.1:\d{5}")
STAMP_DIGITS = 13
MORE = "…"


def sections():
    for document in DOCUMENTS:
        for section in re.split(r"^(?=## )", document.read_text(), flags=re.M):
            title = section.partition("\n")[0].lstrip("# ")
            if (blocks := FENCE.findall(section)):
                yield pytest.param(blocks, id=f"{document.stem}: {title}")


def kind_of(text):
    """What stands for something of the run: an id or an address."""
    return next((kind for kind in (UUID, CONNECTION, ADDRESS) if kind.fullmatch(text)), None)


def blocks_of(document, language):
    """The fenced blocks of a language, without their indentation marks."""
    return [text for kind, _, text in FENCE.findall((ROOT / document).read_text()) if kind == language]


def messages_of(text):
    """The JSON texts of a block, one after the other."""
    decoder = json.JSONDecoder()
    found, at = [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


class Placeholders:
    """What the ids and stamps of a document are in this run."""

    def __init__(self):
        self.known = {}

    def bind(self, written, seen):
        assert self.known.setdefault(written, seen) == seen, f"{written} is {self.known[written]} already"

    def match(self, written, seen, where="message"):
        """Compares what the document says with what has come."""
        if written == MORE:
            return
        assert type(written) is type(seen), f"{where}: {written!r} is written, {seen!r} came"
        if isinstance(written, dict):
            keys = set(written) - {MORE}
            assert keys == set(seen) or (MORE in written and keys < set(seen)), f"{where}: {seen} came"
            for key in keys:
                self.match(written[key], seen[key], f"{where}.{key}")
        elif isinstance(written, list):
            assert len(written) == len(seen), f"{where}: {written} is written, {seen} came"
            for index, pair in enumerate(zip(written, seen)):
                self.match(*pair, f"{where}[{index}]")
        elif isinstance(written, str) and (kind := kind_of(written)):
            assert kind.fullmatch(seen) or written == seen, f"{where}: {seen!r} is no such id"
            self.bind(written, seen)
        elif isinstance(written, int) and len(str(written)) >= STAMP_DIGITS:
            assert len(str(seen)) == len(str(written)), f"{where}: {seen} is no time stamp"
            self.bind(written, seen)
        else:
            assert written == seen, f"{where}: {written!r} is written, {seen!r} came"

    def check_order(self):
        """Time stamps grow as those of the document do."""
        stamps = sorted((key, value) for key, value in self.known.items() if isinstance(key, int))
        values = [value for key, value in stamps if len(str(key)) == STAMP_DIGITS]
        assert values == sorted(values), stamps

    def fill(self, written):
        """A message of the document with the ids of this run."""
        if isinstance(written, dict):
            return {key: self.fill(value) for key, value in written.items()}
        if isinstance(written, list):
            return [self.fill(value) for value in written]
        return self.known.get(written, written) if isinstance(written, str) else written


class Play:
    def __init__(self, start_node):
        self.start_node = start_node
        self.node = None
        self.connections = {}
        self.threads = ThreadPoolExecutor()
        self.run = Placeholders()

    def start(self, text=None):
        assert self.node is None, "the configuration comes first"
        if text is not None:
            text = re.sub(r"\b(port:\s*)\d+", r"\g<1>0", text)
        self.node = self.start_node(text=text or configuration())

    def address(self, text):
        """The URL that this run has for one of the document, and the header lines below it."""
        url, *lines = text.strip().splitlines()
        parts = urlsplit(url)
        ports = {3112: self.node.stream_port, 49134: self.node.worker_port}
        if parts.port == 49135:
            ports[49135] = self.node.worker_ports[1]
        headers = dict(line.split(": ", 1) for line in lines)
        origin = headers.pop("Origin", None)
        protocols = headers.pop("Sec-WebSocket-Protocol", None)
        options = {"additional_headers": headers, "origin": origin}
        if protocols:
            options["subprotocols"] = protocols.split(", ")
        return url.replace(f"localhost:{parts.port}", f"127.0.0.1:{ports[parts.port]}"), options

    def status(self, name, address):
        """What an upgrade is refused with: one of this address, or the one that was opened before."""
        if address:
            url, options = self.address(address)
            return status_of(url, **options)
        refusal = self.connections.pop(name).exception(TIMEOUT_SECONDS)
        return refusal.response.status_code

    def connection(self, name):
        """An upgrade may wait for what other connections do in between."""
        return self.connections[name].result(TIMEOUT_SECONDS)

    def log_says(self, event, detail):
        after = 0
        while (record := self.node.wait_for(event, after))["detail"] != detail:
            after = self.node.records.index(record, after) + 1

    def play(self, language, words, text):
        if (language, words) == ("yaml", "node"):
            self.start(text)
            return
        if self.node is None:
            self.start()
        if (language, words) == ("text", "log"):
            event, _, detail = text.strip().partition(": ")
            self.log_says(event, detail)
            return
        name, _, action = words.partition(" ")
        kind = f"{language} {action}"
        if kind == "text opens":
            url, options = self.address(text)
            self.connections[name] = self.threads.submit(Connection, url, **options)
        elif kind == "text refused":
            status, _, address = text.strip().partition("\n")
            assert self.status(name, address) == int(status)
        elif kind == "text closed":
            assert self.connection(name).close_code() == int(text.split()[0])
        elif kind == "json sends":
            for message in messages_of(text):
                self.connection(name).send(self.run.fill(message))
        elif kind == "json receives":
            for message in messages_of(text):
                self.run.match(message, self.connection(name).receive())
        else:
            raise AssertionError(f"no example, and no other block stands here: {language} {words}")

    def close(self):
        for name in self.connections:
            self.connection(name).close()
        self.threads.shutdown()


@pytest.fixture
def play(start_node):
    here = Play(start_node)
    yield here
    here.close()


@pytest.mark.parametrize("blocks", list(sections()))
def test_examples(play, blocks):
    for language, words, text in blocks:
        play.play(language, words, text)
    play.run.check_order()


# ---- README


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_worker_and_client_of_the_readme(start_node, tmp_path):
    text = blocks_of("README.md", "yaml")[0]
    node = start_node(text=re.sub(r"\bport: (\$\{\w+:\d+\}|\d+)", "port: 0", text))
    [worker], [client] = blocks_of("README.md", "python"), blocks_of("README.md", "js")
    browser = Browser(tmp_path / "profile")
    try:
        tab = browser.open("about:blank")
        tab.run("globalThis.seen = []; console.log = (frame) => seen.push([frame.id, frame.event])")
        tab.run(client.replace("localhost:3112", f"127.0.0.1:{node.stream_port}").replace("const ", "var ") + "; 0")
        tab.wait("seen", [[None, {"type": "sync", "data": []}]])
        program = worker.replace("localhost:49134", f"127.0.0.1:{node.worker_port}")
        environ = {**os.environ, "III_URL": node.worker_url()}  # Where the SDK sends its telemetry.
        subprocess.run([environment("sdk-0.25.0"), "-c", program], check=True, timeout=60, env=environ)
        tab.wait("seen[1]", ["m1", {"type": "create", "data": {"text": "hi"}}])
    finally:
        browser.close()


def test_configuration_of_the_readme_is_the_one_of_the_repository(tmp_path):
    [text] = blocks_of("README.md", "yaml")
    shown = tmp_path / "config.yaml"
    shown.write_text(text)
    printed = [
        subprocess.run([BINARY, "--config", path, "--print-config"], check=True, capture_output=True, text=True).stdout
        for path in (shown, ROOT / "iii-config.yaml")
    ]
    assert printed[0] == printed[1] != ""
