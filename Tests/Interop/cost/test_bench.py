"""The load generator: each scenario at a small size, and that its checks catch a node that misbehaves."""

import subprocess

import pytest

import certificates
import faulty
from faulty import FaultyProxy
from generator import BENCH, bench

SMALL = ("--duration", "0.5", "--warm-up", "0.1")


def totals(result, name):
    return sum(work["counts"][name] for work in result["works"])


# ---- Each scenario


def test_fanout(node, tmp_path):
    result = bench(node, tmp_path, "fanout", "--subscribers", "50", "--items", "7", "--in-flight", "16", *SMALL)
    assert totals(result, "answers") > 0
    latency = result["works"][0]["latencies"]["delivery"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    assert result["server"]["perDelivery"] > 0
    # Bytes are compared, and not frames parsed, by all but the first to get one.
    assert totals(result, "framesParsed") < totals(result, "deliveries") / 25


def test_fanout_to_more_than_a_turn_sends_to(node, tmp_path):
    """A turn starts 512 sends to clients; the others get theirs in the next ones, and all of them everything."""
    arguments = ["--subscribers", "1300", "--items", "3", "--in-flight", "64", "--size", "200"]
    result = bench(node, tmp_path, "fanout", *arguments, *SMALL)
    assert totals(result, "deliveries") >= 64 * 1300


def test_fanout_at_a_rate(node, tmp_path):
    result = bench(node, tmp_path, "fanout", "--subscribers", "5", "--rate", "400", *SMALL)
    assert 100 < totals(result, "answers") <= 220


def test_fanout_with_joins_by_message_and_deletes(node, tmp_path):
    arguments = ["--join", "message", "--items", "5", "--mix", "set=3,update=2,delete=1", "--in-flight", "8"]
    result = bench(node, tmp_path, "fanout", "--subscribers", "20", "--kill", "60", *arguments, *SMALL)
    assert totals(result, "killed") > 0
    assert totals(result, "syncs") > 0


def test_groups(node, tmp_path):
    result = bench(node, tmp_path, "groups", "--groups", "30", "--subscribers", "3", *SMALL)
    assert totals(result, "deliveries") > 30


def test_functions(node, tmp_path):
    mix = "set=2,get=2,update=2,list=1,delete=1"
    result = bench(node, tmp_path, "functions", "--callers", "10", "--in-flight", "8", "--mix", mix, *SMALL)
    assert set(result["works"][0]["latencies"]) == set(mix.translate(str.maketrans("", "", "=12")).split(","))


def test_connect(node, tmp_path):
    result = bench(node, tmp_path, "connect", "--subscribers", "200", "--items", "20", "--rounds", "2")
    assert [each["connections"] for each in result["rounds"]] == [200, 200]
    assert [each["syncsParsed"] for each in result["rounds"]] == [1, 1]  # The rest is the same bytes.


def test_idle(node, tmp_path):
    result = bench(node, tmp_path, "idle", "--subscribers", "200", *SMALL)
    assert result["works"][0]["liveSubscribers"] == 200


def test_triggers(node, tmp_path):
    result = bench(node, tmp_path, "triggers", "--rate", "200", "--items", "3", *SMALL)
    assert totals(result, "triggered") >= totals(result, "calls") / 2
    assert result["works"][0]["latencies"]["trigger"]["p50"] > 0


def test_mixed(node, tmp_path):
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(
        """
duration: 0.5
warm_up: 0.1
works:
  - { name: rooms, groups: 10, subscribers: 3, rate: 200 }
  - name: callers
    groups: 5
    callers: 5
    items: 4
    mix: { set: 1, get: 2 }
"""
    )
    result = bench(node, tmp_path, "mixed", "--file", str(scenario))
    assert [work["name"] for work in result["works"]] == ["rooms", "callers"]
    assert all(work["counts"]["answers"] > 0 for work in result["works"])


def test_polling_has_a_bound(node, tmp_path):
    bench(node, tmp_path, "functions", "--callers", "2", "--poll", "1000", *SMALL)
    (tmp_path / "result.json").unlink()
    assert "--poll: at most 1000" in bench(node, tmp_path, "functions", "--poll", "1001", code=2)


def test_a_scenario_file_with_a_wrong_key_is_refused(node, tmp_path):
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("works:\n  - { nmae: x }\n")
    said = bench(node, tmp_path, "mixed", "--file", str(scenario), code=2)
    assert "scenario.yaml:2: unknown key 'nmae'" in said


# ---- Faults on request


def test_stalled_and_half_open_subscribers_are_no_failure(node, tmp_path):
    arguments = ["--subscribers", "10", "--in-flight", "16", "--stall", "2", "--half-open", "2"]
    result = bench(node, tmp_path, "fanout", *arguments, "--duration", "0.9", "--warm-up", "0.1")
    assert totals(result, "deliveries") > 0


def test_restart_in_the_middle(start_node, tmp_path):
    node = start_node()
    node.text = node.text.replace("port: 0", f"port: {node.stream_port}", 1)
    node.text = node.text.replace("port: 0", f"port: {node.worker_port}", 1)
    (tmp_path / "again.yaml").write_text(node.text)
    script = tmp_path / "again.sh"
    script.write_text(f"echo $$ > {tmp_path}/again.pid\nexec {node.binary} --config {tmp_path}/again.yaml 2>/dev/null\n")
    arguments = ["--subscribers", "20", "--items", "3", "--in-flight", "4", "--restart", f"sh {script}"]
    try:
        result = bench(node, tmp_path, "fanout", *arguments, "--duration", "1", "--warm-up", "0.1")
        assert result["works"][0]["liveSubscribers"] == 20
    finally:
        pid = tmp_path / "again.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False)


# ---- A server that misbehaves

LOAD = ("fanout", "--patience", "2", "--subscribers", "4", "--items", "3", "--rate", "300", *SMALL)


def test_through_the_proxy_all_is_well(node, tmp_path):
    with FaultyProxy(node.stream_port) as proxy:
        bench(node, tmp_path, *LOAD, target=proxy.port)


@pytest.mark.parametrize("victims", [(1,), (0, 1, 2, 3)], ids=["one", "all"])
@pytest.mark.parametrize(
    "fault, at, said",
    [
        (faulty.drop, 5, "gap"),
        (faulty.repeat, 5, "repeat"),
        (faulty.reorder, 5, "gap or reordering"),
        (faulty.change, 5, "expected"),
        (faulty.drop, 0, "not all subscribers came into sync"),
        (faulty.change, 0, "a sync of 3 items shows a state that the group never had"),
        (faulty.repeat, 0, "expected"),
    ],
    ids=["drop", "repeat", "reorder", "change", "no-sync", "wrong-sync", "two-syncs"],
)
def test_a_misbehaving_server_is_caught(node, tmp_path, fault, at, said, victims):
    with FaultyProxy(node.stream_port, fault, at, victims) as proxy:
        result = bench(node, tmp_path, *LOAD, target=proxy.port, code=1)
    assert said in (result if isinstance(result, str) else "\n".join(result["violations"]))


def test_nobody_there(node, tmp_path):
    port = node.stream_port
    node.stop()
    done = subprocess.run(
        [BENCH, "fanout", "--target", f"ws://127.0.0.1:{port}", "--workers", f"ws://127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"no connection to 127.0.0.1:{port}, the worker port: Connection refused" in done.stdout


def test_the_report_is_one_page_with_charts(node, tmp_path):
    first = tmp_path / "first.json"
    bench(node, tmp_path, "fanout", "--subscribers", "5", *SMALL)
    (tmp_path / "result.json").rename(first)
    page = tmp_path / "page.html"
    bench(node, tmp_path, "fanout", "--subscribers", "5", *SMALL, "--report", page, "--compare", first)
    text = page.read_text()
    assert text.count("<svg") == 4 and "(earlier)" in text
    assert "http://" not in text and "https://" not in text and "src=" not in text


def test_refused_calls_are_told_and_do_not_end_the_run(start_node, tmp_path):
    node = start_node({"limits": {"value_bytes": 1024}})
    result = bench(node, tmp_path, "triggers", "--size", "2000", "--rate", "400", *SMALL, code=1)
    assert totals(result, "errors") > 100
    assert result["violations"]
    assert not [text for text in result["violations"] if "a call failed" not in text]


# ---- Over TLS


def secure(start_node):
    return start_node({"tls": certificates.settings()}, {"tls": certificates.settings()})


def test_fanout_over_tls(start_node, tmp_path):
    node = secure(start_node)
    result = bench(node, tmp_path, "fanout", "--subscribers", "50", "--items", "7", "--in-flight", "16", *SMALL)
    assert totals(result, "deliveries") > 0 and totals(result, "answers") > 0
    assert node.counters()["tls_handshakes"] == 51


@pytest.mark.parametrize("wrong", ["authority", "host", "file"])
def test_a_server_that_is_not_the_right_one_is_not_measured(start_node, tmp_path, wrong):
    node = secure(start_node)
    ca, host = certificates.authority().cert, "127.0.0.1"
    if wrong == "authority":
        ca = certificates.Authority(tmp_path, "another one").cert
    elif wrong == "host":
        host = "127.0.0.2"  # No certificate names it, and the node does not listen there alone.
        node = start_node({"host": "0.0.0.0", "tls": certificates.settings()}, {"host": "0.0.0.0", "tls": certificates.settings()})
    else:
        ca = tmp_path / "none.pem"
    command = [BENCH, "fanout", "--subscribers", "1", "--patience", "3", "--quiet", "--ca", ca,
               "--target", f"wss://{host}:{node.stream_port}", "--workers", f"wss://{host}:{node.worker_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25)
    assert done.returncode == 1, done.stdout + done.stderr
    expected = {"authority": "certificate", "host": "mismatch", "file": str(ca)}[wrong]
    assert expected in done.stdout + done.stderr
