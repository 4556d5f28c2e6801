"""A client in a process of its own, that can be killed: says when it has its `sync`, and reads on.

presence_client.py PORT PATH
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from raw import Raw  # noqa: E402

raw = Raw(int(sys.argv[1])).upgrade(sys.argv[2])
raw.socket.settimeout(None)
while True:
    print(raw.message().decode(), flush=True)
