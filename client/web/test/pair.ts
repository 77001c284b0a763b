//! A session and the test world in virtual time: the disk, the socket and the clock are arrays.

import { hex } from "../src/protocol/ids";
import type { MessageRecord } from "../src/protocol/layout";
import { decodeText, encodeText } from "../src/protocol/proto";
import { Session } from "../src/session/session";
import { emptyBatch } from "../src/session/types";
import type { Batch, Effect, Now, PendingSend, Phase, Saved } from "../src/session/types";
import type { Conn, World } from "./mock/world";

/** Deterministic numbers (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Clock {
  ms = 0;
  readonly startMs = 1_750_000_000_000;
  get now(): Now {
    return { ms: this.ms, wallMs: this.startMs + this.ms };
  }
}

/** What a device keeps when its program dies. */
export class Disk {
  saved: Saved = {
    cursor: undefined,
    tracks: new Map(),
    pending: [],
    unconfirmedReads: new Map(),
    skewMs: 0,
  };
  messages = new Map<string, MessageRecord>();
  marks = new Map<string, { delivered: bigint; read: bigint }>();
  /** Messages in the order in which they were first shown. */
  shown: MessageRecord[] = [];
  chatList: string[] | undefined;
  /** Every text of ours that was ever on this disk. */
  readonly accepted = new Set<string>();

  write(batch: Batch): void {
    for (const record of batch.records) {
      const key = `${record.chat} ${record.seq}`;
      if (this.messages.has(key)) continue;
      this.messages.set(key, record);
      this.shown.push(record);
    }
    for (const { chat, user, deliveredSeq, readSeq } of batch.marks) {
      const old = this.marks.get(`${chat} ${user}`) ?? { delivered: 0n, read: 0n };
      const delivered = deliveredSeq > old.delivered ? deliveredSeq : old.delivered;
      this.marks.set(`${chat} ${user}`, { delivered, read: readSeq > old.read ? readSeq : old.read });
    }
    for (const [chat, track] of batch.tracks) this.saved.tracks.set(chat, track);
    const without = (list: PendingSend[], ids: string[]): PendingSend[] =>
      list.filter((p) => !ids.includes(hex(p.id)));
    this.saved.pending = without(this.saved.pending, batch.pendingPut.map((p) => hex(p.id)));
    this.saved.pending.push(...batch.pendingPut);
    for (const { body } of batch.pendingPut) this.accepted.add(decodeText(body));
    this.saved.pending = without(this.saved.pending, batch.pendingDelete);
    if (batch.cursor !== undefined) this.saved.cursor = batch.cursor ?? undefined;
    if (batch.skewMs !== undefined) this.saved.skewMs = batch.skewMs;
    if (batch.chatListComplete) this.chatList = batch.chatListComplete;
  }

  texts(chat: string): string[] {
    return [...this.messages.values()]
      .filter((r) => r.chat === chat && r.messageType === 1)
      .sort((a, b) => (a.seq < b.seq ? -1 : 1))
      .map((r) => decodeText(r.body));
  }
}

/** One device: session, disk, and the links that it has open. */
export class Device {
  session: Session;
  readonly links = new Map<number, Conn | undefined>();
  phase: Phase = { kind: "stopped" };
  readonly phases: string[] = [];
  readonly other: Effect[] = [];
  readonly opened: string[] = [];
  tokenFetches = 0;
  /** The server cannot be reached. */
  unreachable = false;
  /** Nobody is at this address. */
  deadUrl = "";
  /** Bytes go nowhere in both directions. */
  blackHole = false;
  diskStopped = false;
  private settling = false;
  private readonly waitingBatches: { ticket: number; batch: Batch }[] = [];
  private readonly random: () => number;

  constructor(
    readonly world: World,
    readonly clock: Clock,
    readonly user: string,
    readonly device: string,
    readonly disk = new Disk(),
    seed = 1,
  ) {
    this.random = seeded(seed);
    this.session = this.boot();
  }

  private boot(): Session {
    const chance = {
      unit: this.random,
      bytes: (n: number) => Uint8Array.from({ length: n }, () => Math.floor(this.random() * 256)),
    };
    const config = {
      user: this.user,
      device: this.device,
      url: "ws://home/",
      client: "test",
      acceptsUrl: (url: string) => url.startsWith("ws://"),
    };
    return new Session(config, chance, structuredClone(this.disk.saved));
  }

  /** The program dies and starts again from what is on the disk. */
  crash(): void {
    for (const [id, conn] of this.links) if (conn) this.world.disconnect(conn), this.links.delete(id);
    this.links.clear();
    this.waitingBatches.length = 0;
    this.session = this.boot();
    this.start();
  }

  start(): void {
    this.session.start(this.clock.now);
    this.settle();
  }

  say(chat: string, text: string): string {
    const { id } = this.session.submit(chat, 1, encodeText(text), this.clock.now);
    this.settle();
    return hex(id);
  }

  settle(): void {
    if (this.settling) return;
    this.settling = true;
    for (let effects = this.session.takeEffects(); effects.length > 0; effects = this.session.takeEffects()) {
      for (const effect of effects) this.perform(effect);
    }
    this.settling = false;
  }

  resumeDisk(): void {
    this.diskStopped = false;
    for (const { ticket, batch } of this.waitingBatches.splice(0)) this.store(ticket, batch);
    this.settle();
  }

  private store(ticket: number, batch: Batch): void {
    if (this.diskStopped) {
      this.waitingBatches.push({ ticket, batch });
      return;
    }
    this.disk.write(batch);
    this.session.handleStored(ticket, this.clock.now);
  }

  private perform(effect: Effect): void {
    const { now } = this.clock;
    switch (effect.do) {
      case "open":
        this.opened.push(effect.url);
        return this.open(effect.link);
      case "transmit": {
        const conn = this.links.get(effect.link);
        if (conn && !this.blackHole) this.world.receive(conn, effect.bytes);
        return;
      }
      case "close": {
        const conn = this.links.get(effect.link);
        this.links.delete(effect.link);
        if (conn) this.world.disconnect(conn);
        return;
      }
      case "fetchToken":
        this.tokenFetches += 1;
        return this.session.handleToken(`${this.user}/${this.device}`, now.wallMs + 3_600_000, now);
      case "store":
        return this.store(effect.ticket, effect.batch);
      case "phase":
        this.phase = effect.phase;
        this.phases.push(effect.phase.kind);
        return;
      default:
        this.other.push(effect);
    }
  }

  private open(link: number): void {
    const dead = this.unreachable || this.opened.at(-1) === this.deadUrl;
    if (dead) return this.session.handleClosed(link, 1006, "", this.clock.now);
    const toSession: Uint8Array[] = [];
    let draining = false;
    const conn = this.world.connect(
      (bytes) => {
        if (this.blackHole) return;
        toSession.push(bytes);
        if (draining) return;
        draining = true;
        for (let b = toSession.shift(); b; b = toSession.shift()) {
          this.session.handleMessage(link, b, this.clock.now);
          this.settle();
        }
        draining = false;
      },
      (code, reason) => {
        this.links.delete(link);
        this.session.handleClosed(link, code, reason, this.clock.now);
        this.settle();
      },
    );
    this.links.set(link, conn);
    this.session.handleOpened(link, this.clock.now);
  }
}

/** Lets virtual time pass for all devices, timer by timer. */
export function pass(clock: Clock, devices: Device[], ms: number): void {
  const end = clock.ms + ms;
  for (let guard = 0; guard < 100_000; guard += 1) {
    for (const device of devices) device.settle();
    const times = devices.map((d) => d.session.nextTimeoutMs() ?? Infinity);
    const next = Math.min(...times);
    if (next > end) break;
    clock.ms = Math.max(clock.ms, next);
    for (const device of devices) {
      if ((device.session.nextTimeoutMs() ?? Infinity) > clock.ms) continue;
      device.session.handleTimeout(clock.now);
      device.settle();
    }
    if (guard === 99_999) throw new Error("timers do not come to rest");
  }
  clock.ms = end;
}

export { emptyBatch };
