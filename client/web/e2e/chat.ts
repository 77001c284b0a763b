//! Two and more people in real browsers against one server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Node } from "./node";
import { Profile } from "./person";
import type { Person } from "./person";

/** Until a condition of the test's own holds. */
async function until(what: string, holds: () => Promise<boolean>, ms = 20_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe("people in browsers", { timeout: 300_000 }, () => {
  let node: Node;
  let profiles: Profile[];
  let alice: Person;
  let bob: Person;

  before(async () => {
    node = await Node.start();
    profiles = [await Profile.open(), await Profile.open({ dark: true })];
    alice = await (profiles[0] as Profile).person(node.url, "alice");
    bob = await (profiles[1] as Profile).person(node.url, "bob");
    await alice.live();
    await bob.live();
  });

  after(async () => {
    for (const profile of profiles ?? []) await profile.close();
    await node?.stop();
  });

  test("a message is sent, delivered and read, and its ticks say so", async () => {
    await alice.openDm("bob");
    await alice.say("hello bob");
    await alice.status("hello bob", "delivered");
    await bob.page.locator(".chat-row .badge", { hasText: "1" }).waitFor();
    await bob.openDm("alice");
    await bob.sees("hello bob");
    await alice.status("hello bob", "read");
    assert.equal(await bob.page.locator(".badge").count(), 0);
    await bob.say("hello alice");
    await alice.sees("hello alice");
    await bob.status("hello alice", "read");
  });

  test("typing shows while somebody writes, and goes", async () => {
    await bob.composer.pressSequentially("hm", { delay: 30 });
    await alice.under("typing…");
    await bob.composer.fill("");
    await alice.under("online");
  });

  test("presence follows the person, with when they were last seen", async () => {
    await alice.under("online");
    await bob.page.goto("about:blank");
    await alice.under(/last seen/);
    await bob.load();
    await bob.live();
    await alice.under("online");
    await bob.openDm("alice");
  });

  test("a reload keeps the history, the open chat and the draft", async () => {
    await alice.composer.fill("half a sen");
    const device = await alice.page.locator(".shell").getAttribute("data-device");
    await alice.page.reload();
    await alice.live();
    await alice.sees("hello bob");
    await alice.sees("hello alice");
    assert.equal(await alice.composer.inputValue(), "half a sen");
    assert.equal(await alice.page.locator(".shell").getAttribute("data-device"), device);
    await alice.composer.fill("");
  });

  test("many messages at once arrive in order, once", async () => {
    const said = Array.from({ length: 40 }, (_, i) => `row ${i}`);
    for (const text of said) await alice.say(text);
    await bob.sees("row 39");
    const seen = (await bob.texts()).filter((t) => t.startsWith("row "));
    assert.deepEqual(seen, said);
    await alice.status("row 39", "read");
    assert.deepEqual((await alice.texts()).filter((t) => t.startsWith("row ")), said);
  });

  test("kill -9 in the middle of traffic: nothing is lost, nothing twice, both go on by themselves", async () => {
    const said: string[] = [];
    const talk = async (person: Person, count: number, pace: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) {
        const text = `${person.user} k${i}`;
        said.push(text);
        await person.say(text);
        await person.page.waitForTimeout(pace);
      }
    };
    const traffic = Promise.all([talk(alice, 60, 25), talk(bob, 60, 25)]);
    await until("some of it has arrived", async () => (await bob.texts()).some((t) => t.startsWith("alice k")));
    await node.kill();
    await until("both see that it is gone", async () => (await alice.phase()) !== "live" && (await bob.phase()) !== "live");
    await traffic;
    await alice.say("written while it was down");
    await alice.bubble("written while it was down").locator('.ticks[data-status="waiting"]').waitFor();
    await alice.shot("down");
    await node.up();
    await alice.live();
    await bob.live();
    await bob.sees("written while it was down");
    await alice.status("written while it was down", "read");
    await until("all of bob's is answered", async () => (await bob.page.locator(".ticks.waiting, .ticks.accepted").count()) === 0, 60_000);
    await alice.sees("bob k59");
    await bob.sees("alice k59");
    const mine = (texts: string[], user: string): string[] => texts.filter((t) => t.startsWith(`${user} k`));
    for (const reader of [alice, bob]) {
      const texts = await reader.texts();
      for (const writer of ["alice", "bob"]) assert.deepEqual(mine(texts, writer), mine(said, writer), `${writer}'s as ${reader.user} sees them`);
    }
    const order = (texts: string[]): string[] => texts.filter((t) => / k\d+$/.test(t));
    assert.deepEqual(order(await alice.texts()), order(await bob.texts()), "both see the same order");
  });

  test("what was written while the server was down survives a reload of the page", async () => {
    await node.kill();
    await alice.say("unsent one");
    await alice.say("unsent two");
    await alice.bubble("unsent two").locator('.ticks[data-status="waiting"]').waitFor();
    await alice.page.goto("about:blank");
    await node.up();
    await alice.load();
    await alice.live();
    await bob.live();
    await alice.openChat("Bob");
    await alice.status("unsent two", "delivered");
    await bob.sees("unsent two");
    const texts = await bob.texts();
    assert.deepEqual(texts.filter((t) => t.startsWith("unsent")), ["unsent one", "unsent two"]);
  });

  test("a group: created, written in by all, renamed, one removed, one leaves", async () => {
    const carol = await (profiles[1] as Profile).person(node.url, "carol");
    await carol.live();
    const { page } = alice;
    await page.getByRole("button", { name: "New group" }).click();
    await page.getByRole("textbox", { name: "Name of the group" }).fill("Boat trip");
    for (const user of ["bob", "carol"]) await page.locator(`dialog [data-user="${user}"]`).click();
    await page.getByRole("button", { name: "Create group of 3" }).click();
    await alice.composer.waitFor();
    await bob.openChat("Boat trip");
    await carol.openChat("Boat trip");
    await alice.say("who brings the rope?");
    await carol.sees("who brings the rope?");
    await bob.sees("who brings the rope?");
    await alice.status("who brings the rope?", "read");
    await carol.say("me");
    await alice.sees("me");
    await bob.sees("me");
    await alice.shot("group");

    await page.getByRole("button", { name: "Group settings" }).click();
    await page.getByRole("textbox", { name: "Name of the group" }).fill("Sailing");
    await page.getByRole("button", { name: "Rename" }).click();
    await bob.page.locator(".head-title", { hasText: "Sailing" }).waitFor();
    await page.locator('[data-member="carol"]').getByRole("button", { name: "Remove" }).click();
    await carol.under("You are no longer a member");
    await alice.shot("group-panel");
    await page.getByRole("button", { name: "Add people" }).click();
    await page.locator('dialog [data-user="dave"]').click();
    await page.getByRole("button", { name: "Add 1" }).click();
    await page.locator('[data-member="dave"]').waitFor();
    await page.getByRole("button", { name: "Leave group" }).click();
    await page.getByText("make somebody else admin first").waitFor();
    await alice.shot("group-notice");
    await page.getByRole("button", { name: "Close" }).click();

    await bob.page.getByRole("button", { name: "Group settings" }).click();
    await bob.page.getByRole("button", { name: "Leave group" }).click();
    await bob.under("You are no longer a member");
    await alice.page.locator(".event", { hasText: "left" }).waitFor();
    await alice.say("carol must not see this");
    await alice.status("carol must not see this", "sent");
    assert.ok(!(await carol.texts()).includes("carol must not see this"));
    await carol.page.close();
  });

  test("the lanes of a group in relaxed order are one conversation", async (t) => {
    if (!node.mock) return t.skip("a gateway spreads messages 30 s after the change; client/tests has a test that waits");
    const { page } = alice;
    const answer = await fetch(`${node.url}v1/groups`, {
      method: "POST",
      headers: { authorization: "Bearer alice/api" },
      body: JSON.stringify({ name: "Hall", members: ["bob"] }),
    });
    const { chat } = (await answer.json()) as { chat: string };
    await bob.openChat("Hall");
    await alice.openChat("Hall");
    await alice.say("before");
    await bob.sees("before");
    const order = { method: "PUT", headers: { authorization: "Bearer alice/api" }, body: JSON.stringify({ lanes: 8 }) };
    await fetch(`${node.url}v1/groups/${encodeURIComponent(chat)}/order`, order);
    const said = Array.from({ length: 20 }, (_, i) => [`alice r${i}`, `bob r${i}`]).flat();
    for (const text of said) await (text.startsWith("alice") ? alice : bob).say(text);
    for (const text of said) {
      await alice.sees(text);
      await bob.sees(text);
    }
    await bob.page.reload();
    await bob.live();
    await until("bob has scrolled up to the first message", async () => {
      await bob.page.locator(".messages").evaluate((e) => (e.scrollTop = 0));
      return (await bob.texts()).includes("before");
    });
    for (const text of said) await bob.sees(text);
    for (const person of [alice, bob]) {
      assert.deepEqual((await person.texts()).toSorted(), ["before", ...said].toSorted(), `what ${person.user} sees, each once`);
      assert.equal(await person.page.locator(".event", { hasText: "relaxed the order" }).count(), 1);
      assert.equal(await person.page.locator(`.chat-row[data-chat^="${chat}"]`).count(), 1);
    }
    assert.deepEqual(await alice.texts(), await bob.texts(), "both see the same order");
    for (const text of said.filter((s) => s.startsWith("alice"))) await alice.status(text, "read");
    assert.equal(await page.locator(".badge").count(), 0);
  });

  test("a new device of alice gets the chats and scrolls back through the history", async () => {
    const profile = await Profile.open();
    profiles.push(profile);
    const phone = await profile.person(node.url, "alice");
    await phone.live();
    await phone.openChat("Bob");
    await phone.sees("unsent two");
    assert.notEqual(await phone.page.locator(".shell").getAttribute("data-device"), await alice.page.locator(".shell").getAttribute("data-device"));
    await until("the first message is reached", async () => {
      await phone.page.locator(".messages").evaluate((e) => (e.scrollTop = 0));
      return (await phone.texts()).includes("hello bob");
    });
    await phone.page.getByText("This is where it begins.").waitFor();
    const texts = await phone.texts();
    assert.equal(new Set(texts).size, texts.length, "no message twice");
    assert.deepEqual(texts.filter((t) => t.startsWith("row ")), Array.from({ length: 40 }, (_, i) => `row ${i}`));
    await phone.say("from the other device");
    await alice.page.goto(`${node.url}?user=alice#/dm:alice:bob`);
    await alice.sees("from the other device");
    await bob.openChat("Alice");
    await bob.sees("from the other device");
  });

  test("two tabs of one person are two devices and see the same", async () => {
    const second = await (profiles[0] as Profile).person(node.url, "alice");
    await second.live();
    await second.openChat("Bob");
    await second.say("from the second tab");
    await alice.sees("from the second tab");
    await bob.sees("from the second tab");
    assert.notEqual(await second.page.locator(".shell").getAttribute("data-device"), await alice.page.locator(".shell").getAttribute("data-device"));
    assert.equal(await alice.phase(), "live");

    await node.kill();
    await second.say("left unsent by a closed tab");
    await second.bubble("left unsent by a closed tab").locator('.ticks[data-status="waiting"]').waitFor();
    await second.page.close();
    await node.up();
    await alice.page.reload();
    await alice.live();
    await alice.sees("left unsent by a closed tab");
    await bob.live();
    await bob.sees("left unsent by a closed tab");
  });

  test("no page had an error of its own", () => {
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });
});
