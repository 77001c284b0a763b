//! The connections of a session: the one it lives on, and the one that shall take over (Relocate), opened before the
//! old one is closed.

const OPEN_MS = 10_000;
const WELCOME_MS = 10_000;

export interface Link {
  id: number;
  state: "opening" | "hello" | "welcomed";
  /** Opening, or without a Welcome, until then. */
  deadlineMs: number;
  /** Its Hello showed a resume token and wants to go on here: only then can it be recovered. */
  resumesFrom?: bigint;
}

export class Links {
  link: Link | undefined;
  next: Link | undefined;
  private last = 0;
  private relocate: { url: string; atMs: number } | undefined;

  /** The link of an id, when the session still believes in it. */
  of(id: number): Link | undefined {
    if (this.link?.id === id) return this.link;
    return this.next?.id === id ? this.next : undefined;
  }

  get welcomed(): boolean {
    return this.link?.state === "welcomed";
  }

  all(): Link[] {
    return [this.link, this.next].filter((link) => link !== undefined);
  }

  open(nowMs: number): Link {
    return (this.link = this.opening(nowMs));
  }

  openNext(nowMs: number): Link {
    return (this.next = this.opening(nowMs));
  }

  private opening(nowMs: number): Link {
    this.last += 1;
    return { id: this.last, state: "opening", deadlineMs: nowMs + OPEN_MS };
  }

  opened(link: Link, nowMs: number): void {
    link.state = "hello";
    link.deadlineMs = nowMs + WELCOME_MS;
  }

  drop(): void {
    this.link = undefined;
    this.next = undefined;
    this.relocate = undefined;
  }

  /** The next link takes over. */
  promote(nowMs: number): void {
    const { next } = this;
    this.drop();
    this.link = next;
    if (next?.state === "opening") next.deadlineMs = nowMs + OPEN_MS;
  }

  relocateAt(url: string, atMs: number): void {
    this.relocate = { url, atMs };
  }

  /** Where to relocate, once, when its time has come. */
  takeRelocate(nowMs: number): string | undefined {
    if (!this.relocate || nowMs < this.relocate.atMs) return undefined;
    const { url } = this.relocate;
    this.relocate = undefined;
    return url;
  }

  /** Those that have waited too long for an answer. */
  overdue(nowMs: number): Link[] {
    return this.all().filter((link) => link.state !== "welcomed" && nowMs >= link.deadlineMs);
  }

  nextDueMs(): number | undefined {
    const times = this.all().filter((link) => link.state !== "welcomed").map((link) => link.deadlineMs);
    if (this.relocate) times.push(this.relocate.atMs);
    return times.length === 0 ? undefined : Math.min(...times);
  }
}
