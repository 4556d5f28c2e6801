"""What the core's work costs, to the instruction: a gate that noise cannot move.

A node runs on a scripted kernel (Benchmarks/Cost/scripted_kernel.c), so that it does the same in each run. Its
instructions are counted by callgrind, without those of the kernel's side; its system calls and the entries of
its ring by the script. For one compiler the numbers are the same each time.

A change that costs more than it should fails here. A change that saves lowers the ceiling: CONTRIBUTING.md.
"""

import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import warnings

import pytest

from core import built_core

# Instructions in user space: a tenth over what was counted when the ceiling was set, which stands beside it.
CEILINGS = {
    "idle, 1 a turn": 910,  # 831: each turn looks itself at who waits, so that nobody must remember to wake them.
    "set, 1 a turn": 5750,  # 5,213
    "set, 16 a turn": 4270,  # 3,878.9
    "get, 1 a turn": 4600,  # 4,184
    "get, 16 a turn": 3140,  # 2,849.9
    "update, 1 a turn": 7880,  # 7,161
    "update, 16 a turn": 6430,  # 5,841.7
    "delivery, 1 a turn": 535,  # 485.3
    "delivery, 16 a turn": 49.5,  # 45.1
}

# The same for each turn, whatever it brings: one system call to wait, and one for all sends when there are any.
ENTERS_OF_A_TURN = 2
ENTERS_OF_AN_IDLE_TURN = 1

# A script that takes longer waits for something that does not come.
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    mains = ["cost_script.c", "plane.c", "scripted_kernel.c"]
    return built_core(mains, tmp_path_factory.mktemp("script") / "cost_script", [])


@pytest.fixture(scope="module")
def works(script):
    """What the script counts itself, without valgrind."""
    done = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS)
    return [json.loads(line) for line in done.stdout.splitlines()]


def valgrind():
    if platform.machine() != "x86_64":
        pytest.skip("the ceilings are for x86-64")
    found = shutil.which("valgrind")
    if not found and os.environ.get("CI", "") in ("", "false"):
        pytest.skip("valgrind is not installed: instructions are not counted (.ci/packages test installs it)")
    assert found, "valgrind is not installed, and the gate for instructions must not be skipped on CI"
    return found


def totals(folder, out):
    """The instructions of each part that ended at a mark, in order."""
    found = []
    while (part := folder / f"{out}.{len(found) + 1}").exists():
        found.append(int(re.search(r"^summary: (\d+)", part.read_text(), re.MULTILINE)[1]))
    return found


@pytest.fixture(scope="module")
def counted(script, tmp_path_factory):
    """Instructions by name of what is held."""
    folder = pathlib.Path(os.environ.get("III_CALLGRIND") or tmp_path_factory.mktemp("callgrind")).absolute()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("out*"):
        old.unlink()
    options = ["--dump-before=cost_mark", "--toggle-collect=io_uring_enter2"]
    options += ["--collect-atstart=yes", "--compress-strings=no"]
    command = [valgrind(), "--tool=callgrind", f"--callgrind-out-file={folder / 'out'}", *options, script]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    works = [json.loads(line) for line in done.stdout.splitlines()]
    parts = totals(folder, "out")
    assert len(parts) == 2 * len(works), done.stderr[-2000:]
    # Every second part is a work; before it comes its warm-up.
    for work, number in zip(works, range(2, len(parts) + 1, 2)):
        print(f"out.{number}: {work}")
    costs = {
        (work["operation"], work["at_once"], work["subscribers"]): (work, cost)
        for work, cost in zip(works, parts[1::2])
    }
    numbers = {}
    for (operation, at_once, subscribers), (work, cost) in costs.items():
        if subscribers == 0:
            numbers[f"{operation}, {at_once} a turn"] = cost / work["operations"]
        else:
            _, alone = costs[operation, at_once, 0]
            numbers[f"delivery, {at_once} a turn"] = (cost - alone) / (work["operations"] * subscribers)
    print("\n".join(f"{name}: {number:.1f} instructions" for name, number in numbers.items()))
    return numbers


def test_every_number_has_a_ceiling(counted):
    assert set(counted) == set(CEILINGS)


@pytest.mark.parametrize("name", CEILINGS)
def test_instructions(counted, name):
    ceiling, number = CEILINGS[name], counted[name]
    assert number <= ceiling, f"{name}: {number:.1f} instructions are over the ceiling of {ceiling}"
    if number < ceiling * 0.8:
        warnings.warn(f"{name}: {number:.1f} instructions, and a ceiling of {ceiling} that holds little: lower it", stacklevel=1)


def test_system_calls_and_entries_of_a_turn(works):
    """A turn of n deliveries and one answer has n + 1 entries, which are sends, in one system call."""
    for work in works:
        name = f"{work['operation']}, {work['at_once']} a turn, {work['subscribers']} subscribers"
        turns, idle = work["turns"], work["operation"] == "idle"
        assert turns == work["rounds"], f"{name}: {turns} turns of {work['rounds']} rounds"
        ceiling = turns * (ENTERS_OF_AN_IDLE_TURN if idle else ENTERS_OF_A_TURN)
        assert work["enters"] <= ceiling, f"{name}: {work['enters']} system calls are over the ceiling of {ceiling}"
        ceiling = 0 if idle else turns * (work["subscribers"] + 1)
        assert work["sends"] <= ceiling, f"{name}: {work['sends']} sends are over the ceiling of {ceiling}"
        assert work["entries"] <= ceiling, f"{name}: {work['entries']} entries of the ring are over the ceiling of {ceiling}"
