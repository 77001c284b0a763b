//! Moves bytes for a session: WebSocket, disk, timer and token. What to do is decided in session/.

import { ApiError } from "../api/api";
import type { Login } from "../api/api";
import { SUBPROTOCOL } from "../protocol/limits";
import { Session } from "../session/session";
import type { Batch, Chance, Config, Effect, Now, Saved } from "../session/types";
import { Writer } from "./writer";

/** The part of a WebSocket that is used; tests bring their own. */
export interface Socket {
  binaryType: string;
  readyState: number;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(bytes: Uint8Array): void;
  close(code: number, reason: string): void;
}

/** What the driver stands on. */
export interface Ground {
  now(): Now;
  chance: Chance;
  socket(url: string, protocol: string): Socket;
  /** Resolves when the batch is on the disk. Batches come one at a time, in order. */
  write(batch: Batch): Promise<void>;
  login(): Promise<Login>;
  after(ms: number, run: () => void): unknown;
  cancel(timer: unknown): void;
}

/** What the application is told: the session's effects that are not the driver's, and a lost disk. */
export interface Listener {
  effect(effect: Effect): void;
  diskFailed(error: unknown): void;
}

const OPEN = 1;
/** setTimeout's largest delay, milliseconds. */
const TIMER_MS_MAX = 2_147_483_647;
/** Asking for a token that the server would say has no expiry: a day, milliseconds. */
const NO_EXPIRY_MS = 86_400_000;

export class Driver {
  readonly session: Session;
  private readonly sockets = new Map<number, Socket>();
  private timer: unknown;
  private readonly writer: Writer;
  private running = false;

  constructor(
    config: Config,
    saved: Saved,
    private readonly ground: Ground,
    private readonly listener: Listener,
  ) {
    this.session = new Session(config, ground.chance, saved);
    this.writer = new Writer(
      (batch) => ground.write(batch),
      (tickets) => this.stored(tickets),
      (error) => this.diskFailed(error),
    );
  }

  /** Runs an input of the session and carries out what follows from it. */
  input<T>(run: (session: Session, now: Now) => T): T {
    const result = run(this.session, this.ground.now());
    this.settle();
    return result;
  }

  /** Ends when everything given to the disk so far is there. */
  async flushed(): Promise<void> {
    await this.writer.flushed();
  }

  private settle(): void {
    if (this.running) return; // an effect caused an input: the loop below sees its effects
    this.running = true;
    for (let batch = this.session.takeEffects(); batch.length > 0; batch = this.session.takeEffects()) {
      for (const effect of batch) this.perform(effect);
    }
    this.running = false;
    this.arm();
  }

  private arm(): void {
    this.ground.cancel(this.timer);
    const at = this.session.nextTimeoutMs();
    if (at === undefined) return;
    const delay = Math.min(TIMER_MS_MAX, Math.max(0, at - this.ground.now().ms));
    this.timer = this.ground.after(Math.ceil(delay), () => this.input((s, now) => s.handleTimeout(now)));
  }

  private perform(effect: Effect): void {
    switch (effect.do) {
      case "open":
        return this.open(effect.link, effect.url);
      case "transmit": {
        const socket = this.sockets.get(effect.link);
        if (socket?.readyState === OPEN) socket.send(effect.bytes);
        return;
      }
      case "close":
        return this.close(effect.link, effect.code, effect.reason);
      case "fetchToken":
        void this.fetchToken();
        return;
      case "store":
        return this.writer.add(effect.ticket, effect.batch);
      case "history":
        // Its messages are in a batch before it: told once they can be read.
        return this.writer.then(() => this.listener.effect(effect));
      default:
        this.listener.effect(effect);
    }
  }

  private open(link: number, url: string): void {
    let socket: Socket;
    try {
      socket = this.ground.socket(url, SUBPROTOCOL);
    } catch {
      this.session.handleClosed(link, 1006, "the address cannot be opened", this.ground.now());
      return;
    }
    this.sockets.set(link, socket);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.input((s, now) => s.handleOpened(link, now));
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.input((s, now) => s.handleMessage(link, new Uint8Array(data), now));
    };
    socket.onclose = ({ code, reason }) => {
      this.sockets.delete(link);
      this.input((s, now) => s.handleClosed(link, code, reason, now));
    };
  }

  private close(link: number, code: number, reason: string): void {
    const socket = this.sockets.get(link);
    this.sockets.delete(link);
    if (!socket) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(code, reason);
  }

  private async fetchToken(): Promise<void> {
    try {
      const { token, expiresAtMs } = await this.ground.login();
      const expiry = expiresAtMs === 0 ? this.ground.now().wallMs + NO_EXPIRY_MS : expiresAtMs;
      this.input((s, now) => s.handleToken(token, expiry, now));
    } catch (error) {
      const refused = error instanceof ApiError && !error.mayPass;
      const text = error instanceof Error ? error.message : "";
      this.input((s, now) => s.handleTokenFailed(refused, text, now));
    }
  }

  private stored(tickets: number[]): void {
    this.input((session, now) => {
      for (const ticket of tickets) session.handleStored(ticket, now);
    });
  }

  private diskFailed(error: unknown): void {
    this.listener.diskFailed(error);
    this.input((s, now) => s.stop(now));
  }
}

/** Time, chance, sockets and timers of the browser. */
export function browserGround(): Omit<Ground, "write" | "login"> {
  return {
    now: () => ({ ms: performance.now(), wallMs: Date.now() }),
    chance: {
      unit: () => Math.random(),
      bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
    },
    socket: (url, protocol) => new WebSocket(url, protocol) as unknown as Socket,
    after: (ms, run) => setTimeout(run, ms),
    cancel: (timer) => clearTimeout(timer as number | undefined),
  };
}
