//! `HAWSER_SHOTS=FOLDER npm run shots -- [--mock]`: pictures of the page, for a person to look at.

import { Node } from "./node";
import { Profile, SHOTS } from "./person";

if (SHOTS === undefined) {
  console.error("HAWSER_SHOTS must name a folder for the pictures");
  process.exit(2);
}
const node = await Node.start();
const profiles: Profile[] = [];
try {
  const light = await Profile.open();
  const dark = await Profile.open({ dark: true });
  const phone = await Profile.open({ width: 390, height: 800 });
  profiles.push(light, dark, phone);
  const login = await light.context.newPage();
  await login.goto(node.url);
  await login.locator('[data-user="dave"]').waitFor();
  await login.screenshot({ path: `${SHOTS}/login.png` });
  await login.close();

  const alice = await light.person(node.url, "alice");
  const bob = await dark.person(node.url, "bob");
  const carol = await phone.person(node.url, "carol");
  for (const person of [alice, bob, carol]) await person.live();
  await carol.shot("phone-empty");
  await carol.openDm("bob");
  await carol.say("Lunch?");
  await alice.openDm("bob");
  await alice.say("Morning! Did the new rope arrive?");
  await alice.status("Morning! Did the new rope arrive?", "delivered");
  await bob.openDm("alice");
  await bob.say("It did. Forty metres of it, blue, and heavier than I thought. I left it in the shed behind the boat house.");
  await bob.say("🎉");
  await alice.sees("🎉");
  await alice.say("Perfect.\nThe plan is here: https://example.org/trip/2026#day-1, have a look when you can.");
  await bob.sees("🎉");
  await bob.composer.pressSequentially("Looking", { delay: 20 });
  await alice.under("typing…");
  await alice.shot("chat-light");
  await bob.shot("chat-dark");

  await alice.page.getByRole("button", { name: "New group" }).click();
  await alice.page.getByRole("textbox", { name: "Name of the group" }).fill("Boat trip");
  for (const user of ["bob", "carol"]) await alice.page.locator(`dialog [data-user="${user}"]`).click();
  await alice.shot("new-group");
  await alice.page.getByRole("button", { name: "Create group of 3" }).click();
  await alice.say("Who brings what?");
  await carol.page.getByRole("link", { name: "Back to all chats" }).click();
  await carol.shot("phone-list");
  await carol.openChat("Boat trip");
  await carol.sees("Who brings what?");
  await carol.say("I have the charts.");
  await carol.shot("phone-group");
  await alice.sees("I have the charts.");
  await alice.page.getByRole("button", { name: "Who has it" }).first().click();
  await alice.shot("group-light");
} finally {
  for (const profile of profiles) await profile.close();
  await node.stop();
}
