"""TLS on a socket, for tests that send and read in several threads, and that look at the bytes on the wire."""

import contextlib
import socket
import ssl
import threading
import urllib.parse

import certificates


class SecureSocket:
    """A client's TLS over a connected socket. Other than those of `ssl` it may be read and written at a time."""

    def __init__(self, connected, context, host, session=None):
        self.socket = connected
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host, session=session)
        self.lock = threading.Lock()  # Of the TLS object,
        self.sending = threading.Lock()  # and of the order of what it writes.
        self.shake_hands()

    def shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                self.flush()
                return
            except ssl.SSLWantReadError:
                self.flush()
                self._fill()
            except ssl.SSLError:
                self.flush()  # The alert.
                raise

    def flush(self):
        with self.sending:
            with self.lock:
                data = self.outgoing.read()
            if data:
                self.socket.sendall(data)

    def _fill(self):
        data = self.socket.recv(65536)
        with self.lock:
            self.incoming.write(data) if data else self.incoming.write_eof()

    def recv(self, size):
        """All plaintext that is there, maybe more than `size`, so that a selector tells of the rest. Nothing at the end."""
        found = bytearray()
        while True:
            try:
                with self.lock:
                    while piece := self.tls.read(size):
                        found += piece
                return bytes(found)
            except ssl.SSLWantReadError:
                if found:
                    return bytes(found)
                self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return bytes(found)
            except ssl.SSLError as error:
                raise ConnectionResetError(str(error)) from None

    def sendall(self, data):
        with self.sending:
            with self.lock:
                self.tls.write(data)
                sealed = self.outgoing.read()
            self.socket.sendall(sealed)

    send = sendall

    def goodbye(self):
        """Sends close_notify, and leaves the socket open."""
        with self.lock, contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def __getattr__(self, name):
        """All else is the socket's own business."""
        return getattr(self.socket, name)


def secured(url, options):
    """A URL and options for `websockets`, whose own TLS may not be read and written by two threads at a time."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "wss" or "ssl" in options:
        return url, options
    connected = socket.create_connection((parts.hostname, parts.port), 10)
    connected.settimeout(None)
    tls = SecureSocket(connected, certificates.any_client(), parts.hostname)
    return url.replace("wss:", "ws:", 1), {**options, "sock": tls}
