import { describe, expect, it } from "vitest";
import { mayRetry, policyOfClose } from "../src/protocol/codes";
import { decodeClientFrames, decodeServerFrames, encodeFrame, splitFrames } from "../src/protocol/frames";
import type { ClientFrame } from "../src/protocol/frames";
import { dmChat, dmPeer, dmUsers, hex, seqKey, unhex, uuidText, uuidTimeMs, uuidV7 } from "../src/protocol/ids";
import { decodeDeliver, decodeRecord, encodeRecord, encodeSend } from "../src/protocol/layout";
import type { MessageRecord } from "../src/protocol/layout";
import { decode, encode, encodeText, WireError } from "../src/protocol/proto";
import * as s from "../src/protocol/schema";
import { seeded } from "./pair";

const ID = unhex("0192a4b6c8d07abc8def0123456789ab");
const RECORD: MessageRecord = {
  seq: (1n << 48n) + 7n,
  prevSeq: (1n << 48n) + 5n,
  ordinal: 3,
  messageId: unhex("0192a4b6c8d170008000000000000007"),
  clientMsgId: ID,
  sendTsMs: 1_750_000_000_001,
  storedTsMs: 1_750_000_000_002,
  messageType: 1,
  flags: 0,
  chat: "dm:alice:bob",
  sender: "alice",
  senderDevice: "web-1",
  body: encodeText("hi"),
};
const RECORD_HEX =
  "07000000000001000500000000000100" + // seq, prev_seq
  "0300000000000000" + // ordinal
  "0192a4b6c8d170008000000000000007" + // message_id
  "0192a4b6c8d07abc8def0123456789ab" + // client_msg_id
  "01dc207497010000" + // send_ts_ms
  "02dc207497010000" + // stored_ts_ms
  "01000c0505000000" + // type, flags, lengths of chat, sender, device, 3 reserved
  "02000000" + // body_len
  "646d3a616c6963653a626f62616c6963657765622d316869";

describe("fixed layouts", () => {
  it("Send is 36 fixed bytes, chat, body", () => {
    const frame: ClientFrame = {
      type: "send",
      body: {
        clientMsgId: ID,
        sendTsMs: 1_750_000_000_001,
        messageType: 1,
        retry: true,
        chat: "dm:alice:bob",
        body: encodeText("hi"),
      },
    };
    expect(hex(encodeFrame(frame))).toBe(
      "0200000032000000" + // Send, 50 bytes
        "0192a4b6c8d07abc8def0123456789ab" +
        "01dc207497010000" +
        "01000c01" + // type, shape, chat_len, flags: retry
        "00000001" + // envelopes, part 0 of 1
        "02000000" +
        "646d3a616c6963653a626f626869",
    );
    expect(decodeClientFrames(encodeFrame(frame))).toEqual([frame]);
  });

  it("Ack is one offset", () => {
    expect(hex(encodeFrame({ type: "ack", body: 258n }))).toBe("0300000008000000" + "0201000000000000");
  });

  it("the message record is 84 fixed bytes, chat, sender, device, body", () => {
    expect(hex(encodeRecord(RECORD))).toBe(RECORD_HEX);
    expect(decodeRecord(unhex(RECORD_HEX))).toEqual(RECORD);
  });

  it("Deliver is a 16-byte prefix, the envelope, the record", () => {
    const raw = unhex("2a00000000000000" + "0300" + "0100" + "00000000" + "aabbcc" + RECORD_HEX);
    const deliver = decodeDeliver(raw);
    expect(deliver).toEqual({ offset: 42n, replayed: true, ackLater: false, envelope: unhex("aabbcc"), record: RECORD });
  });

  it("seq keeps all of its 64 bits", () => {
    const record = { ...RECORD, seq: 0xffff_ffff_ffff_fffen };
    expect(decodeRecord(encodeRecord(record)).seq).toBe(0xffff_ffff_ffff_fffen);
  });

  it("every shorter or longer body is refused, never misread", () => {
    const whole = unhex(RECORD_HEX);
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => decodeRecord(whole.subarray(0, length))).toThrow(WireError);
    }
    expect(() => decodeRecord(Uint8Array.of(...whole, 0))).toThrow(WireError);
  });
});

describe("frames", () => {
  it("several frames of one WebSocket message; unknown types are left out", () => {
    const queued = encodeFrame({ type: "queued", body: { clientMsgId: ID } });
    const unknown = unhex("f000000002000000abcd");
    const caughtUp = encodeFrame({ type: "caughtUp", body: { offset: 9n, resumeToken: ID } });
    const frames = decodeServerFrames(Uint8Array.of(...queued, ...unknown, ...caughtUp));
    expect(frames.map((f) => f.type)).toEqual(["queued", "caughtUp"]);
  });

  it("a frame that is cut off or too large is refused", () => {
    expect(() => splitFrames(unhex("8500000001000000"))).toThrow(WireError);
    expect(() => splitFrames(unhex("850000000100"))).toThrow(WireError);
    expect(() => splitFrames(unhex("85000000f9ff0000"))).toThrow("too large");
  });

  it("random bytes end in frames or in WireError", () => {
    const random = seeded(7);
    for (let i = 0; i < 20_000; i += 1) {
      const body = Uint8Array.from({ length: Math.floor(random() * 40) }, () => Math.floor(random() * 256));
      const type = 0x81 + Math.floor(random() * 14);
      const raw = Uint8Array.of(type, 0, 0, 0, body.length, 0, 0, 0, ...body);
      try {
        decodeServerFrames(raw);
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }
  });
});

describe("protobuf", () => {
  it("known bytes of Hello", () => {
    const hello = { token: "t", device: "d", resumeToken: Uint8Array.of(1), lastOffset: 0n, capabilities: ["x", "y"], liveOnly: true, heartbeatMs: 300 };
    const raw = encode(s.Hello, hello);
    expect(hex(raw)).toBe("0a0174" + "120164" + "1a0101" + "2000" + "2a0178" + "2a0179" + "4001" + "48ac02");
    expect(decode(s.Hello, raw)).toEqual({ ...hello, client: "", redirectNever: false });
  });

  it("nested, repeated and absent fields", () => {
    const raw = encode(s.SyncPage, {
      syncId: 5,
      records: [ID, new Uint8Array()],
      watermarks: [{ user: "bob", deliveredSeq: (1n << 63n) + 1n, readSeq: 0n }],
      chats: [{ chat: "g:x", name: "X", lastSeq: 1n, lastOrdinal: 1, readSeq: 0n, members: [{ user: "bob", admin: true }], memberCount: 1, visibleAfterOrdinal: 0 }],
    });
    const page = decode(s.SyncPage, raw);
    expect(page.records).toEqual([ID, new Uint8Array()]);
    expect(page.watermarks[0]?.deliveredSeq).toBe((1n << 63n) + 1n);
    expect(page.chats[0]?.members).toEqual([{ user: "bob", admin: true }]);
    expect(page.more).toBe(false);
  });

  it("unknown fields of every wire type are skipped", () => {
    const unknown = "f83f01" + "f93f0102030405060708" + "fa3f02aabb" + "fd3f01020304";
    const raw = unhex(unknown + "0a0165" + unknown);
    expect(decode(s.Bye, raw)).toEqual({ reason: "e" });
  });

  it.each(["0a", "0a05aa", "08ffffffffffffffffffff01", "0a02c328", "0b", "00"])("%s is refused", (bad) => {
    expect(() => decode(s.Typing, unhex(bad))).toThrow(WireError);
  });
});

describe("ids and codes", () => {
  it("UUIDv7 has time, version and variant", () => {
    const id = uuidV7(1_750_000_000_001, new Uint8Array(10).fill(255));
    expect(uuidText(id)).toBe("01977420-dc01-7fff-bfff-ffffffffffff");
    expect(uuidTimeMs(id)).toBe(1_750_000_000_001);
  });

  it("chat ids", () => {
    expect(dmChat("bob", "alice")).toBe("dm:alice:bob");
    expect(dmUsers("dm:a:b")).toEqual(["a", "b"]);
    expect(dmPeer("dm:a:b", "b")).toBe("a");
    expect(dmPeer("dm:a:a", "a")).toBe("a");
    expect(dmUsers("g:x")).toBeUndefined();
  });

  it("the text order of keys is the order of seqs", () => {
    expect(seqKey(255n)).toBe("00000000000000ff");
    expect(seqKey(9n) < seqKey(10n)).toBe(true);
    expect(seqKey(0xffff_ffff_ffff_ffffn) > seqKey(1n << 48n)).toBe(true);
  });

  it("bands of close codes", () => {
    const policies = [1000, 1001, 1002, 1006, 4000, 4100, 4205, 4300, 4999].map(policyOfClose);
    expect(policies).toEqual([
      "back-off", "at-once", "never", "back-off", "never", "new-token", "back-off", "at-once", "back-off",
    ]);
    expect([1, 32, 40, 44, 50].map(mayRetry)).toEqual([false, false, true, true, true]);
  });

  it("a Send of the greatest body fits a frame", () => {
    const send = { clientMsgId: ID, sendTsMs: 0, messageType: 1, retry: false, chat: "g:x", body: new Uint8Array(61_440) };
    expect(encodeSend(send).length).toBeLessThan(65_536 - 8);
  });
});
