//! The token that Hello carries: when it must be fetched, and when it is renewed on a live session.

const TOKEN_MARGIN_MS = 60_000;

interface Token {
  text: string;
  expiresAtMs: number;
  hellos: number;
}

export class TokenHolder {
  private token: Token | undefined;
  private fetching = false;
  private refreshAtMs: number | undefined;
  private retryAtMs: number | undefined;

  /** True when a fetch shall begin: none is under way. */
  startFetch(): boolean {
    if (this.fetching) return false;
    this.fetching = true;
    return true;
  }

  fetched(text: string, expiresAtMs: number): void {
    this.fetching = false;
    this.retryAtMs = undefined;
    this.token = { text, expiresAtMs, hellos: 0 };
  }

  fetchFailed(): void {
    this.fetching = false;
  }

  forget(): void {
    this.token = undefined;
  }

  /** The text for a Hello or a RefreshToken, counted. */
  use(): string | undefined {
    if (!this.token) return undefined;
    this.token.hellos += 1;
    return this.token.text;
  }

  /** Has been accepted before: a refusal may only mean that it is old. */
  get wasUsed(): boolean {
    return this.token !== undefined && this.token.hellos > 1;
  }

  /** A fresh one is shown once whatever our clock says: before the first Welcome that may be wrong. */
  isGood(serverNowMs: number): boolean {
    if (this.token === undefined) return false;
    return this.token.hellos === 0 || this.token.expiresAtMs > serverNowMs;
  }

  /** The server says until when; 0: it does not say. */
  setExpiry(expiresAtMs: number): void {
    if (this.token && expiresAtMs > 0) this.token.expiresAtMs = expiresAtMs;
  }

  planRefresh(nowMs: number, serverNowMs: number): void {
    if (!this.token) return;
    const left = this.token.expiresAtMs - serverNowMs;
    const margin = Math.min(TOKEN_MARGIN_MS, left / 2);
    this.refreshAtMs = nowMs + Math.max(1_000, left - margin);
  }

  retryAt(atMs: number): void {
    this.retryAtMs = atMs;
  }

  disconnected(): void {
    this.refreshAtMs = undefined;
    this.retryAtMs = undefined;
  }

  nextDueMs(): number | undefined {
    const times = [this.refreshAtMs, this.retryAtMs].filter((t) => t !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** True once when a new token is due. */
  takeDue(nowMs: number): boolean {
    const at = this.nextDueMs();
    if (at === undefined || nowMs < at) return false;
    this.disconnected();
    return true;
  }
}
