"""The faults of GUARANTEES by name, each beside load whose history is checked; F1 to F6, F12 and F26 are here."""

import json
import subprocess
import time
import tomllib

import attacks
import scaling
import sessions
import system
from proxy import Proxy
from run import Run, chats_of, delivery_s, divided, kill_in_turn, owners, paired_ratio, pick, resumed, settled, wait
from timeline import quantile

# A Send that is answered within a second is answered at once, for a client (G10).
ANSWER_S = 1.0
# Sends of the instant at which a process dies wait for its connections to be missed.
GRACE_S = 0.3


# --- F2 ------------------------------------------------------------------------------------------------------


def f2_leader(options, seed):
    down_s = pick(options, 8, 20)
    broker = system.leader()
    run = Run("f2-leader", options, seed, 6)
    run.mark("down")
    system.cluster("kill", broker)
    time.sleep(down_s)
    system.cluster("start", broker)
    run.mark("back")
    timeline = run.finish()
    sent = timeline.sent(run.at("down"), run.at("back"))
    waits = [m.ok - m.sent for m in sent if m.ok]
    p99 = quantile(waits, 0.99)
    run.found["send_p99_s"] = p99
    run.expect("Send → SendResult p99 < 5 s while the leader is away", p99 is not None and p99 < 5.0, p99, timed=True)
    run.kept(timeline, "down", "back")
    run.found["refused_in_window"] = sum(m.failed is not None for m in sent)
    took = timeline.recovery(run.at("down"))
    run.found["recovery_s"] = took and round(took, 2)
    return run.found


def f2_brokers(options, seed):
    down_s = pick(options, 10, 30)
    run = Run("f2-brokers", options, seed, pick(options, 10, 60))
    run.mark("down")
    system.cluster("kill", "kafka")
    time.sleep(down_s)
    run.mark("starting")
    system.engines("start", "kafka")
    run.mark("back")
    timeline = run.finish()
    sent = timeline.sent(run.at("down") + GRACE_S, run.at("starting"))
    late = [m for m in sent if m.answered is None or m.answered - m.sent > ANSWER_S]
    answers = [m.answered - m.sent for m in sent if m.answered]
    run.expect(f"every Send is answered within {ANSWER_S:.0f} s while there is no broker", sent and not late,
               {"sends": len(sent), "later": len(late), "p99_s": quantile(answers, 0.99), "max_s": max(answers, default=None)},
               timed=True)
    bare = [m for m in sent if m.failed and not m.hinted]
    run.expect("every refusal has a retry hint", not bare, f"{len(bare)} without")
    run.kept(timeline, "down", "back")
    run.recovered(timeline, "back", 60)
    return run.found


# --- F3 ------------------------------------------------------------------------------------------------------


def redis(options, seed, name, harm, heal):
    """Interleaved pairs, with Redis and without; the median ratio of p99."""
    pairs, each_s = pick(options, 3, 7), pick(options, 4, 60 if harm == "stop" else 15)
    run = Run(name, options, seed, 2)
    windows = []
    run.mark("down")
    for _ in range(pairs):
        quiet = time.time()
        time.sleep(each_s)
        harmed = time.time()
        system.cluster(harm, "redis")
        time.sleep(each_s)
        over = time.time()
        system.cluster(heal, "redis")
        windows.append((quiet, harmed, over))
    run.mark("back")
    timeline = run.finish()
    ratio = paired_ratio(run, timeline, windows, "p99_without_redis_s")
    bound = 1.1 if options.full else 2.0
    words = f"Send → Deliver p99 without Redis over with it, median of {run.found['pairs']} pairs, ≤ {bound}"
    run.expect(words, ratio is not None and ratio <= bound, ratio, timed=True)
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")
    run.found["recovery_s"] = 0.0
    return run.found


def f3_redis_killed(options, seed):
    return redis(options, seed, "f3-redis-killed", "kill", "start")


def f3_redis_stopped(options, seed):
    return redis(options, seed, "f3-redis-stopped", "stop", "cont")


# --- F4 ------------------------------------------------------------------------------------------------------


def stored(run):
    """Rows of Cassandra against what was acknowledged: none missing, none double."""
    chats = {chat["chat"] for chat in chats_of(run.folder)}
    mine = [row for row in system.rows() if row[0] in chats]
    ordinals = {(chat, ordinal) for chat, ordinal, _ in mine}
    last = {}
    for chat, ordinal in ordinals:
        last[chat] = max(last.get(chat, 0), ordinal)
    missing = sum(last.values()) - len(ordinals)
    run.found["rows_in_cassandra"] = len(mine)
    run.expect("0 missing and 0 duplicate rows in Cassandra",
               len(mine) == len(ordinals) == run.found["rows"] and missing == 0 and len(mine) >= run.found["acknowledged"],
               {"rows": len(mine), "places": len(ordinals), "missing": missing, "read back": run.found["rows"]})


def drained(run, timeline, down, back):
    """How fast the lag went away, in times of real time: records acknowledged per record sent meanwhile."""
    lag = [(at, value) for at, value in run.samples if at >= run.at(down)]
    peak = max((value for _, value in lag), default=0)
    run.found["lag_peak_records"] = peak
    first = min((m.ok for m in timeline.messages.values() if m.ok and m.ok >= run.at(back)), default=None)
    took = timeline.recovery(run.at(back))
    speed = None
    if first is not None and took is not None:
        done = run.at(back) + took
        acknowledged = sum(first <= (m.ok or 0) < done for m in timeline.messages.values())
        sent = len(timeline.sent(first, done))
        speed = acknowledged / max(sent, 1)
    run.found["drain_speed"] = speed and round(speed, 1)
    run.expect("lag grows while Cassandra is away", peak > 0, peak)
    run.expect("and drains at ≥ 3 × real time", speed is not None and speed >= 3.0, run.found["drain_speed"],
               timed=True)


def f4_down(options, seed):
    down_s = pick(options, 20, 300)
    run = Run("f4-down", options, seed, pick(options, 15, 120))
    run.mark("down")
    system.cluster("kill", "cassandra-1")
    time.sleep(down_s)
    system.cluster("start", "cassandra-1")
    run.mark("back")
    timeline = run.finish()
    run.kept(timeline, "down", "back")
    drained(run, timeline, "down", "back")
    # What came meanwhile is worked off at 3 × real time while more comes: half of how long it was away.
    run.recovered(timeline, "back", max(60, down_s // 2))
    stored(run)
    return run.found


def through_proxy(options, seed, name, worse, better, within_s):
    """Ingest reaches Cassandra through a proxy; the gateways do not."""
    bad_s = pick(options, 8, 60)
    shared = system.RUN / "shared.toml"
    before = shared.read_text(encoding="utf-8")
    points = tomllib.loads(before)["store"]["contact_points"]
    host, port = points[0].rsplit(":", 1)
    proxy = Proxy(host, int(port))
    line = next(line for line in before.splitlines() if line.startswith("contact_points"))
    try:
        shared.write_text(before.replace(line, f'contact_points = ["127.0.0.1:{proxy.port}"]'), encoding="utf-8")
        system.cluster("end", "ingest-1")
        system.cluster("start", "ingest-1")
        run = Run(name, options, seed, 12)
        run.mark("down")
        worse(proxy)
        time.sleep(bad_s)
        better(proxy)
        run.mark("back")
        timeline = run.finish()
        run.found["swallowed_bytes"] = proxy.swallowed
        run.kept(timeline, "down", "back")
        run.recovered(timeline, "back", within_s)
        stored(run)
        return run.found
    finally:
        shared.write_text(before, encoding="utf-8")
        system.cluster("end", "ingest-1")
        system.cluster("start", "ingest-1")


def f4_slow(options, seed):
    def worse(proxy):
        proxy.delay_s = 2.0

    def better(proxy):
        proxy.delay_s = 0.0

    return through_proxy(options, seed, "f4-slow", worse, better, 30)


def f4_applied(options, seed):
    """Requests arrive and are applied; their answers never come."""
    def worse(proxy):
        proxy.swallow = True

    def better(proxy):
        proxy.swallow = False
        proxy.cut()

    return through_proxy(options, seed, "f4-applied", worse, better, 30)


# --- beside them ---------------------------------------------------------------------------------------------


def postgres(options, seed):
    down_s = pick(options, 8, 60)
    run = Run("postgres", options, seed, 4)
    run.mark("down")
    system.cluster("kill", "postgres")
    time.sleep(down_s)
    system.cluster("start", "postgres")
    run.mark("back")
    timeline = run.finish()
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")
    run.recovered(timeline, "down", 5)
    return run.found


def ingest(options, seed):
    """Ingests killed in turn; the others go on with what was theirs."""
    run, names = Run("ingest", options, seed, 10), system.names("ingest")
    kill_in_turn(run, names, divided)
    timeline = run.finish()
    run.kept(timeline, "down", "back")
    took = [timeline.recovery(run.at(kill)) for kill in range(run.found["kills"])]
    run.found["kill_recovery_s"] = [None if each is None else round(each, 2) for each in took]
    if len(names) > 1:
        run.expect("acknowledged within 2 s again, 10 s after each kill", all(t is not None and t <= 10 for t in took),
                   run.found["kill_recovery_s"], timed=True)
    run.recovered(timeline, "back", 20)
    return run.found


def ingest_paused(options, seed):
    """An ingest stopped for longer than a lease: what it had on its way when it wakes up comes too late, and does nothing."""
    run = Run("ingest-paused", options, seed, 10)
    name = system.names("ingest")[-1]
    run.mark("down")
    for _ in range(pick(options, 2, 6)):
        system.cluster("stop", name)
        time.sleep(8)
        system.cluster("cont", name)
        time.sleep(6)
    run.mark("back")
    run.found["divided_s"] = divided(run)
    timeline = run.finish()
    run.kept(timeline, "down", "back")
    run.recovered(timeline, "back", 20)
    return run.found


# --- F1 and its like: edge nodes ------------------------------------------------------------------------------


def f1(options, seed, name="f1"):
    """Edge nodes killed in turn."""
    run = Run(name, options, seed, 10)
    kill_in_turn(run, system.names("gateway"), settled)
    timeline = run.finish()
    resumed(run, timeline)
    run.recovered(timeline, "back", 20)
    return run.found


def f1_redis(options, seed):
    """The same while Redis is away (F3)."""
    system.cluster("kill", "redis")
    try:
        return f1(options, seed, "f1-redis")
    finally:
        system.cluster("start", "redis")


def f5(options, seed):
    """An edge node cut off from the log, one way, the other, and both: it fences itself and sends its sessions elsewhere."""
    name = system.names("gateway")[-1]
    cut = system.Cut(name)
    run = Run("f5", options, seed, 10)
    settled(run)
    lease_s = system.config(name).get("cluster", {}).get("lease_ms", 3000) / 1000
    run.mark("down")
    run.found["fenced_s"], run.found["sent_elsewhere_s"] = [], []
    try:
        for outgoing, incoming in ((True, False), (False, True), (True, True)):
            begun = time.time()
            cut.cut(outgoing, incoming)
            fenced = wait(lambda: system.metric(name, "hawser_fenced") == 1, lease_s + 10)
            run.found["fenced_s"].append(fenced)
            run.found["sent_elsewhere_s"].append(wait(lambda: system.metric(name, "hawser_sessions") == 0, 30))
            time.sleep(max(0.0, begun + pick(options, 15, 60) - time.time()))
            cut.heal()
            settled(run, 60)
            # Whom it serves by ownership come home.
            time.sleep(pick(options, 5, 15))
    finally:
        cut.heal()
    run.mark("back")
    timeline = run.finish()
    times = run.found["fenced_s"]
    run.expect("it owns nothing within its lease and a beat", all(t is not None and t <= lease_s + 1.5 for t in times), times)
    run.expect("its sessions are elsewhere", None not in run.found["sent_elsewhere_s"], run.found["sent_elsewhere_s"])
    run.recovered(timeline, "back", 20)
    system.cluster("end", name)
    system.cluster("start", name)
    return run.found


def f6(options, seed):
    """An edge node leaves and comes back, every 15 s: only its partitions' users move."""
    run = Run("f6", options, seed, 5)
    name = system.names("gateway")[-1]
    run.mark("down")
    for _ in range(pick(options, 2, 20)):
        system.cluster("end", name)
        time.sleep(pick(options, 5, 10))
        system.cluster("start", name)
        time.sleep(pick(options, 5, 10))
    run.mark("back")
    run.found["settled_s"] = settled(run)
    timeline = run.finish()
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")
    longest = max(delivery_s(timeline.sent(run.at("down"), run.at("back"))), default=None)
    run.found["longest_delivery_s"] = longest
    run.expect("no message is under way for more than 2 s", longest is not None and longest <= 2, longest, timed=True)
    return run.found


def f1_paused(options, seed):
    """An edge node stopped for longer than a lease: it holds nothing when it wakes up."""
    run = Run("f1-paused", options, seed, 10)
    name = system.names("gateway")[-1]
    other = system.names("gateway")[0]
    run.mark("down")
    system.cluster("stop", name)
    time.sleep(8)
    run.expect("its partitions are others' meanwhile", name not in owners(other), owners(other))
    system.cluster("cont", name)
    run.mark("back")
    run.found["settled_s"] = settled(run)
    timeline = run.finish()
    run.recovered(timeline, "back", 20)
    return run.found


def rolling(options, seed):
    """Every process ended and started again, one after the other (F26): nothing fails, each client moves once per node."""
    run = Run("rolling", options, seed, 5)
    run.mark("down")
    for name in system.names("gateway"):
        system.cluster("end", name)
        system.cluster("start", name)
        settled(run)
    for name in system.names("ingest"):
        system.cluster("end", name)
        system.cluster("start", name)
        divided(run)
    run.mark("back")
    timeline = run.finish()
    run.none_refused(timeline)
    run.kept(timeline, "down", "back")
    run.recovered(timeline, "down", 5)
    return run.found


# --- F12 -----------------------------------------------------------------------------------------------------


def flat(churned, cycles):
    """What hawser-loadgen churn found: all cycles made, at most 32 descriptors and 20 % + 16 MiB of memory more than before."""
    before, after = churned.get("before"), churned.get("after")
    if not before or not after or churned["cycles"] < cycles or churned["lost"] or churned["duplicated"]:
        return False
    memory = after["rss"] - churned["ring_grew"]
    return after["descriptors"] <= before["descriptors"] + 32 and memory <= before["rss"] * 1.2 + (16 << 20)


def f12(options, seed):
    """Beside a little load, and over TLS and without."""
    cycles = options.cycles or pick(options, 10_000, 1_000_000)
    run = Run("f12", options, seed, 1)
    name = system.names("gateway")[0]
    listen, run.found["cycles"] = system.config(name)["listen"], 0
    run.mark("down")
    for scheme, share in (("ws", 0.8), ("wss", 0.2)):
        url = f"{scheme}://{listen['http' if scheme == 'ws' else 'wss'][0]}/v1/ws"
        told = run.folder / f"churn-{scheme}.json"
        ring = system.metric(name, "hawser_replay_ring_bytes")
        done = subprocess.run(
            [str(system.LOADGEN), "churn", "--cycles", str(int(cycles * share)), "--json", str(told), "--",
             "--url", url, "--key", str(system.RUN / "keys"), "--server-pid", str(system.pid_of(name)),
             "--prefix", f"c{seed}{scheme}x", "--seed", str(seed)],
            capture_output=True, text=True, check=False)
        churned = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
        # What was sent fills the replay ring, which has a bound of its own.
        churned["ring_grew"] = max(system.metric(name, "hawser_replay_ring_bytes") - ring, 0)
        run.found[scheme] = churned
        run.found["cycles"] += churned.get("cycles", 0)
        run.expect(f"over {scheme}: descriptors and memory flat but for the replay ring, nothing lost, nothing twice",
                   flat(churned, int(cycles * share)), [f"ring + {churned['ring_grew'] / 1024:.0f} KiB",
                                                        *(done.stdout + done.stderr).strip().splitlines()[-3:]])
    run.mark("back")
    timeline = run.finish()
    run.kept(timeline, "down", "back")
    run.found["recovery_s"] = 0.0
    return run.found


FAULTS = {
    "f2-leader": f2_leader, "f2-brokers": f2_brokers, "f3-redis-killed": f3_redis_killed, "f3-redis-stopped": f3_redis_stopped,
    "f4-down": f4_down, "f4-slow": f4_slow, "f4-applied": f4_applied, "postgres": postgres, "ingest": ingest,
    "ingest-paused": ingest_paused,
    "f1": f1, "f1-redis": f1_redis, "f1-paused": f1_paused, "f5": f5, "f6": f6, "rolling": rolling, "f12": f12,
    "f10": sessions.f10, "f11": sessions.f11, "f13": sessions.f13, "f20": attacks.f20, "f24": attacks.f24,
    # Growth is for good, and the last.
    "giant": scaling.giant, "grow": scaling.grow,
}
# What fits into a few minutes of CI.
SHORT = ["f1", "rolling", "f2-leader", "f2-brokers", "f3-redis-stopped", "f4-down", "f4-applied", "f12"]
