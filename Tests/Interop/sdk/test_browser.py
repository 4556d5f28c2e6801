"""The WebSocket of a real browser: joins by path and by message, sub-protocols, and its own `Origin`."""

import http.server
import json
import queue
import subprocess
import threading
import urllib.parse

import pytest

from browser import CHROMIUM, OPTIONS
from executor import Executor
from node import PROGRAMS

PAGE = (PROGRAMS / "browser.html").read_bytes()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
PATIENCE_SECONDS = 60


class Site:
    """Serves the page, and takes what it tells."""

    def __init__(self):
        self.told = queue.Queue()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(PAGE)

            def do_POST(self):
                size = int(self.headers["Content-Length"])
                site.told.put((self.path, json.loads(self.rfile.read(size))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tells(self, path):
        told, data = self.told.get(timeout=PATIENCE_SECONDS)
        assert told == path
        return data

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site():
    here = Site()
    yield here
    here.close()


@pytest.fixture
def visit(site, tmp_path):
    """Opens the page in a browser of its own, with these options."""
    browsers = []

    def start(node, **options):
        query = urllib.parse.urlencode({"node": node.url(node.stream_port, ""), **options})
        browsers.append(
            subprocess.Popen(
                [
                    *[CHROMIUM, *OPTIONS],
                    f"--user-data-dir={tmp_path / 'profile'}",
                    f"{site.origin}/?{query}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    yield start
    for browser in browsers:
        browser.kill()
        browser.wait()


@pytest.mark.parametrize("token", ["secret", None], ids=["token", "no token"])
def test_browser_joins_by_path_and_by_message(start_node, site, visit, token):
    node = start_node({"auth_function": "auth", "origins": [site.origin]})
    with Executor(node.worker_url()) as worker:
        worker.serve("auth", {"context": {"who": "page"}})
        worker.serve("joined", None)
        worker.trigger("stream:join", "joined")
        visit(node, **({"token": token} if token else {}))
        for _ in range(3):
            site.tells("/synced")
            data = worker.called("joined").data
            assert (data["group_id"], data["context"]) == ("żółć/1", {"who": "page"})
            headers = worker.called("auth").data["headers"]
            assert headers["origin"] == site.origin
            offered = f"Authorization, {token}" if token else None
            assert headers.get("sec-websocket-protocol") == offered
        for value in ({"text": "cześć 🦊"}, 2):
            worker.set("chat", "żółć/1", "m", value)
        worker.delete("chat", "żółć/1", "m")
        changes = [
            {"id": "m", "event": {"type": "create", "data": {"text": "cześć 🦊"}}},
            {"id": "m", "event": {"type": "update", "data": 2}},
            {"id": "m", "event": {"type": "delete", "data": 2}},
        ]
        group = {"id": None, "event": {"type": "sync", "data": []}}
        item = {"id": "m", "event": {"type": "sync", "data": None}}
        assert site.tells("/seen") == [
            {"events": [sync, *changes], "protocol": "Authorization" if token else ""}
            for sync in (group, group, item)
        ]


def test_page_of_another_origin_is_refused(start_node, site, visit):
    node = start_node({"origins": ["https://app.example"]})
    visit(node)
    assert site.tells("/seen") == [{"events": [], "code": 1006}] * 3


@pytest.mark.parametrize("away", [False, True], ids=["refused", "away"])
def test_page_tells_a_refusal_from_an_outage(start_node, site, visit, away):
    node = start_node({"auth_function": "auth", "origins": [site.origin]})
    with Executor(node.worker_url()) as worker:
        worker.serve("auth", {"unauthorized": True})
        if away:
            worker.close()
            node.stop()
        visit(node, token="wrong", probe="")
        assert site.tells("/probed") == {"code": 1006, "status": None if away else 400}
