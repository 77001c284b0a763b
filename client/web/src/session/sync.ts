//! Syncing: the list of chats and each chat after `recovered: false`, gap fills, and the older
//! history that a user scrolls to.

import { ERROR_NOT_VISIBLE } from "../protocol/codes";
import { isChatId } from "../protocol/lanes";
import { decodeRecord } from "../protocol/layout";
import type { MessageRecord } from "../protocol/layout";
import { SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX } from "../protocol/limits";
import type { ChatSummary, Sync, SyncPage } from "../protocol/schema";
import type { GapRequest, Inbox } from "./inbox";
import type { Outbox } from "./outbox";
import { Syncer } from "./syncer";
import type { Purpose } from "./syncer";

/** More missing than this: only the newest page is fetched, the rest when it is scrolled to. */
const CATCH_UP_MAX = 2_048;

/** What a page means for the session. */
export interface PageOutcome {
  records: MessageRecord[];
  /** The chat whose track may have moved. */
  chat: string | undefined;
  /** These messages come by no delivery offset: acknowledge them by Receipt. */
  receipt: boolean;
  /** All ids of the list, when it is complete. */
  listComplete: string[] | undefined;
  history: { chat: string; beforeOrdinal: number; atStart: boolean; error: number } | undefined;
  /** Every chat is synced: adopt this head. */
  adopt: bigint | undefined;
}

export class ChatSync {
  private readonly syncer = new Syncer();
  private head: bigint | undefined;
  private adoptGiven = false;
  private listed: string[] = [];
  /** The list was asked for while it was being fetched, or its fetch was cut off. */
  private listAgain = false;

  constructor(
    private readonly inbox: Inbox,
    private readonly outbox: Outbox,
  ) {}

  /** Between recovered: false and the adoption of the head. */
  get adopting(): boolean {
    return this.head !== undefined;
  }

  begin(head: bigint): void {
    this.head = head;
    this.adoptGiven = false;
    this.listed = [];
    this.listAgain = false;
    this.syncer.ask({ why: "list", adopting: true }, {});
  }

  adopted(): void {
    this.head = undefined;
  }

  refreshList(): void {
    if (this.syncer.has((p) => p.why === "list")) {
      this.listAgain = true;
      return;
    }
    this.listed = [];
    this.listAgain = false;
    this.syncer.ask({ why: "list", adopting: false }, {});
  }

  gap(request: GapRequest | undefined): void {
    if (request) this.syncer.ask({ why: "gap", chat: request.chat }, request);
  }

  history(chat: string, beforeOrdinal: number, limit: number): void {
    const same = (p: Purpose): boolean =>
      p.why === "history" && p.chat === chat && p.beforeOrdinal === beforeOrdinal;
    if (this.syncer.has(same)) return;
    const request = { chat, afterOrdinal: beforeOrdinal, limit, backwards: true };
    this.syncer.ask({ why: "history", chat, beforeOrdinal }, request);
  }

  takeDue(nowMs: number): Sync[] {
    return this.syncer.takeDue(nowMs);
  }

  nextDueMs(): number | undefined {
    return this.syncer.nextDueMs();
  }

  busy(nowMs: number, retryAfterMs: number): void {
    this.syncer.busy(nowMs, retryAfterMs);
  }

  /** An Error that names no request refused one: the page that the oldest would have got. */
  failOldest(error: number): SyncPage | undefined {
    const oldest = this.syncer.oldest();
    if (!oldest) return undefined;
    return {
      syncId: oldest.syncId,
      chat: oldest.chat,
      records: [],
      more: false,
      nextOrdinal: 0,
      truncatedBefore: 0,
      watermarks: [],
      chats: [],
      nextCursor: "",
      error,
      text: "",
    };
  }

  /** A session was recovered: takes up what the last one left undone. */
  resume(): void {
    if (this.listAgain) this.refreshList();
  }

  disconnected(): void {
    this.head = undefined;
    this.listAgain ||= this.syncer.has((p) => p.why === "list" && !p.adopting);
    this.syncer.disconnected();
  }

  handlePage(page: SyncPage, nowMs: number): PageOutcome | undefined {
    const purpose = this.syncer.answer(page, nowMs);
    if (!purpose || this.passOver(purpose, page)) return undefined;
    const records = page.records.map(decodeRecord).sort((a, b) => a.ordinal - b.ordinal);
    const outcome: PageOutcome = {
      records,
      chat: "chat" in purpose ? purpose.chat : undefined,
      receipt: false,
      listComplete: undefined,
      history: undefined,
      adopt: undefined,
    };
    if (purpose.why === "list") outcome.listComplete = this.listPage(page, purpose.adopting);
    else if (purpose.why === "gap") {
      this.gap(this.inbox.gapPage(purpose.chat, records, page.more));
    } else if (purpose.why === "history") {
      const { chat, beforeOrdinal } = purpose;
      const atStart = page.error !== 0 || !page.more;
      outcome.history = { chat, beforeOrdinal, atStart, error: page.error };
    } else {
      this.inbox.known(purpose.chat, records);
      outcome.receipt = true;
      if (purpose.why === "catch-up" && page.more && page.error === 0) this.further(purpose.chat, page);
    }
    outcome.adopt = this.adoptable();
    return outcome;
  }

  /** Where one was not a member there is nothing to see; the page says where it goes on, and that is asked for. */
  private passOver(purpose: Purpose, page: SyncPage): boolean {
    if (page.error !== ERROR_NOT_VISIBLE || !page.more || purpose.why === "list") return false;
    const { chat, why } = purpose;
    if (why === "gap" && !this.inbox.tracks.has(chat)) return false;
    const backwards = why === "history" || why === "newest";
    const limit = backwards ? SYNC_LIMIT_DEFAULT : SYNC_LIMIT_MAX;
    this.syncer.ask(purpose, { chat, afterOrdinal: page.nextOrdinal, limit, backwards });
    return true;
  }

  private further(chat: string, page: SyncPage): void {
    const known = this.inbox.tracks.get(chat)?.ordinal ?? 0;
    const afterOrdinal = Math.max(known, page.nextOrdinal);
    this.syncer.ask({ why: "catch-up", chat }, { chat, afterOrdinal, limit: SYNC_LIMIT_MAX });
  }

  private listPage(page: SyncPage, adopting: boolean): string[] | undefined {
    for (const summary of page.chats) {
      this.listed.push(summary.chat);
      if (adopting && isChatId(summary.chat)) this.askChat(summary);
    }
    if (page.more && page.nextCursor !== "") {
      this.syncer.ask({ why: "list", adopting }, { cursor: page.nextCursor });
      return undefined;
    }
    const complete = page.error === 0 ? this.listed : undefined;
    if (this.listAgain) this.refreshList();
    return complete;
  }

  /**
   * Asks for what is new in a chat; for its watermarks even when nothing is. A chat to which we
   * have unanswered Sends is walked whole: they may be among what is missing.
   */
  private askChat(summary: ChatSummary): void {
    const { chat, lastOrdinal } = summary;
    const track = this.inbox.tracks.get(chat);
    const known = track?.ordinal ?? 0;
    const near = track !== undefined && lastOrdinal - known <= CATCH_UP_MAX;
    if (near || this.outbox.unansweredIn(chat)) {
      const limit = lastOrdinal > known ? SYNC_LIMIT_MAX : 1;
      this.syncer.ask({ why: "catch-up", chat }, { chat, afterOrdinal: known, limit });
    } else {
      const limit = SYNC_LIMIT_DEFAULT;
      this.syncer.ask({ why: "newest", chat }, { chat, limit, backwards: true });
    }
  }

  private adoptable(): bigint | undefined {
    if (this.head === undefined || this.adoptGiven) return undefined;
    const open = this.syncer.has((p) => p.why !== "history" && p.why !== "gap");
    if (open) return undefined;
    this.adoptGiven = true;
    return this.head;
  }
}
