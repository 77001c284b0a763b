#!/usr/bin/env node
// A Hawser client for Node, written from docs/protocol.md alone; it speaks the binary hawser.v1.
//
//     chat.mjs --user bob --to alice --say "hello" --expect 2
//
// Logs in (demo), connects, sends each --say to the chat, prints what arrives and acknowledges it. Ends with 0 when
// every Send is "sent" and --expect messages of others have come, with 1 after --timeout seconds. Needs: npm install
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import WebSocket from "ws";

const { values: args } = parseArgs({
  options: {
    http: { type: "string", default: process.env.HAWSER_HTTP ?? "http://127.0.0.1:8080" },
    user: { type: "string" },
    to: { type: "string" }, // a user, or a group g:...
    say: { type: "string", multiple: true, default: [] },
    expect: { type: "string", default: "0" }, // messages of others to wait for
    timeout: { type: "string", default: "20" },
  },
});
if (!args.user || !args.to) throw new Error("--user and --to are needed");
const device = `node-${process.pid}`;
const chat = args.to.startsWith("g:") ? args.to : "dm:" + [args.user, args.to].sort().join(":");

// ---- section 3: protobuf, as far as control frames need it, and the fixed layouts ----
const varint = (n) => {
  const out = [];
  for (n = BigInt(n); n > 127n; n >>= 7n) out.push(Number((n & 127n) | 128n));
  return Buffer.from([...out, Number(n)]);
};
const field = (number, value) =>
  typeof value === "string" || Buffer.isBuffer(value)
    ? Buffer.concat([varint(number * 8 + 2), varint(Buffer.byteLength(value)), Buffer.from(value)])
    : Buffer.concat([varint(number * 8), varint(value)]);
const fields = (body) => {
  const out = {};
  let at = 0;
  const read = () => {
    for (let n = 0n, shift = 0n; ; shift += 7n) {
      const byte = body[at++];
      n |= BigInt(byte & 127) << shift;
      if (byte < 128) return n;
    }
  };
  while (at < body.length) {
    const key = Number(read());
    const n = read();
    out[key >> 3] = key & 7 ? body.subarray(at, (at += Number(n))) : n; // the last one wins: none here repeats
  }
  return out;
};
const frame = (type, body) => {
  const header = Buffer.alloc(8);
  header.writeUInt8(type, 0);
  header.writeUInt32LE(body.length, 4);
  return Buffer.concat([header, body]);
};
const u64 = (n) => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(n));
  return out;
};
const uuid7 = (ms) => {
  const id = Buffer.concat([Buffer.alloc(6), randomBytes(10)]);
  id.writeUIntBE(ms, 0, 6);
  id[6] = 0x70 | (id[6] & 0x0f);
  id[8] = 0x80 | (id[8] & 0x3f);
  return id;
};
const sendBody = (id, text) => {
  const [to, body] = [Buffer.from(chat), Buffer.from(text)];
  const fixed = Buffer.alloc(12); // type, shape, chat length, flags, envelopes u16, part, parts, body length u32
  fixed.set([1, 0, to.length, 0, 0, 0, 0, 1]);
  fixed.writeUInt32LE(body.length, 8);
  return Buffer.concat([id, u64(Date.now()), fixed, to, body]);
};
const message = (record) => {
  let at = 84;
  const cut = (length) => record.toString("utf8", at, (at += length));
  const [inChat, sender] = [cut(record[74]), cut(record[75])];
  at += record[76];
  return { seq: record.readBigUInt64LE(0), chat: inChat, sender, body: record.toString("utf8", at) };
};

// ---- section 5: log in, Hello, and what each frame does ----
const response = await fetch(args.http + "/v1/demo/login", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ user: args.user, device }),
});
const { token } = await response.json();
const ws = new WebSocket(args.http.replace("http", "ws") + "/v1/ws", ["hawser.v1"]);
const send = (type, body) => ws.send(frame(type, body));
const stop = (code, why) => {
  if (why) console.error(`${args.user}: ${why}`);
  process.exit(code);
};
setTimeout(() => stop(1, `not done after ${args.timeout} s`), Number(args.timeout) * 1000);
let skew = 0;
let live = false;
const unsent = new Set();
const seen = new Set();

const take = (type, body) => {
  const f = type === 0x85 ? {} : fields(body);
  let offset = 0n;
  if (type === 0x81) skew = Number(f[4]) - Date.now();
  if (type === 0x86) {
    live = true;
    console.log("live");
    for (const text of args.say) {
      const id = uuid7(Math.round(Date.now() + skew));
      unsent.add(id.toString("hex"));
      send(0x02, sendBody(id, text));
    }
  }
  if (type === 0x84) {
    if (f[4]) stop(1, `refused: ${f[4]} ${f[10] ?? ""}`);
    unsent.delete(f[2].toString("hex"));
    console.log(`sent ${f[5].toString("hex")} as number ${f[8]}`);
    offset = f[1] ?? 0n;
  }
  if (type === 0x85) {
    const m = message(body.subarray(16 + body.readUInt16LE(8)));
    const key = `${m.chat} ${m.seq}`;
    if (m.sender !== args.user && !seen.has(key)) {
      seen.add(key);
      console.log(`${m.sender}: ${m.body}`);
    }
    offset = body.readBigUInt64LE(0);
  }
  if (type === 0x87) offset = f[1] ?? 0n;
  if (type === 0x8d) console.error(`error: ${f[1]} ${f[2] ?? ""}`);
  if (offset) send(0x03, u64(offset)); // stored: it is on the screen
  if (live && unsent.size === 0 && seen.size >= Number(args.expect)) {
    send(0x0a, Buffer.alloc(0)); // Bye; the server closes with 1000
    live = false;
  }
};

ws.on("open", () => send(0x01, Buffer.concat([field(1, token), field(2, device), field(6, "example-node/1"), field(8, 1)])));
ws.on("message", (data) => {
  for (let at = 0; at < data.length; ) {
    const end = at + 8 + data.readUInt32LE(at + 4);
    take(data[at], data.subarray(at + 8, end));
    at = end;
  }
});
ws.on("close", (code, reason) => stop(code === 1000 ? 0 : 1, code === 1000 ? "" : `closed: ${code} ${reason}`));
ws.on("error", (error) => stop(1, error.message));
