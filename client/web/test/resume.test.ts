//! A session against a server that is written out frame by frame, and a disk that is late: what may be acknowledged,
//! and where a connection goes on.

import { beforeEach, describe, expect, it } from "vitest";
import { decodeClientFrames, encodeFrame } from "../src/protocol/frames";
import type { ClientFrame, ServerFrame } from "../src/protocol/frames";
import { hex, uuidV7 } from "../src/protocol/ids";
import type { MessageRecord } from "../src/protocol/layout";
import { Session } from "../src/session/session";
import type { Batch, Now, PendingSend, Saved } from "../src/session/types";

const CHAT = "dm:alice:bob";
const START_MS = 1_750_000_000_000;
const EMPTY = new Uint8Array();

function record(n: number): MessageRecord {
  return {
    seq: BigInt(n),
    prevSeq: BigInt(n - 1),
    ordinal: n,
    messageId: new Uint8Array(16),
    clientMsgId: Uint8Array.from({ length: 16 }, () => n),
    sendTsMs: 0,
    storedTsMs: 0,
    messageType: 1,
    flags: 0,
    chat: CHAT,
    sender: "bob",
    senderDevice: "x",
    body: EMPTY,
  };
}

/** The session of alice, who knows four messages and the offsets below 5. */
class Bench {
  readonly session: Session;
  link = 0;
  phase = "stopped";
  readonly sent: ClientFrame[] = [];
  /** Written by the session, not yet on the disk. */
  readonly tickets: number[] = [];
  readonly batches: Batch[] = [];
  private ms = 0;

  constructor(saved: Partial<Saved> = {}) {
    const chance = { unit: () => 0.5, bytes: (n: number) => new Uint8Array(n) };
    const config = { user: "alice", device: "web-1", url: "ws://home/", client: "test", acceptsUrl: () => true };
    this.session = new Session(config, chance, {
      cursor: { next: 5n, resumeToken: Uint8Array.of(1) },
      tracks: new Map([[CHAT, { seq: 4n, ordinal: 4 }]]),
      pending: [],
      unconfirmedReads: new Map(),
      skewMs: 0,
      ...saved,
    });
    this.session.start(this.now);
    this.take();
  }

  get now(): Now {
    return { ms: this.ms, wallMs: START_MS + this.ms };
  }

  private take(): void {
    for (const effect of this.session.takeEffects()) {
      if (effect.do === "fetchToken") this.session.handleToken("t", START_MS + 3_600_000, this.now);
      else if (effect.do === "open") this.link = effect.link;
      else if (effect.do === "phase") this.phase = effect.phase.kind;
      else if (effect.do === "transmit") this.sent.push(...decodeClientFrames(effect.bytes));
      else if (effect.do === "store") {
        this.tickets.push(effect.ticket);
        this.batches.push(effect.batch);
      }
    }
    const more = this.link === 0 && this.phase === "connecting";
    if (more) this.take();
  }

  receive(frame: ServerFrame): void {
    this.session.handleMessage(this.link, encodeFrame(frame), this.now);
    this.take();
  }

  /** The message of an offset: they are numbered alike. */
  deliver(n: number): void {
    this.receive({
      type: "deliver",
      body: { offset: BigInt(n), replayed: false, ackLater: false, envelope: EMPTY, record: record(n) },
      bytes: 0,
    });
  }

  hello(): ClientFrame | undefined {
    this.session.handleOpened(this.link, this.now);
    this.take();
    return this.sent.at(-1);
  }

  welcome(recovered: boolean): void {
    const body = {
      session: "s",
      user: "alice",
      device: "web-1",
      serverTimeMs: this.now.wallMs,
      generation: 1,
      partition: 0,
      recovered,
      head: 9n,
      resumeToken: Uint8Array.of(2),
      heartbeatMs: 600_000,
      mapVersion: 1,
      tokenExpiresAtMs: 0,
      limits: undefined,
      node: "test",
    };
    this.receive({ type: "welcome", body });
  }

  caughtUp(): void {
    this.receive({ type: "caughtUp", body: { offset: 0n, resumeToken: Uint8Array.of(3) } });
  }

  /** The connection is lost and another opened, as far as its Hello. */
  reconnect(): ClientFrame | undefined {
    this.session.handleClosed(this.link, 4300, "", this.now);
    this.take();
    this.pass(5_000);
    return this.hello();
  }

  pass(ms: number): void {
    this.ms += ms;
    this.session.handleTimeout(this.now);
    this.take();
  }

  /** The disk has done all that was given to it. */
  disk(): void {
    for (let id = this.tickets.shift(); id !== undefined; id = this.tickets.shift()) {
      this.session.handleStored(id, this.now);
      this.take();
    }
  }

  /** What the last Ping acknowledges. */
  pinged(): (bigint | undefined)[] {
    return this.sent.flatMap((frame) => (frame.type === "ping" ? [frame.body.offset] : [])).slice(-1);
  }

  acks(): bigint[] {
    this.pass(1_000);
    return this.sent.flatMap((frame) => (frame.type === "ack" ? [frame.body] : []));
  }

  positions(): (bigint | undefined)[] {
    return this.batches.flatMap((batch) => (batch.cursor === undefined ? [] : [batch.cursor?.next]));
  }
}

let bench: Bench;

beforeEach(() => {
  bench = new Bench();
  bench.hello();
});

describe("acks after a reconnect", () => {
  it("do not pass what the present connection has brought, though the disk has it by now", () => {
    bench.welcome(true);
    bench.deliver(5);
    expect(bench.reconnect()).toMatchObject({ body: { lastOffset: 4n } });
    bench.welcome(true);
    bench.disk();
    expect(bench.acks()).toEqual([]);
    bench.deliver(5);
    bench.disk();
    expect(bench.acks()).toEqual([5n]);
  });

  it("cover what the disk finished between Hello and Welcome: the server waits for them", () => {
    bench.welcome(true);
    bench.deliver(5);
    bench.deliver(6);
    bench.reconnect();
    bench.disk();
    bench.welcome(true);
    bench.deliver(5);
    bench.deliver(6);
    bench.disk();
    expect(bench.acks()).toEqual([6n]);
  });
});

describe("a replay of what the disk has", () => {
  it("is acknowledged though it brings nothing to write", () => {
    const refusal = { chat: CHAT, error: 30, text: "", retryAfterMs: 0, duplicate: false };
    const place = { messageId: EMPTY, seq: 0n, prevSeq: 0n, ordinal: 0, storedTsMs: 0 };
    const body = { offset: 5n, clientMsgId: new Uint8Array(16), ...refusal, ...place };
    bench.welcome(true);
    bench.receive({ type: "sendResult", body });
    bench.reconnect();
    bench.disk();
    bench.welcome(true);
    bench.disk();
    bench.receive({ type: "sendResult", body });
    // Nobody waits for it: it rides on the next Ping.
    expect(bench.acks()).toEqual([]);
    bench.pass(600_000);
    expect(bench.pinged()).toEqual([5n]);
  });
});

describe("the position on the disk", () => {
  it("never goes back, whatever is written while an earlier batch is under way", () => {
    bench.welcome(true);
    bench.deliver(5);
    bench.deliver(6);
    bench.reconnect();
    bench.welcome(true);
    bench.caughtUp();
    bench.deliver(5);
    bench.disk();
    bench.deliver(6);
    bench.deliver(7);
    bench.disk();
    const positions = bench.positions().map(Number);
    expect(positions).toEqual([...positions].sort((a, b) => a - b));
    expect(positions.at(-1)).toBe(8);
  });
});

describe("recovered: true", () => {
  it("counts when the Hello showed a resume token", () => {
    bench.welcome(true);
    expect(bench.phase).toBe("catching-up");
  });

  it("is not believed when the Hello showed none: it syncs", () => {
    bench = new Bench({ cursor: undefined });
    expect(bench.hello()).toMatchObject({ body: { resumeToken: EMPTY } });
    bench.welcome(true);
    expect([bench.phase, bench.sent.at(-1)?.type]).toEqual(["syncing", "sync"]);
  });
});

describe("a message of ours that comes", () => {
  it("ends what is kept under its id, also when an earlier attempt had been refused", () => {
    const own = { ...record(5), sender: "alice", senderDevice: "web-1" };
    const failed = { code: 30, text: "" };
    const send = { id: own.clientMsgId, chat: CHAT, messageType: 1, body: EMPTY, sendTsMs: 0, failed };
    bench = new Bench({ pending: [send] });
    bench.hello();
    bench.welcome(true);
    bench.receive({ type: "deliver", body: { offset: 5n, replayed: true, ackLater: false, envelope: EMPTY, record: own }, bytes: 0 });
    expect(bench.batches.at(-1)?.pendingDelete).toEqual([hex(send.id)]);
  });
});

describe("a SendResult", () => {
  it("that is a duplicate of a message further back still writes the record of the pending Send", () => {
    const id = uuidV7(START_MS, new Uint8Array(10));
    const send: PendingSend = { id, chat: CHAT, messageType: 1, body: Uint8Array.of(7), sendTsMs: START_MS };
    bench = new Bench({ pending: [send] });
    bench.hello();
    bench.welcome(true);
    bench.caughtUp();
    const place = { messageId: new Uint8Array(16), seq: 3n, prevSeq: 2n, ordinal: 3, storedTsMs: START_MS };
    const fine = { error: 0, text: "", retryAfterMs: 0, duplicate: true };
    bench.receive({ type: "sendResult", body: { offset: 5n, clientMsgId: id, chat: CHAT, ...place, ...fine } });
    const batch = bench.batches.at(-1);
    expect(batch?.records.map((r) => [r.seq, r.sender, r.body])).toEqual([[3n, "alice", Uint8Array.of(7)]]);
    expect(batch?.pendingDelete).toHaveLength(1);
    expect(batch?.cursor?.next).toBe(6n);
  });
});
