"""Calls of stream functions on a raw connection, and the settings of a store on disk."""

import json

from raw import frame


def store(folder, **more):
    return {"adapter": {"name": "kv", "config": {
        "store_method": "file_based", "file_path": str(folder), "segment_bytes": 65536, **more}}}


def invoke(number, function, data):
    return frame(json.dumps({
        "type": "invokefunction", "invocation_id": str(number), "function_id": function, "data": data}))


def answer(connection):
    while True:
        message = json.loads(connection.message())
        if message["type"] == "invocationresult":
            return message


def call(connection, function, **data):
    connection.send(invoke(0, function, data))
    return answer(connection)
