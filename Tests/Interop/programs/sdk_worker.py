"""A worker program on the published SDK, whichever version its interpreter has.

Reads one JSON command a line from standard input, and writes one JSON object a line to standard
output: the answer to a command carries its number, and an `event` tells what a handler was given.
"""

import json
import sys
import threading

import iii

output = threading.Lock()
client = None
handles = {}  # Function ids and trigger names to what takes them out again.


def write(message):
    with output:
        print(json.dumps(message), flush=True)


# ---- Handlers


def handler_of(kind, function_id, value):
    async def echo(data):
        return data

    async def fail(data):
        raise ValueError("boom")

    async def record(data):
        write({"event": "called", "function_id": function_id, "data": data})
        return value

    async def blob(data):
        return "x" * data["size"]

    def threaded(data):
        return {"sum": sum(data["numbers"])}

    kinds = {"echo": echo, "fail": fail, "record": record, "blob": blob, "threaded": threaded}
    return kinds[kind]


def custom_stream():
    """A stream kept here, in the worker, as the SDK's documentation shows it."""
    try:
        from iii.stream import IStream, StreamDeleteResult, StreamSetResult
    except ImportError:
        from iii.stream import IStream
        from iii_helpers.stream import StreamDeleteResult, StreamSetResult

    class Memory(IStream):
        def __init__(self):
            self.groups = {}

        async def get(self, input):
            return self.groups.get(input.group_id, {}).get(input.item_id)

        async def set(self, input):
            group = self.groups.setdefault(input.group_id, {})
            old, group[input.item_id] = group.get(input.item_id), input.data
            return StreamSetResult(old_value=old, new_value=input.data)

        async def delete(self, input):
            return StreamDeleteResult(
                old_value=self.groups.get(input.group_id, {}).pop(input.item_id, None)
            )

        async def list(self, input):
            return [*self.groups.get(input.group_id, {}).values()]

        async def list_groups(self, input):
            return [*self.groups]

        async def update(self, input):
            return None

    return Memory()


# ---- Commands


def connect(url, otel=False, name=None):
    global client
    options = iii.InitOptions(worker_name=name, otel={"enabled": otel})
    client = iii.register_worker(url, options)


def register(function_id, kind, value=None):
    handles[function_id] = client.register_function(
        function_id, handler_of(kind, function_id, value)
    )


def trigger(name, **fields):
    handles[name] = client.register_trigger(fields)


def unregister(name):
    handles.pop(name).unregister()


def call(void=False, **request):
    if void:
        request["action"] = iii.TriggerAction.Void()
    return client.trigger(request)


def create_stream(name):
    if hasattr(client, "create_stream"):
        client.create_stream(name, custom_stream())
    else:
        from iii.helpers import create_stream as create

        create(client, name, custom_stream())


def state():
    return {"state": client.get_connection_state(), "worker_id": client.worker_id}


def shutdown():
    client.shutdown()


COMMANDS = {
    command.__name__: command
    for command in (connect, register, trigger, unregister, call, create_stream, state, shutdown)
}


def run(number, name, fields):
    try:
        write({"number": number, "result": COMMANDS[name](**fields)})
    except Exception as error:  # The test judges it: type, code and text.
        write(
            {
                "number": number,
                "error": {
                    "type": type(error).__name__,
                    "code": getattr(error, "code", None),
                    "message": getattr(error, "message", str(error)),
                    "text": str(error),
                },
            }
        )


def main():
    for line in sys.stdin:
        fields = json.loads(line)
        number, name = fields.pop("number"), fields.pop("command")
        if name == "call":  # May wait long: the next command must not.
            threading.Thread(target=run, args=(number, name, fields), daemon=True).start()
        else:
            run(number, name, fields)


main()
