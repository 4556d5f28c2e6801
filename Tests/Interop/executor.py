"""A worker that serves functions: a thread reads, answers, and keeps what the tests ask for."""

import itertools
import queue
import threading

from websockets.exceptions import ConnectionClosed

from clients import TIMEOUT_SECONDS, Closed, Connection

# What a handler returns whose call the test answers, or nobody.
HELD = object()


class Failure(Exception):
    """What a handler raises to answer with an error."""

    def __init__(self, code, message="failed", stacktrace=None):
        super().__init__(code)
        self.error = {"code": code, "message": message}
        if stacktrace:
            self.error["stacktrace"] = stacktrace


class Call:
    """A call that the executor was given."""

    def __init__(self, executor, message):
        self.executor = executor
        self.message = message
        self.function_id = message["function_id"]
        self.data = message["data"]

    def answer(self, result=None, **fields):
        """Answers with `result`; the message carries `fields` too."""
        self._send({"result": result, **fields})

    def fail(self, code, message="failed"):
        self._send({"error": {"code": code, "message": message}})

    def _send(self, fields):
        message = {"type": "invocationresult", "invocation_id": self.message["invocation_id"]}
        self.executor.send({**message, "function_id": self.function_id, **fields})


class Executor(Connection):
    """A worker of the protocol whose functions are Python: each call goes to its handler at once.

    A handler is a value to answer with, or a callable that takes the data. Calls are kept, in order, for
    `called`; results go to whoever called; what else the node says is kept for `said`.
    """

    def __init__(self, url, reattach=None, **options):
        super().__init__(url, **options)
        self.handlers = {}
        self.calls = {}  # By function id.
        self.results = {}  # By invocation id.
        self.said_messages = queue.Queue()
        self.changed = threading.Condition()
        self.numbers = itertools.count(1)
        self.end = None
        if reattach:
            self.send({"type": "reattach", **reattach})
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.registered = self.said("workerregistered")
        self.id = self.registered["worker_id"]

    # ---- Reading

    def _read(self):
        try:
            while True:
                message = self.receive(None)
                if message["type"] == "invokefunction":
                    self._called(Call(self, message))
                elif message["type"] == "invocationresult":
                    with self.changed:
                        self.results.setdefault(message["invocation_id"], []).append(message)
                        self.changed.notify_all()
                else:
                    self.said_messages.put(message)
        except (Closed, ConnectionClosed) as end:  # While reading, or while answering.
            with self.changed:
                self.end = end.code if isinstance(end, Closed) else 1006
                self.changed.notify_all()
            self.said_messages.put(None)

    def _called(self, call):
        with self.changed:
            self.calls.setdefault(call.function_id, []).append(call)
            self.changed.notify_all()
        handler = self.handlers.get(call.function_id, HELD)
        try:
            result = handler(call.data) if callable(handler) else handler
            if result is not HELD:
                call.answer(result)
        except Failure as failure:
            call._send({"error": failure.error})

    def _wait(self, condition, what, seconds=TIMEOUT_SECONDS):
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise TimeoutError(f"no {what}; calls {list(self.calls)}, closed {self.end}")

    def called(self, function_id):
        """The next call of `function_id` that the test has not seen yet."""
        self._wait(lambda: self.calls.get(function_id), f"call of {function_id}")
        with self.changed:
            return self.calls[function_id].pop(0)

    def all_called(self, function_id):
        """The data of every call of `function_id` that came so far and the test has not seen."""
        with self.changed:
            return [call.data for call in self.calls.pop(function_id, [])]

    def said(self, kind):
        """The next message of the node that is neither a call nor a result; it must be a `kind`."""
        message = self.said_messages.get(timeout=TIMEOUT_SECONDS)
        assert message is not None and message["type"] == kind, message
        return message

    def nothing_said(self):
        """Nothing was said up to now: asked behind a barrier."""
        self.barrier()
        assert self.said_messages.empty(), self.said_messages.get()

    def closed(self):
        """The code that the node closed with."""
        self._wait(lambda: self.end is not None, "close")
        return self.end

    # ---- Registering

    def serve(self, function_id, handler=HELD, **fields):
        self.handlers[function_id] = handler
        self.send({"type": "registerfunction", "id": function_id, **fields})
        self.barrier()

    def withdraw(self, function_id):
        self.send({"type": "unregisterfunction", "id": function_id})
        self.barrier()

    def trigger(self, trigger_type, function_id, config=None, trigger_id=None, **fields):
        """Registers a trigger and returns its id, once the node has taken it."""
        trigger_id = trigger_id or f"{trigger_type}-{function_id}-{next(self.numbers)}"
        message = {"type": "registertrigger", "id": trigger_id, "trigger_type": trigger_type}
        self.send({**message, "function_id": function_id, "config": config, **fields})
        self.barrier()
        return trigger_id

    def untrigger(self, trigger_id):
        self.send({"type": "unregistertrigger", "id": trigger_id})
        self.barrier()

    def provide(self, trigger_type, **fields):
        message = {"type": "registertriggertype", "id": trigger_type, "description": "of a test"}
        self.send({**message, **fields})
        self.barrier()

    # ---- Calling

    def invoke(self, function_id, data=None, **fields):
        """Sends a call and returns its id."""
        invocation_id = f"00000000-0000-4000-8000-{next(self.numbers):012}"
        message = {"type": "invokefunction", "invocation_id": invocation_id, "function_id": function_id}
        self.send({**message, "data": data, **fields})
        return invocation_id

    def answer(self, invocation_id):
        """The result message of a call. Others may be waited for at the same time."""
        self._wait(lambda: self.results.get(invocation_id), f"answer to {invocation_id}")
        with self.changed:
            return self.results[invocation_id].pop(0)

    def call(self, function_id, data=None, **fields):
        return self.answer(self.invoke(function_id, data, **fields))

    def result(self, function_id, **data):
        message = self.call(function_id, data)
        assert "error" not in message, message
        return message.get("result")

    def error(self, function_id, data=None, **fields):
        message = self.call(function_id, data, **fields)
        assert "error" in message, message
        return message["error"]

    def barrier(self):
        """Returns when the node has taken all earlier messages of this worker."""
        self.answer(self.invoke("engine::workers::register", {"runtime": "test"}))

    def set(self, stream, group, item, value):
        return self.result(
            "stream::set", stream_name=stream, group_id=group, item_id=item, data=value
        )

    def delete(self, stream, group, item):
        return self.result("stream::delete", stream_name=stream, group_id=group, item_id=item)

    def emit(self, stream, group, kind, data, item=None):
        at = {"stream_name": stream, "group_id": group, "type": kind, "data": data}
        return self.result("stream::send", **at, **({} if item is None else {"id": item}))
