"""F20 and F24: what was captured is said again, and limits that somebody tries to get around, on every edge node."""

import json
import ssl
import threading
import time

import client
import system
from run import Run, balanced, pick, wait

# Nodes tell each other of their guests over the log, every 5 s where one may have been missed (ADR 21); on a busy machine.
DISPLACED_S = 15


def places(tls=False):
    """By gateway, where its sessions are opened."""
    kind = "wss" if tls else "http"
    return {name: system.config(name)["listen"][kind][0] for name in system.names("gateway")}


class Grown:
    """How much a counter of each gateway has grown since."""

    def __init__(self, family):
        self.family = family
        self.before = {name: system.metric(name, family) for name in system.names("gateway")}

    def by(self):
        return {name: int(system.metric(name, self.family) - before) for name, before in self.before.items()}

    def total(self):
        return sum(self.by().values())


def live(place, user, device, **more):
    """A session of a client without a disk, and the node that holds it."""
    text = client.hello(client.token(user, device), device, live_only=True, **more)
    connection, welcome = client.enter(place, text)
    connection.until("caught_up")
    return connection, welcome["node"]


# --- F20 -----------------------------------------------------------------------------------------------------


class Capture:
    """A victim's session, and the bytes of its Hello and of one of its Sends; a friend who got that."""

    def __init__(self, prefix):
        self.user, self.friend_name = prefix + "victim", prefix + "friend"
        first = next(iter(places().values()))
        self.friend, _ = live(first, self.friend_name, "phone")
        self.token = client.token(self.user, "phone")
        self.hello = client.hello(self.token, "phone", live_only=True)
        self.victim, self.home = self.come_back()
        self.chat = client.dm(self.user, self.friend_name)
        self.id = client.uuid7(time.time() * 1000)
        frame = {"type": "send", "client_msg_id": self.id, "chat": self.chat, "body": "pay once"}
        self.send = self.victim.send(frame)
        self.forged = json.dumps(frame | {"body": "pay twice"})
        self.result = self.place_of(self.victim.until("send_result", client_msg_id=self.id))
        self.friend.until("deliver", client_msg_id=self.id)

    def come_back(self):
        connection, welcome = client.enter(next(iter(places().values())), self.hello)
        connection.until("caught_up")
        return connection, welcome["node"]

    @staticmethod
    def place_of(result):
        return {key: result[key] for key in ("error", "message_id", "seq", "ordinal", "stored_ts_ms")}

    def replayed_sends(self, connection):
        """What a captured Send is answered with from there, and one that has its id and other words."""
        answers = []
        for text in (self.send, self.forged):
            connection.say(text)
            answers.append(self.place_of(connection.until("send_result", client_msg_id=self.id)))
        return answers

    def heard(self):
        """What the friend is shown: the bodies of the captured id's messages."""
        bodies = {}
        while (frame := self.friend.next(2)) is not None:
            self.friend.acknowledge(frame)
            if frame["type"] == "deliver" and frame["client_msg_id"] == self.id:
                bodies[frame["seq"]] = frame["body"]
        return bodies

    def stored(self):
        """Bodies that history has under the captured id."""
        self.friend.send({"type": "sync", "sync_id": 1, "chat": self.chat})
        page = self.friend.until("sync_page", sync_id=1)
        return [record["body"] for record in page["records"] if record["client_msg_id"] == self.id]


def other_devices(run, capture):
    """The captured token with another device's name, at every node."""
    refused, told = Grown("hawser_device_mismatch_total"), {}
    for name, place in places().items():
        connection = client.Connection(place)
        try:
            text = client.hello(capture.token, "tablet", live_only=True, redirect_never=True)
            told[name] = connection.greet(text)["type"]
        except client.Closed as closed:
            told[name] = [closed.code, (closed.error or {}).get("name")]
        connection.close()
    run.expect("the token opens a session only for its own device: device_mismatch and 4002 at every node",
               all(each == [4002, "device_mismatch"] for each in told.values()), told)
    run.expect("each is counted", all(count == 1 for count in refused.by().values()), refused.by())
    run.expect("and the device's own session does not notice", capture.victim.lives(), "")


def displaced_in(connection):
    """Seconds until it is closed, and its code."""
    begun = time.monotonic()
    code = connection.ends(DISPLACED_S)
    return round(time.monotonic() - begun, 2), code


def replay(run, capture, name, guest):
    """The whole Hello again at a node: the device's session gives way, what is sent again has the same result."""
    displaced, where = Grown("hawser_sessions_displaced_total"), "another node" if guest else "its node"
    text, key = capture.hello, f"displaced_at_{where.replace(' ', '_')}_s"
    run.found.setdefault(key, [])
    if guest:
        text = json.dumps(json.loads(text) | {"redirect_never": True})
    connection, welcome = client.enter(places()[name], text)
    connection.until("caught_up")
    run.expect(f"a replay at {where} is served there", welcome["node"] == name, welcome["node"])
    took, code = displaced_in(capture.victim)
    run.found[key].append(took)
    run.expect(f"a replay at {where} displaces the device's session with 4301", code == 4301, code)
    run.expect("which is counted where that was", displaced.by()[capture.home] == 1 and displaced.total() == 1, displaced.by())
    answers = capture.replayed_sends(connection)
    run.expect(f"a Send replayed from {where} has the first result", all(each == capture.result for each in answers),
               {"first": capture.result, "then": answers})
    # The device comes back, and the replay is out.
    capture.victim.close()
    capture.victim, capture.home = capture.come_back()
    took, code = displaced_in(connection)
    run.found[key].append(took)
    run.expect(f"and the device that comes back displaces the replay at {where}", code == 4301, code)
    run.expect("which is counted there", displaced.by()[name] == (1 if guest else 2) and displaced.total() == 2, displaced.by())
    connection.close()


def f20(options, seed):
    """A captured token and a captured Send, said again at every node: one session, one message."""
    run = Run("f20", options, seed, 2)
    run.mark("down")
    for turn in range(pick(options, 1, 10)):
        capture = Capture(f"c{seed}t{turn}x")
        other_devices(run, capture)
        replay(run, capture, capture.home, guest=False)
        for name in places():
            if name != capture.home:
                replay(run, capture, name, guest=True)
        run.expect("the receiver was shown it once", not capture.heard(), "nothing came after the first")
        run.expect("and history has it once, as it was first said", capture.stored() == ["pay once"], capture.stored())
        capture.victim.close()
        capture.friend.close()
    run.mark("back")
    timeline = run.finish()
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")
    return run.found


# --- F24 -----------------------------------------------------------------------------------------------------

# Low, so that seconds are enough to see them kept.
SENDS_PER_S, SENDS_BURST = 5, 20
OPENS_PER_S, OPENS_BURST, OPEN_AT_ONCE = 2, 6, 8
DEVICES = 5
# One session's Sends before it is left for the next; below what may be in flight.
SENDS_EACH = 30
# Documentation's addresses (RFC 5737, RFC 3849): the nodes', one customer's in each family, and others'.
NODE_V4, CROWD_V4, OTHER_V4 = "198.51.100.1", ["198.51.100.2"], "198.51.100.3"
NODE_V6, OTHER_V6 = "2001:db8:24::1", "2001:db8:24:2::a"
CROWD_V6 = ["2001:db8:24:1::a", "2001:db8:24:1::b", "2001:db8:24:1:ffff::c"]


def tightened(name):
    port = system.config(name)["listen"]["wss"][0].rsplit(":", 1)[1]
    listen = [f"127.0.0.1:{port}", f"{NODE_V4}:{port}", f"[{NODE_V6}]:{port}"]
    return [f"session.sends_per_second={SENDS_PER_S}", f"session.sends_burst={SENDS_BURST}",
            f"limits.per_address={OPEN_AT_ONCE}", f"limits.per_address_per_second={OPENS_PER_S}",
            f"limits.per_address_burst={OPENS_BURST}", "listen.wss=" + ",".join(listen)]


class Witness(threading.Thread):
    """Another user who sends once a second, each time over the same session: nobody's limits are its own."""

    def __init__(self, prefix):
        super().__init__(daemon=True)
        self.connection, self.node = live(next(iter(places().values())), prefix + "witness", "phone")
        self.chat, self.answers, self.over = client.dm(prefix + "witness", prefix + "friend"), [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(1):
            ident = client.uuid7(time.time() * 1000)
            try:
                self.connection.send({"type": "send", "client_msg_id": ident, "chat": self.chat, "body": "as always"})
                self.answers.append(self.connection.until("send_result", client_msg_id=ident)["error"])
            except (client.Closed, OSError, TimeoutError) as error:
                self.answers.append(str(error))
                return

    def end(self):
        self.over.set()
        self.join()
        self.connection.close()
        return self.answers


def sends(connection, chat):
    """As many as one session tries; how many were accepted, and how many refused for their rate."""
    waiting, accepted, refused = set(), 0, 0
    try:
        for _ in range(SENDS_EACH):
            ident = client.uuid7(time.time() * 1000)
            waiting.add(ident)
            connection.send({"type": "send", "client_msg_id": ident, "chat": chat, "body": "again"})
        while waiting and (frame := connection.next()) is not None:
            connection.acknowledge(frame)
            if frame.get("client_msg_id") in waiting and frame["type"] in ("send_result", "error"):
                waiting.discard(frame["client_msg_id"])
                code = frame["error"] if frame["type"] == "send_result" else frame["code"]
                accepted, refused = accepted + (code == 0), refused + (code == 40)
    except (client.Closed, OSError):
        pass
    return accepted, refused


def evade(user, seconds, nodes):
    """One user's Sends over many devices and reconnects, at these places in turn (`None`: wherever redirects lead)."""
    tokens = {f"device{number}": client.token(user, f"device{number}") for number in range(DEVICES)}
    accepted = refused = sessions = 0
    begun, chat = time.monotonic(), client.dm(user, user + "friend")
    while time.monotonic() < begun + seconds:
        device = f"device{sessions % DEVICES}"
        place = nodes[sessions % len(nodes)] if nodes else next(iter(places().values()))
        text = client.hello(tokens[device], device, live_only=True, redirect_never=bool(nodes))
        connection, _ = client.enter(place, text)
        connection.until("caught_up")
        some, more = sends(connection, chat)
        accepted, refused, sessions = accepted + some, refused + more, sessions + 1
        connection.close()
        time.sleep(0.05)
    return {"accepted": accepted, "refused": refused, "sessions": sessions, "seconds": round(time.monotonic() - begun, 1)}


def users_rate(run, seed, seconds):
    everywhere = list(places().values())
    limited = Grown("hawser_rate_limited_total")
    for what, nodes, count in (("devices and reconnects", None, 1), (f"{len(everywhere)} nodes in turn", everywhere, len(everywhere))):
        told = evade(f"r{seed}x{count}", seconds, nodes)
        # A node that does not know a user begins with a second's worth; what is earned is earned at each (ADR 22).
        most = count * (SENDS_PER_S * told["seconds"] + (SENDS_BURST if count == 1 else SENDS_PER_S))
        told["most"] = round(most)
        run.found[what] = told
        run.expect(f"one user's accepted Sends over {what}: its rate and its burst, and no more",
                   0 < told["accepted"] <= most and told["refused"] > 0, told)
        run.expect(f"and no less than its rate, over {what}", told["accepted"] >= SENDS_PER_S * told["seconds"] * 0.5, told, timed=True)
    run.expect("refusals are counted", limited.total() > 0, limited.by())


def opened(place, source):
    """A TLS connection from there, or `None`: it was closed before TLS."""
    try:
        return client.Connection(place, tls=True, source=source)
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return None


def address_rate(run, kind, node, place, crowd, other, seconds):
    """One customer opens connections as fast as it can, from all its addresses, and leaves each at once."""
    rate, total = Grown("hawser_refused_address_rate_total"), Grown("hawser_refused_address_total")
    let_in = tried = 0
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        connection = opened(place, crowd[tried % len(crowd)])
        tried += 1
        if connection:
            let_in += 1
            connection.close()
        if tried == OPENS_BURST * 3:
            witness = opened(place, other)
            run.expect(f"{kind}: another customer is let in meanwhile", witness is not None, tried)
            if witness:
                witness.close()
    took = time.monotonic() - begun
    most = OPENS_BURST + OPENS_PER_S * took + 1
    told = {"tried": tried, "let_in": let_in, "most": round(most), "seconds": round(took, 1), "addresses": len(crowd)}
    run.found[f"opened over {kind}"] = told
    run.expect(f"{kind}: connections of one customer are let in at its rate, whatever it closes and opens",
               OPENS_BURST <= let_in <= most and tried > let_in, told)
    run.expect(f"{kind}: the others are closed before TLS and counted", rate.by()[node] == tried - let_in, rate.by())
    # As many as it may have, at the rate at which it gets them.
    held, until = [], time.monotonic() + OPEN_AT_ONCE / OPENS_PER_S * 3
    while time.monotonic() < until and total.total() == 0:
        connection = opened(place, crowd[len(held) % len(crowd)])
        held += [connection] if connection else []
        time.sleep(0.3)
    run.expect(f"{kind}: and one customer has so many at once, and no more",
               len(held) == OPEN_AT_ONCE and total.by()[node] > 0, {"held": len(held), "refused": total.by()})
    for connection in held:
        connection.close()


def f24(options, seed):
    """One user's rate around devices, reconnects and nodes; one customer's connections around addresses of its /64."""
    seconds = pick(options, 8, 60)
    with system.addresses(NODE_V4, *CROWD_V4, OTHER_V4, NODE_V6, *CROWD_V6, OTHER_V6), system.settings(tightened):
        wait(balanced, 60)
        run = Run("f24", options, seed, 2)
        witness = Witness(f"w{seed}x")
        run.mark("down")
        users_rate(run, seed, seconds)
        node = witness.node
        port = places(tls=True)[node].rsplit(":", 1)[1]
        address_rate(run, "IPv4", node, f"{NODE_V4}:{port}", CROWD_V4, OTHER_V4, seconds)
        address_rate(run, "a /64", node, f"[{NODE_V6}]:{port}", CROWD_V6, OTHER_V6, seconds)
        answers = witness.end()
        run.expect("another user is not refused once", answers and not any(answers), answers)
        run.mark("back")
        timeline = run.finish()
        run.none_refused(timeline)
        run.kept(timeline, "down", "back")
        return run.found
