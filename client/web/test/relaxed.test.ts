//! Sessions in a group in relaxed order: what is sent to the group is stored in its lanes, once, whatever comes first.

import { beforeEach, describe, expect, it } from "vitest";
import { World } from "./mock/world";
import { Clock, Device, Disk, pass } from "./pair";

const GROUP = "g:x";
const LANES = ["g:x", "g:x#1", "g:x#2", "g:x#3"];
let clock: Clock;
let world: World;
let alice: Device;
let bob: Device;

function group(op: "create" | "order"): void {
  const change = op === "create" ? { op, users: ["bob"], name: "X" } : { op, lanes: LANES.length };
  world.commit({ op: "group", user: "alice", chat: GROUP, change, at: clock.now.wallMs });
}

beforeEach(() => {
  clock = new Clock();
  world = new World(() => clock.now.wallMs);
  for (const user of ["alice", "bob"]) world.users.set(user, user);
  alice = new Device(world, clock, "alice", "web-1", new Disk(), 1);
  bob = new Device(world, clock, "bob", "web-1", new Disk(), 2);
  alice.start();
  bob.start();
  group("create");
  pass(clock, [alice, bob], 500);
  group("order");
  pass(clock, [alice, bob], 500);
});

function talk(from: number, to: number): void {
  for (let i = from; i < to; i += 1) {
    alice.say(GROUP, String(i));
    pass(clock, [alice, bob], 20);
  }
}

/** Everything is stored in some lane, and both disks hold each lane as the server does, and nothing is pending. */
function agree(count: number): void {
  const stored = LANES.map((lane) => world.texts(lane));
  expect(stored.every((texts) => texts.length > 0)).toBe(true);
  const all = stored.flat().map(Number);
  expect(all.sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  for (const device of [alice, bob]) {
    expect(LANES.map((lane) => device.disk.texts(lane))).toEqual(stored);
    expect(device.disk.shown).toHaveLength(device.disk.messages.size);
    for (const lane of LANES) expect(device.disk.saved.tracks.get(lane)?.ordinal).toBe(world.chats.get(lane)?.records.length);
  }
  expect(alice.disk.saved.pending).toEqual([]);
}

describe("a group in relaxed order", () => {
  it("answers name lanes: each message is kept there, and the group's own lane goes on by itself", () => {
    talk(0, 40);
    agree(40);
    expect(world.seen.filter((s) => s.frame.type === "send").every((s) => (s.frame.body as { chat: string }).chat === GROUP)).toBe(true);
  });

  it("a message that comes back by a sync before its answer is the answer, also after the program has died", () => {
    talk(0, 20);
    world.holdResults = true;
    talk(20, 40);
    expect(alice.disk.saved.pending).toHaveLength(20);
    world.holdResults = false;
    world.neverRecover = true;
    alice.crash();
    pass(clock, [alice, bob], 70_000);
    agree(40);
  });

  it("a message that is missing in a lane is fetched from that lane", () => {
    talk(0, 10);
    const next = [...world.conns].find((c) => c.user === "bob")?.next ?? 0n;
    world.dropDeliver.add(`bob ${next}`);
    talk(10, 40);
    pass(clock, [alice, bob], 5_000);
    agree(40);
    const asked = world.seen.filter((s) => s.user === "bob" && s.frame.type === "sync").map((s) => (s.frame.body as { chat?: string }).chat ?? "");
    expect(asked.filter((chat) => chat !== "")).toHaveLength(1);
  });

  it("receipts are of lanes: each is told how far it has been delivered and read", () => {
    talk(0, 40);
    pass(clock, [alice, bob], 1_000);
    for (const lane of LANES) {
      const last = world.chats.get(lane)?.records.at(-1)?.seq ?? 0n;
      expect(alice.disk.marks.get(`${lane} bob`)?.delivered).toBe(last);
      bob.session.read(lane, last, clock.now);
    }
    pass(clock, [alice, bob], 1_000);
    for (const lane of LANES) expect(alice.disk.marks.get(`${lane} bob`)?.read).toBe(world.chats.get(lane)?.records.at(-1)?.seq);
  });
});
