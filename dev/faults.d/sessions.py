"""F10, F11 and F13: readers that do not read, connections that are silently gone, and everybody who comes back at once."""

import argparse
import json
import random
import subprocess
import threading
import time

import client
import system
from attacks import Grown, places
from run import Run, balanced, delivery_s, paired_ratio, pick, resumed, wait
from timeline import quantile

MIB = 1 << 20


def total(family):
    return sum(system.metric(name, family) for name in system.names("gateway"))


def memory():
    """Resident bytes by gateway without the replay ring and the bodies, which have bounds of their own."""
    def apart(name):
        return sum(system.metric(name, family) for family in ("hawser_replay_ring_bytes", "hawser_body_bytes"))
    return {name: system.metric(name, "process_resident_memory_bytes") - apart(name) for name in system.names("gateway")}


class Memory(threading.Thread):
    """The most that each gateway had of it since."""

    def __init__(self):
        super().__init__(daemon=True)
        self.before, self.most, self.over = memory(), {}, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.5):
            try:
                for name, now in memory().items():
                    self.most[name] = max(now, self.most.get(name, 0))
            except OSError:
                continue

    def end(self):
        self.over.set()
        self.join()
        return self

    def holds(self):
        """G7's bound, and what allocators keep."""
        return self.most and all(most <= self.before[name] * 1.2 + 16 * MIB for name, most in self.most.items())

    def told(self):
        return {name: f"{self.before[name] / MIB:.0f} -> {most / MIB:.0f} MiB" for name, most in self.most.items()}


def judge_memory(run, windows):
    """Each by what there was when it began: a load that goes on fills tables with or without a fault."""
    windows = [window.end() for window in windows]
    run.found["memory"] = [window.told() for window in windows]
    run.expect("no node has more memory than 1.2 × before and 16 MiB, replay ring and bodies apart",
               windows and all(window.holds() for window in windows), run.found["memory"])


# --- F10 -----------------------------------------------------------------------------------------------------

# How fast a slow reader reads: 0 B/s into the kernel's own buffer, a byte a second, and 0 B/s with a window that is soon zero.
KINDS = {"nothing": (None, 0), "a byte a second": (1, 0), "zero window": (None, 2_048)}
PING_S = 10
LOST = "not recovered"


class Reader(threading.Thread):
    """Another device of a user of the load. `swift`: it reads and acknowledges as it comes; otherwise as its kind does."""

    def __init__(self, user, kind):
        super().__init__(daemon=True)
        self.user, self.kind, self.swift, self.over = user, kind, True, False
        self.bytes_per_s, self.receive_bytes = KINDS[kind]
        self.token = client.token(user, "slow")
        self.resume, self.offset, self.node, self.connection = None, None, None, None
        # By (chat, seq): the client_msg_id that was shown. The last seq of each chat.
        self.shown, self.last, self.troubles, self.closes, self.resumes = {}, {}, [], [], 0
        self.lag, self.asked, self.afresh = None, False, False
        self._enter()
        self.connection.until("caught_up")
        self.live_at = time.time()

    def _enter(self):
        more = {"resume_token": self.resume} if self.resume else {"live_only": True}
        if self.resume and self.offset:
            more["last_offset"] = self.offset
        first = next(iter(places().values()))
        text = client.hello(self.token, "slow", **more)
        self.connection, welcome = client.enter(first, text, receive_bytes=self.receive_bytes)
        self.node, self.resume = welcome["node"], welcome["resume_token"]
        if "resume_token" in more:
            self.resumes += 1
            if not welcome["recovered"]:
                self.troubles.append(LOST)
                self.connection.send({"type": "ack", "adopt": True})

    def run(self):
        ping_at = 0.0
        while not self.over:
            try:
                if self.afresh:
                    self.afresh = False
                    self._again()
                if time.monotonic() >= ping_at:
                    self.connection.socket.settimeout(1)
                    self.connection.send({"type": "ping", "client_time_ms": 0})
                    ping_at = time.monotonic() + PING_S
                if self.asked:
                    self.asked, ping_at = False, 0.0
                self._read()
            except client.Closed as closed:
                self.closes.append(closed.code)
                self._again()
                ping_at = 0.0
            except OSError as error:
                # It cannot be written to: what was sent before the end is still read.
                if self.swift:
                    self.closes.append(str(error))
                    self._again()
                ping_at = time.monotonic() + PING_S
        self.connection.close()

    def _again(self):
        self.connection.close()
        for _ in range(10):
            try:
                return self._enter()
            except (client.Closed, OSError) as error:
                self.troubles.append(str(error))
                time.sleep(1)
        self.over = True
        return None

    def _read(self):
        if not self.swift and self.bytes_per_s is None:
            time.sleep(0.2)
            return
        self.connection.socket.settimeout(0.2)
        self.connection.take(65_536 if self.swift else self.bytes_per_s)
        while self.connection.frames:
            self._frame(self.connection.frames.pop(0))
        if self.connection.ended is not None:
            raise self.connection.ended
        if not self.swift:
            time.sleep(1)

    def _frame(self, frame):
        self.resume = frame.get("resume_token") or self.resume
        if frame["type"] == "pong":
            self.lag = frame["lag"]
        if frame["type"] == "deliver":
            chat, seq = frame["chat"], int(frame["seq"])
            if (chat, seq) not in self.shown and seq < self.last.get(chat, 0):
                self.troubles.append(f"{chat}: {seq} after {self.last[chat]}")
            if self.shown.setdefault((chat, seq), frame["client_msg_id"]) != frame["client_msg_id"]:
                self.troubles.append(f"{chat}: two messages at {seq}")
            self.last[chat] = max(seq, self.last.get(chat, 0))
        if frame["type"] in ("deliver", "receipt_update") and frame["offset"] != "0":
            self.offset = frame["offset"]
            self.connection.send({"type": "ack", "offset": self.offset})

    def returns(self, afresh=False):
        """Reads again: where it was, or over a new connection, which resumes."""
        self.lag, self.afresh, self.swift = None, afresh, True

    def catches_up(self, seconds):
        """The server says that nothing waits for it any more."""
        until = time.time() + seconds
        while time.time() < until and not self.over:
            self.asked = True
            time.sleep(0.5)
            if self.lag == 0 and not self.afresh and self.connection.ended is None:
                return True
        return False


def readers(prefix, count):
    """So many for each kind at each node, at least; and as many as make up a hundredth of the load's sessions."""
    wanted = {(node, kind): count for node in system.names("gateway") for kind in KINDS}
    found, user = [], 0
    while any(wanted.values()) and user < 200:
        kinds = [kind for kind in KINDS if any(left for (_, of), left in wanted.items() if of == kind)]
        reader = Reader(f"{prefix}{user}", kinds[user % len(kinds)])
        user += 1
        if wanted.get((reader.node, reader.kind), 0) > 0:
            wanted[(reader.node, reader.kind)] -= 1
            reader.start()
            found.append(reader)
        else:
            reader.connection.close()
    if any(wanted.values()):
        raise system.Failed(f"no user for a slow reader: {wanted}")
    return found


def missed(timeline, slow):
    """Messages that were sent since a reader was there and acknowledged, and not shown to it: whose, and when of all."""
    prefix, members = timeline.run["prefix"], [set(chat["members"]) for chat in timeline.run["chats"]]
    lost = []
    for reader in slow:
        mine = int(reader.user.removeprefix(prefix))
        shown = {ident.replace("-", "") for ident in reader.shown.values()}
        for ident, message in timeline.messages.items():
            due = message.ok is not None and message.sent > reader.live_at and mine in members[message.chat]
            if due and ident not in shown:
                lost.append([reader.kind, ident, round(message.sent - reader.live_at, 2), message.chat])
    return lost


def f10(options, seed):
    """Readers at 0 B/s, at 1 B/s and with a zero window on every node, in pairs with and without: others do not notice."""
    pairs, each_s = pick(options, 2, 7), pick(options, 6, 20)
    heavy = argparse.Namespace(**(vars(options) | {"body": max(options.body, 2_000)}))
    run = Run("f10", heavy, seed, 2, ("--group-share", "0.5"))
    slow = readers(f"f{seed}x", max(1, options.connections // 100 // 9))
    run.found["slow_readers"], windows, behind, blocked, returned = len(slow), [], [], [], []
    closed = Grown("hawser_slow_readers_total")
    time.sleep(each_s)
    used = []
    run.mark("down")
    for pair in range(pairs):
        quiet = time.time()
        time.sleep(each_s)
        harmed = time.time()
        used.append(Memory())
        for reader in slow:
            reader.swift = False
        time.sleep(each_s)
        over = time.time()
        behind.append(int(total("hawser_lagging_sessions")))
        blocked.append(int(total("hawser_unsent_tails")))
        windows.append((quiet, harmed, over))
        if options.full and pair == pairs - 1:
            # Longer than bytes may wait for a socket: those of whom some do are closed, and resume.
            time.sleep(75)
        for number, reader in enumerate(slow):
            reader.returns(afresh=number % 2 == 1)
        returned.append(sum(reader.catches_up(60) for reader in slow))
        used[-1].end()
    run.mark("back")
    judge_memory(run, used)
    timeline = run.finish()
    for reader in slow:
        reader.returns()
        reader.catches_up(30)
        reader.over = True
    judge_f10(run, timeline, slow, windows, (behind, blocked, returned, closed.total()))
    return run.found


def judge_f10(run, timeline, slow, windows, told):
    behind, blocked, returned, closed = told
    ratio = paired_ratio(run, timeline, windows, "p99_beside_slow_readers_s")
    run.found |= {"lagging": behind, "sockets_full": blocked, "closed_as_slow": closed,
                  "resumed": sum(reader.resumes for reader in slow), "recovery_s": 0.0,
                  "closes": [code for reader in slow for code in reader.closes], "shown": [len(reader.shown) for reader in slow]}
    bound = 1.1 if run.options.full else 2.0
    run.expect(f"others' Send → Deliver p99 beside slow readers over without, median of {run.found['pairs']} pairs, ≤ {bound}",
               ratio is not None and ratio <= bound, ratio, timed=True)
    run.expect("some were behind each time, or their sockets full", all(map(max, behind, blocked)), [behind, blocked])
    run.expect("and have everything once they read again, half of them over a new connection", all(count == len(slow) for count in returned), returned)
    lost = missed(timeline, slow)
    run.expect("each is shown all that was sent since it came", not lost and all(reader.shown for reader in slow),
               [len(lost), *lost[:10]])
    troubles = [f"{reader.kind}: {trouble}" for reader in slow for trouble in reader.troubles]
    run.expect("in order, once, and every resume is recovered", not troubles, troubles[:5] or "no trouble")
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")


# --- F11 -----------------------------------------------------------------------------------------------------

HEARTBEAT_MS = 5_000


def f11(options, seed):
    """All packets of a tenth of the connections dropped silently, both ways: the node notices, and nobody loses anything."""
    run = Run("f11", options, seed, 5, ("--heartbeat-ms", str(HEARTBEAT_MS)))
    silence = system.Silence([int(place.rsplit(":", 1)[1]) for place in places().values()])
    used, choice = Memory(), random.Random(seed)
    within_s = 1.5 * HEARTBEAT_MS / 1000
    run.found |= {"noticed_s": [], "gone_s": [], "back_s": []}
    run.mark("down")
    try:
        for _ in range(pick(options, 1, 7)):
            everyone = int(total("hawser_sessions"))
            ports = silence.connections()
            ports = choice.sample(ports, max(1, len(ports) // 10))
            timeouts, opened = Grown("hawser_idle_timeouts_total"), Grown("hawser_sessions_opened_total")
            silence.drop(ports)
            run.found["noticed_s"].append(wait(lambda: timeouts.total() >= len(ports), within_s + 10))
            # Who has gone, with those who came back since apart.
            run.found["gone_s"].append(wait(lambda: total("hawser_sessions") - opened.total() <= everyone - len(ports), 15))
            run.expect("of those connections the nodes hold none, and no other is closed",
                       timeouts.total() == len(ports) and not silence.held(ports), [timeouts.by(), len(ports), silence.held(ports)])
            run.found["back_s"].append(wait(lambda: total("hawser_sessions") == everyone, 60))
            run.expect("nothing waits for a socket any more", total("hawser_unsent_tails") == 0, total("hawser_unsent_tails"))
    finally:
        silence.heal()
    run.mark("back")
    judge_memory(run, [used])
    timeline = run.finish()
    noticed = run.found["noticed_s"]
    run.expect(f"noticed within 1.5 heartbeats ({within_s} s) and a second", all(t is not None and t <= within_s + 1 for t in noticed),
               noticed, timed=True)
    run.expect("noticed at all, and their places are free again", None not in noticed + run.found["gone_s"], run.found["gone_s"])
    run.expect("their users are back", None not in run.found["back_s"], run.found["back_s"])
    closed = [code for code in timeline.closed(run.at("down"), run.at("back")) if code not in (0, 1000)]
    run.expect("no other connection ends", not closed, closed[:20])
    run.none_refused(timeline)
    resumed(run, timeline)
    return run.found


# --- F13 -----------------------------------------------------------------------------------------------------


class Accepts(threading.Thread):
    """Connections accepted by each gateway, and sessions over all, some times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.samples, self.over = [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            try:
                accepted = {}
                for name in system.names("gateway"):
                    accepted[name] = (time.time(), system.metric(name, "hawser_accepted_total"))
                self.samples.append((total("hawser_sessions"), accepted))
            except OSError:
                continue

    def end(self):
        """By gateway, (wall seconds, connections accepted) from when most sessions were gone."""
        self.over.set()
        self.join()
        most, cut = 0, None
        for at, (sessions, _) in enumerate(self.samples):
            if cut is None and sessions < most * 0.7:
                cut = at
            most = max(most, sessions)
        if cut is None:
            raise system.Failed(f"nobody was cut off: {most} sessions")
        # The one before may be the last of full number.
        seen = self.samples[max(0, cut - 1):]
        return {name: [accepted[name] for _, accepted in seen] for name in seen[0][1]}


def pace_of(samples):
    """Connections per second between a tenth and nine tenths of them, and how many there were; None: too few samples."""
    first, last = samples[0][1], samples[-1][1]
    count = last - first
    inner = [(at, accepted) for at, accepted in samples if first + count * 0.1 <= accepted <= first + count * 0.9]
    if len(inner) < 3:
        return None, count
    (begun, low), (done, high) = inner[0], inner[-1]
    return round((high - low) / (done - begun), 1), int(count)


def f13(options, seed):
    """Everybody but the load's own is cut off, and comes back at once, over all nodes: let in at the pace, bystanders unharmed."""
    # Three nodes, the load and the engines share two cores.
    pace = pick(options, 20, 100)
    cut = pick(options, 6, 10) * pace * len(system.names("gateway"))
    with system.settings(lambda _: [f"limits.accepts_per_second={pace}"]):
        # Sessions that move because nodes began are no part of the storm.
        wait(balanced, 60)
        run = Run("f13", options, seed, 2)
        # The ramp of those that are to be cut is no storm yet.
        ramp, calm = pace * len(system.names("gateway")) // 2, time.time()
        time.sleep(pick(options, 5, 20))
        calm_until, told = time.time(), run.folder / "storm.json"
        accepts = Accepts()
        run.mark("down")
        http = list(places().values())
        done = subprocess.run(
            [str(system.LOADGEN), "storm", "--cut", str(cut), "--bystanders", "20", "--pace", str(pace * len(http)), "--before-s", "4",
             "--json", str(told), "--", "--url", f"ws://{http[0]}/v1/ws", "--also", ",".join(http[1:]), "--api", f"http://{http[0]}",
             "--key", str(system.RUN / "keys"), "--prefix", f"s{seed}x", "--ramp", str(ramp), "--rate", "10",
             "--body", str(options.body), "--seed", str(seed), "--quiet"],
            capture_output=True, text=True, check=False)
        run.mark("back")
        if not told.exists():
            raise system.Failed(f"no storm: {done.stderr.strip()}")
        by_node = accepts.end()
        timeline = run.finish()
        stormed = json.loads(told.read_text(encoding="utf-8"))
        judge_f13(run, timeline, stormed, by_node, (pace, calm, calm_until))
        return run.found


def judge_f13(run, timeline, stormed, by_node, told):
    pace, calm, calm_until = told
    storm, findings = stormed["storm"], stormed["run"]["findings"]
    paces = {name: pace_of(samples) for name, samples in by_node.items()}
    longest = max(count for _, count in paces.values())
    # As hawser-loadgen storm states it for one node, here for the one with the most to take back.
    stated_s = round(longest / pace * 1.1 + 2, 1)
    cut_at = min(samples[0][0] for samples in by_node.values())
    before = quantile(delivery_s(timeline.sent(calm, calm_until)), 0.99)
    beside = quantile(delivery_s(timeline.sent(cut_at, cut_at + storm["back_s"])), 0.99)
    run.found |= {"pace": pace, "paces": paces, "cut": storm["cut"], "back": storm["back"], "resumed": storm["resumed"],
                  "back_s": storm["back_s"], "stated_s": stated_s, "p99_before_s": before, "p99_in_storm_s": beside,
                  "recovery_s": round(storm["back_s"], 2)}
    # Who moved meanwhile came back more than once.
    run.expect("all are back, resumed where they were", storm["back"] >= storm["cut"] and storm["back"] == storm["resumed"],
               [storm["cut"], storm["back"], storm["resumed"]])
    run.expect(f"each node lets in {pace} a second, ± 5 %",
               all(rate is not None and abs(rate / pace - 1) <= 0.05 for rate, _ in paces.values()), paces, timed=True)
    run.expect("and never more than that by a tenth", all(rate is None or rate <= pace * 1.1 for rate, _ in paces.values()), paces)
    run.expect("within the stated time", storm["back_s"] <= stated_s, [storm["back_s"], stated_s], timed=True)
    # Multiples of next to nothing say nothing.
    run.expect("connected clients' Send → Deliver p99 in the storm < 2 × before", beside and beside <= max(2 * before, 0.01),
               [before, beside], timed=True)
    run.expect("the storm's own clients lost nothing, saw nothing twice or out of order",
               not any(findings[kind] for kind in ("lost", "duplicated", "reordered", "unanswered")), findings)
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")
