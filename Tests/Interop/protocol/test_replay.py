"""The recorded answers of the protocol's first implementation, step by step."""

import asyncio
import json

import pytest

import replay
from node import ROOT, Node, configuration

GOLDEN = ROOT / "Tests/Vectors/golden"
SCENARIOS = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}

@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """What each scenario saw. Playing is mostly waiting, so all are played at once, each on its node."""

    async def play_all(nodes):
        plays = [
            replay.play(
                SCENARIOS[name]["steps"], {"worker": node.worker_port, "stream": node.stream_port}
            )
            for name, node in nodes.items()
        ]
        return dict(zip(nodes, await asyncio.gather(*plays), strict=True))

    nodes = {}
    try:
        for name in SCENARIOS:
            node = Node(tmp_path_factory.mktemp(name), configuration())
            nodes[name] = node
            node.start()
        seen = asyncio.run(play_all(nodes))
        for node in nodes.values():
            node.stop()
    finally:
        for node in nodes.values():
            node.kill()
    return seen


def steps():
    for name, scenario in SCENARIOS.items():
        for index, step in enumerate(scenario["steps"]):
            yield pytest.param(name, index, id=f"{name}-{index}-{step['do']}")


@pytest.mark.parametrize("name, index", list(steps()))
def test_step_is_answered_as_recorded(played, name, index):
    step, got = SCENARIOS[name]["steps"][index], played[name][index]
    assert replay.matches(replay.wanted(step), got), (
        f"{step['why']}\n{replay.describe(step)}\n"
        f"want {json.dumps(replay.wanted(step), ensure_ascii=False)}\n"
        f"got  {json.dumps(got, ensure_ascii=False)}\n"
        f"{step.get('because', '')}"
    )


def test_each_step_says_why_it_is_there():
    for name, scenario in SCENARIOS.items():
        for index, step in enumerate(scenario["steps"]):
            assert step.get("why", "").strip(), f"step {index} of {name} does not say why it is there"
            # What this project decided otherwise has its reason, too.
            assert ("expect" in step) == ("because" in step), f"step {index} of {name}"


def test_every_scenario_uses_only_known_settings():
    """A scenario that wants extra configuration would be played on the wrong node without a word."""
    assert {scenario["node"] for scenario in SCENARIOS.values()} == {""}
    assert SCENARIOS.keys() == {"functions", "joins", "subscriptions", "triggers", "workers"}


@pytest.mark.parametrize(
    "want, right, wrong",
    [
        ({"a": 1}, {"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 1}, {}),
        ([1, 2], [1, 2], [2, 1]),
        (True, True, 1),
        (None, None, 0),
        ({"$has": {"a": 1}}, {"a": 1, "b": 2}, {"b": 2}),
        ({"$oneof": [1, 2]}, 2, 3),
        ({"$contains": [2]}, [1, 2], [1]),
        ({"$contains": []}, [], {}),
        ({"$unordered": [1, 2]}, [2, 1], [1, 1]),
        ({"$unordered": [1, 2]}, [2, 1], [1, 2, 2]),
        ({"$unordered": [3, {"$any": 1}]}, [9, 3], [9, 9]),
    ],
)
def test_patterns_accept_the_right_and_refuse_the_wrong(want, right, wrong):
    assert replay.matches(want, right)
    assert not replay.matches(want, wrong)


def test_placeholders_replace_what_varies_and_nothing_else():
    own = "00000000-0000-4000-8000-000000000007"
    seen = {
        "id": "6f1f7a52-3c1e-4b38-9d4e-2f3d7e1f9a10",
        "own": own,
        "addr": "127.0.0.1:50412",
        "timestamp": 1767225600123,
        "nested": [{"timestamp": 5, "connected_at_ms": 1767225600123}],
        "user-agent": "Python",
    }
    assert replay.normalise(seen) == {
        "id": "<uuid>",
        "own": own,
        "addr": "127.0.0.1:<port>",
        "timestamp": "<ms>",
        "nested": [{"timestamp": 5, "connected_at_ms": "<ms>"}],
        "user-agent": "<agent>",
    }
