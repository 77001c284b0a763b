//! Connecting and connecting again: tokens, back-off, the policy of close codes, Redirect and Relocate. What a
//! connection carries is not its business.

import { CLOSE_BAD_TOKEN, CLOSE_DISPLACED, policyOfClose } from "../protocol/codes";
import type { Redirect } from "../protocol/schema";
import { Backoff } from "./backoff";
import { Links } from "./links";
import type { Link } from "./links";
import type { Out } from "./out";
import { TokenHolder } from "./token";
import type { Chance, Config, Now } from "./types";

/** A connection this long live forgets earlier failures. */
const STABLE_MS = 10_000;
/** Displaced twice within this: someone else keeps the device. */
const DISPLACED_AGAIN_MS = 30_000;
/** Redirects followed without a Welcome between them; whoever is asked then is asked to serve. */
const REDIRECTS_MAX = 4;
/** Asking for a new token again while the session lives on, at the least. */
const TOKEN_RETRY_MS = 1_000;

export class Connector {
  readonly links = new Links();
  readonly token = new TokenHolder();
  /** The server's clock minus this machine's, milliseconds. */
  skewMs = 0;
  /** The last Error's text: a close without a reason is explained by it. */
  lastProblem = "";
  /** What the server asked to wait when it refused the session, milliseconds. */
  retryAfterMs = 0;
  private wanted = false;
  private readonly backoff: Backoff;
  private retryAtMs: number | undefined;
  private stableAtMs: number | undefined;
  private displacedAtMs: number | undefined;
  private url: string;
  /** Redirects followed since a Welcome. */
  private redirects = 0;
  /** Where a Redirect led could not be reached: the next Hello asks to be served where it is. */
  private stays = false;

  constructor(
    private readonly config: Config,
    private readonly chance: Chance,
    private readonly out: Out,
    /** The connection is gone: what was true of it no longer is. */
    private readonly dropped: () => void,
  ) {
    this.backoff = new Backoff(chance);
    this.url = config.url;
  }

  start(now: Now): void {
    if (this.wanted) return;
    this.wanted = true;
    this.displacedAtMs = undefined;
    this.backoff.reset();
    this.connect(now);
  }

  stop(): void {
    this.wanted = false;
    this.retryAtMs = undefined;
    for (const link of this.links.all()) {
      if (link.state === "welcomed") this.out.transmit({ type: "bye", body: { reason: "stop" } }, link);
      this.out.push({ do: "close", link: link.id, code: 1000, reason: "bye" });
    }
    this.drop();
    this.out.setPhase({ kind: "stopped" });
  }

  /** Does not wait any longer; false when it did not wait. */
  hurry(now: Now): boolean {
    if (!this.wanted || this.out.phase.kind !== "waiting") return false;
    this.retryAtMs = undefined;
    this.connect(now);
    return true;
  }

  closed(id: number, code: number, reason: string, now: Now): void {
    const link = this.links.of(id);
    if (!link) return;
    if (link === this.links.next) this.links.next = undefined;
    else if (this.links.next) this.promote(now);
    else this.lost(code, reason, now);
  }

  /** Closes a link that we no longer believe in, without waiting for the socket to agree. */
  abandon(id: number, now: Now, reason: string): void {
    this.out.push({ do: "close", link: id, code: 4000, reason });
    this.closed(id, 1006, reason, now);
  }

  gotToken(text: string, expiresAtMs: number, now: Now): void {
    this.token.fetched(text, expiresAtMs);
    if (this.links.welcomed) {
      this.out.transmit({ type: "refreshToken", body: { token: this.token.use() ?? "" } }, this.links.link);
      this.planRefresh(now);
    } else if (this.wanted && !this.links.link && this.retryAtMs === undefined) {
      this.connect(now);
    }
  }

  tokenFailed(refused: boolean, text: string, now: Now): void {
    this.token.fetchFailed();
    if (this.links.welcomed) this.token.retryAt(now.ms + this.backoff.next(TOKEN_RETRY_MS));
    else if (refused) this.refuse(CLOSE_BAD_TOKEN, text);
    else if (this.wanted) this.waitThenConnect(this.backoff.next(), now);
  }

  /** A link has been welcomed; the one that shall take over does so. */
  welcomed(link: Link, tokenExpiresAtMs: number, now: Now): void {
    const { link: old } = this.links;
    if (link === this.links.next && old) {
      this.out.transmit({ type: "bye", body: { reason: "moved" } }, old);
      this.out.push({ do: "close", link: old.id, code: 1000, reason: "moved" });
      this.promote(now);
    }
    link.state = "welcomed";
    this.redirects = 0;
    this.stays = false;
    this.tokenExpires(tokenExpiresAtMs, now);
  }

  tokenExpires(atMs: number, now: Now): void {
    this.token.setExpiry(atMs);
    this.planRefresh(now);
  }

  live(now: Now): void {
    this.stableAtMs = now.ms + STABLE_MS;
  }

  /** Whether the next Hello asks not to be sent elsewhere. */
  get redirectNever(): boolean {
    return this.stays || this.redirects >= REDIRECTS_MAX;
  }

  redirect(link: Link, to: Redirect, now: Now): void {
    if (link.state !== "hello") return;
    this.out.push({ do: "close", link: link.id, code: 1000, reason: "redirected" });
    this.redirects += 1;
    const jitter = Math.round(this.chance.unit() * to.jitterMs);
    if (link === this.links.next) {
      // The old link still serves us.
      this.links.next = undefined;
      if (this.redirects < REDIRECTS_MAX) this.links.relocateAt(to.url, now.ms + jitter);
      return;
    }
    this.drop();
    if (this.config.acceptsUrl(to.url)) this.url = to.url;
    this.waitThenConnect(jitter + this.backoff.nextAtOnce(), now);
  }

  handleTimeout(now: Now): void {
    const due = (at: number | undefined): boolean => at !== undefined && now.ms >= at;
    if (due(this.retryAtMs)) {
      this.retryAtMs = undefined;
      this.connect(now);
    }
    for (const link of this.links.overdue(now.ms)) this.abandon(link.id, now, "no answer");
    if (due(this.stableAtMs)) {
      this.stableAtMs = undefined;
      this.backoff.reset();
    }
    if (this.token.takeDue(now.ms)) this.fetchToken();
    const relocate = this.links.takeRelocate(now.ms);
    if (relocate !== undefined) this.openNext(relocate, now);
  }

  dueTimesMs(): (number | undefined)[] {
    return [this.retryAtMs, this.stableAtMs, this.links.nextDueMs(), this.token.nextDueMs()];
  }

  // ---- private ----

  private connect(now: Now): void {
    if (!this.wanted || this.links.link) return;
    this.out.setPhase({ kind: "connecting" });
    if (!this.token.isGood(now.wallMs + this.skewMs)) {
      this.token.forget();
      this.fetchToken();
      return;
    }
    this.open(this.links.open(now.ms));
  }

  private open(link: Link): void {
    this.out.push({ do: "open", link: link.id, url: this.url });
  }

  private openNext(url: string, now: Now): void {
    if (this.links.next || !this.links.welcomed) return;
    if (this.config.acceptsUrl(url)) this.url = url;
    this.open(this.links.openNext(now.ms));
  }

  /** The next link takes over; the session goes on there. */
  private promote(now: Now): void {
    const { next } = this.links;
    this.drop();
    this.links.next = next;
    this.links.promote(now.ms);
    this.out.setPhase({ kind: "connecting" });
  }

  private drop(): void {
    this.links.drop();
    this.token.disconnected();
    this.stableAtMs = undefined;
    this.dropped();
  }

  private lost(code: number, reason: string, now: Now): void {
    this.drop();
    this.url = this.config.url;
    this.stays ||= this.redirects > 0;
    this.redirects = 0;
    if (!this.wanted) return;
    if (code === CLOSE_DISPLACED && this.displacedAgain(now)) return;
    const policy = policyOfClose(code);
    if (policy === "never") {
      const stale = code === CLOSE_BAD_TOKEN && this.token.wasUsed;
      this.token.forget();
      if (!stale) return this.refuse(code, reason !== "" ? reason : this.lastProblem);
    }
    if (policy === "new-token") this.token.forget();
    const atOnce = policy === "at-once" || policy === "new-token";
    const atLeastMs = this.retryAfterMs;
    this.retryAfterMs = 0;
    this.waitThenConnect(atOnce ? this.backoff.nextAtOnce() : this.backoff.next(atLeastMs), now);
  }

  private displacedAgain(now: Now): boolean {
    const last = this.displacedAtMs;
    this.displacedAtMs = now.ms;
    if (last === undefined || now.ms - last > DISPLACED_AGAIN_MS) return false;
    this.wanted = false;
    this.out.setPhase({ kind: "displaced" });
    return true;
  }

  private refuse(code: number, text: string): void {
    this.wanted = false;
    this.out.setPhase({ kind: "refused", code, text });
  }

  private waitThenConnect(delayMs: number, now: Now): void {
    if (delayMs <= 0) return this.connect(now);
    this.retryAtMs = now.ms + delayMs;
    this.out.setPhase({ kind: "waiting", retryAtMs: this.retryAtMs });
  }

  private fetchToken(): void {
    if (this.token.startFetch()) this.out.push({ do: "fetchToken" });
  }

  private planRefresh(now: Now): void {
    this.token.planRefresh(now.ms, now.wallMs + this.skewMs);
  }
}
