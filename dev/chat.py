#!/usr/bin/env python3
"""alice tells bob something, each through a node of their own: `dev/cluster chat`. Python's own library is enough.

    dev/chat.py HOST:PORT ALICES_TOKEN HOST:PORT BOBS_TOKEN [--every S] [--for S]

Prints what each message took: until the log had it (queued), until it was stored (sent), until bob had it (delivered).
With --every it goes on, one message each so many seconds, and says what the nodes answer meanwhile; sends an answer with
a retry hint again under the same id, and reconnects. Exit status 1 when something that was sent did not arrive once and
in order.
"""
import argparse, base64, json, os, socket, struct, sys, threading, time

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("alice"), args.add_argument("alice_token"), args.add_argument("bob"), args.add_argument("bob_token")
args.add_argument("--every", type=float, default=0.2)
args.add_argument("--for", dest="seconds", type=float, default=2)
args.add_argument("--patience", type=float, default=90, help="how long to wait for the last ones, seconds")
args = args.parse_args()
start, lock = time.time(), threading.Lock()


def say(*words):
    with lock:
        print("%7.2f" % (time.time() - start), *words, flush=True)


def uuid7(ms):
    raw = bytearray(int(ms).to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    h = raw.hex()
    return "-".join([h[:8], h[8:12], h[12:16], h[16:20], h[20:]])


class Session:
    """One user's: reconnects with its resume token, as docs/protocol.md says."""

    def __init__(self, place, token, device, on_frame):
        self.place, self.token, self.device, self.on_frame = place, token, device, on_frame
        self.resume, self.offset, self.live, self.sock = "", None, threading.Event(), None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                self.once()
            except (OSError, EOFError, ValueError) as error:
                if self.live.is_set():
                    say(self.device, "lost its connection:", error)
            self.live.clear()
            time.sleep(0.5)

    def once(self):
        host, port = self.place.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), timeout=5)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(("GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Protocol: hawser.v1+json\r\n\r\n" % (self.place, key)).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(1) or self.gone()
        if b" 101 " not in head:
            raise ValueError(head.split(b"\r\n")[0].decode())
        self.sock.settimeout(None)
        hello = {"type": "hello", "token": self.token, "device": self.device, "client": "dev-chat/1"}
        hello |= {"resume_token": self.resume} if self.resume else {"live_only": True}
        if self.resume and self.offset is not None:
            hello["last_offset"] = self.offset
        self.send(hello)
        threading.Thread(target=self.pings, args=(self.sock,), daemon=True).start()
        while True:
            frame = json.loads(self.read())
            kind = frame["type"]
            self.resume = frame.get("resume_token") or self.resume
            if kind == "welcome" and not frame["recovered"]:
                self.offset = None
                self.send({"type": "ack", "adopt": True})
            if kind == "caught_up":
                self.live.set()
            self.on_frame(self, frame)
            if kind in ("deliver", "send_result", "receipt_update") and frame.get("offset"):
                self.offset = frame["offset"]
                self.send({"type": "ack", "offset": frame["offset"]})

    def pings(self, sock):
        while sock is self.sock:
            time.sleep(2)
            try:
                self.send({"type": "ping", "client_time_ms": int(time.time() * 1000)})
            except OSError:
                return

    def gone(self):
        raise EOFError("closed")

    def exactly(self, count):
        data = b""
        while len(data) < count:
            data += self.sock.recv(count - len(data)) or self.gone()
        return data

    def read(self):
        text = b""
        while True:
            first, length = self.exactly(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.exactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.exactly(8))
            data = self.exactly(length)
            if first & 0x0F == 8:
                raise EOFError("close %d %s" % (struct.unpack(">H", data[:2])[0], data[2:].decode()) if data else "close")
            if first & 0x0F in (0, 1):
                text += data
                if first & 0x80:
                    return text

    def send(self, frame):
        data, mask = json.dumps(frame).encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        with lock:
            self.sock.sendall(b"\x81" + size + mask + masked)


sent, told, got, order = {}, {}, {}, []


def alice_hears(session, frame):
    kind, id = frame["type"], frame.get("client_msg_id")
    if kind == "queued" and id in sent:
        told.setdefault(id, {}).setdefault("queued", time.time() - sent[id][1])
    elif kind == "send_result" and id in sent:
        if frame["error"] == 0:
            told.setdefault(id, {}).setdefault("sent", time.time() - sent[id][1])
        else:
            again(session, id, frame)
    elif kind == "error":
        if id in sent:
            again(session, id, frame)
        else:
            say("alice is told", frame["name"], frame["text"])
    elif kind == "pong" and (frame["lag"] or frame.get("ingest_lag_ms", 0) > 1000):
        say("pong: lag", frame["lag"], "ingest_lag_ms", frame.get("ingest_lag_ms"))


def again(session, id, frame):
    wait = frame.get("retry_after_ms", 0) / 1000 * (1 + int.from_bytes(os.urandom(1), "big") / 256)
    late = time.time() - sent[id][2]
    say("refused after %.0f ms: %s, again in %.1f s (%s)" % (late * 1000, frame["name"], wait, frame["text"]))
    if wait:
        threading.Timer(wait, resend, (session, id)).start()


def resend(session, id):
    session.live.wait()
    try:
        frame, first, _ = sent[id]
        sent[id] = (frame, first, time.time())
        session.send(frame | {"retry": True})
    except OSError:
        pass


def bob_hears(session, frame):
    if frame["type"] == "deliver" and frame.get("client_msg_id") in sent:
        id = frame["client_msg_id"]
        got.setdefault(id, []).append(time.time() - sent[id][1])
        if len(got[id]) == 1 or not frame["replayed"]:
            order.append((int(frame["seq"]), id))


alice = Session(args.alice, args.alice_token, "laptop", alice_hears)
bob = Session(args.bob, args.bob_token, "phone", bob_hears)
alice.live.wait(20) and bob.live.wait(20) or sys.exit("chat: no session within 20 s")
say("alice at", args.alice, "and bob at", args.bob, "are connected")
end = time.time() + args.seconds
while True:
    id = uuid7(time.time() * 1000)
    frame = {"type": "send", "client_msg_id": id, "chat": "dm:alice:bob", "body": "message %d" % (len(sent) + 1)}
    sent[id] = (frame, time.time(), time.time())
    try:
        alice.live.wait() and alice.send(frame)
    except OSError:
        pass
    if time.time() >= end:
        break
    time.sleep(args.every)
until = time.time() + args.patience
looked = time.time()
while time.time() < until and any(id not in got or "sent" not in told.get(id, {}) for id in sent):
    time.sleep(0.1)
    if time.time() - looked > 1:  # what no answer came for is asked again, under the same id, some at a time
        looked = time.time()
        silent = [id for id in sent if "sent" not in told.get(id, {}) and time.time() - sent[id][2] > 15]
        [resend(alice, id) for id in silent[:20]]


def spread(times):
    times = sorted(times)
    return "p50 %.0f ms, p99 %.0f ms, max %.0f ms" % tuple(
        1000 * times[min(len(times) - 1, int(len(times) * q))] for q in (0.5, 0.99, 1)) if times else "none"


say(len(sent), "messages")
say("queued    ", spread([t["queued"] for t in told.values() if "queued" in t]))
say("sent      ", spread([t["sent"] for t in told.values() if "sent" in t]))
say("delivered ", spread([t[0] for t in got.values()]))
lost = [id for id in sent if "sent" in told.get(id, {}) and id not in got]
unanswered = [id for id in sent if "sent" not in told.get(id, {})]
first = {}
for seq, id in order:
    first.setdefault(id, seq)
seqs = list(first.values())
inversions = sum(a > b for a, b in zip(seqs, seqs[1:]))
twice = sum(len({s for s, i in order if i == id}) > 1 for id in got)
say("lost", len(lost), " without an answer", len(unanswered), " twice", twice, " out of order", inversions)
sys.exit(1 if lost or unanswered or twice or inversions else 0)
