"""Nodes that are killed while the delivery log grows, and beside a group of 100,000."""

import argparse
import subprocess
import threading
import time

import system
from run import Run, delivery_s, divided, kill_in_turn, owners, pick, resumed, settled, wait

# What `hawser-fanout grow` says on its way.
MADE, HELD, SETTLED, DONE = "made: ", "takes no more records", "next generation begins", "done: "
# All of it, begun again after an interruption included.
GROWTH_S = 180


class Growth(threading.Thread):
    """`hawser-fanout grow delivery`, run again until it says that it is done."""

    def __init__(self, partitions):
        super().__init__(daemon=True)
        self.said, self.runs, self.process, self.over = [], 0, None, False
        self.command = [str(system.BIN / "hawser-fanout"), "--config", str(system.RUN / "ingest-1" / "config.toml"),
                        "grow", "delivery", "--partitions", str(partitions)]
        self.start()

    def run(self):
        until = time.time() + GROWTH_S
        while time.time() < until:
            self.runs += 1
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for line in self.process.stdout:
                self.said.append((time.time(), line.strip()))
            # 2: it was done before it was killed, and is not more now.
            if self.process.wait() in (0, 2):
                break
            time.sleep(1)
        self.over = True

    def at(self, word):
        """When it first said so; `None`: not yet."""
        return next((at for at, line in list(self.said) if word in line), None)

    def comes_to(self, word):
        """Waits until it says so."""
        wait(lambda: self.over or self.at(word), GROWTH_S, every_s=0.005)

    def kill(self):
        self.process.kill()


def harms(options):
    """By growth: what the command has said by then, and what is killed; "": itself."""
    gateways, ingests = system.names("gateway"), system.names("ingest")
    nodes = [(MADE, ingests[-1]), (HELD, gateways[-1])]
    command = [(HELD, ""), (SETTLED, gateways[0])]
    return pick(options, [nodes, command], [[], nodes, command, [(HELD, system.leader("delivery"))]])


def partitions(name):
    """Of delivery, as a gateway knows it; `None`: it starts."""
    try:
        return len(owners(name))
    except OSError:
        return None


def grow(options, seed):
    """Twice the partitions of delivery (full: four times over): an ingest, gateways, the command itself and a broker killed on its way."""
    run = Run("grow", options, seed, 10)
    run.found |= {"partitions": [partitions(system.names("gateway")[0])], "growths": []}
    run.mark("down")
    for number, killed in enumerate(harms(options)):
        now = run.found["partitions"][-1] * 2
        begun, growth = run.mark(number), Growth(now)
        for word, victim in killed:
            growth.comes_to(word)
            if victim:
                system.cluster("kill", victim)
            else:
                growth.kill()
        growth.join()
        run.mark(f"grown {number}")
        victims = [victim for _, victim in killed if victim]
        for victim in victims:
            system.cluster("start", victim)
        grown = wait(lambda: set(map(partitions, system.names("gateway"))) == {now}, 60)
        settled(run)
        done, held = growth.at(DONE) or growth.at("is not more"), growth.at(HELD)
        run.found["partitions"].append(now)
        run.found["growths"].append({"killed": victims, "runs": growth.runs, "took_s": done and round(done - begun, 1),
                                     "held_s": done and held and round(done - held, 1)})
        run.expect(f"the growth to {now} comes to its end, and every node knows", done and grown is not None,
                   [run.found["growths"][-1], *(line for _, line in growth.said[-3:])])
        time.sleep(6)
    run.mark("back")
    run.found["divided_s"] = divided(run)
    timeline = run.finish()
    for number, growth in enumerate(run.found["growths"]):
        sent = timeline.sent(run.at(number), run.at(f"grown {number}") + 5)
        growth["longest_delivery_s"] = round(max(delivery_s(sent), default=0), 2)
        if not growth["killed"] and growth["runs"] == 1:
            run.kept(timeline, number, f"grown {number}")
    bare = [m for m in timeline.messages.values() if m.failed and not m.hinted]
    run.expect("every refusal has a retry hint", not bare, f"{len(bare)} without")
    resumed(run, timeline)
    run.recovered(timeline, "back", 20)
    return run.found


def giant(options, seed):
    """A giant group (12,000 members; full: 100,000), 10 messages/s, 30 members online; gateways and ingests are killed in turn."""
    away = pick(options, 12_000, 100_000) - 30
    few = argparse.Namespace(**(vars(options) | {"connections": 30, "rate": 10}))
    run = Run("giant", few, seed, 10, ("--group-share", "1", "--group-size", "30", "--away-members", str(away)), begins_s=360)
    gateways, ingests = system.names("gateway"), system.names("ingest")
    known = sum(system.metric(name, "hawser_shard_members") for name in gateways)
    run.expect("the nodes know who is in it", known >= away, known)
    turns = [name for pair in zip(gateways, ingests) for name in pair] + gateways[len(ingests):]

    def whole(run):
        return [settled(run), divided(run)]

    kill_in_turn(run, turns, whole)
    timeline = run.finish()
    run.found["deliveries"] = sum(len(m.deliveries) for m in timeline.messages.values())
    resumed(run, timeline)
    run.recovered(timeline, "back", 20)
    return run.found
