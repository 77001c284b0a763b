import { describe, expect, it } from "vitest";
import { others, othersAt, statusByRecipient, statusOf } from "../src/app/status";
import { chatTitle, dayText, list, membershipText, presenceText, previewText, typingText } from "../src/app/words";
import { encodeText } from "../src/protocol/proto";
import { newChatRow } from "../src/store/rows";
import type { MarkRow, MessageRow } from "../src/store/rows";

const NAMES = new Map([
  ["alice", "Alice"],
  ["bob", "Bob"],
  ["carol", "Carol"],
]);

function marks(...list: [string, bigint, bigint][]): Map<string, MarkRow> {
  return new Map(list.map(([user, deliveredSeq, readSeq]) => [user, { chat: "g:x", user, deliveredSeq, readSeq }]));
}

function row(part: Partial<MessageRow>): MessageRow {
  return {
    chat: "g:x",
    key: "",
    seq: 5n,
    ordinal: 1,
    clientMsgId: "",
    sendTsMs: 0,
    storedTsMs: 0,
    messageType: 1,
    sender: "bob",
    senderDevice: "",
    body: encodeText("hello\n  there"),
    ...part,
  };
}

const change = (sender: string, body: object): string =>
  membershipText(row({ sender, messageType: 3, body: encodeText(JSON.stringify(body)) }), "alice", NAMES);

describe("ticks", () => {
  it("a group's message is delivered and read when everybody has it and has read it", () => {
    const two = ["bob", "carol"];
    expect(statusOf({ seq: 5n }, two, marks())).toBe("sent");
    expect(statusOf({ seq: 5n }, two, marks(["bob", 9n, 9n]))).toBe("sent");
    expect(statusOf({ seq: 5n }, two, marks(["bob", 9n, 9n], ["carol", 5n, 0n]))).toBe("delivered");
    expect(statusOf({ seq: 5n }, two, marks(["bob", 9n, 9n], ["carol", 5n, 5n]))).toBe("read");
    expect(statusByRecipient({ seq: 5n }, two, marks(["bob", 9n, 9n], ["carol", 5n, 0n]))).toEqual(
      new Map([
        ["bob", "read"],
        ["carol", "delivered"],
      ]),
    );
  });

  it("what was read was delivered, and notes to oneself stay sent", () => {
    expect(statusOf({ seq: 5n }, ["bob", "carol"], marks(["bob", 0n, 7n], ["carol", 6n, 0n]))).toBe("delivered");
    expect(others(newChatRow("dm:alice:alice"), "alice")).toEqual([]);
    expect(statusOf({ seq: 5n }, [], marks())).toBe("sent");
    expect(others(newChatRow("dm:alice:bob"), "alice")).toEqual(["bob"]);
  });
});

describe("recipients", () => {
  it("somebody who was added later is not waited for", () => {
    const add = { sender: "alice", messageType: 3, body: encodeText('{"op":"add","users":["dave"]}') };
    const rows = [row({ sender: "alice" }), row(add), row({ sender: "alice" })];
    expect(othersAt(rows, ["bob", "dave"])).toEqual([["bob"], ["bob", "dave"], ["bob", "dave"]]);
  });
});

describe("words", () => {
  it("titles are the other's name, the group's name, or oneself", () => {
    expect(chatTitle(newChatRow("dm:alice:bob"), "alice", NAMES)).toBe("Bob");
    expect(chatTitle(newChatRow("dm:alice:zed"), "alice", NAMES)).toBe("zed");
    expect(chatTitle(newChatRow("dm:alice:alice"), "alice", NAMES)).toBe("Notes to myself");
    expect(chatTitle({ chat: "g:x", name: "Boat" }, "alice", NAMES)).toBe("Boat");
  });

  it("membership messages are sentences", () => {
    expect(change("alice", { op: "create", users: ["alice", "bob", "carol"], name: "X" })).toBe("You created “X” with Bob and Carol");
    expect(change("bob", { op: "add", users: ["alice"] })).toBe("Bob added you");
    expect(change("bob", { op: "remove", users: ["carol"] })).toBe("Bob removed Carol");
    expect(change("bob", { op: "leave", users: ["bob"] })).toBe("Bob left");
    expect(change("bob", { op: "update", name: "Y" })).toBe("Bob named the group “Y”");
    expect(change("bob", { op: "admin", users: ["alice"], admin: true })).toBe("Bob made you admin");
    expect(change("bob", { op: "unheard of" })).toBe("The group was changed");
  });

  it("previews are one line, with the sender in a group", () => {
    expect(previewText(row({}), "alice", NAMES)).toBe("Bob: hello there");
    expect(previewText(row({ chat: "dm:alice:bob" }), "alice", NAMES)).toBe("hello there");
    expect(previewText(row({ body: Uint8Array.of(0xff) }), "bob", NAMES)).toBe("Message");
  });

  it("presence, typing and days read as people say them", () => {
    const now = new Date(2026, 4, 20, 12, 0).getTime();
    expect(presenceText({ online: true, lastSeenMs: 0 }, now)).toBe("online");
    expect(presenceText({ online: false, lastSeenMs: now - 30_000 }, now)).toBe("last seen just now");
    expect(presenceText({ online: false, lastSeenMs: now - 300_000 }, now)).toBe("last seen 5 min ago");
    expect(presenceText({ online: false, lastSeenMs: now - 86_400_000 }, now)).toMatch(/^last seen yesterday at /);
    expect(presenceText(undefined, now)).toBe("");
    expect(typingText(["bob", "carol"], true, NAMES)).toBe("Bob and Carol are typing…");
    expect(typingText(["bob"], false, NAMES)).toBe("typing…");
    expect(dayText(now - 3_600_000, now)).toBe("Today");
    expect(dayText(now - 86_400_000, now)).toBe("Yesterday");
    expect(list(["a", "b", "c"])).toBe("a, b and c");
  });
});
