"""Presence on the published SDK: who is in a room is a stream that join and leave handlers keep.

    presence_worker.py URL

An auth function names the user, a join trigger refuses one of them and adds the others to the stream
`presence`, a leave trigger takes them out, and a stream trigger with a condition writes who came to the
stream `arrivals`. Each handler tells on standard output what it was given.
"""

import json
import sys

import iii

client = None


def write(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


async def trigger(function_id, **payload):
    return await client.trigger_async({"function_id": function_id, "payload": payload})


async def on_auth(data):
    write("auth", data=data)
    return {"context": {"name": data["query_params"]["user"][0]}}


async def on_join(data):
    write("join", data=data)
    user = data["context"]["name"]
    if user == "mallory":
        return {"unauthorized": True}
    at = {"stream_name": "presence", "group_id": data["group_id"], "item_id": user}
    await trigger("stream::set", **at, data={"name": user, "online": True})
    return {}


async def on_leave(data):
    write("leave", data=data)
    at = {"stream_name": "presence", "group_id": data["group_id"]}
    await trigger("stream::delete", **at, item_id=data["context"]["name"])


async def is_arrival(data):
    write("condition", data=data)
    return data["event"]["type"] == "create"


async def on_change(data):
    write("change", data=data)
    at = {"stream_name": "arrivals", "group_id": data["groupId"], "item_id": data["id"]}
    await trigger("stream::set", **at, data={"seen": data["event"]["data"]["name"]})


def main():
    global client
    options = iii.InitOptions(worker_name="presence", otel={"enabled": False})
    client = iii.register_worker(sys.argv[1], options)
    for function_id, handler in {
        "onAuth": on_auth,
        "onJoin": on_join,
        "onLeave": on_leave,
        "isArrival": is_arrival,
        "onChange": on_change,
    }.items():
        client.register_function(function_id, handler)
    for kind, function_id in {"stream:join": "onJoin", "stream:leave": "onLeave"}.items():
        config = {"stream_name": "presence"}
        client.register_trigger({"type": kind, "function_id": function_id, "config": config})
    config = {"stream_name": "presence", "condition_function_id": "isArrival"}
    client.register_trigger({"type": "stream", "function_id": "onChange", "config": config})
    client.trigger({"function_id": "stream::list_all", "payload": {}})  # All is registered.
    write("ready")
    for line in sys.stdin:  # What was told so far is all that there was.
        client.trigger({"function_id": "stream::list_all", "payload": {}})
        write("marked", mark=line.strip())


main()
