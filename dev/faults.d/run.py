"""One fault beside load: what every fault has in common."""

import json
import time

import system
from timeline import Timeline, median, quantile

# Load runs for so long before the fault.
BEFORE_S = 6


class Run:
    """One fault on its way: load beside it and for some seconds after it, expectations, what came of them."""

    def __init__(self, name, options, seed, after_s, more=(), begins_s=60):
        self.options, self.marks, self.after_s = options, {}, after_s
        self.found = {"fault": name, "seed": seed, "expectations": []}
        self.folder = options.scratch / f"{name}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.load = system.Load(options, seed, self.folder, more, begins_s)
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
        closed = timeline.cut_off(self.at(begin), self.at(end))
        self.expect("connections stay", not closed, f"{len(closed)} closed: {closed[:20]}" if closed else "none closed")


def chats_of(folder):
    with open(folder / "run.json", encoding="utf-8") as file:
        return json.load(file)["chats"]


def pick(options, short, full):
    return full if options.full else short


def delivery_s(messages):
    return [at - m.sent for m in messages for at in m.deliveries]


def paired_ratio(run, timeline, windows, beside):
    """The median ratio of p99 with a fault over without, each window (quiet from, harmed from, over); told under `beside`."""
    ratios, without, harmed_s = [], [], []
    for quiet, harmed, over in windows:
        good = quantile(delivery_s(timeline.sent(quiet, harmed)), 0.99)
        bad = quantile(delivery_s(timeline.sent(harmed, over)), 0.99)
        if good and bad:
            ratios.append(bad / good)
            without.append(good)
            harmed_s.append(bad)
    ratio = median(ratios)
    run.found |= {"pairs": len(ratios), "ratio": ratio, "spread": [min(ratios, default=None), max(ratios, default=None)],
                  "p99_s": median(without), beside: median(harmed_s)}
    return ratio


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


def divided(run, seconds=30):
    """Every partition of chat-messages is ingested by one process; how long that took."""
    partitions = system.config("ingest-1")["log"]["partitions"]
    begun, told = time.time(), []
    while time.time() < begun + seconds:
        try:
            told = [system.metric(name, "hawser_ingest_partitions_owned") for name in system.names("ingest")]
        except OSError:
            # It starts.
            time.sleep(0.1)
            continue
        if sum(told) == partitions and max(told) - min(told) <= 1:
            return round(time.time() - begun, 2)
        time.sleep(0.1)
    run.expect("ingests divide the partitions among them", False, told)
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


def wait(holds, seconds, every_s=0.1):
    """Seconds until it holds; `None`: it does not within so many."""
    begun = time.time()
    while time.time() < begun + seconds:
        if holds():
            return round(time.time() - begun, 2)
        time.sleep(every_s)
    return None


def resumed(run, timeline):
    p99 = quantile([took for gone, took in timeline.welcomes if gone >= run.at("down") - 1], 0.99)
    run.found["resumed_p99_s"] = p99
    run.expect("users are back within 10 s, p99", p99 is not None and p99 <= 10.0, p99, timed=True)


def kill_in_turn(run, names, back):
    """Each is back before the next is killed: 20 times at full length. When each was killed is marked by its number."""
    run.found["kills"] = pick(run.options, 3, 20)
    run.mark("down")
    for kill in range(run.found["kills"]):
        name = names[kill % len(names)]
        run.mark(kill)
        system.cluster("kill", name)
        # Shorter than a lease, and longer: its partitions stay, or go and return.
        time.sleep((2, 6)[kill % 2])
        system.cluster("start", name)
        time.sleep(6)
    run.mark("back")
    run.found["settled_s"] = back(run)
