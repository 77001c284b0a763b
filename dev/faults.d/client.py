"""A client of docs/protocol.md on Python's own library, for what no well-behaved client does: it reads slowly or not at all, and
says the same bytes again. One connection, frames as JSON."""

import base64
import json
import os
import socket
import ssl
import struct
import time

import system

# A Hello that waits for its turn, or for a partition that is not read yet, is answered within this.
PATIENCE_S = 20
REDIRECTS_MAX = 4
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# The certificate is the node's own making.
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


class Closed(Exception):
    """The connection has ended: with this close code (0: without one), after this Error frame."""

    def __init__(self, code, error):
        super().__init__(f"closed with {code}, {(error or {}).get('name', 'no error before it')}")
        self.code, self.error = code, error


def uuid7(ms):
    raw = bytearray(int(ms).to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    text = raw.hex()
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


def dm(one, other):
    return "dm:" + ":".join(sorted((one, other)))


class Connection:
    """`receive_bytes`: SO_RCVBUF, 0 for the kernel's choice. `source`: own address."""

    def __init__(self, place, tls=False, source=None, receive_bytes=0):
        host, port = place.rsplit(":", 1)
        host = host.strip("[]")
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.place, self.bytes, self.frames, self.last_error, self.ended = place, b"", [], None, None
        try:
            if receive_bytes:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            if source:
                self.socket.bind((source, 0))
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect((host, int(port)))
            if tls:
                self.socket = TLS.wrap_socket(self.socket)
            self._upgrade()
        except OSError:
            self.socket.close()
            raise

    def _upgrade(self):
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET /v1/ws HTTP/1.1\r\nHost: {self.place}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: hawser.v1+json\r\n\r\n").encode())
        head = b""
        # A byte at a time: what follows the head is not ours to read yet.
        while b"\r\n\r\n" not in head:
            byte = self.socket.recv(1)
            if not byte:
                raise ConnectionError("closed before the upgrade")
            head += byte
        if b" 101 " not in head:
            raise ConnectionError(head.split(b"\r\n")[0].decode())

    def close(self):
        self.socket.close()

    def send(self, frame):
        """Returns the text, which may be said again."""
        text = json.dumps(frame)
        self.say(text)
        return text

    def say(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.socket.sendall(b"\x81" + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def take(self, count=65_536):
        """Reads once; frames that are whole now are in `frames`. False: nothing came."""
        try:
            data = self.socket.recv(count)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return False
        except ConnectionError:
            data = b""
        self.bytes += data
        while self._message():
            pass
        if not data and self.ended is None:
            self.ended = Closed(0, self.last_error)
        return True

    def _message(self):
        """One message of the server's: never masked, never in fragments."""
        have = self.bytes
        if len(have) < 2:
            return False
        length, at = have[1] & 0x7F, 2
        if length >= 126:
            at = 4 if length == 126 else 10
            if len(have) < at:
                return False
            length = int.from_bytes(have[2:at], "big")
        if len(have) < at + length:
            return False
        opcode, data, self.bytes = have[0] & 0x0F, have[at:at + length], have[at + length:]
        if opcode == 8:
            self.ended = Closed(struct.unpack(">H", data[:2])[0] if data else 0, self.last_error)
        elif opcode == 1:
            frame = json.loads(data)
            if frame["type"] == "error":
                self.last_error = frame
            self.frames.append(frame)
        return True

    def next(self, seconds=PATIENCE_S):
        """The next frame, or `None` after so many seconds.

        Raises Closed once it has ended and every frame before was given."""
        until = time.monotonic() + seconds
        while not self.frames:
            if self.ended is not None:
                raise self.ended
            left = until - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            self.take()
        return self.frames.pop(0)

    def until(self, kind, seconds=PATIENCE_S, **fields):
        """The next frame of a kind with these fields; those before it are acknowledged and dropped."""
        end = time.monotonic() + seconds
        while (frame := self.next(max(0.0, end - time.monotonic()))) is not None:
            self.acknowledge(frame)
            if frame["type"] == kind and all(frame.get(key) == value for key, value in fields.items()):
                return frame
        raise TimeoutError(f"no {kind} within {seconds} s at {self.place}")

    def acknowledge(self, frame):
        if frame["type"] in ("deliver", "send_result", "receipt_update") and frame.get("offset", "0") != "0":
            self.send({"type": "ack", "offset": frame["offset"]})

    def ends(self, seconds=PATIENCE_S):
        """The code that it is closed with, whatever comes before; `None`: it lives."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.next(left)
        except Closed as closed:
            return closed.code
        return None

    def lives(self):
        """A Ping is answered."""
        try:
            self.send({"type": "ping", "client_time_ms": 1})
            self.until("pong", 10)
            return True
        except (Closed, OSError, TimeoutError):
            return False

    def greet(self, text):
        """Says a Hello; Welcome, or Redirect. Raises Closed where it is refused."""
        self.say(text)
        while (frame := self.next()) is not None:
            if frame["type"] in ("welcome", "redirect"):
                return frame
        raise TimeoutError(f"no answer to Hello at {self.place}")


def hello(token, device, **more):
    """As text."""
    return json.dumps({"type": "hello", "token": token, "device": device, "client": "dev-faults/1", **more})


def enter(place, text, **how):
    """A connection with a session, wherever a Hello's answers lead; and its Welcome."""
    for _ in range(REDIRECTS_MAX):
        connection = Connection(place, **how)
        answer = connection.greet(text)
        if answer["type"] == "welcome":
            return connection, answer
        connection.close()
        place = answer["url"].split("://", 1)[1].split("/", 1)[0]
    raise ConnectionError(f"{REDIRECTS_MAX} redirects lead nowhere")


def token(user, device):
    return system.cluster("token", user, device).strip()
