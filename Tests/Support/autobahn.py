"""Runs the fuzzing client of Autobahn|Testsuite against the echo server and judges its report.

usage: autobahn.py FOLDER CASES    the echo server is FOLDER/echo_server, the report goes to FOLDER/report

PYTHON2 is the interpreter of the suite, SUITE_SITE the folder of its packages. Verdicts other than OK are
good only where docs/conformance.md has a row `| case | verdict | reason |` for them.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/conformance.md"
NEVER = {"FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT"}


def listed():
    """The verdicts that the document gives a reason for: {(case, verdict)}. A case may be `6.4.*`."""
    rows = re.findall(r"^\| `?([\d.*]+)`? \| ([A-Z-]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    return {(case, verdict) for case, verdict in rows}


def is_listed(case, verdict, rows):
    return any(
        verdict == word and (case == name or (name.endswith("*") and case.startswith(name[:-1])))
        for name, word in rows
    )


def main():
    folder, cases = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2].split(",")
    report = folder / "report"
    shutil.rmtree(report, ignore_errors=True)
    server = subprocess.Popen(
        [folder / "echo_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(server.stdout.readline())
        spec = {
            "options": {"failByDrop": False},
            "outdir": str(report),
            "servers": [{"agent": "iii-stream", "url": f"ws://127.0.0.1:{port}"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (folder / "fuzzingclient.json").write_text(json.dumps(spec))
        # addsitedir, not PYTHONPATH: one of the packages needs its .pth file read.
        start = "import os, site, sys; site.addsitedir(os.environ['SUITE_SITE']); sys.argv[0] = 'wstest'"
        start += "; from autobahntestsuite.wstest import run; run()"
        with open(folder / "suite.log", "w") as log:
            subprocess.run(
                [os.environ["PYTHON2"], "-c", start, "-m", "fuzzingclient", "-s", "fuzzingclient.json"],
                cwd=folder,
                check=True,
                stdout=log,
                stderr=log,
            )
        server.stdin.close()
        if server.wait(20) != 0:
            sys.exit("conformance: the echo server did not end well")
    finally:
        server.kill()
    results = json.loads((report / "index.json").read_text())["iii-stream"]
    rows, wrong, counts = listed(), [], collections.Counter()
    for case, result in sorted(results.items(), key=lambda r: [int(n) for n in r[0].split(".")]):
        for key in ("behavior", "behaviorClose"):
            verdict = result[key]
            counts[verdict if key == "behavior" else f"close {verdict}"] += 1
            if verdict == "OK":
                continue
            print(f"{case}: {key} {verdict}")
            if verdict in NEVER or not is_listed(case, verdict, rows):
                wrong.append(case)
    print(f"conformance: {len(results)} cases: " + ", ".join(f"{n} {v}" for v, n in counts.most_common()))
    if wrong or not results:
        sys.exit(f"conformance: not as docs/conformance.md says: {', '.join(wrong) or 'no results'}")


main()
