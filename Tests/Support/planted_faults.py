#!/usr/bin/env python3
"""Plants faults in a copy of the core, one after the other, and says at which seed the simulated node notices each.

    planted_faults.py [--seeds N] [--sanitize]

A fault is a line that is easily forgotten. The simulation (Tests/Support/CNodeSimulator) has to find each within `--seeds`
seeds (10000) of its theme, and nothing in as many seeds of the code as it is. Exit 1: one was not found, or something was.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOINS, LARGE, FAULTS = 1, 2, 3
# What is wrong, the theme that finds it, the file, and the text with what stands there instead.
JOIN = "CSources/CStreamCore/streams/join.c"
PLANTED = [
    ("joins: events of before a join come behind its sync", JOINS, JOIN,
     "    sc_batches_post(owner); // Earlier frames of the group go first.\n", ""),
    ("joins: events of the same turn come behind the sync", JOINS, JOIN,
     "    sc_topic_settle(shard, topic); // What it is a member for already comes first.\n", ""),
    ("joins: events of an item come while a function makes the sync of its group", JOINS,
     "CSources/CStreamCore/streams/pending_join.c", "    if (stands || (membership != NULL && ", "    if (stands || (false && "),
    ("rollback: the sync of a join that waits shows what was taken back", FAULTS, JOIN,
     "    if (join_of(request)->sync_source == SYNC_OF_STORE) {\n        sc_slice_release(owner, outcome->slice);",
     "    if (false) {\n        sc_slice_release(owner, outcome->slice);"),
    ("rollback: an event that was taken back is sent", FAULTS, "CSources/CStreamCore/streams/events.c",
     "static const struct outcome_kind event_kind = {release_event, revoke_event};",
     "static void keep(struct shard *shard, struct outcome *outcome, const struct revocation *why) {\n"
     "    struct sc_bytes *item = &(struct sc_bytes){0};\n"
     "    *item = sc_outcome_text(why->of, outcome, 0);\n"
     "    sc_topic_deliver(shard, outcome->topic, &(struct history_event){.frame = outcome->slice, .item = item});\n"
     "    revoke_event(shard, outcome, why);\n}\n"
     "static const struct outcome_kind event_kind = {release_event, keep};"),
    ("large groups: a member gets events while its next sync is read", LARGE,
     "CSources/CStreamCore/streams/sync_reading.c",
     "        if (join_of(join)->from == JOIN_FROM_NOW)\n            sc_stand_push(",
     "        if (false)\n            sc_stand_push("),
    ("large groups: the changes since a kept sync do not follow it", LARGE, "CSources/CStreamCore/streams/events.c",
     "    if (topic->progress != NULL)", "    if (false)"),
]
FLAGS = ["-std=gnu17", "-g", "-O1", "-w"]


def clang():
    """That of the Swift tool chain comes first, as in .ci/fuzz."""
    swift = shutil.which("swift")
    beside = pathlib.Path(swift).resolve().parent / "clang" if swift else None
    return str(beside) if beside and beside.exists() else "clang"


def sources():
    found = [path for path in (ROOT / "CSources").rglob("*.c") if "CStreamLoad" not in path.parts]
    found += (ROOT / "Tests/Support/CNodeSimulator").glob("*.c")
    found += (ROOT / "Tests/Support/CStoreSimulator").glob("disk*.c")
    return [*found, ROOT / "Tests/Support/CStoreSimulator/simulator.c", ROOT / "Tests/Support/node_simulation.c"]


def compile_file(source, out, flags, folder):
    """`folder`: that of the original, for what it includes from beside itself."""
    support = [ROOT / "Tests/Support" / name for name in ("CStoreSimulator", "CStoreSimulator/include", "CNodeSimulator", "CNodeSimulator/include")]
    includes = [f"-I{path}" for path in [*(ROOT / "CSources").glob("*/include"), *support]]
    subprocess.run([clang(), *flags, *includes, f"-iquote{folder}", "-c", source, "-o", out], check=True)


def link(objects, out, flags):
    subprocess.run([clang(), *flags, *objects, "-o", out, "-luring", "-lssl", "-lcrypto", "-lpthread"], check=True, stderr=subprocess.DEVNULL)


def run(program, theme, first, seeds):
    """What the first run that fails says; None: none did."""
    done = subprocess.run([program, str(theme), str(first), str(seeds)], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        return f"the program ended with {done.returncode}: {done.stderr[-300:]}"
    return done.stdout.splitlines()[0] if done.returncode == 1 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10000)
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan, which is slower by ten times")
    options = parser.parse_args()
    flags = FLAGS + (["-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if options.sanitize else [])
    wrong = False
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        objects = {path: folder / (str(path.relative_to(ROOT)).replace("/", "-") + ".o") for path in sources()}
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda path: compile_file(path, objects[path], flags, path.parent), objects))
        for what, theme, path, before, after in PLANTED:
            text = (ROOT / path).read_text()
            if text.count(before) != 1:
                sys.exit(f"planted_faults: {path} does not have the text of: {what}")
            planted, out, program = folder / "planted.c", folder / "planted.o", folder / "planted"
            planted.write_text(text.replace(before, after))
            compile_file(planted, out, flags, (ROOT / path).parent)
            link([out if source == ROOT / path else each for source, each in objects.items()], program, flags)
            found = run(program, theme, 1, options.seeds)
            wrong |= found is None
            print(f"{what}\n    {found or 'NOT FOUND'}", flush=True)
        program = folder / "as-it-is"
        link(objects.values(), program, flags)
        for theme in (JOINS, LARGE, FAULTS):
            seeds = options.seeds // 10 if theme == LARGE else options.seeds
            found = run(program, theme, 1, seeds)
            wrong |= found is not None
            print(f"as it is, theme {theme}, {seeds} seeds: {found or 'nothing'}", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
