"""Bytes on a socket: for peers that no WebSocket library would let one be."""

import os
import socket
import struct

import certificates
from secure import SecureSocket

TIMEOUT_SECONDS = 10

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\n"
    "Host: 127.0.0.1\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "\r\n"
)


def frame(payload, opcode=TEXT, final=True, masked=True, reserved=0, length=None):
    """A client's frame. The arguments allow what the standard forbids; `length` lies about the size."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if length is None else length
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + apply_mask(payload, mask)


def apply_mask(payload, mask):
    """XORs `payload` with the mask, as one number: a loop over bytes is slow here."""
    size = len(payload)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


class Ended(Exception):
    """The peer ended the connection without a close frame."""


class Raw:
    """A blocking TCP connection that can speak WebSocket, well or badly; over TLS where the port speaks it."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT_SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if port in certificates.secure_ports:
            self.socket = SecureSocket(self.socket, certificates.any_client(), "127.0.0.1")
        self.buffer = bytearray()

    def send(self, data):
        """Sends `data`; a peer that hung up meanwhile shows when reading."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _fill(self):
        try:
            piece = self.socket.recv(262144)
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise Ended
        self.buffer += piece

    def _take(self, size):
        while len(self.buffer) < size:
            self._fill()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def head(self):
        """The status line and headers of a response."""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        return self._take(self.buffer.index(b"\r\n\r\n") + 4).decode("latin-1")

    def status(self):
        """The status of a response, or 0 when the peer hung up without one."""
        try:
            return int(self.head().split(" ")[1])
        except Ended:
            return 0

    def upgrade(self, path="/"):
        self.send(HANDSHAKE.format(path=path).encode())
        status = self.status()
        if status == 0:
            raise Ended
        assert status == 101, f"the upgrade was answered with {status}"
        return self

    def frame(self):
        """The opcode and payload of the next frame, which must be whole, final and unmasked."""
        first, second = self._take(2)
        assert not second & 0x80, "a server masks nothing"
        assert first & 0x70 == 0, "no extension was agreed on"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._take(8))
        return first & 0x0F, self._take(size)

    def message(self):
        """The payload of the next text message; pings are left without an answer."""
        while True:
            opcode, payload = self.frame()
            if opcode == TEXT:
                return payload
            assert opcode == PING, f"opcode {opcode}: {payload!r}"

    def close_code(self):
        """Reads on until the close frame; its code, 1005 without one, 1006 when none comes."""
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == CLOSE:
                    return struct.unpack(">H", payload[:2])[0] if payload else 1005
        except Ended:
            return 1006

    def reset(self):
        """Ends the connection without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_end(self):
        """Reads until the peer ends the connection."""
        try:
            while True:
                self._fill()
                self.buffer.clear()
        except Ended:
            return

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def subscribed(port, path, count):
    """`count` clients of a stream port that have their state, connected in waves."""
    connections = []
    for start in range(0, count, 250):
        wave = [Raw(port) for _ in range(min(250, count - start))]
        for connection in wave:
            connection.send(HANDSHAKE.format(path=path).encode())
        for connection in wave:
            assert connection.status() == 101
            assert b'"sync"' in connection.message()
        connections += wave
    return connections
