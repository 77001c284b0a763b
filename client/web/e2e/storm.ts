//! `HAWSER_GATEWAY=... npm run storm -- [--kills 6]`: three people write into one group as fast as they can while the
//! server is killed again and again. In the end everybody has everything, once, in one order.

import assert from "node:assert/strict";
import { Node } from "./node";
import { Profile } from "./person";
import type { Person } from "./person";

const USERS = ["alice", "bob", "carol"];
const at = process.argv.indexOf("--kills");
const kills = at < 0 ? 6 : Number(process.argv[at + 1]);
const PACE_MS = 60;
const DRAIN_MS = 120_000;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function write(person: Person, said: string[], going: () => boolean): Promise<void> {
  for (let i = 0; going(); i += 1) {
    said.push(`${person.user} s${i}`);
    await person.say(`${person.user} s${i}`);
    await sleep(PACE_MS);
  }
}

/** Until nothing is unsent and all see the same message last. */
async function drained(people: Person[]): Promise<void> {
  for (const end = Date.now() + DRAIN_MS; Date.now() < end; await sleep(500)) {
    const unsent = await Promise.all(people.map((p) => p.page.locator(".ticks.waiting, .ticks.accepted").count()));
    const last = await Promise.all(people.map((p) => p.page.locator(".message .text").last().textContent()));
    if (unsent.every((n) => n === 0) && new Set(last).size === 1) return;
  }
  throw new Error("it does not come to rest");
}

/** Scrolls to the beginning and reads everything. */
async function everything(person: Person): Promise<string[]> {
  const beginning = person.page.getByText("This is where it begins.");
  while ((await beginning.count()) === 0) {
    await person.page.locator(".messages").evaluate((e) => (e.scrollTop = 0));
    await sleep(50);
  }
  return (await person.texts()).filter((text) => / s\d+$/.test(text));
}

const node = await Node.start();
const profiles: Profile[] = [];
try {
  const people: Person[] = [];
  for (const user of USERS) {
    const profile = await Profile.open();
    profiles.push(profile);
    people.push(await profile.person(node.url, user));
  }
  for (const person of people) {
    await person.live();
    await person.openChat("Harbour crew");
  }
  const said = new Map(USERS.map((user) => [user, [] as string[]]));
  let going = true;
  const writing = Promise.all(people.map((person) => write(person, said.get(person.user) ?? [], () => going)));
  for (let kill = 1; kill <= kills; kill += 1) {
    await sleep(2_000 + Math.random() * 2_000);
    await node.kill();
    await sleep(Math.random() * 1_500);
    await node.up();
    for (const person of people) await person.live();
    console.log(`killed ${kill} times, ${[...said.values()].flat().length} messages written`);
  }
  going = false;
  await writing;
  await drained(people);
  const seen = await Promise.all(people.map(everything));
  for (const texts of seen) {
    assert.deepEqual(texts, seen[0], "one order for all");
    for (const [user, list] of said) assert.deepEqual(texts.filter((t) => t.startsWith(`${user} `)), list, `all of ${user}'s, once`);
  }
  console.log(`${seen[0]?.length ?? 0} messages, seen by all ${people.length}, none lost, none twice, in one order`);
} finally {
  for (const profile of profiles) await profile.close();
  await node.stop();
}
