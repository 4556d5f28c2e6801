"""uWebSockets through PyPI's socketify: /sub subscribes, what comes on /pub is published, /echo echoes."""

import sys

from socketify import App, CompressOptions, OpCode

app = App()
SETTINGS = {
    "compression": CompressOptions.DISABLED,
    "max_payload_length": 16 * 1024 * 1024,
    "idle_timeout": 120,
    "max_backpressure": 64 * 1024 * 1024,
}


def subscribe(ws):
    ws.subscribe("all")


def publish(ws, message, opcode):
    app.publish("all", message, opcode)


def echo(ws, message, opcode):
    ws.send(message, opcode)


app.ws("/sub", {**SETTINGS, "open": subscribe})
app.ws("/pub", {**SETTINGS, "message": publish})
app.ws("/echo", {**SETTINGS, "message": echo})
app.listen(int(sys.argv[1]))
app.run()
