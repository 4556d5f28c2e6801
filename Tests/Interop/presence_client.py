"""A client in a process of its own, that can be killed: says when it has its `sync`, and reads on.

presence_client.py PORT PATH
"""

import sys

from raw import Raw

raw = Raw(int(sys.argv[1])).upgrade(sys.argv[2])
raw.socket.settimeout(None)
while True:
    print(raw.message().decode(), flush=True)
