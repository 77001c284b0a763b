import { beforeEach, describe, expect, it } from "vitest";
import type { Send } from "../src/protocol/layout";
import { encodeFrame } from "../src/protocol/frames";
import { hex, uuidTimeMs } from "../src/protocol/ids";
import { World } from "./mock/world";
import { Clock, Device, Disk, pass } from "./pair";

const CHAT = "dm:alice:bob";
let clock: Clock;
let world: World;
let alice: Device;
let bob: Device;

beforeEach(() => {
  clock = new Clock();
  world = new World(() => clock.now.wallMs);
  for (const user of ["alice", "bob", "carol"]) world.users.set(user, user);
  alice = new Device(world, clock, "alice", "web-1", new Disk(), 1);
  bob = new Device(world, clock, "bob", "web-1", new Disk(), 2);
});

function startBoth(): void {
  alice.start();
  bob.start();
  pass(clock, [alice, bob], 100);
}

function sendsOf(user: string): Send[] {
  return world.seen
    .filter((s) => s.user === user && s.frame.type === "send")
    .map((s) => s.frame.body as Send);
}

describe("coming live", () => {
  it("syncs, adopts the head and is live", () => {
    alice.start();
    expect(alice.phases).toEqual(["connecting", "syncing", "catching-up", "live"]);
    expect(world.seen.map((s) => s.frame.type)).toEqual(["hello", "sync", "ack"]);
    expect(alice.disk.saved.cursor?.next).toBe(0n);
  });

  it("a message reaches the other's disk and its ticks come back", () => {
    startBoth();
    alice.say(CHAT, "hello");
    pass(clock, [alice, bob], 500);
    expect(bob.disk.texts(CHAT)).toEqual(["hello"]);
    expect(alice.disk.texts(CHAT)).toEqual(["hello"]);
    expect(alice.disk.saved.pending).toEqual([]);
    const seq = [...alice.disk.messages.values()][0]?.seq as bigint;
    expect(alice.disk.marks.get(`${CHAT} bob`)?.delivered).toBe(seq);
    bob.session.read(CHAT, seq, clock.now);
    pass(clock, [alice, bob], 500);
    expect(alice.disk.marks.get(`${CHAT} bob`)?.read).toBe(seq);
  });

  it("after a sync it acknowledges what it got by Receipt", () => {
    alice.start();
    alice.say(CHAT, "before bob came");
    bob.start();
    pass(clock, [alice, bob], 500);
    expect(bob.disk.texts(CHAT)).toEqual(["before bob came"]);
    expect(alice.disk.marks.get(`${CHAT} bob`)?.delivered).toBeGreaterThan(0n);
  });

  it("adopts no head before the synced chats are on the disk", () => {
    alice.start();
    alice.say(CHAT, "one");
    bob.diskStopped = true;
    bob.start();
    pass(clock, [alice, bob], 1_000);
    expect(bob.phase.kind).toBe("syncing");
    bob.resumeDisk();
    pass(clock, [alice, bob], 100);
    expect(bob.phase.kind).toBe("live");
  });

  it("a chat known from earlier is caught up page by page, all of it", () => {
    startBoth();
    alice.say(CHAT, "0");
    pass(clock, [alice, bob], 200);
    bob.session.stop(clock.now);
    bob.settle();
    for (let i = 1; i <= 600; i += 1) {
      alice.say(CHAT, String(i));
      if (i % 20 === 0) pass(clock, [alice], 10);
    }
    world.neverRecover = true;
    bob.start();
    pass(clock, [alice, bob], 1_000);
    expect(bob.disk.texts(CHAT)).toEqual(Array.from({ length: 601 }, (_, i) => String(i)));
  });

  it("of an unknown chat only the newest page is fetched, older ones by history", () => {
    alice.start();
    for (let i = 1; i <= 100; i += 1) alice.say(CHAT, String(i));
    bob.start();
    pass(clock, [alice, bob], 500);
    expect(bob.disk.texts(CHAT)).toHaveLength(64);
    bob.session.history(CHAT, 37, 50, clock.now);
    bob.settle();
    expect(bob.disk.texts(CHAT)).toHaveLength(100);
    const done = bob.other.find((e) => e.do === "history");
    expect(done).toMatchObject({ chat: CHAT, beforeOrdinal: 37, atStart: true });
  });
});

describe("acks", () => {
  it("nothing is acknowledged before the disk has it", () => {
    startBoth();
    alice.say(CHAT, "first");
    pass(clock, [alice, bob], 500);
    const acks = (): number => world.seen.filter((s) => s.user === "bob" && s.frame.type === "ack").length;
    const before = acks();
    bob.diskStopped = true;
    alice.say(CHAT, "second");
    pass(clock, [alice, bob], 5_000);
    expect(acks()).toBe(before);
    expect(alice.disk.marks.get(`${CHAT} bob`)?.delivered).toBeLessThan(
      [...alice.disk.messages.values()][1]?.seq as bigint,
    );
    bob.resumeDisk();
    pass(clock, [alice, bob], 500);
    expect(acks()).toBeGreaterThan(before);
  });

  it("a burst is acknowledged in few frames", () => {
    startBoth();
    const before = world.seen.length;
    for (let i = 0; i < 100; i += 1) alice.say(CHAT, String(i));
    pass(clock, [alice, bob], 300);
    const acks = world.seen.slice(before).filter((s) => s.user === "bob" && s.frame.type === "ack");
    expect(bob.disk.texts(CHAT)).toHaveLength(100);
    expect(acks.length).toBeLessThan(12);
  });

  it("ping carries the offset and comes at the heartbeat, the first one jittered", () => {
    world.heartbeatMs = 10_000;
    alice.start();
    pass(clock, [alice], 9_999);
    const pings = (): number => world.seen.filter((s) => s.frame.type === "ping").length;
    expect(pings()).toBe(1);
    pass(clock, [alice], 30_000);
    expect(pings()).toBe(4);
  });
});

describe("gaps", () => {
  it("a missing message is fetched and holds back the cursor until it is stored", () => {
    startBoth();
    alice.say(CHAT, "1");
    pass(clock, [alice, bob], 500);
    const head = bob.disk.saved.cursor?.next as bigint;
    world.dropDeliver.add(`bob ${head}`);
    alice.say(CHAT, "2");
    expect(bob.disk.texts(CHAT)).toEqual(["1"]);
    alice.say(CHAT, "3");
    pass(clock, [alice, bob], 500);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "2", "3"]);
    expect(bob.disk.saved.cursor?.next).toBeGreaterThan(head + 1n);
    const syncs = world.seen.filter((s) => s.user === "bob" && s.frame.type === "sync");
    expect(syncs.at(-1)?.frame.body).toMatchObject({ chat: CHAT, afterOrdinal: 1, limit: 1 });
  });

  it("two messages missing apart are both fetched, also when the first is being asked for", () => {
    startBoth();
    alice.say(CHAT, "1");
    pass(clock, [alice, bob], 500);
    const head = bob.disk.saved.cursor?.next as bigint;
    for (const offset of [head, head + 2n]) world.dropDeliver.add(`bob ${offset}`);
    const handle = world.receive.bind(world);
    world.receive = (conn, bytes) => {
      if (conn.user === "bob" && bytes[0] === 0x07) return; // its Sync is late
      handle(conn, bytes);
    };
    for (const text of ["2", "3", "4", "5"]) alice.say(CHAT, text);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "3", "5"]);
    world.receive = handle;
    pass(clock, [alice, bob], 25_000);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "2", "3", "4", "5"]);
    expect(bob.disk.saved.cursor?.next).toBeGreaterThan(head + 3n);
  });

  it("a crash with an open gap finds the gap again", () => {
    startBoth();
    alice.say(CHAT, "1");
    pass(clock, [alice, bob], 500);
    const head = bob.disk.saved.cursor?.next as bigint;
    world.dropDeliver.add(`bob ${head}`);
    alice.say(CHAT, "2");
    const handle = world.receive.bind(world);
    world.receive = (conn, bytes) => {
      if (conn.user === "bob" && bytes[0] === 0x07) return; // its Sync is lost
      handle(conn, bytes);
    };
    alice.say(CHAT, "3");
    pass(clock, [alice, bob], 300);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "3"]);
    world.receive = handle;
    bob.crash();
    pass(clock, [alice, bob], 500);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "2", "3"]);
  });

  it("a gap that is not ours to see is closed by the refusal", () => {
    startBoth();
    const at = clock.now.wallMs;
    world.commit({ op: "group", user: "alice", chat: "g:x", change: { op: "create", name: "X" }, at });
    pass(clock, [alice, bob], 300);
    alice.say("g:x", "secret");
    world.commit({ op: "group", user: "alice", chat: "g:x", change: { op: "add", users: ["bob"] }, at });
    pass(clock, [alice, bob], 500);
    alice.say("g:x", "welcome");
    pass(clock, [alice, bob], 500);
    expect(bob.disk.texts("g:x")).toEqual(["welcome"]);
    expect(bob.disk.chatList).toContain("g:x");
    expect(bob.disk.saved.cursor?.next).toBeGreaterThanOrEqual(2n);
  });
});

describe("sending", () => {
  it("what is written offline leaves in order once live, and survives a crash", () => {
    startBoth();
    alice.unreachable = true;
    world.drop("alice");
    alice.settle();
    for (const text of ["a", "b", "c"]) alice.say(CHAT, text);
    alice.crash();
    pass(clock, [alice, bob], 3_000);
    expect(bob.disk.texts(CHAT)).toEqual([]);
    alice.unreachable = false;
    pass(clock, [alice, bob], 60_000);
    expect(bob.disk.texts(CHAT)).toEqual(["a", "b", "c"]);
    expect(alice.disk.saved.pending).toEqual([]);
  });

  it("an answer lost with the connection: the retry has the same id and is stored once", () => {
    startBoth();
    world.holdResults = true;
    alice.say(CHAT, "once");
    world.neverRecover = true;
    world.holdResults = false;
    world.drop("alice");
    pass(clock, [alice, bob], 10_000);
    expect(world.texts(CHAT)).toEqual(["once"]);
    expect(alice.disk.texts(CHAT)).toEqual(["once"]);
    expect(alice.disk.saved.pending).toEqual([]);
  });

  it("Queued without a result is sent again after 60 s, marked as a retry, same id", () => {
    startBoth();
    world.holdResults = true;
    alice.say(CHAT, "x");
    pass(clock, [alice, bob], 59_000);
    expect(sendsOf("alice")).toHaveLength(1);
    pass(clock, [alice, bob], 2_000);
    const sends = sendsOf("alice");
    expect(sends).toHaveLength(2);
    expect(hex(sends[1]?.clientMsgId as Uint8Array)).toBe(hex(sends[0]?.clientMsgId as Uint8Array));
    expect(sends.map((s) => s.retry)).toEqual([false, true]);
  });

  it("a busy answer is retried by itself; later messages of the chat do not overtake", () => {
    startBoth();
    world.nextErrors.push(42);
    alice.say(CHAT, "1");
    alice.say(CHAT, "2");
    pass(clock, [alice, bob], 5_000);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "2"]);
  });

  it("a final refusal is kept as failed and no longer sent", () => {
    startBoth();
    alice.say("dm:alice:nobody", "hm");
    pass(clock, [alice, bob], 70_000);
    expect(alice.disk.saved.pending[0]?.failed?.code).toBe(30);
    expect(sendsOf("alice")).toHaveLength(1);
    alice.crash();
    pass(clock, [alice, bob], 1_000);
    expect(sendsOf("alice")).toHaveLength(1);
  });

  it("no Send leaves before the disk has it", () => {
    startBoth();
    alice.diskStopped = true;
    alice.say(CHAT, "x");
    pass(clock, [alice, bob], 1_000);
    expect(sendsOf("alice")).toHaveLength(0);
    alice.resumeDisk();
    pass(clock, [alice, bob], 100);
    expect(bob.disk.texts(CHAT)).toEqual(["x"]);
  });

  it("at most the allowed number is in flight", () => {
    startBoth();
    world.holdResults = true;
    for (let i = 0; i < 80; i += 1) alice.say(CHAT, String(i));
    pass(clock, [alice, bob], 1_000);
    expect(sendsOf("alice")).toHaveLength(64);
  });

  it("ids are stamped with the server's clock; one too old gets a new id after the sync", () => {
    startBoth();
    alice.unreachable = true;
    world.drop("alice");
    alice.settle();
    const old = alice.say(CHAT, "from last week");
    clock.ms += 8 * 24 * 3_600_000;
    alice.unreachable = false;
    pass(clock, [alice, bob], 60_000);
    expect(bob.disk.texts(CHAT)).toEqual(["from last week"]);
    const id = sendsOf("alice")[0]?.clientMsgId as Uint8Array;
    expect(hex(id)).not.toBe(old);
    expect(clock.now.wallMs - uuidTimeMs(id)).toBeLessThan(61_000);
    expect(alice.disk.saved.pending).toEqual([]);
  });
});

describe("reconnecting", () => {
  it("resumes from the persisted offset and shows nothing twice", () => {
    startBoth();
    alice.say(CHAT, "1");
    pass(clock, [alice, bob], 200);
    world.drop("bob");
    alice.say(CHAT, "2");
    pass(clock, [alice, bob], 5_000);
    expect(bob.disk.texts(CHAT)).toEqual(["1", "2"]);
    expect(bob.disk.shown).toHaveLength(2);
    const hellos = world.seen.filter((s) => s.frame.type === "hello" && s.frame.body.lastOffset !== undefined);
    expect(hellos).toHaveLength(1);
    expect(bob.phases.filter((p) => p === "syncing")).toHaveLength(1);
  });

  it("backs off with full jitter up to 30 s, and at once after nudge", () => {
    alice.unreachable = true;
    alice.start();
    pass(clock, [alice], 600_000);
    expect(alice.opened.length).toBeGreaterThan(20);
    expect(alice.opened.length).toBeLessThan(90);
    alice.unreachable = false;
    alice.session.nudge(clock.now);
    alice.settle();
    expect(alice.phase.kind).toBe("live");
  });

  it("a half-open connection is noticed by the missing pong", () => {
    alice.start();
    alice.blackHole = true;
    pass(clock, [alice], 45_000);
    expect(alice.phases).toContain("waiting");
    alice.blackHole = false;
    pass(clock, [alice], 60_000);
    expect(alice.phase.kind).toBe("live");
  });

  it.each([
    [4000, "refused"],
    [4003, "refused"],
    [4200, "waiting"],
    [1006, "waiting"],
    [4300, "live"],
    [4100, "live"],
  ])("close %i leads to %s", (code, kind) => {
    alice.start();
    pass(clock, [alice], 15_000);
    world.drop("alice", code);
    alice.settle();
    expect(alice.phase.kind).toBe(kind);
  });

  it("an expired token is fetched anew", () => {
    alice.start();
    world.drop("alice", 4100);
    alice.settle();
    expect(alice.tokenFetches).toBe(2);
    expect(alice.phase.kind).toBe("live");
  });

  it("a used token that is refused is replaced once; a fresh one that is refused ends it", () => {
    alice.start();
    pass(clock, [alice], 15_000);
    world.drop("alice");
    alice.settle();
    pass(clock, [alice], 30_000);
    world.drop("alice", 4001);
    alice.settle();
    pass(clock, [alice], 40_000);
    expect(alice.phase.kind).toBe("live");
    expect(alice.tokenFetches).toBe(2);
    world.drop("alice", 4001);
    alice.settle();
    expect(alice.phase.kind).toBe("refused");
  });

  it("the token is renewed in band before it expires", () => {
    alice.start();
    pass(clock, [alice], 3_600_000);
    expect(world.seen.filter((s) => s.frame.type === "refreshToken")).toHaveLength(1);
    expect(alice.phases.filter((p) => p === "live")).toHaveLength(1);
  });

  it("displaced twice: it gives way until the user asks", () => {
    alice.start();
    world.drop("alice", 4301);
    alice.settle();
    expect(alice.phase.kind).toBe("live");
    pass(clock, [alice], 1_000);
    world.drop("alice", 4301);
    alice.settle();
    expect(alice.phase.kind).toBe("displaced");
    pass(clock, [alice], 100_000);
    expect(alice.phase.kind).toBe("displaced");
    alice.start();
    expect(alice.phase.kind).toBe("live");
  });

  it("Relocate: the new session is open before the old one is closed", () => {
    startBoth();
    const conn = [...world.conns].find((c) => c.user === "alice");
    const body = { url: "ws://other/", slotMs: 500, deadlineMs: 5_000 };
    conn?.send(encodeFrame({ type: "relocate", body }));
    pass(clock, [alice, bob], 400);
    expect(alice.opened).toEqual(["ws://home/"]);
    pass(clock, [alice, bob], 400);
    expect(alice.opened).toEqual(["ws://home/", "ws://other/"]);
    expect(alice.phase.kind).toBe("live");
    expect(alice.phases).not.toContain("waiting");
    bob.say(CHAT, "still there?");
    pass(clock, [alice, bob], 400);
    expect(alice.disk.texts(CHAT)).toEqual(["still there?"]);
  });

  it("where a Redirect leads nowhere, or in a circle, the client asks to be served where it began", () => {
    for (const dead of [true, false]) {
      const device = new Device(world, clock, "carol", "web-1");
      world.redirect = { url: "ws://other/", times: 100 };
      if (dead) device.deadUrl = "ws://other/";
      device.start();
      pass(clock, [device], 20_000);
      const circle = Array<string>(4).fill("ws://other/");
      expect(device.opened).toEqual(["ws://home/", ...(dead ? ["ws://other/", "ws://home/"] : circle)]);
      expect(device.phase.kind).toBe("live");
      device.session.stop(clock.now);
      device.settle();
    }
  });

  it("a Redirect of the connection that is to take over leads on while the old one serves", () => {
    startBoth();
    const conn = [...world.conns].find((c) => c.user === "alice");
    world.redirect = { url: "ws://third/", times: 1 };
    conn?.send(encodeFrame({ type: "relocate", body: { url: "ws://other/", slotMs: 100, deadlineMs: 0 } }));
    pass(clock, [alice, bob], 1_000);
    expect(alice.opened).toEqual(["ws://home/", "ws://other/", "ws://third/"]);
    expect(alice.phase.kind).toBe("live");
    expect(alice.phases).not.toContain("waiting");
    bob.say(CHAT, "still there?");
    pass(clock, [alice, bob], 400);
    expect(alice.disk.texts(CHAT)).toEqual(["still there?"]);
  });

  it("Redirect leads elsewhere; an address that is not allowed is not followed", () => {
    for (const [url, opened] of [
      ["ws://other/", "ws://other/"],
      ["http://evil/", "ws://home/"],
    ] as const) {
      const device = new Device(world, clock, "carol", "web-1");
      let redirected = false;
      const connect = world.connect.bind(world);
      world.connect = (send, close) => {
        const conn = connect(send, close);
        const receive = world.receive;
        if (!redirected) {
          redirected = true;
          world.receive = (c, bytes) => {
            if (c !== conn) return receive.call(world, c, bytes);
            send(encodeFrame({ type: "redirect", body: { url, mapVersion: 1, jitterMs: 100 } }));
          };
        }
        return conn;
      };
      device.start();
      pass(clock, [device], 2_000);
      expect(device.opened).toEqual(["ws://home/", opened]);
      expect(device.phase.kind).toBe("live");
      world.connect = connect;
      device.session.stop(clock.now);
      device.settle();
    }
  });

  it("bytes that are no frame end the connection, not the session", () => {
    alice.start();
    const conn = [...world.conns][0];
    conn?.send(Uint8Array.of(0x85, 0, 0, 0, 255, 255, 255, 255));
    alice.settle();
    expect(alice.phase.kind).toBe("waiting");
    pass(clock, [alice], 5_000);
    expect(alice.phase.kind).toBe("live");
  });

  it("a receipt and a Watch that were refused for their rate go again after the time asked for", () => {
    startBoth();
    alice.say(CHAT, "1");
    pass(clock, [alice, bob], 300);
    const seq = [...bob.disk.messages.values()][0]?.seq as bigint;
    bob.session.setWatch(["alice"], [], clock.now);
    bob.settle();
    bob.blackHole = true;
    bob.session.read(CHAT, seq, clock.now);
    pass(clock, [alice, bob], 500);
    bob.blackHole = false;
    const conn = [...world.conns].find((c) => c.user === "bob");
    const watches = (): number => world.seen.filter((s) => s.user === "bob" && s.frame.type === "watch").length;
    const before = watches();
    for (const frameType of [4, 6]) {
      const body = { code: 40, text: "", retryAfterMs: 2_000, clientMsgId: new Uint8Array(), frameType };
      conn?.send(encodeFrame({ type: "error", body }));
    }
    pass(clock, [alice, bob], 1_500);
    expect(alice.disk.marks.get(`${CHAT} bob`)?.read ?? 0n).toBe(0n);
    expect(watches()).toBe(before);
    pass(clock, [alice, bob], 1_500);
    expect(alice.disk.marks.get(`${CHAT} bob`)?.read).toBe(seq);
    expect(watches()).toBe(before + 1);
    expect(bob.other.filter((e) => e.do === "problem")).toEqual([]);
  });

  it("unconfirmed reads are sent again after a reconnect", () => {
    startBoth();
    alice.say(CHAT, "1");
    pass(clock, [alice, bob], 300);
    const seq = [...bob.disk.messages.values()][0]?.seq as bigint;
    bob.blackHole = true;
    bob.session.read(CHAT, seq, clock.now);
    pass(clock, [alice, bob], 1_000);
    world.drop("bob");
    bob.blackHole = false;
    pass(clock, [alice, bob], 10_000);
    expect(alice.disk.marks.get(`${CHAT} bob`)?.read).toBe(seq);
  });
});

describe("a seeded storm", () => {
  it.each(Array.from({ length: 40 }, (_, i) => i + 1))("seed %i: nothing lost, nothing twice, in order", (seed) => {
    const carol = new Device(world, clock, "carol", "web-1", new Disk(), seed + 30);
    const all = [alice, bob, carol];
    for (const device of all) device.start();
    const at = clock.now.wallMs;
    const users = ["bob", "carol"];
    world.commit({ op: "group", user: "alice", chat: "g:x", change: { op: "create", name: "X", users }, at });
    const random = seededRandom(seed);
    for (let step = 0; step < 150; step += 1) {
      const device = all[Math.floor(random() * 3)] as Device;
      const dice = random();
      if (dice < 0.6) device.say("g:x", `${device.user} ${step}`);
      else if (dice < 0.7) world.drop(device.user, random() < 0.5 ? 1006 : 4300);
      else if (dice < 0.76) device.crash();
      else if (dice < 0.8) world.neverRecover = !world.neverRecover;
      else if (dice < 0.85) world.nextErrors.push(42);
      else if (dice < 0.9) device.diskStopped = true;
      else if (dice < 0.95) device.resumeDisk();
      pass(clock, all, Math.floor(random() * 400));
    }
    for (const device of all) device.resumeDisk();
    world.nextErrors.length = 0;
    pass(clock, all, 200_000);
    const stored = world.texts("g:x");
    expect(new Set(stored).size).toBe(stored.length);
    for (const device of all) {
      expect(device.phase.kind).toBe("live");
      expect(device.disk.saved.pending).toEqual([]);
      expect(device.disk.texts("g:x")).toEqual(stored);
      expect([...device.disk.accepted].filter((text) => !stored.includes(text))).toEqual([]);
      const own = stored.filter((t) => t.startsWith(device.user));
      const order = own.map((t) => Number(t.split(" ")[1]));
      expect(order).toEqual([...order].sort((a, b) => a - b));
    }
  });
});

function seededRandom(seed: number): () => number {
  let x = seed * 2_654_435_761;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}
