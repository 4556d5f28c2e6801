"""The example of the documents: its worker on the published SDKs, its page in a real browser."""

import json
import os
import re
import subprocess

import pytest

import browser
from conftest import SDK_VERSIONS, environment
from node import ROOT

EXAMPLE = ROOT / "docs/examples/todo"
pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

TODOS = "[...document.querySelectorAll('#todos li')].map((row) => [row.querySelector('span').textContent, row.querySelector('input').checked])"
PRESENT = "[...document.querySelectorAll('#present li')].map((row) => row.textContent)"
STATUS = "document.querySelector('#status').textContent"
NOTE = "document.querySelector('#note').textContent"


class App:
    """The worker of the example, and where its pages are."""

    def __init__(self, version, node):
        self.process = subprocess.Popen(
            [
                *[environment(f"sdk-{version}"), EXAMPLE / "app.py", "--port", "0"],
                *["--workers", node.url(node.worker_port, "")],
                *["--streams", node.url(node.stream_port, "")],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
        )
        self.page = self.process.stdout.readline().strip()
        assert self.page.startswith("http://localhost:")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def chromium(tmp_path):
    here = browser.Browser(tmp_path / "profile")
    yield here
    here.close()


@pytest.fixture
def node(start_node, tmp_path):
    """The example's own configuration but for the ports, and the origin: that has the port of the page."""
    text = (EXAMPLE / "config.yaml").read_text()
    text = re.sub(r"\bport: \d+", "port: 0", text)
    text, count = re.subn(r"      origins: .*\n", "", text)
    assert count == 1
    return start_node(text=text)


@pytest.fixture
def app(request, node):
    here = App(request.param, node)
    yield here
    here.close()


def sign_in(tab, token, status):
    tab.wait("document.querySelector('#sign-in').hidden", False)
    tab.run(
        f"document.querySelector('#sign-in input').value = {json.dumps(token)};"
        "document.querySelector('#sign-in').requestSubmit()"
    )
    tab.wait(STATUS, status)


def add(tab, text):
    tab.run(
        f"document.querySelector('#add input').value = {json.dumps(text)};"
        "document.querySelector('#add').requestSubmit()"
    )


def click(tab, row, what):
    tab.run(f"document.querySelectorAll('#todos li')[{row}].querySelector('{what}').click()")


@pytest.mark.parametrize("app", SDK_VERSIONS, indirect=True)
def test_todos_and_presence(node, app, chromium):
    ann, bob = chromium.open(app.page), chromium.open(app.page)

    # A token that nobody knows, and one that a browser would not send.
    for wrong in ("nobody-secret", "no token, ä"):
        sign_in(ann, wrong, "signed out")
        ann.wait(NOTE, "This token is not accepted.")

    sign_in(ann, "ann-secret", "Ann")
    ann.wait(PRESENT, ["Ann"])
    sign_in(bob, "bob-secret", "Bob")
    for tab in (ann, bob):
        tab.wait(PRESENT, ["Ann", "Bob"])

    # Text is text.
    texts = ["milk", "<b>żółć</b> & 'eggs' \"🦊\"", "bread"]
    for text in texts:
        add(ann, text)
        bob.wait(f"{TODOS}.length", texts.index(text) + 1)
    click(bob, 0, "input")
    for tab in (ann, bob):
        tab.wait(TODOS, [["milk", True], [texts[1], False], ["bread", False]])
    click(bob, 1, "button")
    for tab in (ann, bob):
        tab.wait(TODOS, [["milk", True], ["bread", False]])

    # Two tabs of one user are two, until one of them goes.
    second = chromium.open(app.page)
    sign_in(second, "bob-secret", "Bob")
    ann.wait(PRESENT, ["Ann", "Bob × 2"])
    second.wait(TODOS, [["milk", True], ["bread", False]])
    second.ask("Page.navigate", url="about:blank")
    ann.wait(PRESENT, ["Ann", "Bob"])

    if folder := os.environ.get("III_PICTURES"):
        for scheme in ("light", "dark"):
            ann.picture(f"{folder}/todo-{scheme}.png", color_scheme=scheme)

    # The node is away for a while, in which a tab goes too; all comes back but that one.
    node.stop()
    for tab in (ann, bob):
        tab.wait(STATUS, "reconnecting…")
    bob.ask("Page.navigate", url="about:blank")
    node.restart()
    ann.wait(STATUS, "Ann")
    ann.wait(TODOS, [["milk", True], ["bread", False]])
    ann.wait(PRESENT, ["Ann"])
    click(ann, 0, "button")
    ann.wait(TODOS, [["bread", False]])


@pytest.mark.parametrize("app", SDK_VERSIONS[-1:], indirect=True)
def test_presence_is_counted_again_when_the_worker_comes_back(node, app, chromium):
    ann, bob = chromium.open(app.page), chromium.open(app.page)
    sign_in(ann, "ann-secret", "Ann")
    sign_in(bob, "bob-secret", "Bob")
    ann.wait(PRESENT, ["Ann", "Bob"])
    app.close()
    bob.ask("Page.navigate", url="about:blank")  # Its leave is told to nobody.
    again = App(SDK_VERSIONS[-1], node)
    try:
        ann.wait(PRESENT, ["Ann"])
    finally:
        again.close()
