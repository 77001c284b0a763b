"""One fault beside load: what every fault has in common."""

import json
import time

import system
from timeline import Timeline, quantile

# Load runs for so long before the fault.
BEFORE_S = 6


class Run:
    """One fault on its way: load beside it and for some seconds after it, expectations, what came of them."""

    def __init__(self, name, options, seed, after_s, more=()):
        self.options, self.marks, self.after_s = options, {}, after_s
        self.found = {"fault": name, "seed": seed, "expectations": []}
        self.folder = options.scratch / f"{name}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.load = system.Load(options, seed, self.folder, more)
        time.sleep(BEFORE_S)

    def mark(self, name):
        self.marks[name] = time.time()
        return self.marks[name]

    def at(self, name):
        return self.marks[name]

    def expect(self, what, holds, measured, timed=False):
        """`timed`: about how long something took, which a busy machine decides; judged at full length only."""
        self.found["expectations"].append({"what": what, "holds": bool(holds), "measured": measured, "timed": timed})

    def finish(self):
        """The load ends; what holds for every fault is judged. The timeline of what happened."""
        time.sleep(self.after_s)
        self.samples, judged, report = self.load.finish()
        verdict = judged["verdict"]
        counts = verdict["counts"]
        lost = sum(counts.get(kind, 0) for kind in ("lost_delivery", "lost_history", "gap", "history_gap"))
        twice = sum(counts.get(kind, 0) for kind in ("duplicate", "two_results", "fencing", "refused_but_shown"))
        order = sum(counts.get(kind, 0) for kind in ("inversion", "sender_order", "offset_regressed", "cursor_regressed",
                                                     "mixed_replay"))
        self.found |= {
            "acknowledged": verdict["acknowledged"], "refused": verdict["refused"], "unknown": verdict["unknown"],
            "lost": lost, "duplicated": twice, "reordered": order, "counts": counts,
            "rows": verdict["rows"], "history": str(self.folder),
        }
        self.expect("0 lost, 0 duplicated, 0 reordered", judged["clean"], counts or "clean")
        self.expect("every Send had a final answer", verdict["unknown"] == 0, verdict["unknown"])
        self.expect("every chat was read back", verdict["swept"] == len(chats_of(self.folder)), verdict["swept"])
        self.report = report
        return Timeline(self.folder)

    def recovered(self, timeline, back, within_s):
        took = timeline.recovery(self.at(back))
        self.found["recovery_s"] = None if took is None else round(took, 2)
        self.expect(f"acknowledged within 2 s again, {within_s} s after its return", took is not None and took <= within_s,
                    self.found["recovery_s"], timed=True)

    def none_refused(self, timeline):
        refused = sum(m.failed is not None for m in timeline.messages.values())
        self.expect("no Send is refused", refused == 0, refused)

    def kept(self, timeline, begin, end):
        # 1000: the client's own, which was told to go to another gateway.
        closed = [code for code in timeline.closed(self.at(begin), self.at(end)) if code != 1000]
        self.expect("connections stay", not closed, f"{len(closed)} closed: {closed[:20]}" if closed else "none closed")


def chats_of(folder):
    with open(folder / "run.json", encoding="utf-8") as file:
        return json.load(file)["chats"]


def pick(options, short, full):
    return full if options.full else short


def delivery_s(messages):
    return [at - m.sent for m in messages for at in m.deliveries]


def owners(name):
    """By partition, the owner as a node knows it; `None`: nobody."""
    return json.loads(system.get(f"{system.admin(name)}/cluster"))["partitions"]


def settled(run, seconds=30):
    """Every partition has a living owner again, and every node says the same; how long that took."""
    begun = time.time()
    told = []
    while time.time() < begun + seconds:
        try:
            told = [owners(name) for name in system.names("gateway")]
        except OSError:
            # It starts.
            time.sleep(0.1)
            continue
        if told[0] and None not in told[0] and all(each == told[0] for each in told):
            return round(time.time() - begun, 2)
        time.sleep(0.1)
    run.expect("every partition has an owner again", False, told)
    return None


def balanced():
    """Every node says the same of who owns what, and all own as many partitions as the others, or one more or less."""
    everyone = system.names("gateway")
    try:
        told = [owners(name) for name in everyone]
    except OSError:
        return False
    counts = [told[0].count(name) for name in everyone]
    return all(each == told[0] for each in told) and sum(counts) == len(told[0]) and max(counts) - min(counts) <= 1


def wait(holds, seconds):
    """Seconds until it holds; `None`: it does not within so many."""
    begun = time.time()
    while time.time() < begun + seconds:
        if holds():
            return round(time.time() - begun, 2)
        time.sleep(0.1)
    return None


def resumed(run, timeline):
    p99 = quantile([took for gone, took in timeline.welcomes if gone >= run.at("down") - 1], 0.99)
    run.found["resumed_p99_s"] = p99
    run.expect("users are back within 10 s, p99", p99 is not None and p99 <= 10.0, p99, timed=True)
