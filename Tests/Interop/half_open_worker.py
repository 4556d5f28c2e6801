"""A worker in a process of its own, that can be killed: it registers, tells what it is called with, and
answers every call of a function but `never`.

    half_open_worker.py URL NAME
"""

import json
import sys

from executor import HELD, Executor


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
