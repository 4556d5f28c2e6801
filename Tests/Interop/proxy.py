"""A TCP proxy that can stop forwarding: what a peer sees whose network has gone, with its socket still open."""

import socket
import threading

import certificates


class Proxy:
    """Forwards connections to a port of loopback, until it is frozen."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        if port in certificates.secure_ports:
            certificates.secure_ports.add(self.port)
        self.running = threading.Event()
        self.running.set()
        self.sockets = []
        self.stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path="/"):
        return f"{'wss' if self.port in certificates.secure_ports else 'ws'}://127.0.0.1:{self.port}{path}"

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            node = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, node]
            for source, sink in ((client, node), (node, client)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source, sink):
        try:
            while data := source.recv(65536):
                self.running.wait()
                if self.stopped:
                    return
                sink.sendall(data)
            self.running.wait()
            if not self.stopped:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def freeze(self):
        """From now on nothing passes, neither bytes nor the end of a connection."""
        self.running.clear()

    def thaw(self):
        self.running.set()

    def close(self):
        self.stopped = True
        self.running.set()
        self.listener.close()
        certificates.secure_ports.discard(self.port)
        for each in self.sockets:
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
