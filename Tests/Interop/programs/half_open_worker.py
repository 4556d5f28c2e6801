"""A worker in a process of its own, that can be killed: it registers, tells what it is called with, and
answers every call of a function but `never`.

    half_open_worker.py URL NAME
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from executor import HELD, Executor  # noqa: E402


def write(event, data):
    print(json.dumps({"event": event, "data": data}), flush=True)


def main():
    _, url, name = sys.argv

    def told(event, answer):
        def handler(data):
            write(event, data)
            return answer

        return handler

    with Executor(url) as executor:
        executor.serve("job", told("job", name))
        executor.serve("never", told("never", HELD))
        executor.serve("changed", told("changed", None))
        executor.trigger("stream", "changed", {"stream_name": "s"}, trigger_id="watch")
        write("ready", executor.registered)
        sys.stdin.read()


main()
