"""The vectors of `stream::update` and of whole-call refusals, over the wire."""

import json

import pytest

from clients import Worker
from node import ROOT, Node, configuration

VECTORS = ROOT / "Tests/Vectors"
CASES = json.loads((VECTORS / "update-ops-cases.json").read_text())
REJECTS = json.loads((VECTORS / "update-ops-rejects.json").read_text())


def exact(value):
    """`value` as text that keeps the kind of a number: 1 and 1.0 differ, the order of keys does not."""
    return json.dumps(value, sort_keys=True)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("node"), configuration())
    try:
        node.start()
        with Worker(node.worker_url()) as client:
            yield client
        node.stop()
    finally:
        node.kill()


def by_name(vectors):
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


@pytest.mark.parametrize("case", by_name(CASES))
def test_update_has_the_recorded_effect(worker, case):
    item = case["name"]
    if "old" in case:
        worker.set("operations", "g", item, case["old"])
    result = worker.result(
        "stream::update", stream_name="operations", group_id="g", item_id=item, ops=case["ops"]
    )
    want = {"old_value": case.get("old"), "new_value": case["new"]}
    if case["errors"]:
        want["errors"] = case["errors"]
    assert exact(result) == exact(want)
    assert exact(worker.get("operations", "g", item)) == exact(case["new"])


@pytest.mark.parametrize("case", by_name(REJECTS))
def test_malformed_call_is_refused_with_the_recorded_text(worker, case):
    before = exact(worker.result("stream::list_all"))
    answer = worker.call(case["function_id"], case["payload"])
    if case.get("here") == "accepted":
        assert "error" not in answer
        return
    assert answer["error"] == case["error"]
    assert "result" not in answer
    assert exact(worker.result("stream::list_all")) == before


def test_vectors_are_all_there():
    assert (len(CASES), len(REJECTS)) == (174, 56)
