"""A proxy in front of the stream port that breaks a node's promises on purpose: what stands between the
node and one of its subscribers drops, repeats, reorders, changes or withholds frames."""

import socket
import threading


def read_frame(source):
    """One frame of a server, as bytes; b"" at the end."""
    head = read_exactly(source, 2)
    if not head:
        return b""
    size = head[1] & 0x7F
    if size >= 126:
        more = read_exactly(source, 2 if size == 126 else 8)
        head += more
        size = int.from_bytes(more, "big")
    return head + read_exactly(source, size)


def read_exactly(source, size):
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def drop(frames, at):
    return frames[:at] + frames[at + 1 :]


def repeat(frames, at):
    return frames[: at + 1] + frames[at:]


def reorder(frames, at):
    return frames[:at] + [frames[at + 1], frames[at]] + frames[at + 2 :]


def change(frames, at):
    """Another count in the value, the frame as long as before."""
    frame = frames[at]
    place = frame.index(b'"n":') + 12
    digit = b"7" if frame[place : place + 1] != b"7" else b"3"
    return frames[:at] + [frame[:place] + digit + frame[place + 1 :]] + frames[at + 1 :]


class FaultyProxy:
    """Forwards to `port`. To the frames of its `victim`-th connection it does `fault`, which gets the first
    `span` frames, the `sync` included, and the place of the one to spoil. Without one it does nothing."""

    def __init__(self, port, fault=None, at=5, victims=(1,)):
        self.target, self.fault, self.at, self.victims = port, fault, at, victims
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def _accept(self):
        number = 0
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.sockets += [client, server]
            spoiled = self.fault is not None and number in self.victims
            number += 1
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            back = self._spoil if spoiled else self._pump
            threading.Thread(target=back, args=(server, client), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _spoil(self, server, client):
        try:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += read_exactly(server, 1)
            client.sendall(head)
            frames = []
            # Only what swaps two frames waits for the second: there may be none before the first is through.
            while len(frames) < self.at + (2 if self.fault is reorder else 1):
                frames.append(read_frame(server))
                if len(frames) < self.at:
                    client.sendall(frames[-1])
            for frame in self.fault(frames, self.at)[max(self.at - 1, 0) :]:
                client.sendall(frame)
        except OSError:
            return
        self._pump(server, client)
