"""A headless Chromium that tests look into and work with, over its DevTools protocol."""

import base64
import itertools
import json
import pathlib
import shutil
import subprocess
import time
import urllib.request

from websockets.sync.client import connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_SECONDS = 30
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
]


class ScriptFailed(Exception):
    """A script in the page has thrown."""


def until(condition, what):
    """Waits until the condition holds, and returns what it gives then."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if seen := condition():
            return seen
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


class Tab:
    """A page with storage of its own."""

    def __init__(self, url):
        self.socket = connect(url, max_size=None, proxy=None).__enter__()
        self.numbers = itertools.count(1)

    def ask(self, method, **params):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(PATIENCE_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script):
        """The value of a script, of a promise when it has come."""
        result = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise ScriptFailed(result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, script, value=True):
        """Waits until the script gives this value. While a page loads a script may fail."""
        seen = []

        def holds():
            try:
                seen[:] = [self.run(script)]
            except ScriptFailed as failure:
                seen[:] = [failure]
            return seen == [value]

        until(holds, lambda: f"{script} is {seen}, not {value!r}")

    def picture(self, path, **media):
        self.ask("Page.bringToFront")
        features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in media.items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        pathlib.Path(path).write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def close(self):
        self.socket.close()


class Browser:
    def __init__(self, folder):
        self.tabs = []
        self.folder = pathlib.Path(folder)
        self.process = subprocess.Popen(
            [CHROMIUM, *OPTIONS, "--remote-debugging-port=0", f"--user-data-dir={self.folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = self.folder / "DevToolsActivePort"
        until(lambda: port_file.exists() and len(port_file.read_text().split()) == 2, lambda: "no browser")
        self.port = int(port_file.read_text().split()[0])

    def open(self, url):
        """A new tab."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?{url}", method="PUT")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            self.tabs.append(Tab(json.load(answer)["webSocketDebuggerUrl"]))
        return self.tabs[-1]

    def close(self):
        for tab in self.tabs:
            tab.close()
        self.process.kill()
        self.process.wait()
